import Hypercore
import TestSupport

@testable import Hyperdb

/// One node's copy of a database.
final class Replica {
  typealias Database = Hyperdb<MemoryStorage>

  private let key: PublicKey
  private let store: FeedStore<MemoryStorage>
  private let exactBlocks: UInt64
  private(set) var database: Database

  /// - Parameters:
  ///   - key: of the first writer.
  ///   - secretKey: of the own writer, 64 bytes; without, the replica only reads.
  ///   - exactBlocks: blocks up to which tries are the reference's.
  init(
    _ key: PublicKey, secretKey: [UInt8]?, exactBlocks: UInt64 = HyperdbLimits.exactBlocks
  ) throws {
    self.key = key
    self.exactBlocks = exactBlocks
    store = FeedStore(secretKey: secretKey)
    database = try Self.database(key, store)
    database.exactBlocks = exactBlocks
  }

  private static func database(_ key: PublicKey, _ store: FeedStore<MemoryStorage>) throws -> Database {
    let local = store.own == key ? nil : try store.own.map { try store.feed($0) }
    return try Database(source: store.feed(key), local: local) { (key) throws(HyperdbError) in
      do { return try store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
    }
  }

  var feeds: [PublicKey: Feed<MemoryStorage>] { store.feeds }

  /// Opens all that is stored, as after a restart.
  func open() throws {
    try store.close()
    database = try Self.database(key, store)
    database.exactBlocks = exactBlocks
  }

  /// Takes over one block, verified.
  func take(_ index: UInt64, of key: PublicKey, from other: Replica) throws {
    try store.take(index, of: key, from: other.store)
  }

  /// Blocks of feeds that both know, and that the other has and this one has not.
  func missing(from other: Replica) throws -> [(key: PublicKey, index: UInt64)] {
    let known = Set(try other.database.feeds.map(\.key))
    return try store.missing(database.feeds.map(\.key).filter(known.contains), from: other.store)
  }

  /// Takes over all that the other has.
  func pull(from other: Replica) throws {
    while case let missing = try missing(from: other), !missing.isEmpty {
      for (key, index) in missing { try take(index, of: key, from: other) }
    }
  }
}
