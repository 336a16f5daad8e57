/// Asks systemd for more time while the node looks through what is on its disk before it is ready.
///
/// It asks only when a step was done. One that hangs asks no more, and is ended once the time that it was given is over.
struct StartProgress {
  /// Between two requests.
  private static let interval = Duration.seconds(5)
  /// How long a step may take from a request on.
  private static let patience = Duration.seconds(60)

  private var next = ContinuousClock.now

  /// A step was done.
  ///
  /// - Parameter status: for `systemctl status`.
  mutating func step(_ status: () -> String) {
    let now = ContinuousClock.now
    guard now >= next else { return }
    next = now + Self.interval
    ServiceManager.extendStart(by: Self.patience, status: status())
  }
}
