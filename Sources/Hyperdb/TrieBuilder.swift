import Hypercore

/// Makes a new entry's trie out of those that lead to it.
///
/// Source: hyperdb 3.5.0 `lib/put.js`.
struct TrieBuilder<Storage: RandomAccessStorage> {
  private let database: Hyperdb<Storage>
  private let key: [UInt8]
  private let path: KeyPath
  /// In order of position and value.
  private var items: [Trie.Item] = []
  /// Entries that share the path before a position.
  private var waiting: [(node: TrieNode, position: Int)] = []
  private var visited = Visits()
  /// There was more than one way.
  private var isForked = false
  private let keepsAll: Bool
  private let feeds: FeedList
  /// How many blocks of each writer the new entry has seen: a trie points to nothing else.
  private let clock: [UInt64]
  private var allowance = HyperdbLimits.lookupEntries
  private var comparisons = HyperdbLimits.pointerComparisons

  /// - Parameters:
  ///   - feeds: the numbering of the writer that writes it.
  ///   - clock: how many blocks of each writer of the database it has seen, of its own those before it.
  ///   - keepsAll: make the trie that the reference makes, with pointers also to what others for the same part of a
  ///     path have seen. Without, those are left out, as readers leave them out: where many writers meet again and
  ///     again, tries would grow with each time, and with them every write.
  init(
    _ database: Hyperdb<Storage>, key: [UInt8], path: KeyPath, feeds: FeedList, clock: [UInt64],
    keepsAll: Bool
  ) {
    self.feeds = feeds
    self.clock = clock
    self.keepsAll = keepsAll
    self.database = database
    self.key = key
    self.path = path
  }

  /// - Parameter heads: the entries that are newest when this one is written.
  consuming func build(over heads: [TrieNode]) throws(HyperdbError) -> Trie {
    waiting = heads.reversed().map { ($0, 0) }
    isForked = heads.count > 1
    while let (node, position) = waiting.popLast() { try walk(from: node, position: position) }
    if isForked, !keepsAll { try removeSeen() }
    return Trie(items, feeds)
  }

  /// Leaves out pointers to what another one for the same part of a path has seen.
  private mutating func removeSeen() throws(HyperdbError) {
    var start = 0
    while start < items.count {
      var end = start
      while end < items.count, items[end].position == items[start].position,
        items[end].value == items[start].value
      {
        end += 1
      }
      if (2...HyperdbLimits.bucketPointers).contains(end - start) {
        var nodes: [TrieNode] = []
        for item in items[start..<end] {
          if let node = try read(item.pointer) { nodes.append(node) }
        }
        let isEnd = items[start].value == KeyPath.terminator
        TrieNode.removeSeen(&nodes) { !isEnd || $0.key == $1.key }
        let (position, value) = (items[start].position, items[start].value)
        items.replaceSubrange(
          start..<end, with: nodes.map { Trie.Item(position: position, value: value, pointer: $0.pointer) })
        end = start + nodes.count
      }
      start = end
    }
  }

  /// Goes along the path from one entry to the next that shares more of it, and points to all that turns off.
  private mutating func walk(from start: TrieNode, position: Int) throws(HyperdbError) {
    var head = start
    var cursor = Trie.Cursor(head.trie)
    guard visited.isNew(head, position, others: !waiting.isEmpty) else { return }
    var next = position
    while true {
      // In between, there is nothing to copy and nowhere to turn off.
      let position = min(path.firstDifference(head.path, from: next), cursor.bucket(from: next) ?? .max)
      guard position < path.count else { return }
      next = position + 1
      let value = path[position]
      var first: Pointer?
      var others: [Pointer] = []
      if cursor.bucket(from: position) == position {
        while let item = cursor.nextItem() {
          if item.value != value {
            try push(item.pointer, value: item.value, at: position)
          } else if first == nil {
            first = item.pointer
          } else {
            others.append(item.pointer)
          }
          // At the end of the path are other keys with the same hash, and older entries of this key.
          if value == KeyPath.terminator, item.value == value,
            let node = try reached(item.pointer, value: value, at: position), node.key != key
          {
            try push(item.pointer, value: value, at: position)
          }
        }
      }
      let headValue = head.path[position]
      if headValue == value && (headValue != KeyPath.terminator || head.key == key) { continue }
      try push(head.pointer, value: headValue, at: position)
      guard let first else { return }
      var forks: [TrieNode] = []
      for pointer in CollectionOfOne(first) + others {
        if let node = try reached(pointer, value: value, at: position) { forks.append(node) }
      }
      if !others.isEmpty {
        isForked = true
        if !keepsAll, forks.count <= HyperdbLimits.bucketPointers, value != KeyPath.terminator {
          TrieNode.removeSeen(&forks) { _, _ in true }
        }
      }
      guard let next = forks.first else { return }
      head = next
      for fork in forks.dropFirst() { waiting.append((fork, position + 1)) }
      guard visited.isNew(head, position + 1, others: !waiting.isEmpty) else { return }
      cursor = Trie.Cursor(head.trie)
    }
  }

  /// - Returns: `nil` where a trie leads astray: nothing of what its writer claims to be there is taken over.
  private mutating func reached(
    _ pointer: Pointer, value: UInt8, at position: Int
  ) throws(HyperdbError) -> TrieNode? {
    guard let node = try read(pointer), position < node.path.count, node.path[position] == value else {
      return nil
    }
    return node
  }

  /// - Returns: `nil` for what cannot be read, or is not seen.
  private mutating func read(_ pointer: Pointer) throws(HyperdbError) -> TrieNode? {
    guard allowance > 0 else {
      throw database.writers[pointer.writer].bad(pointer.seq, "is behind too many others")
    }
    guard isSeen(pointer), let node = try database.readable(pointer) else {
      allowance -= 1
      return nil
    }
    allowance -= node.lookupCost
    return node
  }

  /// An honest trie points to nothing else, but one is read whatever it says of entries that are not here.
  private func isSeen(_ pointer: Pointer) -> Bool {
    feeds.contains(pointer.writer) && pointer.seq < clock[pointer.writer]
  }

  /// Adds a pointer behind the others for its place, once; of one writer only the newest, which has seen the others.
  ///
  /// - Throws: `.badEntry` where that makes more than can be written: nobody could read the entry.
  private mutating func push(_ pointer: Pointer, value: UInt8, at position: Int) throws(HyperdbError) {
    guard isSeen(pointer) else { return }
    var (place, end) = (0, items.count)
    // Nearly always it is the last.
    if let last = items.last, (last.position, last.value) <= (position, value) { place = end }
    while place < end {
      let middle = (place + end) / 2
      if (items[middle].position, items[middle].value) > (position, value) {
        end = middle
      } else {
        place = middle + 1
      }
    }
    // At the end of a path are entries of different keys.
    let isOneKey = !keepsAll && value != KeyPath.terminator
    var first = place
    while first > 0, items[first - 1].position == position, items[first - 1].value == value {
      let other = items[first - 1].pointer
      comparisons -= 1
      if other == pointer { return try check(pointer) }
      if isOneKey, other.writer == pointer.writer {
        items[first - 1].pointer.seq = max(other.seq, pointer.seq)
        return try check(pointer)
      }
      first -= 1
    }
    comparisons -= 1
    items.insert(Trie.Item(position: position, value: value, pointer: pointer), at: place)
    try check(pointer)
    if place - first >= HyperdbLimits.bucketPointers { throw tooMany(pointer) }
  }

  private func check(_ pointer: Pointer) throws(HyperdbError) {
    if comparisons < 0 || items.count > HyperdbLimits.triePointers { throw tooMany(pointer) }
  }

  private func tooMany(_ pointer: Pointer) -> HyperdbError {
    database.writers[pointer.writer].bad(pointer.seq, "is pointed to beside too many others")
  }
}
