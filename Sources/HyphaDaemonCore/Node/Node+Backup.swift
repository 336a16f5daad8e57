import FoundationEssentials
import Hypercore
import Hypha
public import HyphaControlAPI

/// Backups, and restoring them: docs/backup.md has the format.
extension Node {
  /// A backup that is being read.
  struct Backup {
    let id: String
    let writer: BackupWriter
    var lastUse: Int64
  }

  /// A backup that is being handed in.
  struct Restore {
    let id: String
    let staging: RestoreStaging
    let newWriter: Bool
    let deviceName: String?
    var lastUse: Int64
    var isFinishing = false
  }

  /// Gives up what nobody has gone on with.
  func tickBackups() {
    let oldest = monotonic - ControlLimits.backupIdleSeconds * 1000
    if let backup, backup.lastUse < oldest { self.backup = nil }
    if let restore, restore.lastUse < oldest, !restore.isFinishing { giveUp(restore) }
  }

  // MARK: - Backup

  public func beginBackup(_ params: BackupBegin.Params) async throws(ControlError) -> BackupBegin.Result {
    guard record != nil else { throw Self.notInitialised }
    tickBackups()
    guard backup == nil else {
      throw ControlError(
        .limitReached,
        "Another backup is being made: wait until it is done, or a minute after it was broken off.")
    }
    if files.sealsSecrets, params.passphrase == nil {
      throw ControlError(
        .invalidParams,
        "This node's secrets are sealed under secrets_credential, and in a backup they are not: encrypt it "
          + "(hyphactl backup --encrypt).",
        field: "passphrase")
    }
    // What is in memory is to be in the files, and durable: a backup is never ahead of its node.
    guard flushNow(), let record, let hypha else {
      throw ControlError(.storageFailed, "The last changes could not be made durable.")
    }
    wipeFreedMemory()
    let (manifest, items) = try backupItems(record, hypha)
    let writer = BackupWriter(items)
    let id = Hex.encode(Self.random(16))
    backup = Backup(id: id, writer: writer, lastUse: monotonic)
    if let passphrase = params.passphrase {
      do throws(NodeError) { try await writer.encrypt(passphrase) } catch {
        backup = nil
        throw Self.controlError(error)
      }
    }
    logger.notice(
      "A backup is made",
      metadata: ["feeds": "\(manifest.feeds.count)", "encrypted": "\(params.passphrase != nil)"])
    return BackupBegin.Result(
      id: id, bytes: items.reduce(1024) { $0 + $1.size + 128 }, hyphalink: record.hyphalink,
      role: record.role, feeds: manifest.feeds.count,
      blocks: manifest.feeds.reduce(0) { $0 + $1.heldBlocks },
      hasWriter: record.role == .origin || record.writer != nil)
  }

  /// What a backup has, as it is at this moment.
  private func backupItems(
    _ record: NodeRecord, _ hypha: Hypha<FileStorage>
  ) throws(ControlError) -> (BackupManifest, [BackupWriter.Item]) {
    var feeds: [BackupManifest.Feed] = []
    var items: [BackupWriter.Item] = []
    do throws(HyphaError) {
      var known = try hypha.feeds()
      if let local = hypha.database.local, !known.contains(where: { $0 === local }) { known.append(local) }
      for feed in known {
        let (place, folder) = place(of: feed, hypha)
        let path = files.folder.path(of: folder)
        let name = "feeds/\(feeds.count)"
        // Later blocks only add to these files, behind what is there now or in their own places.
        items += feed.bitfieldFile().map { .bytes("\(name)/bitfield", offset: $0.offset, $0.bytes) }
        items += [
          .file("\(name)/signatures", path: "\(path)/signatures", size: 32 + 64 * feed.length),
          .file("\(name)/tree", path: "\(path)/tree", size: feed.length == 0 ? 32 : 80 * feed.length - 8),
          .file("\(name)/data", path: "\(path)/data", size: feed.byteLength),
        ]
        feeds.append(
          BackupManifest.Feed(
            place: place, key: feed.key.hex, length: feed.length, byteLength: feed.byteLength,
            heldBlocks: feed.heldBlocks))
      }
    } catch {
      throw Self.controlError(error)
    }
    let manifest = BackupManifest(
      state: StateFolder.version, release: ControlAPI.release, created: Self.now(), node: record, feeds: feeds
    )
    var small: [BackupWriter.Item] = []
    do throws(NodeError) {
      guard let encoded = try? JSONEncoder().encode(manifest) else {
        throw NodeError(.damaged, "The backup's manifest cannot be made.")
      }
      small.append(.bytes(BackupFormat.manifest, [UInt8](encoded)))
      if record.role == .origin || record.writer != nil {
        let writer = try files.readWriter()
        small.append(.bytes(BackupFormat.writer, writer.secretKey.withUnsafeBytes { [UInt8]($0) }))
      }
      if let channel = try files.readChannel() {
        small.append(.bytes(BackupFormat.channel, channel.withUnsafeBytes { [UInt8]($0) }))
      }
      let connections = try files.readConnections().map { $0 + "\n" }.joined()
      if !connections.isEmpty { small.append(.bytes(BackupFormat.connections, Array(connections.utf8))) }
    } catch {
      throw Self.controlError(error)
    }
    if let membership { small.append(.bytes(BackupFormat.membership, membership.state)) }
    return (manifest, small + items)
  }

  func place(
    of feed: Feed<FileStorage>, _ hypha: Hypha<FileStorage>
  ) -> (BackupManifest.Feed.Place, folder: String) {
    if feed === hypha.source { return (.source, NodeFiles.source) }
    if feed === hypha.database.local { return (.local, NodeFiles.local) }
    return (.peer, NodeFiles.peer(feed.discoveryKey))
  }

  public func readBackup(_ params: BackupRead.Params) async throws(ControlError) -> BackupRead.Result {
    guard let backup, backup.id == params.id else {
      throw ControlError(
        .notFound, "There is no such backup under way: it was given up, or the node changed. Begin it anew.",
        field: "id")
    }
    self.backup?.lastUse = monotonic
    wipeFreedMemory()
    do throws(NodeError) {
      let (bytes, isLast) = try await backup.writer.next()
      if isLast, self.backup?.id == params.id { self.backup = nil }
      return BackupRead.Result(base64: Data(bytes).base64EncodedString(), last: isLast)
    } catch {
      self.backup = nil
      throw Self.controlError(error)
    }
  }

  public func endBackup(_ params: BackupRead.Params) async {
    if backup?.id == params.id { backup = nil }
  }

  // MARK: - Restore

  private static func alreadyHolds(_ record: NodeRecord?) -> ControlError {
    ControlError(
      .alreadyInitialised,
      "This node keeps the hypha \(record?.hyphalink ?? "that is just being set up") already, and a restore overwrites "
        + "nothing: restore on a node that is new. To begin anew here, stop hyphad and move its state folder away."
    )
  }

  public func beginRestore(_ params: RestoreBegin.Params) async throws(ControlError) -> RestoreBegin.Result {
    guard record == nil, claim.candidate == nil else { throw Self.alreadyHolds(record) }
    tickBackups()
    guard restore == nil else {
      throw ControlError(
        .limitReached,
        "Another backup is being restored here: wait until it is done, or a minute after it was broken off.")
    }
    if params.deviceName != nil { _ = try checkedDeviceName(params.deviceName) }
    try checkRoom()
    wipeFreedMemory()
    do throws(NodeError) { try files.removeStaging() } catch { throw Self.controlError(error) }
    let newWriter = params.newWriter == true
    let restore = Restore(
      id: Hex.encode(Self.random(16)),
      staging: RestoreStaging(files.folder, passphrase: params.passphrase, keepsWriter: !newWriter),
      newWriter: newWriter, deviceName: params.deviceName, lastUse: monotonic)
    self.restore = restore
    return RestoreBegin.Result(id: restore.id)
  }

  private func current(_ id: String) throws(ControlError) -> Restore {
    guard let restore, restore.id == id, !restore.isFinishing else { throw RestoreStaging.gone }
    self.restore?.lastUse = monotonic
    return restore
  }

  public func writeRestore(_ params: RestoreWrite.Params) async throws(ControlError) {
    let restore = try current(params.id)
    guard let bytes = Data(base64Encoded: params.base64), bytes.count <= ControlLimits.backupChunkBytes else {
      throw ControlError(
        .invalidParams, "base64 is to be at most \(ControlLimits.backupChunkBytes) bytes", field: "base64")
    }
    wipeFreedMemory()
    do throws(ControlError) {
      try checkRoom()
      try await restore.staging.take([UInt8](bytes))
    } catch {
      giveUp(restore)
      throw error
    }
  }

  public func cancelRestore(_ params: BackupRead.Params) async {
    if let restore, restore.id == params.id, !restore.isFinishing { giveUp(restore) }
  }

  /// Nothing of it stays.
  private func giveUp(_ restore: Restore) {
    guard self.restore?.id == restore.id else { return }
    self.restore?.isFinishing = true
    Task {
      await restore.staging.giveUp()
      do throws(NodeError) { try files.removeStaging() } catch {
        logger.error("What was staged of a backup cannot be removed", metadata: ["reason": "\(error)"])
      }
      if self.restore?.id == restore.id { self.restore = nil }
    }
  }

  public func finishRestore(_ params: BackupRead.Params) async throws(ControlError) -> RestoreFinish.Result {
    let restore = try current(params.id)
    self.restore?.isFinishing = true
    do throws(ControlError) {
      let node = try await restore.staging.finish()
      let result = try install(node, restore)
      self.restore = nil
      await connectKept()
      return result
    } catch {
      giveUp(restore)
      throw error
    }
  }

  /// Moves what was checked into place, and opens it. The record comes last: without it, the next start clears all away.
  private func install(_ node: RestoredNode, _ restore: Restore) throws(ControlError) -> RestoreFinish.Result
  {
    guard record == nil, claim.candidate == nil else { throw Self.alreadyHolds(record) }
    var record = node.manifest.node
    let hadWriter = record.role == .origin || record.writer != nil
    var writer: KeyPair
    if restore.newWriter {
      guard record.role != .alwaysOn else {
        throw ControlError(
          .invalidParams, "The backup is of an always-on node, which has no writer: leave out --new-writer.",
          field: "newWriter")
      }
      writer = KeyPair()
      record.role = .reader
      record.writer = writer.publicKey.hex
      record.catchesUp = nil
      if let name = restore.deviceName { record.deviceName = name }
    } else if hadWriter {
      guard let stored = KeyPair.stored(node.writer ?? []),
        stored.publicKey.hex == record.writer ?? record.key
      else {
        throw ControlError(.badBackup, "The backup is damaged: its secret key does not fit its feed.")
      }
      writer = stored
      record.noteLoss()
    } else {
      writer = KeyPair()
    }
    do throws(NodeError) {
      try files.installStaging()
      if hadWriter || restore.newWriter { try files.writeWriter(writer) }
      if let channel = node.channel, channel.count == 32 {
        try files.writeChannel(
          SecretBytes(count: 32) { (key: UnsafeMutableRawBufferPointer) in key.copyBytes(from: channel) })
      }
      if let membership = node.membership, !restore.newWriter { try files.writeMembership(membership) }
      if let connections = node.connections {
        let urls = String(decoding: connections, as: UTF8.self).split(separator: "\n").map { String($0) }
        try files.writeConnections(urls)
      }
      try openHypha(record, becomes: true)
      try files.write(record)
      try files.removeSetupCode()
    } catch {
      abandon()
      throw Self.controlError(error)
    }
    logger.notice(
      "Restored from a backup",
      metadata: ["role": "\(record.role.rawValue)", "hyphalink": "\(record.hyphalink)"])
    recordEvent(.initialised) { $0.hyphalink = record.hyphalink }
    var request: OwnRequestInfo?
    if restore.newWriter, membership?.canOpen == true { request = try makeRequest(nil) }
    return RestoreFinish.Result(
      hyphalink: record.hyphalink, role: record.role, writer: hypha?.database.local?.key.hex,
      created: node.manifest.created, feeds: node.manifest.feeds.count,
      blocks: node.manifest.feeds.reduce(0) { $0 + $1.heldBlocks }, catchesUp: record.catchesUp == true,
      request: request)
  }

  /// A restored node that could not be opened: it is as new again.
  private func abandon() {
    closeHypha(CloseReason(.goingAway, "This node could not be restored."))
    record = nil
    do throws(NodeError) {
      try files.removeUnfinished()
      try files.writeConnections([])
      claim.code = try files.setupCode()
    } catch {
      fail(error)
    }
  }
}

extension BackupWriter.Item {
  /// Bytes at most.
  fileprivate var size: UInt64 {
    switch self {
    case .bytes(_, _, let bytes): UInt64(bytes.count)
    case .file(_, _, let size): size
    }
  }
}
