/// What the trie needs of an entry: everything but the value. Not generic, which costs a look-up at each use.
final class TrieNode {
  let key: [UInt8]
  let path: KeyPath
  let trie: Trie
  let isDeleted: Bool
  /// The database's number of its writer.
  let writer: Int
  let seq: UInt64
  /// How many blocks of each writer's feed it has seen, by the database's numbers.
  let clock: [UInt64]

  init(
    _ entry: StoredEntry, path: KeyPath, trie: Trie, writer: Int, seq: UInt64, clock: [UInt64]
  ) {
    key = entry.key
    self.path = path
    self.trie = trie
    isDeleted = entry.isDeleted
    self.writer = writer
    self.seq = seq
    self.clock = clock
  }

  var pointer: Pointer { Pointer(writer: writer, seq: seq) }

  /// About how many bytes it takes in memory.
  var cost: Int { 256 + key.count + trie.encoded.count + 8 * clock.count }

  /// Whether it was written in knowledge of another entry.
  func hasSeen(_ other: TrieNode) -> Bool {
    other.writer < clock.count && clock[other.writer] > other.seq && other !== self
  }
}

/// Entries kept decoded: the newest, and those used of late. Bounded in number and bytes.
struct NodeCache {
  private var young: [UInt64: TrieNode] = [:]
  private var old: [UInt64: TrieNode] = [:]
  private var youngBytes = 0

  mutating func node(_ pointer: Pointer) -> TrieNode? {
    let name = Self.name(pointer)
    if let node = young[name] { return node }
    guard let node = old[name] else { return nil }
    keep(node)
    return node
  }

  mutating func keep(_ node: TrieNode) {
    if young.count >= HyperdbLimits.cachedEntries || youngBytes >= HyperdbLimits.cachedBytes {
      old = young
      young = [:]
      youngBytes = 0
    }
    young[Self.name(node.pointer)] = node
    youngBytes += node.cost
  }

  /// Forgets entries of a writer that were made but not appended.
  mutating func forget(writer: Int, from seq: UInt64) {
    young = young.filter { $0.value.writer != writer || $0.value.seq < seq }
    old = old.filter { $0.value.writer != writer || $0.value.seq < seq }
  }

  /// A feed has at most 2^40 blocks, and a database at most 256 writers.
  private static func name(_ pointer: Pointer) -> UInt64 {
    UInt64(pointer.writer) << 40 | pointer.seq
  }
}
