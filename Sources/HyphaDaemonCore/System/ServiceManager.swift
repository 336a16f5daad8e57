import CSystemd
import Glibc

/// What systemd is told, and what it hands over. Does nothing where systemd is not the one who started us.
public enum ServiceManager {
  /// The node does its work (`READY=1`).
  public static func ready(status: String) {
    notify("READY=1\nSTATUS=\(oneLine(status))")
  }

  /// A reload ended.
  public static func ready() {
    notify("READY=1")
  }

  /// One line for `systemctl status`.
  public static func status(_ text: String) {
    notify("STATUS=\(oneLine(text))")
  }

  /// The clean stop began.
  public static func stopping(status: String) {
    notify("STOPPING=1\nSTATUS=\(oneLine(status))")
  }

  /// The start may take so much longer, from now on.
  public static func extendStart(by duration: Duration, status: String) {
    let (seconds, attoseconds) = duration.components
    let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
    notify("EXTEND_TIMEOUT_USEC=\(microseconds)\nSTATUS=\(oneLine(status))")
  }

  /// A reload began; ``ready()`` ends it.
  public static func reloading() {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    let microseconds = UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1_000
    notify("RELOADING=1\nMONOTONIC_USEC=\(microseconds)")
  }

  /// A sign of life, due at least every ``watchdogInterval``.
  public static func keepAlive() {
    notify("WATCHDOG=1")
  }

  /// Half of the time after which systemd takes the node for dead; `nil` if it does not watch.
  public static var watchdogInterval: Duration? {
    var microseconds: UInt64 = 0
    guard sd_watchdog_enabled(0, &microseconds) > 0 else { return nil }
    return .microseconds(Int64(clamping: microseconds / 2))
  }

  /// A listening socket that systemd opened for us.
  public struct InheritedSocket: Equatable, Sendable {
    /// `FileDescriptorName=` of the socket unit, such as `http` or `control`.
    public var name: String
    /// Now owned by the caller.
    public var descriptor: Int32
  }

  /// The sockets handed over. Call it once, at the start: afterwards child processes and later calls see none.
  public static func inheritedSockets() -> [InheritedSocket] {
    var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    let count = sd_listen_fds_with_names(1, &names)
    guard count > 0, let names else { return [] }
    defer { free(names) }
    return (0..<Int(count)).map { index in
      defer { free(names[index]) }
      let name = names[index].map { String(cString: $0) } ?? ""
      return InheritedSocket(name: name, descriptor: SD_LISTEN_FDS_START + Int32(index))
    }
  }

  private static func notify(_ state: String) {
    // An error would only say that systemd does not listen, and then nothing is lost.
    _ = sd_notify(0, state)
  }

  private static func oneLine(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 })
  }
}
