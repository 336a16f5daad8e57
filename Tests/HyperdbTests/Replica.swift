import Hypercore
import Hyperdb
import Testing

/// One node's copy of a database, its storage kept when it is opened anew.
final class Replica {
  typealias Database = Hyperdb<MemoryStorage>

  private let key: PublicKey
  /// The own writer's secret key, as stored.
  private let secretKey: [UInt8]?
  private let own: PublicKey?
  private var storage: [PublicKey: FeedFiles<MemoryStorage>] = [:]
  private(set) var feeds: [PublicKey: Feed<MemoryStorage>] = [:]
  private(set) var database: Database

  /// - Parameters:
  ///   - key: of the first writer.
  ///   - secretKey: of the own writer, 64 bytes; without, the replica only reads.
  init(_ key: PublicKey, secretKey: [UInt8]?) throws {
    self.key = key
    self.secretKey = secretKey
    own = secretKey.flatMap { PublicKey($0[32...]) }
    database = try Database(source: Self.feed(key))
    try open()
  }

  /// Opens all that is stored, as after a restart.
  func open() throws {
    for feed in feeds.values { try feed.flush(durable: true) }
    feeds = [:]
    let source = try feed(key)
    let local = own == key ? nil : try own.map { try feed($0) }
    database = try Database(source: source, local: local) { [unowned self] (key) throws(HyperdbError) in
      do { return try feed(key) } catch { throw HyperdbError(.feed(.notWritable), "\(error)") }
    }
  }

  private func feed(_ key: PublicKey) throws -> Feed<MemoryStorage> {
    if let feed = feeds[key] { return feed }
    let files = try storage[key] ?? Self.files()
    storage[key] = files
    let feed: Feed<MemoryStorage>
    if let secretKey, let pair = KeyPair.stored(secretKey), pair.publicKey == key {
      feed = try Feed(files: files, keyPair: pair, storeSecretKey: false)
    } else {
      feed = try Feed(files: files, key: key)
    }
    feeds[key] = feed
    return feed
  }

  static func files() throws -> FeedFiles<MemoryStorage> {
    try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
  }

  private static func feed(_ key: PublicKey) throws -> Feed<MemoryStorage> {
    try Feed(files: files(), key: key)
  }

  /// Takes over one block, verified.
  func take(_ index: UInt64, of key: PublicKey, from other: Replica) throws {
    let theirs = try other.feed(key)
    let mine = try feed(key)
    let proof = try theirs.proof(
      of: index, digest: mine.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
    try mine.put(theirs.block(at: index), at: index, proof: proof)
  }

  /// Blocks of feeds that both know, and that the other has and this one has not.
  func missing(from other: Replica) throws -> [(key: PublicKey, index: UInt64)] {
    var missing: [(PublicKey, UInt64)] = []
    let keys = Set(try other.database.feeds.map(\.key))
    for mine in try database.feeds where keys.contains(mine.key) {
      let theirs = try other.feed(mine.key)
      for index in 0..<theirs.length where theirs.has(index) && !mine.has(index) {
        missing.append((mine.key, index))
      }
    }
    return missing
  }

  /// Takes over all that the other has.
  func pull(from other: Replica) throws {
    while case let missing = try missing(from: other), !missing.isEmpty {
      for (key, index) in missing { try take(index, of: key, from: other) }
    }
  }
}
