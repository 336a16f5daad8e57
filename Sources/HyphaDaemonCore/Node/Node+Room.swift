import Hypercore
import Hypha
import HyphaControlAPI

/// A disk that fills up: the node stops to write before it must, and goes on once there is room.
extension Node {
  /// Bytes that may arrive between two looks at the disk.
  private static let bytesBetweenLooks = 4 << 20

  /// Counts what arrives, and looks at the disk once much has.
  func noteArrival(of count: Int) {
    arrivedBytes += count
    if arrivedBytes >= Self.bytesBetweenLooks { lookAtRoom() }
  }

  /// Sees how much room there is; takes blocks from peers only while there is enough.
  func lookAtRoom() {
    arrivedBytes = 0
    let before = room.state
    if hypha?.database.lacksRoom == true { room.refuse(now: monotonic) }
    room.update(
      freeBytes: StorageRoom.freeBytes(at: files.folder.path),
      replicatedBytes: settings.storage.quotaBytes > 0 ? replicatedBytes() : nil,
      settings: settings.storage, now: monotonic)
    replicator.takesBlocks = room.state == .enough
    if room.state != before { logRoom() }
  }

  /// - Throws: ``ControlError/Code/diskFull`` where nothing may be written.
  func checkRoom() throws(ControlError) {
    lookAtRoom()
    guard room.state == .low else { return }
    throw ControlError(
      .diskFull,
      "The disk with \(files.folder.path) is full: nothing can be posted until there is room. \(roomAdvice)")
  }

  /// What `node.status` says of it.
  var storageInfo: StorageInfo {
    StorageInfo(
      state: room.state, freeBytes: room.freeBytes, reserveBytes: settings.storage.reserveBytes,
      quotaBytes: settings.storage.quotaBytes > 0 ? settings.storage.quotaBytes : nil,
      replicatedBytes: room.replicatedBytes)
  }

  /// The disk refused a write for want of room: nothing that is only in memory counts. Reads on from what is on disk.
  func reopenFull(_ error: NodeError) {
    guard !isStopping, !isReopening else { return }
    isReopening = true
    room.refuse(now: monotonic)
    logger.error(
      "The disk is full: opening the hypha anew, to serve it from what is on disk",
      metadata: ["reason": "\(error)"])
    loop.execute { self.assumeIsolated { $0.openAnew() } }
  }

  private func openAnew() {
    closeHypha(CloseReason(.goingAway, "This node's disk is full."))
    if let record {
      do throws(NodeError) {
        // Another one may be there though writing it was said to have failed: nothing that it names is removed before.
        if try files.readRecord() != record { try files.write(record) }
        try finishSignOut(record)
        try openHypha(record)
      } catch {
        return stopForGood(error)
      }
    } else {
      beNobodys()
    }
    isReopening = false
    lookAtRoom()
    logRoom()
  }

  var roomAdvice: String {
    "Free \(settings.storage.reserveBytes >> 20) MiB, or lower reserve_bytes in [storage]."
  }

  private func logRoom() {
    let free = room.freeBytes.map { "\($0)" } ?? "unknown"
    switch room.state {
    case .enough:
      logger.notice("There is room on the disk again", metadata: ["freeBytes": "\(free)"])
    case .low:
      logger.error(
        "The disk is full: nothing is posted or fetched until there is room. \(roomAdvice)",
        metadata: ["freeBytes": "\(free)", "folder": "\(files.folder.path)"])
    case .quotaReached:
      logger.warning(
        "Other writers' feeds have reached their quota: no more of them is fetched; raise quota_bytes in [storage]",
        metadata: [
          "quotaBytes": "\(settings.storage.quotaBytes)", "replicatedBytes": "\(room.replicatedBytes ?? 0)",
        ])
    }
  }

  /// Bytes that the feeds which others write take up on disk.
  private func replicatedBytes() -> UInt64 {
    let local = hypha?.database.local
    var total = files.diskBytes(of: NodeFiles.peers)
    if let source = hypha?.source, source !== local { total += files.diskBytes(of: NodeFiles.source) }
    return total
  }
}
