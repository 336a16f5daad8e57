import Hypercore
import Hyperdb
import TestSupport
import Testing

@Suite("A database against a plain dictionary")
struct HyperdbModelTests {
  private func files() throws -> FeedFiles<MemoryStorage> {
    try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
  }

  private func key(_ random: inout SeededRandom) -> String {
    let names = ["a", "b", "posts", "profile", "é", "x y", "1", "2", "3"]
    return (0..<Int.random(in: 1...4, using: &random))
      .map { _ in names.randomElement(using: &random) ?? "a" }.joined(separator: "/")
  }

  @Test(arguments: UInt64(0)..<8)
  func random(seed: UInt64) throws {
    var random = SeededRandom(seed)
    let files = try files()
    var feed = try Feed(files: files, keyPair: KeyPair())
    var database = try Hyperdb(source: feed)
    var model: [String: [UInt8]] = [:]
    var history: [(String, [UInt8]?)] = []
    for step in 0..<600 {
      var changes: [Hyperdb<MemoryStorage>.Change] = []
      for _ in 0..<(Bool.random(using: &random) ? 1 : Int.random(in: 0...6, using: &random)) {
        let key = key(&random)
        if UInt8.random(in: 0...3, using: &random) == 0 {
          changes.append(.delete(key: key))
          model[key] = nil
          history.append((key, nil))
        } else {
          let value = random.bytes(Int.random(in: 0...30, using: &random))
          changes.append(.put(key: key, value: value))
          model[key] = value
          history.append((key, value))
        }
      }
      try database.batch(changes)
      if step % 50 == 49 {
        try feed.flush(durable: true)
        feed = try Feed(files: files, key: feed.key)
        database = try Hyperdb(source: feed)
      }
      for _ in 0..<3 {
        let key = key(&random)
        let entries = try database.get(key)
        #expect(entries.map(\.value) == (model[key].map { [$0] } ?? []), "\(key)")
      }
      guard step % 60 == 0 else { continue }
      let all = try database.list()
      #expect(all.allSatisfy { $0.count == 1 })
      #expect(all.count == model.count)
      for entries in all { #expect(model[entries[0].keyText] == entries[0].value) }
      let prefix = key(&random)
      let below = Set(try database.list(prefix: prefix).map { $0[0].keyText })
      #expect(below == Set(model.keys.filter { $0 == prefix || $0.hasPrefix(prefix + "/") }), "\(prefix)")
    }
    var seen: [(String, [UInt8]?)] = []
    var entries = try History(database.snapshot())
    while let entry = try entries.entry() {
      seen.append((entry.keyText, entry.isDeleted ? nil : entry.value))
    }
    #expect(seen.map(\.0) == history.map(\.0))
    #expect(seen.map(\.1) == history.map(\.1))
  }

  @Test(
    "entries that are cut, random or tampered with are refused, and never more than that",
    arguments: UInt64(0)..<6)
  func hostile(seed: UInt64) throws {
    var random = SeededRandom(seed)
    let good = try Feed(files: files(), keyPair: KeyPair())
    let database = try Hyperdb(source: good)
    for _ in 0..<60 { try database.put(key(&random), random.bytes(10)) }
    let blocks = try (0..<good.length).map { try good.block(at: $0) }
    for _ in 0..<150 {
      var tampered = blocks
      for _ in 0..<3 {
        let index = Int.random(in: 1..<tampered.count, using: &random)
        guard !tampered[index].isEmpty else { continue }
        let place = Int.random(in: 0..<tampered[index].count, using: &random)
        switch UInt8.random(in: 0...2, using: &random) {
        case 0: tampered[index][place] = UInt8.random(in: 0...255, using: &random)
        case 1: tampered[index].removeLast(tampered[index].count - place)
        default: tampered[index] = random.bytes(place)
        }
      }
      let feed = try Feed(files: files(), keyPair: KeyPair())
      try feed.append(contentsOf: tampered)
      guard let database = try? Hyperdb(source: feed) else { continue }
      _ = try? database.list()
      for _ in 0..<5 { _ = try? database.get(key(&random)) }
      _ = try? database.put(key(&random), [1])
    }
  }

  @Test("a batch of more entries than the cache keeps")
  func largeBatch() throws {
    let feed = try Feed(files: files(), keyPair: KeyPair())
    let database = try Hyperdb(source: feed)
    let count = 40_000
    try database.batch((0..<count).map { .put(key: "k/\($0)", value: [UInt8($0 & 255)]) })
    #expect(feed.length == UInt64(count) + 1)
    for number in stride(from: 0, to: count, by: 997) {
      #expect(try database.get("k/\(number)").map(\.value) == [[UInt8(number & 255)]])
    }
  }

  @Test("a key is created once, and a batch that cannot be done changes nothing")
  func creation() throws {
    let feed = try Feed(files: files(), keyPair: KeyPair())
    let database = try Hyperdb(source: feed)
    try database.batch([.create(key: "a", value: [1]), .put(key: "b", value: [2])])
    let length = feed.length
    func expectExists(_ changes: [Hyperdb<MemoryStorage>.Change]) {
      let error = #expect(throws: HyperdbError.self) { try database.batch(changes) }
      #expect(error?.code == .exists)
      #expect(feed.length == length)
    }
    expectExists([.create(key: "a", value: [3])])
    expectExists([.put(key: "c", value: [4]), .create(key: "c", value: [5])])
    #expect(try database.get("c").isEmpty)
    try database.delete("a")
    try database.batch([.create(key: "a", value: [6])])
    #expect(try database.get("a").map(\.value) == [[6]])
  }

  @Test("a watch tells of changes below its prefix, and of no others")
  func watch() throws {
    let database = try Hyperdb(source: Feed(files: files(), keyPair: KeyPair()))
    try database.put("posts/1", [1])
    var watch = try Watch(database, prefix: "posts")
    #expect(try !watch.hasChanged())
    try database.put("profile", [1])
    #expect(try !watch.hasChanged())
    try database.put("posts/2", [1])
    #expect(try watch.hasChanged())
    #expect(try !watch.hasChanged())
    try database.delete("posts/1")
    #expect(try watch.hasChanged())
  }

  @Test("keys with slashes in any place stay apart")
  func slashes() throws {
    let database = try Hyperdb(source: Feed(files: files(), keyPair: KeyPair()))
    let keys = ["a", "a/", "a//", "a//b", "a/b", "a/b/", "b", "///", "x/y", "x//y", "x/y/"]
    for (place, key) in keys.enumerated() { try database.put(key, [UInt8(place)]) }
    for (place, key) in keys.enumerated() {
      #expect(try database.get(key).map(\.value) == [[UInt8(place)]], "\(key)")
    }
    #expect(try database.list().count == keys.count)
  }

  @Test func refusals() throws {
    let feed = try Feed(files: files(), keyPair: KeyPair())
    let database = try Hyperdb(source: feed)
    #expect(throws: HyperdbError.self) { try database.put(String(repeating: "k", count: 5000), [1]) }
    #expect(throws: HyperdbError.self) { try database.put(String(repeating: "k/", count: 300), [1]) }
    #expect(throws: HyperdbError.self) {
      try database.put("k", [UInt8](repeating: 0, count: HyperdbLimits.valueBytes + 1))
    }
    for key in ["", "/", "//"] {
      let error = #expect(throws: HyperdbError.self) { try database.put(key, [1]) }
      #expect(error?.code == .badKey)
    }
    #expect(feed.length == 1)
    let reader = try Hyperdb(source: Feed(files: files(), key: feed.key))
    #expect(throws: HyperdbError.self) { try reader.put("k", [1]) }
    #expect(try reader.get("k").isEmpty)
    let other = try Feed(files: files(), keyPair: KeyPair())
    _ = try other.append(Array("something else".utf8))
    #expect(throws: HyperdbError.self) { try Hyperdb(source: other) }
  }
}
