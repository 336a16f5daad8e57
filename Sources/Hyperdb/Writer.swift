import Hypercore

/// What the trie needs of an entry: everything but the value. Not generic, which costs a look-up at each use.
final class TrieNode {
  let key: [UInt8]
  let path: KeyPath
  let trie: Trie
  let isDeleted: Bool
  let writer: Int
  let seq: UInt64
  let clock: [UInt64]

  init(_ entry: StoredEntry, path: KeyPath, trie: Trie, writer: Int, seq: UInt64) {
    key = entry.key
    self.path = path
    self.trie = trie
    isDeleted = entry.isDeleted
    self.writer = writer
    self.seq = seq
    clock = entry.clock
  }
}

/// One writer's feed, its entries decoded.
final class Writer<Storage: RandomAccessStorage> {
  typealias Node = TrieNode

  /// The first block of every database: a message with `hyperdb` as its field 1.
  static var header: [UInt8] { [10, 7] + Array("hyperdb".utf8) }

  let feed: Feed<Storage>
  /// This writer's number in the database.
  let number: Int
  private var young: [UInt64: Node] = [:]
  private var old: [UInt64: Node] = [:]

  init(_ feed: Feed<Storage>, number: Int) {
    self.feed = feed
    self.number = number
  }

  /// The newest entry.
  ///
  /// - Returns: `nil` where there is none yet.
  func head() throws(HyperdbError) -> Node? {
    feed.length < 2 ? nil : try node(feed.length - 1)
  }

  /// An entry without its value.
  func node(_ seq: UInt64) throws(HyperdbError) -> Node {
    if let node = young[seq] { return node }
    if let node = old[seq] {
      keep(node)
      return node
    }
    let node = try makeNode(stored(seq), seq)
    keep(node)
    return node
  }

  /// An entry with its value.
  func stored(_ seq: UInt64) throws(HyperdbError) -> StoredEntry {
    guard seq > 0 else { throw bad(seq, "is the header") }
    let block: [UInt8]
    do throws(FeedError) { block = try feed.block(at: seq) } catch { throw HyperdbError(error) }
    guard let entry = StoredEntry(decoding: block) else { throw bad(seq, "cannot be read") }
    return entry
  }

  /// Decodes what an entry refers to: it can only point back.
  func makeNode(_ entry: StoredEntry, _ seq: UInt64) throws(HyperdbError) -> Node {
    guard entry.inflate <= seq, entry.clock.count == 1, entry.clock.first == seq + 1 else {
      throw bad(seq, "has a clock of other writers")
    }
    let path = KeyPath(entry.key[...], terminated: true)
    let trie = Trie(decoding: entry.trie, pathCount: path.count) { pointer in
      pointer.writer == 0 && pointer.seq > 0 && pointer.seq < seq
    }
    guard let trie else { throw bad(seq, "has a trie that cannot be read") }
    return Node(entry, path: path, trie: trie, writer: number, seq: seq)
  }

  /// Keeps an entry that was just written.
  func keep(_ node: Node) {
    if young.count >= HyperdbLimits.cachedEntries {
      old = young
      young = [:]
    }
    young[node.seq] = node
  }

  /// Forgets entries that were made but not appended.
  func forget(from seq: UInt64) {
    young = young.filter { $0.key < seq }
    old = old.filter { $0.key < seq }
  }

  func bad(_ seq: UInt64, _ what: String) -> HyperdbError {
    HyperdbError(.badEntry, "entry \(seq) of feed \(feed.key.hex) \(what)")
  }
}
