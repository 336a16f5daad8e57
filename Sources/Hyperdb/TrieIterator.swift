import Hypercore

/// Goes over all keys below a prefix, in the order of their paths.
///
/// Source: hyperdb 3.5.0 `lib/iterator.js`.
struct TrieIterator<Storage: RandomAccessStorage> {
  private typealias Node = TrieNode

  private enum Step {
    /// Every key at or behind a position of an entry's trie.
    case node(Node, position: Int)
    /// Every key below a path.
    case path(KeyPath)
  }

  private let snapshot: Snapshot<Storage>
  private let prefix: [UInt8]
  /// Number of values in the prefix's path.
  private let start: Int
  private var stack: [Step]
  /// Results of several keys with the same hash, not returned yet.
  private var collisions: [[Node]] = []
  /// The last key to leave out, until one behind it was met.
  private var skipped: (key: [UInt8], path: KeyPath)?
  /// How many more ends of paths there can be: an honest trie leads to each entry once, and one made to mislead
  /// could have more ways to the same entries than can ever be walked.
  private var allowance: UInt64

  /// - Parameter after: only keys that come behind this one.
  init(_ snapshot: Snapshot<Storage>, prefix: [UInt8], after: [UInt8]? = nil) {
    self.snapshot = snapshot
    self.prefix = prefix
    let path = KeyPath(prefix[...], terminated: false)
    start = path.count
    stack = [.path(path)]
    skipped = after.map { ($0, KeyPath($0[...], terminated: true)) }
    // An entry is at the end of one path, or of two where keys with the same hash meet, and where entries meet before
    // that, at least two ways go on.
    allowance = snapshot.database.writers.reduce(8) { $0 + 8 * $1.held }
  }

  /// The entries of the next key, or `nil` after the last.
  mutating func next() throws(HyperdbError) -> [TrieNode]? {
    while true {
      while let nodes = collisions.popLast() {
        if let nodes = try wanted(nodes) { return nodes }
      }
      guard let step = stack.popLast() else { return nil }
      switch step {
      case .node(let node, let position):
        if isSkipped(node.path, first: position) { continue }
        if try descend(node, from: position) { continue }
        try spend(at: node)
        if isBelowPrefix(node), let nodes = try wanted([node]) { return nodes }
      case .path(let path):
        if isSkipped(path, first: path.count) { continue }
        let meeting = try snapshot.find(path)
        if let node = meeting.first { try spend(at: node) }
        if let found = visit(path, meeting), let nodes = try wanted(found) { return nodes }
      }
    }
  }

  /// Whether everything below a path is to be left out.
  private func isSkipped(_ path: KeyPath, first count: Int) -> Bool {
    guard let skipped else { return false }
    return path.order(skipped.path, first: count) < 0
  }

  /// What counts of the entries of one key; `nil` where it is left out, or all are deletions.
  private mutating func wanted(_ nodes: [Node]) throws(HyperdbError) -> [Node]? {
    if let skipped {
      let order = nodes[0].path.order(skipped.path)
      if order < 0 || order == 0 && !skipped.key.lexicographicallyPrecedes(nodes[0].key) { return nil }
      self.skipped = nil
    }
    let counted = try snapshot.counted(nodes)
    return !snapshot.isRaw && counted.allSatisfy { $0.isDeleted } ? nil : counted
  }

  private mutating func spend(at node: Node) throws(HyperdbError) {
    guard allowance > 0 else {
      throw snapshot.database.writers[node.writer].bad(
        node.seq, "is reached in more ways than there are entries")
    }
    allowance -= 1
  }

  /// Puts all that an entry's trie leads to at its next position on the stack, the entry itself at its place.
  ///
  /// - Returns: `false` where there is no further position.
  private mutating func descend(_ node: Node, from position: Int) throws(HyperdbError) -> Bool {
    guard let (position, items) = node.trie.firstBucket(from: position) else { return false }
    let own = node.path[position]
    for value in order(at: position) {
      let pointers = items.lazy.filter { $0.value == value }.map { $0.pointer }
      if value == own {
        stack.append(
          pointers.isEmpty
            ? .node(node, position: position + 1) : .path(node.path.diverted(at: position, to: value)))
      } else if pointers.dropFirst().first != nil {
        stack.append(.path(node.path.diverted(at: position, to: value)))
      } else if let pointer = pointers.first {
        stack.append(
          .node(try snapshot.database.node(pointer, at: position, value: value), position: position + 1))
      }
    }
    return true
  }

  /// Goes on below a path at which several entries meet.
  private mutating func visit(_ path: KeyPath, _ nodes: [Node]) -> [Node]? {
    if nodes.count < 2 {
      if let node = nodes.first { stack.append(.node(node, position: path.count)) }
      return nil
    }
    let position = Self.fork(nodes, from: path.count)
    let path = position > path.count ? nodes[0].path.prefix(position) : path
    for value in order(at: position) {
      let leadsOn = nodes.contains { node in
        guard position < node.path.count else { return false }
        if node.path[position] == value { return true }
        return node.trie.hasPointers(at: position, value: value)
      }
      if leadsOn { stack.append(.path(path.diverted(at: position, to: value))) }
    }
    var groups: [[Node]] = []
    let ending = nodes.filter { $0.path.count == position && isBelowPrefix($0) }
    for node in ending.sorted(by: { $1.key.lexicographicallyPrecedes($0.key) }) {
      if groups.last?.first?.key == node.key {
        groups[groups.count - 1].append(node)
      } else {
        groups.append([node])
      }
    }
    let last = groups.popLast()
    collisions.append(contentsOf: groups)
    return last
  }

  /// The first position from which more than one way can go on, or where a path ends.
  private static func fork(_ nodes: [Node], from start: Int) -> Int {
    let end = nodes.reduce(.max) { min($0, $1.trie.firstPosition(from: start) ?? $1.path.count - 1) }
    var position = start
    while position < end {
      let value = nodes[0].path[position]
      guard value != KeyPath.terminator, nodes.allSatisfy({ $0.path[position] == value }) else { break }
      position += 1
    }
    return position
  }

  /// Values in the order in which they go on the stack: the last is visited first.
  private func order(at position: Int) -> [UInt8] {
    start == 0 && position == 0 ? [3, 2, 1, 0] : [3, 2, 1, 0, KeyPath.terminator]
  }

  /// The empty key, which authorisations are written to, is below none.
  private func isBelowPrefix(_ node: Node) -> Bool {
    !node.key.isEmpty && node.key.starts(with: prefix)
  }
}
