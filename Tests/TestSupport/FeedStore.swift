package import Hypercore

/// One node's copies of feeds, their storage kept when they are opened anew.
package final class FeedStore<Storage: RandomAccessStorage> {
  /// The own writer's secret key, as stored.
  private let secretKey: [UInt8]?
  /// The own writer's feed.
  package let own: PublicKey?
  private let file: (_ key: PublicKey, _ name: String) -> Storage
  private var storage: [PublicKey: FeedFiles<Storage>] = [:]
  package private(set) var feeds: [PublicKey: Feed<Storage>] = [:]

  /// - Parameters:
  ///   - secretKey: of the own writer, 64 bytes; without, nothing can be written.
  ///   - file: gives one of a feed's files, once.
  package init(secretKey: [UInt8]?, file: @escaping (_ key: PublicKey, _ name: String) -> Storage) {
    self.secretKey = secretKey
    self.file = file
    own = secretKey.flatMap { PublicKey($0[32...]) }
  }

  /// Makes all durable and forgets what is open.
  package func close() throws {
    for feed in feeds.values { try feed.flush(durable: true) }
    feeds = [:]
  }

  /// Forgets what is open, as a process does that is killed.
  package func forget() {
    feeds = [:]
  }

  /// Forgets the files as well, so that they are asked for again.
  package func forgetFiles() {
    feeds = [:]
    storage = [:]
  }

  package func feed(_ key: PublicKey) throws -> Feed<Storage> {
    if let feed = feeds[key] { return feed }
    let files = try storage[key] ?? FeedFiles { (name) throws(StorageError) in file(key, name) }
    storage[key] = files
    let feed: Feed<Storage>
    if let secretKey, let pair = KeyPair.stored(secretKey), pair.publicKey == key {
      feed = try Feed(files: files, keyPair: pair, storeSecretKey: false)
    } else {
      feed = try Feed(files: files, key: key)
    }
    feeds[key] = feed
    return feed
  }

  /// Takes over one block, verified.
  package func take(_ index: UInt64, of key: PublicKey, from other: FeedStore<Storage>) throws {
    let theirs = try other.feed(key)
    let mine = try feed(key)
    let proof = try theirs.proof(
      of: index, digest: mine.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
    try mine.put(theirs.block(at: index), at: index, proof: proof)
  }

  /// Blocks of some feeds that the other has and this one has not.
  package func missing(
    _ keys: some Sequence<PublicKey>, from other: FeedStore<Storage>
  ) throws -> [(key: PublicKey, index: UInt64)] {
    var missing: [(PublicKey, UInt64)] = []
    for key in keys {
      let (mine, theirs) = (try feed(key), try other.feed(key))
      for index in 0..<theirs.length where theirs.has(index) && !mine.has(index) {
        missing.append((key, index))
      }
    }
    return missing
  }
}

extension FeedStore where Storage == MemoryStorage {
  package convenience init(secretKey: [UInt8]?) {
    self.init(secretKey: secretKey) { _, _ in MemoryStorage() }
  }

  /// A secret key as stored, of a pair made from a byte.
  package static func secretKey(_ number: UInt8) -> [UInt8] {
    let seed = [UInt8](repeating: number, count: 32)
    return seed + seed.withUnsafeBytes { KeyPair(seed: $0).publicKey.bytes }
  }
}
