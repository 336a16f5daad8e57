import ArgumentParser
import Glibc
import HyphaControlAPI

/// What every verb takes.
struct SharedOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Path of the daemon's control socket.", valueName: "path"), completion: .file())
  var socket = getenv("HYPHA_SOCKET").map { String(cString: $0) } ?? "/run/hyphad/control.sock"

  @Flag(help: "Print JSON.")
  var json = false

  /// Connects to the daemon and has `body` use it; says what went wrong, and ends the program with its status.
  ///
  /// - Parameter naming: the verb names a device or a request; how that can fail, its statuses tell apart.
  func withDaemon(naming: Bool = false, _ body: (ControlClient) throws -> Void) throws {
    do {
      try body(ControlClient(path: socket))
    } catch let failure as ControlFailure {
      let status = Self.exit(failure)
      if naming, case .refused(let error) = failure.code { throw Status.naming(error) }
      throw status
    }
  }

  /// Tells of a failure.
  ///
  /// - Returns: the status to end with.
  static func exit(_ failure: ControlFailure) -> ExitCode {
    Console.complain(failure.context)
    switch failure.code {
    case .refused: return Status.refused
    case .noDaemon, .notPermitted, .closed, .timedOut, .badAnswer: return Status.unreachable
    }
  }

  /// Exit statuses, as hyphactl(1) lists them.
  enum Status {
    static let refused = ExitCode(1)
    static let unreachable = ExitCode(2)
    static let badInput = ExitCode(EX_DATAERR)
    static let denied = ExitCode(7)
    static let expired = ExitCode(4)

    /// For verbs that name a device or a request.
    static func naming(_ error: ControlError) -> ExitCode {
      switch error.code {
      case .notFound: ExitCode(3)
      case .requestExpired: expired
      case .ambiguous: ExitCode(5)
      case .alreadyAnswered: ExitCode(6)
      default: refused
      }
    }
  }
}

extension ControlClient {
  /// Seconds after which a daemon that has not answered hangs, or starts still: looking for what is wrong takes it half a minute.
  static let patience = 45.0
  /// How many seconds more a daemon has to say that what it waited for did not happen in time.
  private static let grace = 15.0

  func status() throws(ControlFailure) -> NodeInfo {
    try call(NodeStatus.self, Nothing(), timeoutSeconds: Self.patience)
  }

  /// - Parameter timeoutSeconds: as long as the daemon waits at most, if not given.
  func wait(for condition: NodeWait.Condition, timeoutSeconds: Double?) throws(ControlFailure) -> NodeInfo {
    try call(
      NodeWait.self, .init(for: condition, timeoutSeconds: timeoutSeconds),
      timeoutSeconds: (timeoutSeconds ?? ControlLimits.waitSeconds) + Self.grace)
  }

  /// Hands on what happens, once it was subscribed to, until nobody reads what is printed of it.
  func follow(
    timeoutSeconds: Double? = nil, _ body: (ControlNotification.EventParams) throws -> Void
  ) throws {
    while !Console.outputIsGone {
      switch try nextNotification(timeoutSeconds: timeoutSeconds) {
      case .event(let params): try body(params)
      case .ended(let ended):
        Console.complain(ended.reason)
        throw SharedOptions.Status.refused
      case nil:
        Console.complain("the daemon has closed the connection")
        throw SharedOptions.Status.unreachable
      }
    }
  }
}
