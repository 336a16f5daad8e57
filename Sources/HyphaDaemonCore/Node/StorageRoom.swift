import Glibc
import HyphaControlAPI

/// Whether there is room on disk for more, and why not.
struct StorageRoom: Equatable {
  /// Bytes that this process may still write to the disk; `nil` before the first look, or if the system does not say.
  private(set) var freeBytes: UInt64?
  /// Bytes that other writers' feeds take up, where there is a quota for them.
  private(set) var replicatedBytes: UInt64?
  private(set) var state = StorageInfo.State.enough
  /// Until when the disk counts as full whatever it says, in milliseconds on the monotonic clock: it refused a write.
  private var refusedUntil: Int64 = 0

  /// Milliseconds after a refused write in which nothing is tried again: a user's quota does not show in what is free.
  private static let refusalInterval: Int64 = 30_000

  /// Takes in what was measured.
  ///
  /// It is low below the reserve, and enough again with an eighth more than that: else each block that is let in would
  /// make it low again.
  mutating func update(
    freeBytes: UInt64?, replicatedBytes: UInt64?, settings: Configuration.Storage, now: Int64
  ) {
    self.freeBytes = freeBytes
    self.replicatedBytes = replicatedBytes
    let needed = settings.reserveBytes + (state == .low ? settings.reserveBytes / 8 : 0)
    if now < refusedUntil || freeBytes.map({ $0 < needed }) == true {
      state = .low
    } else if let replicatedBytes, settings.quotaBytes > 0, replicatedBytes >= settings.quotaBytes {
      state = .quotaReached
    } else {
      state = .enough
    }
  }

  /// The disk refused a write for want of room.
  mutating func refuse(now: Int64) {
    refusedUntil = now + Self.refusalInterval
    state = .low
  }

  /// Bytes free for this process in the file system that a path is on.
  static func freeBytes(at path: String) -> UInt64? {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return nil }
    // Some file systems say that there is no end of room.
    let (bytes, isOver) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
    return isOver ? .max : bytes
  }
}
