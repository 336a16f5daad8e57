import Glibc
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

@Suite("SIGHUP", .fewAtOnce, .timeLimit(.minutes(15))) struct ReloadTests {
  @Test func settingsAreReadAnew() async throws {
    let node = try TestNode()
    try await node.start()
    let forwarded = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n"
    func isBelieved() async throws -> Bool {
      try await WebAnswer.get("/", port: node.port, headers: forwarded).header("Strict-Transport-Security")
        != nil
    }
    #expect(try await !isBelieved())
    try node.configure(http: "trusted_proxies = [\"127.0.0.1\"]")
    node.daemon?.send(SIGHUP)
    try await eventually("not reloaded: \(node.log)") { try await isBelieved() ? true : nil }

    // What cannot be used changes nothing.
    try node.configure(node: "nonsense = 1")
    node.daemon?.send(SIGHUP)
    try await eventually("no word of it: \(node.log)") { node.log.contains("Not reloaded") ? true : nil }
    #expect(node.log.contains("there is no key nonsense in [node]"))
    #expect(try await isBelieved())
    #expect(try await node.stop()?.status == 0)
  }

  /// A terminal that is closed sends it, too.
  @Test func endsInATerminal() async throws {
    let node = try TestNode()
    let terminal = try PseudoTerminal()
    let daemon = try Running(
      try Programs.path("hyphad"), ["--config", "\(node.folder.path)/hyphad.toml"], terminal: terminal,
      use: .session)
    try await eventually("no answer: \(terminal.shown)") { try? node.client() }
    daemon.send(SIGHUP)
    #expect(try await daemon.end().status == 0)
  }
}
