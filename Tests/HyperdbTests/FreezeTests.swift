import Hypercore
import Hyperdb
import TestSupport
import Testing

@Suite("Frozen writers") struct FreezeTests {
  private func database(_ seed: UInt8) throws -> Hyperdb<MemoryStorage> {
    let bytes = [UInt8](repeating: seed, count: 32)
    let pair = bytes.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }
    let files = try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
    return try Hyperdb(source: Feed(files: files, keyPair: pair, storeSecretKey: false))
  }

  private func text(_ database: Hyperdb<MemoryStorage>, _ key: String) throws -> [String] {
    try database.get(key).map { String(decoding: $0.value ?? [], as: UTF8.self) }
  }

  @Test("What comes after the block counts no longer, and what it replaced does again")
  func counts() throws {
    let database = try database(1)
    for number in 0..<4 { try database.put("key", Array("value \(number)".utf8)) }
    try database.put("late", Array("late".utf8))
    #expect(try text(database, "key") == ["value 3"] && text(database, "late") == ["late"])
    database.freeze(database.source.key, at: 3)
    #expect(database.frozen(database.source.key) == 3)
    #expect(try text(database, "key") == ["value 1"] && text(database, "late") == [])
    #expect(try database.visibleLength(of: database.source.key) == 3)
    // No revocation.
    #expect(try database.cutoff(of: database.source.key) == nil)
    // Never further than it was.
    database.freeze(database.source.key, at: 5)
    #expect(try text(database, "key") == ["value 1"])
    database.freeze(database.source.key, at: 0)
    #expect(try text(database, "key") == [])
  }

  @Test("A frozen writer signs nothing more")
  func writes() throws {
    let database = try database(2)
    try database.put("key", [1])
    database.freeze(database.source.key, at: 1)
    let length = database.source.length
    do throws(HyperdbError) {
      try database.put("key", [2])
      Issue.record("it wrote")
    } catch {
      #expect(error.code == .forked)
    }
    #expect(database.source.length == length)
    #expect(try !database.isWritable)
  }

  @Test("A frozen writer is not let in")
  func authorises() throws {
    let database = try database(3)
    let writer = try self.database(4).source.key
    database.freeze(writer, at: 1)
    let error = #expect(throws: HyperdbError.self) { try database.authorize(writer) }
    #expect(error?.code == .otherCutOff)
    // It is another's that is frozen.
    try database.put("key", [1])
  }
}
