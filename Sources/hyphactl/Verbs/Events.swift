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
      do {
        try daemon.follow(timeoutSeconds: follow ? nil : Self.lastEventSeconds) {
          try Console.printJSON($0.event)
        }
      } catch let failure as ControlFailure where failure.code == .timedOut && !follow {
        return
      }
    }
  }
}
