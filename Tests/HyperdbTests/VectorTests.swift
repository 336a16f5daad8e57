import FoundationEssentials
import Hypercore
import TestSupport
import Testing

@testable import Hyperdb

@Suite("A database equals the reference's")
struct VectorTests {
  static let names = ["one-writer", "two-writers", "three-writers"] + (0..<8).map { "random-\($0)" }
  static let onDisk = ["one-writer", "two-writers", "three-writers"]

  struct Vector: Decodable {
    struct Writer: Decodable { let publicKey, secretKey: HexBytes }
    struct Op: Decodable {
      let op: String
      let writer, a, b: Int?
      let key, value: String?
    }
    struct Found: Decodable {
      let value: String?
      let feed: HexBytes
      let seq: UInt64
      let clock: [UInt64]
    }
    struct Listed: Decodable {
      let key: String
      let values: [String?]
    }
    struct FeedBlocks: Decodable {
      let key: HexBytes
      let blocks: [HexBytes]
    }
    struct Place: Decodable {
      let feed: String
      let seq: UInt64
      init(from decoder: any Decoder) throws {
        var container = try decoder.unkeyedContainer()
        feed = try container.decode(String.self)
        seq = try container.decode(UInt64.self)
      }
      func position() throws -> WriteModel.Position {
        WriteModel.Position(feed: try #require(PublicKey(hex: feed[...])), seq: seq)
      }
    }
    struct Checkout: Decodable {
      let afterOp: Int
      let version: HexBytes
      let get: [String: [String?]]
    }
    struct Different: Decodable {
      let key: String
      let left, right: [String?]?
    }
    struct Expect: Decodable {
      let get: [String: [Found]]
      let list: [String: [Listed]]
      let feeds: [FeedBlocks]
      let history, historyReverse: [Place]
      let keyHistory: [String: [[Place]]]
      let iterationOrder: [String]
      let checkout: Checkout
      let diffSinceCheckout: [Different]
    }
    let writers: [Writer]
    let ops: [Op]
    let expect: Expect
  }

  private typealias Position = WriteModel.Position

  /// Values in an order of their own, `nil` first.
  private func sorted(_ values: [String?]) -> [String?] {
    values.sorted { ($0 ?? "") < ($1 ?? "") }
  }

  private func values(_ entries: [Entry]) -> [String?] {
    sorted(entries.map { $0.value.map { String(decoding: $0, as: UTF8.self) } })
  }

  private func values(_ writes: [WriteModel.Write]) -> [String?] {
    sorted(writes.map { $0.value.map { String(decoding: $0, as: UTF8.self) } })
  }

  /// The reference's answer to `get` without values that another write of the key has seen, which it returns as well
  /// where several heads meet.
  private func current(_ found: [Vector.Found], feeds: [PublicKey]) throws -> [Vector.Found] {
    let current = try found.filter { value in
      let feed = try #require(PublicKey(value.feed.bytes).flatMap { feeds.firstIndex(of: $0) })
      return !found.contains {
        ($0.seq, $0.feed.bytes) != (value.seq, value.feed.bytes) && feed < $0.clock.count
          && $0.clock[feed] > value.seq
      }
    }
    return current.contains { $0.value != nil } ? current : []
  }

  private func model(_ vector: Vector) throws -> WriteModel {
    var model = WriteModel()
    for feed in vector.expect.feeds {
      let key = try #require(PublicKey(feed.key.bytes))
      let entries = try feed.blocks.dropFirst().map { try #require(StoredEntry(decoding: $0.bytes)) }
      for (place, entry) in entries.enumerated() {
        let feeds = entries[Int(entry.inflate) - 1].feeds
        model.add(
          WriteModel.Write(
            at: Position(feed: key, seq: UInt64(place) + 1), key: String(decoding: entry.key, as: UTF8.self),
            value: entry.value, clock: Dictionary(uniqueKeysWithValues: zip(feeds, entry.clock))))
      }
    }
    return model
  }

  private func clock(_ entry: Entry, _ feeds: [PublicKey]) -> [PublicKey: UInt64] {
    Dictionary(uniqueKeysWithValues: zip(feeds, entry.clock))
  }

  private func check(_ database: Replica.Database, _ vector: Vector) throws {
    let expect = vector.expect
    let model = try model(vector)
    let feeds = try database.feeds.map(\.key)
    let lengths = Dictionary(
      uniqueKeysWithValues: try feeds.map { ($0, try database.visibleLength(of: $0)) })
    var current: [String: [Vector.Found]] = [:]
    for (key, found) in expect.get {
      let entries = try database.get(key)
      let expected = try self.current(found, feeds: feeds)
      current[key] = expected
      #expect(values(entries) == sorted(expected.map(\.value)), "\(key)")
      let winners = model.winners(key, within: lengths)
      #expect(Set(entries.map { Position(feed: $0.feed, seq: $0.seq) }) == Set(winners.map(\.at)), "\(key)")
      for entry in entries {
        let clock = found.first { $0.feed.bytes == entry.feed.bytes && $0.seq == entry.seq }?.clock
        #expect(trimmed(entry.clock) == clock.map(trimmed), "\(key)")
      }
    }
    for (prefix, listed) in expect.list {
      let entries = try database.list(prefix: prefix).sorted { $0[0].keyText < $1[0].keyText }
      let expected = listed.filter { current[$0.key]?.isEmpty == false }.sorted { $0.key < $1.key }
      #expect(entries.map { $0[0].keyText } == expected.map(\.key), "\(prefix)")
      #expect(
        entries.map(values) == expected.map { sorted(current[$0.key]?.map(\.value) ?? []) }, "\(prefix)")
    }
    #expect(
      try database.list().map { $0[0].keyText }
        == expect.iterationOrder.filter { current[$0]?.isEmpty == false })
    try checkHistory(database, expect, model, feeds, lengths)
    try checkVersions(database, expect, model, feeds, lengths)
  }

  private func checkHistory(
    _ database: Replica.Database, _ expect: Vector.Expect, _ model: WriteModel, _ feeds: [PublicKey],
    _ lengths: [PublicKey: UInt64]
  ) throws {
    let now = try database.snapshot()
    for (reversed, expected) in [(false, expect.history), (true, expect.historyReverse)] {
      var positions: [Position] = []
      var history = try History(now, reversed: reversed)
      while let entry = try history.entry() {
        positions.append(Position(feed: entry.feed, seq: entry.seq))
        if reversed { history = try History(database, rest: history.rest) }
      }
      #expect(try positions == expected.map { try $0.position() })
    }
    for (key, expected) in expect.keyHistory {
      var steps: [Set<Position>] = []
      var state = now
      while let step = try state.historyStep(of: key) {
        steps.append(Set(step.entries.map { Position(feed: $0.feed, seq: $0.seq) }))
        state = step.earlier
      }
      #expect(steps == model.history(key, within: lengths), "\(key)")
      let theirs = try expected.map { Set(try $0.map { try $0.position() }) }
      if feeds.count == 1 { #expect(steps == theirs, "\(key)") }
      #expect((steps.first ?? []).isSubset(of: theirs.first ?? []), "\(key)")
    }
  }

  private func checkVersions(
    _ database: Replica.Database, _ expect: Vector.Expect, _ model: WriteModel, _ feeds: [PublicKey],
    _ lengths: [PublicKey: UInt64]
  ) throws {
    let now = try database.snapshot()
    let version = try #require(Version(expect.checkout.version.bytes))
    #expect(version.bytes == expect.checkout.version.bytes)
    let then = try database.checkout(version)
    #expect(then.version == version)
    let earlier = WriteModel.lengths(
      try version.heads.map { clock(try database.entry($0.seq, of: $0.feed), feeds) })
    for (key, expected) in expect.checkout.get {
      let mine = values(try then.get(key))
      #expect(mine == values(model.winners(key, within: earlier)), "\(key) at the checkout")
      // A deletion is one of the answers only beside a value.
      #expect(mine.allSatisfy { $0 == nil || expected.contains($0) }, "\(key) at the checkout")
    }
    var different: [String: (left: [String?], right: [String?])] = [:]
    try now.forEachDifference(from: then) {
      different[String(decoding: $0.key, as: UTF8.self)] = (values($0.left), values($0.right))
      return true
    }
    var expected: [String: (left: [String?], right: [String?])] = [:]
    for key in model.writes.keys where !key.isEmpty {
      let (left, right) = (model.winners(key, within: lengths), model.winners(key, within: earlier))
      if Set(left.map(\.at)) != Set(right.map(\.at)) { expected[key] = (values(left), values(right)) }
    }
    #expect(Set(different.keys) == Set(expected.keys))
    for (key, sides) in expected { #expect(different[key].map { $0 == sides } == true, "\(key)") }
    // The reference can say of one key twice that it is on one side alone.
    for key in Set(expect.diffSinceCheckout.map(\.key)) {
      let theirs = expect.diffSinceCheckout.filter { $0.key == key }
      let (left, right) = (
        theirs.compactMap(\.left).flatMap { $0 }, theirs.compactMap(\.right).flatMap { $0 }
      )
      guard let mine = different[key] else {
        #expect(
          values(model.winners(key, within: lengths)) == values(model.winners(key, within: earlier)), "\(key)"
        )
        continue
      }
      #expect(mine.left.allSatisfy { $0 == nil || left.contains($0) }, "\(key)")
      #expect(mine.right.allSatisfy { $0 == nil || right.contains($0) }, "\(key)")
    }
    #expect(Set(different.keys).isSubset(of: expect.diffSinceCheckout.map(\.key)))
  }

  private func trimmed(_ clock: [UInt64]) -> [UInt64] {
    Array(clock.reversed().drop { $0 == 0 }.reversed())
  }

  @Test("the same operations give the same blocks and answers", arguments: names)
  func operations(name: String) throws {
    let vector: Vector = try Vectors.json("hyperdb/\(name).json")
    try #require(vector.ops.count > 10)
    let key = try #require(PublicKey(vector.writers[0].publicKey.bytes))
    let replicas = try vector.writers.map { try Replica(key, secretKey: $0.secretKey.bytes) }
    for (place, op) in vector.ops.enumerated() {
      let database = replicas[op.writer ?? 0].database
      switch op.op {
      case "put": try database.put(try #require(op.key), Array(try #require(op.value).utf8))
      case "del": try database.delete(try #require(op.key))
      case "authorize":
        let key = try #require(op.key)
        try database.authorize(try #require(PublicKey(hex: key[...])))
      case "sync":
        let (a, b) = (replicas[try #require(op.a)], replicas[try #require(op.b)])
        try a.pull(from: b)
        try b.pull(from: a)
        try a.pull(from: b)
      default: Issue.record("unknown operation \(op.op)")
      }
      if place + 1 == vector.expect.checkout.afterOp {
        #expect(
          try replicas[0].database.snapshot().version.bytes == vector.expect.checkout.version.bytes)
      }
    }
    for expected in vector.expect.feeds {
      let feed = try #require(PublicKey(expected.key.bytes).flatMap { replicas[0].feeds[$0] })
      #expect(feed.length == UInt64(expected.blocks.count))
      for (index, expected) in expected.blocks.enumerated() {
        let block = try feed.block(at: UInt64(index))
        if index == 0 || vector.writers.count == 1 {
          #expect(Hex.encode(block) == Hex.encode(expected.bytes), "block \(index)")
        } else {
          #expect(try plain(block) == plain(expected.bytes), "block \(index) of \(feed.key.hex)")
        }
      }
    }
    try check(replicas[0].database, vector)
    try replicas[0].open()
    try check(replicas[0].database, vector)
  }

  /// An entry's fields, and the pointers of its trie by position and value, in no order.
  private func plain(_ block: [UInt8]) throws -> (StoredEntry, Set<[Int]>) {
    var entry = try #require(StoredEntry(decoding: block))
    let feeds = FeedList(seq: 0, keys: [], writers: Array(0..<HyperdbLimits.writers))
    let trie = try #require(Trie(decoding: entry.trie, feeds, pathCount: .max) { _ in true })
    entry.trie = []
    var items: Set<[Int]> = []
    var position = 0
    while let bucket = trie.firstBucket(from: position) {
      for item in bucket.items {
        items.insert([item.position, Int(item.value), item.pointer.writer, Int(item.pointer.seq)])
      }
      position = bucket.position + 1
    }
    return (entry, items)
  }

  @Test("what the reference wrote on disk opens and answers the same", arguments: onDisk)
  func disk(name: String) throws {
    let vector: Vector = try Vectors.json("hyperdb/\(name).json")
    func feed(_ key: PublicKey, _ folder: String) throws -> Feed<MemoryStorage> {
      let files = try FeedFiles { (file) throws(StorageError) in
        MemoryStorage((try? Vectors.bytes("hyperdb/\(name)/disk/\(folder)/\(file)")) ?? [])
      }
      return try Feed(files: files, key: key)
    }
    let source = try feed(#require(PublicKey(vector.writers[0].publicKey.bytes)), "source")
    let database = try Replica.Database(source: source) { (key) throws(HyperdbError) in
      do { return try feed(key, "peers/\(Crypto.discoveryKey(key).hex)") } catch {
        throw HyperdbError(.feed(.notWritable), "\(error)")
      }
    }
    try check(database, vector)
  }
}
