import ArgumentParser
import CTimex
import Glibc
import HyphaControlAPI

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find what is wrong with the set-up, and say what to do.",
    discussion: """
      Looks at the daemon, the hypha, the disk, the secrets, the web client, the web address, the domain, the peers and \
      the clock. Exit status: 0 nothing is a problem, 1 something is, 2 the daemon cannot be asked.
      """)

  @OptionGroup var shared: SharedOptions

  private typealias Check = NodeDoctor.Check

  func run() throws {
    var checks: [Check]
    var status: ExitCode?
    do throws(ControlFailure) {
      let found = try ControlClient(path: shared.socket).call(
        NodeDoctor.self, Nothing(), timeoutSeconds: ControlClient.patience)
      checks = [Check("daemon", .good, "hyphad answers on \(shared.socket).")] + found.checks
    } catch {
      checks = [Check("daemon", .problem, error.context, advice: Self.advice(error))]
      status = SharedOptions.Status.unreachable
    }
    checks.append(Self.clock())
    if checks.contains(where: { $0.state == .problem }) { status = status ?? SharedOptions.Status.refused }
    if shared.json {
      try Console.printJSON(NodeDoctor.Result(checks: checks))
    } else {
      checks.forEach(Self.print)
    }
    if let status { throw status }
  }

  private static func print(_ check: Check) {
    let state = check.state.rawValue
    func padded(_ text: String) -> String {
      text + String(repeating: " ", count: max(1, 10 - text.utf8.count))
    }
    Console.print(Console.printable(padded(state) + padded(check.name) + check.text))
    if let advice = check.advice, check.state != .good {
      Console.print(Console.printable(padded("") + padded("") + "→ " + advice))
    }
  }

  private static func advice(_ failure: ControlFailure) -> String? {
    switch failure.code {
    case .noDaemon:
      "Is it running? systemctl status hyphad; why not: journalctl --unit hyphad --lines 20. Is its configuration good? "
        + "hyphad --check-config"
    case .timedOut: "What does it do? systemctl status hyphad; journalctl --unit hyphad --lines 20."
    default: nil
    }
  }

  /// Whether something keeps the clock right: requests are good for days, and certificates for months.
  private static func clock() -> Check {
    var state = timex()
    switch adjtimex(&state) {
    case -1: return Check("clock", .unknown, "The system does not say whether its clock is kept right.")
    case TIME_ERROR:
      return Check(
        "clock", .warning, "Nothing keeps this machine's clock right.",
        advice: "Install and enable systemd-timesyncd or chrony.")
    default: return Check("clock", .good, "The clock is kept right.")
    }
  }
}
