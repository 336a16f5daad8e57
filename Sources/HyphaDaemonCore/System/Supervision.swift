/// Tells systemd how the node is: what `systemctl status` shows, and that it lives.
///
/// Each word comes from the node's own loop. One that hangs gives none, and is started anew once systemd has waited for
/// `WatchdogSec=`.
struct Supervision: Sendable {
  /// Between two looks.
  private static let interval = Duration.seconds(1)

  let node: Node
  /// Where it serves.
  let places: String

  /// Until it is cancelled.
  func run() async {
    var told = ""
    var sign = ContinuousClock.now
    let watchdog = ServiceManager.watchdogInterval
    while !Task.isCancelled {
      let summary = await node.summary()
      if summary != told {
        told = summary
        ServiceManager.status("Serving on \(places); \(summary)")
      }
      if let watchdog, ContinuousClock.now >= sign {
        ServiceManager.keepAlive()
        sign = ContinuousClock.now + watchdog
      }
      try? await Task.sleep(for: Self.interval)
    }
  }
}
