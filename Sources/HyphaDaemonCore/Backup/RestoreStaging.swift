import FoundationEssentials
import Hypercore
import HyphaControlAPI

/// What a backup had, checked, and where its feeds lie.
struct RestoredNode: Sendable {
  var manifest: BackupManifest
  var writer: [UInt8]?
  var channel: [UInt8]?
  var membership: [UInt8]?
  var connections: [UInt8]?
}

/// Puts what comes of a backup into a folder of its own, and checks it: away from the node's thread, and out of the way of
/// all that the node has.
actor RestoreStaging {
  private let folder: StateFolder
  private let keepsWriter: Bool
  private let reader: BackupReader
  private var manifest: BackupManifest?
  /// Small files, by name.
  private var small: [String: [UInt8]] = [:]
  private var seen: Set<String> = []
  /// What the file that is under way is.
  private var current: Target?
  private var isGivenUp = false

  private enum Target {
    case small(String)
    case feed(FileStorage, offset: UInt64)
  }

  /// - Parameter keepsWriter: the feed that the backup's node wrote to stays this node's own.
  init(_ folder: StateFolder, passphrase: Secret?, keepsWriter: Bool) {
    self.folder = folder
    self.keepsWriter = keepsWriter
    reader = BackupReader(passphrase: passphrase)
  }

  deinit {
    for name in [BackupFormat.writer, BackupFormat.channel] {
      small[name]?.withUnsafeMutableBytes { SecretBytes.wipe($0) }
    }
  }

  /// Takes the next bytes.
  func take(_ bytes: [UInt8]) throws(ControlError) {
    guard !isGivenUp else { throw Self.gone }
    do throws(BackupReader.Failure) {
      try reader.take(bytes) { (piece) throws(BackupReader.Failure) in
        do throws(StorageError) { try take(piece) } catch {
          // Told apart below: what the disk refused is not the backup's fault.
          failure = error
          throw BackupReader.Failure(.damaged, error.context)
        }
      }
    } catch {
      if let failure { throw Node.controlError(NodeError(failure)) }
      throw Self.controlError(error)
    }
    if let problem { throw ControlError(.badBackup, problem) }
  }

  private var failure: StorageError?
  /// What is wrong with the backup.
  private var problem: String?

  static var gone: ControlError {
    ControlError(.notFound, "This restore was given up: begin it anew.", field: "id")
  }

  private static func controlError(_ failure: BackupReader.Failure) -> ControlError {
    switch failure.code {
    case .damaged: ControlError(.badBackup, failure.context)
    case .passphrase: ControlError(.backupPassphrase, failure.context, field: "passphrase")
    case .memory: ControlError(.internalError, failure.context)
    }
  }

  /// Nothing more is taken, and the folder can be removed.
  func giveUp() {
    isGivenUp = true
    current = nil
  }

  // MARK: - Files

  private func take(_ piece: BackupReader.Piece) throws(StorageError) {
    guard problem == nil else { return }
    switch piece {
    case .begin(let name, let offset, let size): try begin(name, offset, size)
    case .bytes(let bytes):
      switch current {
      case .small(let name): small[name]?.append(contentsOf: bytes)
      case .feed(let file, let offset):
        let chunk = Array(bytes)
        try chunk.withBytes { (bytes) throws(StorageError) in try file.write(bytes, at: offset) }
        current = .feed(file, offset: offset + UInt64(chunk.count))
      case nil: break
      }
    }
  }

  private func begin(_ name: String, _ offset: UInt64, _ size: UInt64) throws(StorageError) {
    try readManifest()
    if case .feed(let file, _) = current { try file.sync() }
    current = nil
    guard problem == nil else { return }
    if let limit = Self.smallFiles[name] {
      guard (manifest == nil) == (name == BackupFormat.manifest), offset == 0, size <= limit,
        seen.insert(name).inserted
      else { return refuse(name) }
      small[name] = []
      current = .small(name)
      return
    }
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    guard let manifest, parts.count == 3, parts[0] == "feeds", let number = Int(parts[1]),
      manifest.feeds.indices.contains(number), BackupFormat.feedFiles.contains(String(parts[2])),
      let limit = Self.limit(String(parts[2]), manifest.feeds[number]), offset <= limit,
      size <= limit - offset
    else { return refuse(name) }
    guard let place = place(of: manifest.feeds[number]) else { return refuse(name) }
    let path = try folder.makeFolder(place)
    current = .feed(try FileStorage("\(path)/\(parts[2])"), offset: offset)
  }

  private func refuse(_ name: String) {
    problem =
      "The backup is damaged, or of a later version: it has “\(name.prefix(64))” where that cannot be."
  }

  private static let smallFiles: [String: UInt64] = [
    BackupFormat.manifest: BackupFormat.manifestBytes, BackupFormat.writer: 64, BackupFormat.channel: 32,
    BackupFormat.membership: BackupFormat.membershipBytes,
    BackupFormat.connections: BackupFormat.connectionsBytes,
  ]

  /// Bytes that a feed's file can have.
  private static func limit(_ file: String, _ feed: BackupManifest.Feed) -> UInt64? {
    guard feed.length <= Limits.feedBlocks, feed.byteLength <= Limits.feedBytes else { return nil }
    switch file {
    case "bitfield": return 32 + 3584 * (feed.length / 8192 + 2)
    case "signatures": return 32 + 64 * feed.length
    case "tree": return 32 + 80 * feed.length
    default: return feed.byteLength
    }
  }

  /// Where a feed comes to lie.
  private func place(of feed: BackupManifest.Feed) -> String? {
    guard let key = PublicKey(hex: feed.key) else { return nil }
    let staging = NodeFiles.staging
    switch feed.place {
    case .source: return "\(staging)/\(NodeFiles.source)"
    case .local where keepsWriter: return "\(staging)/\(NodeFiles.local)"
    case .local, .peer: return "\(staging)/\(NodeFiles.peer(Crypto.discoveryKey(key)))"
    }
  }

  private func readManifest() throws(StorageError) {
    guard manifest == nil, let bytes = small[BackupFormat.manifest] else { return }
    guard let found = try? JSONDecoder().decode(BackupManifest.self, from: Data(bytes)) else {
      problem = "The backup is damaged: what it says of itself cannot be read."
      return
    }
    guard found.state <= StateFolder.version, found.node.version <= NodeRecord.version else {
      problem = "The backup was made by hyphad \(found.release), which is newer than this one: install that."
      return
    }
    let sources = found.feeds.filter { $0.place == .source }
    let locals = found.feeds.filter { $0.place == .local }
    guard found.node.publicKey != nil, found.feeds.count <= BackupFormat.feeds,
      sources.map(\.key) == [found.node.key], locals.map(\.key) == [found.node.writer].compactMap({ $0 }),
      Set(found.feeds.map(\.key)).count == found.feeds.count
    else {
      problem = "The backup is damaged: what it says of itself contradicts itself."
      return
    }
    manifest = found
  }

  // MARK: - Checking

  /// Checks that all came, and every block, hash and signature.
  func finish() async throws(ControlError) -> RestoredNode {
    guard !isGivenUp else { throw Self.gone }
    do throws(BackupReader.Failure) { try reader.finish() } catch { throw Self.controlError(error) }
    do throws(StorageError) {
      try readManifest()
      if case .feed(let file, _) = current { try file.sync() }
    } catch {
      throw Node.controlError(NodeError(error))
    }
    current = nil
    if let problem { throw ControlError(.badBackup, problem) }
    guard let manifest else { throw ControlError(.badBackup, "The backup is empty.") }
    for feed in manifest.feeds { try await check(feed) }
    guard !isGivenUp else { throw Self.gone }
    return RestoredNode(
      manifest: manifest, writer: small[BackupFormat.writer], channel: small[BackupFormat.channel],
      membership: small[BackupFormat.membership], connections: small[BackupFormat.connections])
  }

  private func check(_ expected: BackupManifest.Feed) async throws(ControlError) {
    guard let place = place(of: expected), let key = PublicKey(hex: expected.key) else {
      throw ControlError(.badBackup, "The backup is damaged: a feed's key is none.")
    }
    let check: FeedCheck<FileStorage>
    do throws(NodeError) {
      let files = try NodeFiles(folder).feedFiles(place)
      do throws(StorageError) {
        try key.bytes.withBytes { (bytes) throws(StorageError) in try files.key.write(bytes, at: 0) }
        try files.key.sync()
      } catch {
        throw NodeError(error)
      }
      do throws(FeedError) { check = FeedCheck(try Feed(files: files, key: key)) } catch {
        if case .storage(let code) = error.code { throw NodeError(StorageError(code, error.context)) }
        throw NodeError(.damaged, "a feed in it cannot be opened: \(error.context).")
      }
    } catch {
      if error.code == .full || error.code == .storage { throw Node.controlError(error) }
      throw ControlError(.badBackup, "The backup is damaged: \(error.context)")
    }
    while !check.isDone {
      guard !isGivenUp else { throw Self.gone }
      var pieces = 0
      do throws(FeedError) {
        try check.run {
          pieces += 1
          return pieces >= 1000
        }
      } catch {
        throw Node.controlError(NodeError(opening: error))
      }
      await Task.yield()
    }
    let feed = check.feed
    guard check.damage.isNone, feed.length == expected.length, feed.byteLength == expected.byteLength,
      // Blocks that came from other nodes while the backup was made are in it, too.
      feed.heldBlocks >= expected.heldBlocks,
      feed.heldBlocks - expected.heldBlocks == feed.recovery.foundBlocks
    else {
      throw ControlError(
        .badBackup,
        "The backup has a feed that does not verify, \(expected.key): its node's own copy was damaged. Restore an "
          + "older backup, or sign in anew and have the feeds come from other nodes.")
    }
  }
}
