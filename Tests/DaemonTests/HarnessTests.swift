import Glibc
import Testing

@Suite(.fewAtOnce) struct HarnessTests {
  @Test func runsAProcessAndTellsHowItEnded() async throws {
    let echoed = try await Running(
      "/bin/sh", ["-c", "cat; echo \"$WORD\" >&2; exit 7"], input: Array("in\n".utf8),
      environment: ["WORD": "two"]
    ).end()
    #expect(echoed == Ended(status: 7, stdout: Array("in\n".utf8), stderr: "two\n"))
    let sleeping = try Running("/bin/sleep", ["60"])
    #expect(sleeping.poll() == nil)
    try await sleeping.kill()
    #expect(sleeping.poll()?.status == -SIGKILL)
    #expect(throws: HarnessError.self) { try Running("/nonexistent", []) }
  }

  @Test func findsPortsThatAreFree() throws {
    let ports = try freePorts(5)
    #expect(Set(ports).count == 5)
  }
}
