import FoundationEssentials
import Hypercore
import Hyperdb
import TestSupport
import Testing

@Suite("A database of one writer equals the reference's")
struct OneWriterVectorTests {
  struct Vector: Decodable {
    struct Writer: Decodable { let publicKey, secretKey: HexBytes }
    struct Op: Decodable {
      let op: String
      let key: String?
      let value: String?
    }
    struct Found: Decodable {
      let value: String?
      let seq: UInt64
      let clock: [UInt64]
    }
    struct Listed: Decodable {
      let key: String
      let values: [String]
    }
    struct FeedBlocks: Decodable {
      let key: HexBytes
      let blocks: [HexBytes]
    }
    enum Position: Decodable {
      case at(UInt64)
      init(from decoder: any Decoder) throws {
        var container = try decoder.unkeyedContainer()
        _ = try container.decode(String.self)
        self = .at(try container.decode(UInt64.self))
      }
      var seq: UInt64 {
        switch self {
        case .at(let seq): seq
        }
      }
    }
    struct Expect: Decodable {
      let get: [String: [Found]]
      let list: [String: [Listed]]
      let feeds: [FeedBlocks]
      let history, historyReverse: [Position]
      let iterationOrder: [String]
    }
    let writers: [Writer]
    let ops: [Op]
    let expect: Expect
  }

  private let vector: Vector

  init() throws {
    vector = try Vectors.json("hyperdb/one-writer.json")
    try #require(vector.ops.count > 10)
  }

  private func check(_ database: Hyperdb<MemoryStorage>) throws {
    for (key, found) in vector.expect.get {
      let entries = try database.get(key)
      #expect(
        entries.map { $0.value.map { String(decoding: $0, as: UTF8.self) } } == found.map(\.value), "\(key)")
      #expect(entries.map(\.seq) == found.map(\.seq), "\(key)")
      #expect(entries.map(\.clock) == found.map(\.clock), "\(key)")
    }
    for (prefix, listed) in vector.expect.list {
      let entries = try database.list(prefix: prefix)
      let found = entries.map { ($0[0].keyText, $0.map { String(decoding: $0.value ?? [], as: UTF8.self) }) }
        .sorted { $0.0 < $1.0 }
      let expected = listed.sorted { $0.key < $1.key }
      #expect(found.map(\.0) == expected.map(\.key), "\(prefix)")
      #expect(found.map(\.1) == expected.map(\.values), "\(prefix)")
    }
    #expect(try database.list().map { $0[0].keyText } == vector.expect.iterationOrder)
    for (reversed, expected) in [(false, vector.expect.history), (true, vector.expect.historyReverse)] {
      var seqs: [UInt64] = []
      try database.forEachInHistory(reversed: reversed) {
        seqs.append($0.seq)
        return true
      }
      #expect(seqs == expected.map(\.seq))
    }
  }

  @Test("the same operations give the same blocks and answers")
  func operations() throws {
    guard let keyPair = KeyPair.stored(vector.writers[0].secretKey.bytes) else {
      Issue.record("the secret key of the vector does not hold together")
      return
    }
    let feed = try Feed(files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, keyPair: keyPair)
    let database = try Hyperdb(source: feed)
    for op in vector.ops {
      let key = try #require(op.key)
      switch op.op {
      case "put": try database.put(key, Array(try #require(op.value).utf8))
      case "del": try database.delete(key)
      default: Issue.record("unknown operation \(op.op)")
      }
    }
    let blocks = try (0..<feed.length).map { try feed.block(at: $0) }
    let expected = vector.expect.feeds[0].blocks.map(\.bytes)
    #expect(blocks.count == expected.count)
    for (index, (block, expected)) in zip(blocks, expected).enumerated() {
      #expect(Hex.encode(block) == Hex.encode(expected), "block \(index)")
    }
    try check(database)
  }

  @Test("what the reference wrote on disk opens and answers the same")
  func disk() throws {
    let files = try FeedFiles { (name) throws(StorageError) in
      MemoryStorage((try? Vectors.bytes("hyperdb/one-writer/disk/source/\(name)")) ?? [])
    }
    let key = try #require(PublicKey(vector.writers[0].publicKey.bytes))
    try check(Hyperdb(source: Feed(files: files, key: key)))
  }
}
