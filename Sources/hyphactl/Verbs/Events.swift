import ArgumentParser
import HyphaControlAPI

struct Events: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what happened on the node lately, one JSON object a line.",
    discussion: "With --follow, goes on as things happen.")

  @OptionGroup var shared: SharedOptions

  @Flag(help: "Go on as things happen.")
  var follow = false

  /// Kept events come at once; after so many seconds without one there are no more.
  private static let lastEventSeconds = 0.3

  func run() throws {
    try shared.withDaemon { daemon in
      _ = try daemon.call(EventsSubscribe.self, EventsSubscribe.Params(after: 0))
      while true {
        let notification: ControlClient.Notification?
        do throws(ControlFailure) {
          notification = try daemon.nextNotification(timeoutSeconds: follow ? nil : Self.lastEventSeconds)
        } catch {
          if error.code == .timedOut, !follow { return }
          throw error
        }
        switch notification {
        case .event(let params): try Console.printJSON(params.event)
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
}
