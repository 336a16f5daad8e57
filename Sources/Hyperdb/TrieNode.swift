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

  /// As how many it counts in ``HyperdbLimits/lookupEntries``: a longer trie takes longer to read.
  var lookupCost: Int { 1 + trie.encoded.count / HyperdbLimits.countedTrieBytes }

  /// Blocks of all feeds together: more than any entry that it has seen; a writer can say what it likes.
  var seen: UInt64 { clock.reduce(0) { $0.addingReportingOverflow($1).overflow ? .max : $0 + $1 } }

  /// Whether it was written in knowledge of another entry.
  func hasSeen(_ other: TrieNode) -> Bool {
    other.writer < clock.count && clock[other.writer] > other.seq && other !== self
  }

  func hasSeen(_ pointer: Pointer) -> Bool {
    pointer.writer < clock.count && clock[pointer.writer] > pointer.seq && pointer != self.pointer
  }

  /// Leaves each entry once, and only those that no other, if it is comparable, has seen.
  static func removeSeen(_ nodes: inout [TrieNode], _ areComparable: (TrieNode, TrieNode) -> Bool) {
    var kept: [TrieNode] = []
    for node in nodes where !kept.contains(where: { $0.pointer == node.pointer }) { kept.append(node) }
    nodes = kept.filter { node in !kept.contains { $0.hasSeen(node) && areComparable($0, node) } }
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
      swap(&old, &young)
      young.removeAll(keepingCapacity: true)
      youngBytes = 0
    }
    young[Self.name(node.pointer)] = node
    youngBytes += node.cost
  }

  /// A feed has less than 2^40 blocks, and a database at most 256 writers.
  private static func name(_ pointer: Pointer) -> UInt64 {
    UInt64(pointer.writer) << 40 | pointer.seq
  }
}

/// Entries that a look-up went on from, and where: several ways can lead to the same.
struct Visits {
  /// Most look-ups come to a few.
  private static let few = 16

  private var first: [UInt64] = []
  private var others: Set<UInt64> = []

  /// Whether an entry is gone on from for the first time.
  ///
  /// - Parameter others: there are further ways still to be gone; as long as there never were, nothing is noted.
  mutating func isNew(_ node: TrieNode, _ position: Int, others: Bool) -> Bool {
    if first.isEmpty && !others { return true }
    // A path has at most 4,129 values, a database 256 writers, a feed less than 2^40 blocks.
    let visit = UInt64(position) << 48 | UInt64(node.writer) << 40 | node.seq
    if first.contains(visit) { return false }
    if first.count == Self.few { return self.others.insert(visit).inserted }
    first.append(visit)
    return true
  }
}
