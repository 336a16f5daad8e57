import Hypercore
import TestSupport
import Testing

@testable import Hyperdb

/// What an authorised writer could write to harm the others: it costs bounded memory and time, and hides at most what it
/// is about.
@Suite("Writers that mean harm")
struct HostileWriterTests {
  private typealias Database = Hyperdb<MemoryStorage>

  /// A database whose source has let in one writer, whose feed others write as they like.
  private final class Scene {
    let store = FeedStore(secretKey: FeedStore.secretKey(1))
    let hostile: Feed<MemoryStorage>
    var opened: [PublicKey] = []
    private(set) var database: Database

    init() throws {
      let key = try #require(store.own)
      hostile = try Feed(files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, keyPair: KeyPair())
      let store = store
      database = try Database(source: store.feed(key)) { (_) throws(HyperdbError) in
        throw HyperdbError(.unopened, "not yet")
      }
      try open()
      try database.put("kept", [1])
      try database.authorize(hostile.key)
      _ = try hostile.append(Writer<MemoryStorage>.header)
    }

    func open(cutoffs: CutoffRule? = nil) throws {
      let store = store
      database = try Database(source: store.feed(try #require(store.own)), cutoffs: cutoffs) {
        [unowned self] (key) throws(HyperdbError) in
        opened.append(key)
        if key == hostile.key { return hostile }
        do { return try store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
      }
    }

    var feeds: [PublicKey] { [database.source.key, hostile.key] }

    func write(_ key: String, clock: [UInt64], feeds: [PublicKey], inflate: UInt64, trie: Trie? = nil) throws
    {
      var entry = StoredEntry(key: Array(key.utf8), value: [9], isDeleted: false)
      entry.clock = clock
      entry.feeds = feeds
      entry.inflate = inflate
      entry.trie = trie?.encoded ?? []
      _ = try hostile.append(entry.encoded)
    }

    /// The database goes on as if the harm was not there.
    func expectUnharmed() throws {
      #expect(try database.get("kept").map(\.value) == [[1]])
      #expect(try database.get("harm").isEmpty)
      try database.put("more", [2])
      #expect(try database.list().map { $0[0].keyText }.sorted() == ["kept", "more"])
    }
  }

  @Test("whose trie leads astray below what a rule goes by is not asked, and whom it cuts off at nonsense is")
  func astray() throws {
    let scene = try Scene()
    let hostile = scene.hostile.key
    var heard = 0
    var longest = 0
    try scene.open(
      cutoffs: CutoffRule(prefix: "rule/", key: { $0 == hostile ? "rule/one" : "rule/two" }, valueBytes: 4) {
        entries, _ in
        heard = entries.count
        longest = entries.reduce(longest) { max($0, $1.value?.count ?? 0) }
        return heard > 0 ? [hostile: Cutoff(block: 2)] : [:]
      })
    let sought = KeyPath(Array("rule/".utf8)[...], terminated: false)
    let keys = (0..<100).map { "harm\($0)" }
    let other = try #require(
      keys.first { KeyPath(Array($0.utf8)[...], terminated: true)[0] != sought[0] })
    try scene.write(other, clock: [1, 2], feeds: scene.feeds, inflate: 1)
    let list = FeedList(seq: 1, keys: scene.feeds, writers: [0, 1])
    let astray = Trie([.init(position: 0, value: sought[0], pointer: Pointer(writer: 1, seq: 1))], list)
    try scene.write(other, clock: [1, 3], feeds: [], inflate: 1, trie: astray)
    #expect(try scene.database.get("kept").map(\.value) == [[1]])
    #expect(try scene.database.visibleLength(of: hostile) == 3 && heard == 0)
    // From another writer the rule hears, and the cut is before the entry that leads astray.
    try scene.database.put("rule/one", [1])
    #expect(try scene.database.get(other).map(\.seq) == [1] && heard == 1)
    #expect(try scene.database.cutoff(of: hostile) == Cutoff(block: 2))
    // A value longer than what the rule understands is not kept for it.
    try scene.database.put("rule/two", [UInt8](repeating: 1, count: 5))
    #expect(try scene.database.get(other).map(\.seq) == [1] && heard == 2 && longest == 1)
    #expect(try scene.database.get("kept").map(\.value) == [[1]])
  }

  private func keys(_ count: Int) -> [PublicKey] {
    (0..<count).map {
      PublicKey([UInt8](repeating: 7, count: 30) + [UInt8($0 >> 8), UInt8($0 & 255)]) ?? .zero
    }
  }

  @Test("who names more feeds than there can be is not heard")
  func tooManyFeeds() throws {
    let scene = try Scene()
    try scene.write("harm", clock: [3, 2], feeds: scene.feeds + keys(300), inflate: 1)
    try scene.expectUnharmed()
    #expect(try scene.database.feeds.count == 2)
  }

  @Test("as many feeds as there can be are opened, and no more")
  func manyFeeds() throws {
    let scene = try Scene()
    try scene.write("one", clock: [3, 2], feeds: scene.feeds + keys(200), inflate: 1)
    try scene.write("two", clock: [3, 3], feeds: scene.feeds + keys(254), inflate: 2)
    #expect(try scene.database.feeds.count == HyperdbLimits.writers)
    let third = try #require(PublicKey(FeedStore.secretKey(3)[32...]))
    let error = #expect(throws: HyperdbError.self) { try scene.database.authorize(third) }
    #expect(error?.code == .tooLarge)
    try scene.open()
    #expect(try scene.database.feeds.count == HyperdbLimits.writers)
    try scene.database.put("kept", [3])
    #expect(try scene.database.get("kept").map(\.value) == [[3]])
  }

  @Test("who claims to have seen what is not there is not heard until it is there")
  func future() throws {
    let scene = try Scene()
    try scene.write("harm", clock: [.max, 2], feeds: scene.feeds, inflate: 1)
    try scene.expectUnharmed()
    try scene.write("harm", clock: [1 << 40, 3], feeds: scene.feeds, inflate: 1)
    #expect(try scene.database.get("harm").isEmpty)
  }

  @Test("whose entries nothing can be written on top of: others write beside them")
  func beside() throws {
    let scene = try Scene()
    let hostile = scene.hostile.key
    let list = FeedList(seq: 1, keys: scene.feeds, writers: [0, 1])
    let path = KeyPath(Array("mine".utf8)[...], terminated: true)
    let keys = (0..<1000).map { "harm\($0)" }
    func first(_ key: String) -> UInt8 { KeyPath(Array(key.utf8)[...], terminated: true)[0] }
    let same = try #require(keys.first { first($0) == path[0] })
    let other = try #require(keys.first { first($0) != path[0] })
    try scene.write(same, clock: [3, 2], feeds: scene.feeds, inflate: 1)
    // More ways to go on than anybody goes.
    let way = Trie.Item(position: 0, value: path[0], pointer: Pointer(writer: 1, seq: 1))
    try scene.write(
      other, clock: [3, 3], feeds: [], inflate: 1, trie: Trie(Array(repeating: way, count: 40_000), list))
    for number in UInt8(1)..<4 {
      try scene.database.put("mine", [number])
      #expect(try scene.database.visibleLength(of: hostile) == 3)
    }
    let error = #expect(throws: HyperdbError.self) { try scene.database.get("mine") }
    #expect(error?.code == .badEntry)
    // Once it is cut off, what was written beside it is all that there is.
    try scene.open(
      cutoffs: CutoffRule(
        prefix: "rule/", key: { _ in "rule/x" }, valueBytes: 4,
        judge: { _, _ in [hostile: Cutoff(block: 0)] }))
    #expect(try scene.database.get("mine").map(\.value) == [[3]])
    #expect(try scene.database.get("kept").map(\.value) == [[1]])
    try scene.database.put("mine", [4])
    #expect(try scene.database.get("mine").map(\.value) == [[4]])
  }

  @Test("who claimed to have seen what is not there, and no longer does, is heard without that")
  func claimTakenBack() throws {
    let scene = try Scene()
    let list = FeedList(seq: 1, keys: scene.feeds, writers: [0, 1])
    // One that leads to an entry that is not here, and one that leads to that.
    let path = KeyPath(Array("rule/x".utf8)[...], terminated: true)
    let keys = (0..<100).map { "harm\($0)" }
    let other = try #require(keys.first { KeyPath(Array($0.utf8)[...], terminated: true)[0] != path[0] })
    let ways = (32..<path.count - 1).flatMap { position in
      (UInt8(0)..<4).map { Trie.Item(position: position, value: $0, pointer: Pointer(writer: 0, seq: 999)) }
    }
    try scene.write("rule/x", clock: [1000, 2], feeds: scene.feeds, inflate: 1, trie: Trie(ways, list))
    let way = Trie.Item(position: 0, value: path[0], pointer: Pointer(writer: 1, seq: 1))
    try scene.write(
      other, clock: [1, 3], feeds: [], inflate: 1, trie: Trie([way], list))
    let rule = CutoffRule(
      prefix: "rule/", key: { _ in "rule/x" }, valueBytes: 4, judge: { _, _ in [:] })
    func goesOn(_ number: UInt8) throws {
      #expect(try scene.database.visibleLength(of: scene.hostile.key) == 3)
      #expect(try scene.database.get(other).map(\.value) == [[9]])
      try scene.database.batch([.put(key: "rule", value: [number])], suspecting: scene.hostile.key)
      try scene.database.put("rule/mine", [number])
      #expect(try scene.database.get("rule/mine").map(\.value) == [[number]])
      #expect(try scene.database.get("kept").map(\.value) == [[1]])
    }
    try scene.open(cutoffs: rule)
    for number in UInt8(1)..<4 {
      try goesOn(number)
      try goesOn(number + 10)
      try scene.open(cutoffs: rule)
    }
  }

  @Test(
    "entries that do not hold together are not heard",
    arguments: [
      // A clock that is not its own, of too many feeds, names that are to come, and none.
      ([3, 7], 1), ([3, 2, 1, 1], 1), ([3, 2], 5), ([], 1),
    ] as [([UInt64], UInt64)])
  func inconsistent(clock: [UInt64], inflate: UInt64) throws {
    let scene = try Scene()
    try scene.write("harm", clock: clock, feeds: scene.feeds, inflate: inflate)
    try scene.expectUnharmed()
  }

  @Test("two entries that point to each other end no look-up")
  func cycle() throws {
    let scene = try Scene()
    let feeds = FeedList(seq: 1, keys: scene.feeds, writers: [0, 1])
    let path = KeyPath(Array("kept".utf8)[...], terminated: true)
    let items = (0..<path.count - 1).flatMap { position in
      (UInt8(0)..<4).filter { $0 == path[position] }.map {
        Trie.Item(position: position, value: $0, pointer: Pointer(writer: 0, seq: 1))
      }
    }
    try scene.write("x", clock: [3, 2], feeds: scene.feeds, inflate: 1, trie: Trie(items, feeds))
    for key in ["kept", "x", "y", "kept/z"] { _ = try? scene.database.get(key) }
    _ = try? scene.database.list()
    _ = try? scene.database.put("y", [1])
  }
}
