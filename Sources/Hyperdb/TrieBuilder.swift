import Hypercore

/// Makes a new entry's trie out of those that lead to it.
///
/// Source: hyperdb 3.5.0 `lib/put.js`.
struct TrieBuilder<Storage: RandomAccessStorage> {
  typealias Node = TrieNode

  private let database: Hyperdb<Storage>
  private let key: [UInt8]
  private let path: KeyPath
  private var buckets: [Trie.Bucket] = []
  /// Entries that share the path before a position.
  private var waiting: [(node: Node, position: Int)] = []
  private var allowance = HyperdbLimits.lookupEntries

  init(_ database: Hyperdb<Storage>, key: [UInt8], path: KeyPath) {
    self.database = database
    self.key = key
    self.path = path
  }

  /// - Parameters:
  ///   - heads: the entries that are newest when this one is written.
  ///   - feeds: the numbering of the writer that writes it.
  consuming func build(over heads: [Node], _ feeds: FeedList) throws(HyperdbError) -> Trie {
    waiting = heads.reversed().map { ($0, 0) }
    while let (node, position) = waiting.popLast() { try walk(from: node, position: position) }
    return Trie(buckets, feeds)
  }

  /// Goes along the path from one entry to the next that shares more of it, and points to all that turns off.
  private mutating func walk(from start: Node, position: Int) throws(HyperdbError) {
    var head = start
    var cursor = Trie.Cursor(head.trie)
    for position in position..<path.count {
      let value = path[position]
      let bucket = cursor.bucket(at: position)
      if let bucket { try copy(bucket, except: value) }
      let headValue = head.path[position]
      if headValue == value && (headValue != KeyPath.terminator || head.key == key) { continue }
      push(Pointer(writer: head.writer, seq: head.seq), value: headValue, at: position)
      guard let pointers = bucket?.pointers[Int(value)], let first = pointers.first else { return }
      for pointer in pointers.dropFirst() {
        let other = try database.node(pointer, at: position, value: value, allowance: &allowance)
        waiting.append((other, position + 1))
      }
      head = try database.node(first, at: position, value: value, allowance: &allowance)
      cursor = Trie.Cursor(head.trie)
    }
  }

  private mutating func copy(_ bucket: Trie.Bucket, except value: UInt8) throws(HyperdbError) {
    for (other, pointers) in bucket.pointers.enumerated() {
      if value != KeyPath.terminator {
        if other == value { continue }
        for pointer in pointers { push(pointer, value: UInt8(other), at: bucket.position) }
      } else {
        // At the end of the path are other keys with the same hash, and older entries of this key.
        for pointer in pointers where try database.node(pointer).key != key {
          push(pointer, value: UInt8(other), at: bucket.position)
        }
      }
    }
  }

  private mutating func push(_ pointer: Pointer, value: UInt8, at position: Int) {
    var place = buckets.endIndex
    while place > 0, buckets[place - 1].position >= position { place -= 1 }
    if place == buckets.endIndex || buckets[place].position != position {
      buckets.insert(Trie.Bucket(position: position), at: place)
    }
    if !buckets[place].pointers[Int(value)].contains(pointer) {
      buckets[place].pointers[Int(value)].append(pointer)
    }
  }
}
