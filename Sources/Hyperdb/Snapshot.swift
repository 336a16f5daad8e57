public import Hypercore

/// A database as it was at one time: what its newest entries lead to.
public struct Snapshot<Storage: RandomAccessStorage> {
  let database: Hyperdb<Storage>
  /// The newest entries; none of them has seen another.
  let heads: [TrieNode]
  /// Entries that do not count are met like all others, and keys that are deleted, too.
  let isRaw: Bool

  init(_ database: Hyperdb<Storage>, _ heads: [TrieNode]) {
    self.database = database
    self.heads = heads
    isRaw = false
  }

  /// Also with entries that do not count.
  init(everythingIn database: Hyperdb<Storage>, _ heads: [TrieNode]) {
    self.database = database
    self.heads = heads
    isRaw = true
  }

  /// All that the writers of some entries knew when they wrote them.
  init(before nodes: [TrieNode], in database: Hyperdb<Storage>) throws(HyperdbError) {
    var heads: [TrieNode] = []
    for node in nodes {
      for (writer, seen) in node.clock.enumerated() {
        let end = writer == node.writer ? node.seq : seen
        if end > 1 { heads.append(try database.node(Pointer(writer: writer, seq: end - 1))) }
      }
    }
    self.init(
      database, heads.filter { head in !heads.contains { $0.hasSeen(head) && $0.pointer != head.pointer } })
  }

  /// Names this state, for ``Hyperdb/checkout(_:)``.
  public var version: Version {
    Version(heads.map { Version.Head(feed: database.writers[$0.writer].feed.key, seq: $0.seq) })
  }

  /// What a key is set to: one entry, or several that did not know of each other, deletions among them; none where it
  /// is not set, or deleted.
  public func get(_ key: String) throws(HyperdbError) -> [Entry] {
    let nodes = try nodes(of: Hyperdb<Storage>.normalise(key))
    return nodes.allSatisfy { $0.isDeleted } ? [] : try database.entries(nodes)
  }

  func isUnset(_ key: [UInt8]) throws(HyperdbError) -> Bool {
    try nodes(of: key).allSatisfy { $0.isDeleted }
  }

  /// The newest entries of a key, deletions too.
  func nodes(of key: [UInt8]) throws(HyperdbError) -> [TrieNode] {
    try counted(try find(KeyPath(key[...], terminated: true)).filter { $0.key == key })
  }

  /// Calls `body` with what each key below `prefix` is set to, in the reference's order, until it returns `false`.
  ///
  /// - Parameter after: begin behind this key.
  public func forEach(
    prefix: String = "", after: String? = nil, _ body: ([Entry]) -> Bool
  ) throws(HyperdbError) {
    var iterator = TrieIterator(
      self, prefix: Hyperdb<Storage>.normalise(prefix), after: after.map { Hyperdb<Storage>.normalise($0) })
    while let nodes = try iterator.next() {
      if !body(try database.entries(nodes)) { return }
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

  /// The newest entries at the end of `path`: those of one key, or, for the start of a path, the ones through which
  /// all keys below it are found.
  ///
  /// An entry covers all that it has seen: what it does not lead to any more was replaced. So of entries for the
  /// same part of a path, those that another has seen are left out, and what several heads have seen is looked for by
  /// way of the first of them alone.
  ///
  /// Source: hyperdb 3.5.0 `lib/get.js`.
  func find(_ path: KeyPath) throws(HyperdbError) -> [TrieNode] {
    var results: [TrieNode] = []
    var allowance = HyperdbLimits.lookupEntries
    var visited = Visits()
    var waiting: [(node: TrieNode, position: Int, head: Int)] = []
    for (place, head) in heads.enumerated().reversed() { waiting.append((head, 0, place)) }
    search: while let (start, from, place) = waiting.popLast() {
      var node = start
      var position = from
      guard visited.isNew(node, position, others: !waiting.isEmpty) else { continue }
      while true {
        position = path.firstDifference(node.path, from: position)
        guard position < path.count else { break }
        let value = path[position]
        if node.path[position] != value {
          guard let (first, others) = node.trie.pointers(at: position, value: value) else { continue search }
          var forks: [TrieNode] = []
          for pointer in CollectionOfOne(first) + others
          where !heads[..<place].contains(where: { $0.hasSeen(pointer) }) {
            forks.append(try database.node(pointer, at: position, value: value, allowance: &allowance))
          }
          if forks.count > 1, value != KeyPath.terminator { TrieNode.removeSeen(&forks) { _, _ in true } }
          guard let next = forks.first else { continue search }
          for fork in forks.dropFirst() { waiting.append((fork, position + 1, place)) }
          guard visited.isNew(next, position + 1, others: !waiting.isEmpty) else { continue search }
          node = next
        }
        position += 1
      }
      results.append(node)
      // Other keys with the same hash.
      guard path.isTerminated else { continue }
      let (end, value) = (path.count - 1, path[path.count - 1])
      guard let (first, others) = node.trie.pointers(at: end, value: value) else { continue }
      for pointer in [first] + others {
        results.append(try database.node(pointer, at: end, value: value, allowance: &allowance))
      }
    }
    if results.count > 1 { TrieNode.removeSeen(&results) { !path.isTerminated || $0.key == $1.key } }
    return results
  }
}
