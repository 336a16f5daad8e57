public import Hypercore

/// A database of keys and values over a feed: each entry holds a piece of a trie over all keys as they were when
/// it was written, so that the newest entry leads to every key.
///
/// One writer for now. It belongs to one isolation domain, as its feed does. Changes are in the feed when a call
/// returns, and durable once the feed is flushed.
///
/// Source: hyperdb 3.5.0 `index.js`, `lib/`.
public final class Hyperdb<Storage: RandomAccessStorage> {
  typealias Node = Writer<Storage>.Node

  /// The feed of the first writer, which names the database.
  public let source: Feed<Storage>
  let writers: [Writer<Storage>]

  /// Opens the database whose first feed is `source`; an empty feed that is writable becomes a new one.
  public init(source: Feed<Storage>) throws(HyperdbError) {
    self.source = source
    writers = [Writer(source, number: 0)]
    if source.length == 0 {
      if source.isWritable { try append([Writer<Storage>.header]) }
    } else {
      try checkHeader()
    }
  }

  /// - Throws: `.notHyperdb` where the first block is here and says otherwise.
  private func checkHeader() throws(HyperdbError) {
    guard source.has(0) else { return }
    let block: [UInt8]
    do throws(FeedError) { block = try source.block(at: 0) } catch { throw HyperdbError(error) }
    guard block == Writer<Storage>.header else {
      throw HyperdbError(
        .notHyperdb, "feed \(source.key.hex) is not a database: its first block is no header")
    }
  }

  // MARK: - Reading

  /// What a key is set to: one entry, none where it is not set or deleted.
  public func get(_ key: String) throws(HyperdbError) -> [Entry] {
    let key = Self.normalise(key)
    let nodes = try find(KeyPath(key[...], terminated: true)).filter { $0.key == key }
    if nodes.allSatisfy({ $0.isDeleted }) { return [] }
    return try nodes.map { (node) throws(HyperdbError) in try entry(node) }
  }

  /// Calls `body` with what each key below `prefix` is set to, in the reference's order, until it returns `false`.
  public func forEach(prefix: String = "", _ body: ([Entry]) -> Bool) throws(HyperdbError) {
    var iterator = TrieIterator(self, prefix: Self.normalise(prefix))
    while let nodes = try iterator.next() {
      let entries = try nodes.map { (node) throws(HyperdbError) in try entry(node) }
      if !body(entries) { return }
    }
  }

  /// What each key below `prefix` is set to.
  public func list(prefix: String = "") throws(HyperdbError) -> [[Entry]] {
    var list: [[Entry]] = []
    try forEach(prefix: prefix) {
      list.append($0)
      return true
    }
    return list
  }

  /// One entry of the history, deletions too.
  ///
  /// - Throws: `.feed(.missing)` where it is not held.
  public func historyEntry(_ seq: UInt64) throws(HyperdbError) -> Entry {
    let stored = try writers[0].stored(seq)
    return Entry(
      key: stored.key, value: stored.value, isDeleted: stored.isDeleted, feed: source.key, seq: seq,
      clock: stored.clock)
  }

  /// Calls `body` with every entry, oldest first or newest first, until it returns `false`.
  public func forEachInHistory(
    reversed: Bool = false, _ body: (Entry) -> Bool
  ) throws(HyperdbError) {
    let length = source.length
    guard length > 1 else { return }
    for step in 1..<length {
      let seq = reversed ? length - step : step
      if !body(try historyEntry(seq)) { return }
    }
  }

  func entry(_ node: Node) throws(HyperdbError) -> Entry {
    let writer = writers[node.writer]
    let stored = try writer.stored(node.seq)
    return Entry(
      key: stored.key, value: stored.value, isDeleted: stored.isDeleted, feed: writer.feed.key, seq: node.seq,
      clock: node.clock)
  }

  func node(_ pointer: Pointer) throws(HyperdbError) -> Node {
    try writers[pointer.writer].node(pointer.seq)
  }

  /// An entry that a trie points to for `value` at `position`, which its path therefore has there too.
  ///
  /// - Throws: `.badEntry` where it does not.
  func node(
    _ pointer: Pointer, at position: Int, value: UInt8
  ) throws(HyperdbError) -> Node {
    let node = try node(pointer)
    guard position < node.path.count, node.path[position] == value else {
      throw writers[pointer.writer].bad(pointer.seq, "has another path than the trie that points to it says")
    }
    return node
  }

  /// As above, and one of at most `allowance` in this look-up.
  func node(
    _ pointer: Pointer, at position: Int, value: UInt8, allowance: inout Int
  ) throws(HyperdbError) -> Node {
    guard allowance > 0 else { throw writers[pointer.writer].bad(pointer.seq, "is behind too many others") }
    allowance -= 1
    return try node(pointer, at: position, value: value)
  }

  func heads() throws(HyperdbError) -> [Node] {
    var heads: [Node] = []
    for writer in writers {
      if let head = try writer.head() { heads.append(head) }
    }
    return heads
  }

  /// Every entry at the end of `path`: those of one key, or, for the start of a path, the ones through which all
  /// keys below it are found.
  func find(_ path: KeyPath) throws(HyperdbError) -> [Node] {
    var results: [Node] = []
    var allowance = HyperdbLimits.lookupEntries
    var waiting = try heads().map { (node: $0, position: 0) }
    search: while let (node, start) = waiting.popLast() {
      var head = node
      var position = start
      while position < path.count {
        let value = path[position]
        if head.path[position] != value {
          let pointers = head.trie.pointers(at: position, value: value)
          guard let first = pointers.first else { continue search }
          for pointer in pointers.dropFirst() {
            waiting.append(
              (try self.node(pointer, at: position, value: value, allowance: &allowance), position + 1))
          }
          head = try self.node(first, at: position, value: value, allowance: &allowance)
        }
        position += 1
      }
      results.append(head)
      // Other keys with the same hash.
      guard path.count > 0 else { continue }
      let (end, value) = (path.count - 1, path[path.count - 1])
      for pointer in head.trie.pointers(at: end, value: value) {
        results.append(try self.node(pointer, at: end, value: value, allowance: &allowance))
      }
    }
    return results
  }

  // MARK: - Writing

  /// One change of a batch.
  public enum Change: Equatable, Sendable {
    case put(key: String, value: [UInt8])
    case delete(key: String)
  }

  /// Sets a key.
  ///
  /// - Returns: the entry's block.
  @discardableResult
  public func put(_ key: String, _ value: [UInt8]) throws(HyperdbError) -> UInt64 {
    try batch([.put(key: key, value: value)]).lowerBound
  }

  /// Unsets a key; its history stays.
  @discardableResult
  public func delete(_ key: String) throws(HyperdbError) -> UInt64 {
    try batch([.delete(key: key)]).lowerBound
  }

  /// Carries out changes, one after the other, under one signature.
  ///
  /// - Returns: the entries' blocks.
  @discardableResult
  public func batch(_ changes: [Change]) throws(HyperdbError) -> Range<UInt64> {
    let writer = writers[0]
    let first = writer.feed.length
    var heads = try heads()
    var blocks: [[UInt8]] = []
    do throws(HyperdbError) {
      for change in changes {
        let seq = first + UInt64(blocks.count)
        var stored = try Self.stored(change)
        let path = KeyPath(stored.key[...], terminated: true)
        let trie = try TrieBuilder(self, key: stored.key, path: path).build(over: heads)
        stored.trie = trie.encoded
        stored.clock = [seq + 1]
        stored.inflate = 1
        if seq == 1 { stored.feeds = [source.key] }
        let node = Node(stored, path: path, trie: trie, writer: 0, seq: seq)
        writer.keep(node)
        heads = [node]
        blocks.append(stored.encoded)
      }
      try append(blocks)
    } catch {
      writer.forget(from: first)
      throw error
    }
    return first..<first + UInt64(blocks.count)
  }

  private func append(_ blocks: [[UInt8]]) throws(HyperdbError) {
    do throws(FeedError) { try source.append(contentsOf: blocks) } catch { throw HyperdbError(error) }
  }

  private static func stored(_ change: Change) throws(HyperdbError) -> StoredEntry {
    let stored: StoredEntry
    switch change {
    case .put(let key, let value): stored = StoredEntry(key: normalise(key), value: value, isDeleted: false)
    case .delete(let key): stored = StoredEntry(key: normalise(key), value: nil, isDeleted: true)
    }
    guard stored.key.count <= HyperdbLimits.keyBytes,
      stored.key.count(where: { $0 == UInt8(ascii: "/") }) < HyperdbLimits.keyComponents
    else { throw HyperdbError(.tooLarge, "a key of \(stored.key.count) bytes") }
    guard stored.value?.count ?? 0 <= HyperdbLimits.valueBytes else {
      throw HyperdbError(.tooLarge, "a value of \(stored.value?.count ?? 0) bytes")
    }
    return stored
  }

  /// Without a slash at the start.
  private static func normalise(_ key: String) -> [UInt8] {
    let bytes = Array(key.utf8)
    return bytes.first == UInt8(ascii: "/") ? Array(bytes.dropFirst()) : bytes
  }
}
