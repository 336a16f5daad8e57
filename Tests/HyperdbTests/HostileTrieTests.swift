import Hypercore
import TestSupport
import Testing

@testable import Hyperdb

/// Entries that read well one by one, and whose tries lead where no honest writer's would.
@Suite("Tries made to mislead")
struct HostileTrieTests {
  private typealias Database = Hyperdb<MemoryStorage>

  /// A database, opened by its own writer, of entries with `pointers` at all positions for all four values.
  private func database(
    _ keys: [String], pointers: (_ seq: UInt64, _ position: Int, _ value: UInt8) -> [UInt64]
  ) throws -> Database {
    let feed = try Feed(
      files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, keyPair: KeyPair())
    _ = try Hyperdb(source: feed)
    let feeds = FeedList(seq: 1, keys: [feed.key], writers: [0])
    for (place, key) in keys.enumerated() {
      let seq = UInt64(place) + 1
      var entry = StoredEntry(key: Array(key.utf8), value: [1], isDeleted: false)
      var items: [Trie.Item] = []
      for position in 0..<path(key).count - 1 {
        for value in UInt8(0)..<4 {
          items += pointers(seq, position, value).map {
            Trie.Item(position: position, value: value, pointer: Pointer(writer: 0, seq: $0))
          }
        }
      }
      entry.trie = Trie(items, feeds).encoded
      entry.clock = [seq + 1]
      entry.inflate = 1
      if seq == 1 { entry.feeds = [feed.key] }
      _ = try feed.append(entry.encoded)
    }
    return try Hyperdb(source: feed)
  }

  private func path(_ key: String) -> KeyPath { KeyPath(Array(key.utf8)[...], terminated: true) }

  /// Keys, and the last few entries before each one whose paths do have a value where they are pointed to from.
  private func tangle(_ count: Int, each: Int) throws -> Database {
    let keys = (0..<count).map { "k\($0)" }
    let paths = keys.map(path)
    return try database(keys) { seq, position, value in
      (1..<max(seq, 1)).filter { paths[Int($0) - 1][position] == value }.suffix(each)
    }
  }

  private func expectRefused(_ body: () throws -> Void) {
    do {
      try body()
      Issue.record("was not refused")
    } catch {
      #expect((error as? HyperdbError)?.code == .badEntry, "\(error)")
    }
  }

  @Test("a pointer to an entry whose path ends before")
  func shortPath() throws {
    let database = try database(["a", "x/q"]) { seq, position, _ in seq == 2 && position >= 32 ? [1] : [] }
    expectRefused { _ = try database.get("x/z") }
    expectRefused { _ = try database.list(prefix: "x/z") }
    #expect(try database.get("x/q").map(\.seq) == [2])
    // What is written there leaves it out.
    try database.put("x/z", [2])
    #expect(try database.get("x/z").map(\.value) == [[2]])
  }

  @Test("ever more ways to the same entries", .timeLimit(.minutes(Endless.minutes)))
  func manyWays() throws {
    let database = try tangle(200, each: 8)
    // Each way is gone once: as many as there are entries and positions, not as there are ways.
    #expect(try database.get("somewhere else").isEmpty)
    try database.put("somewhere else", [2])
    #expect(try database.get("somewhere else").map(\.value) == [[2]])
    expectRefused { _ = try database.list() }
  }

  @Test("a list that never ends", .timeLimit(.minutes(Endless.minutes)))
  func longList() throws {
    let database = try tangle(60, each: 1)
    expectRefused { _ = try database.list() }
  }

  @Test("more pointers than an entry may have that is to be read: none is written")
  func manyPointers() throws {
    let deep = String(repeating: "a/", count: 126)
    let database = try database(["x", "y", "z", deep + "b"]) { seq, _, _ in seq == 4 ? [1, 2, 3] : [] }
    #expect(try database.get(deep + "b").map(\.seq) == [4])
    try database.put("elsewhere", [2])
    expectRefused { try database.put(deep + "c", [2]) }
    try database.put("elsewhere", [3])
    #expect(try database.get("elsewhere").map(\.value) == [[3]])
  }
}
