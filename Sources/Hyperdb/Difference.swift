public import Hypercore

/// A key whose entries differ between two states of a database.
public struct Difference: Equatable, Sendable {
  public var key: [UInt8]
  /// What it is set to in the first state; empty where it is not.
  public var left: [Entry]
  /// What it is set to in the other.
  public var right: [Entry]
}

extension Snapshot {
  /// Calls `body` with each key below `prefix` that is not set to the same here and in `other`, a state of the same
  /// database, until it returns `false`.
  ///
  /// Source: hyperdb 3.5.0 `lib/differ.js`.
  public func forEachDifference(
    from other: Snapshot, prefix: String = "", _ body: (Difference) -> Bool
  ) throws(HyperdbError) {
    let prefix = Hyperdb<Storage>.normalise(prefix)
    var lefts = TrieIterator(self, prefix: prefix)
    var rights = TrieIterator(other, prefix: prefix)
    var left = try lefts.next()
    var right = try rights.next()
    while left != nil || right != nil {
      let order = Self.order(left?.first, right?.first)
      let (mine, theirs) = (order <= 0 ? left ?? [] : [], order >= 0 ? right ?? [] : [])
      if Set(mine.map { $0.pointer }) != Set(theirs.map { $0.pointer }) {
        let difference = Difference(
          key: (mine + theirs).first?.key ?? [], left: try database.entries(mine),
          right: try database.entries(theirs))
        if !body(difference) { return }
      }
      if order <= 0 { left = try lefts.next() }
      if order >= 0 { right = try rights.next() }
    }
  }

  /// Which of two keys an iteration comes to first: below 0 for the left, above for the right, 0 for the same.
  private static func order(_ left: TrieNode?, _ right: TrieNode?) -> Int {
    guard let left else { return 1 }
    guard let right else { return -1 }
    let order = left.path.order(right.path)
    if order != 0 || left.key == right.key { return order }
    return left.key.lexicographicallyPrecedes(right.key) ? -1 : 1
  }
}

/// Tells whether anything below a prefix has changed.
///
/// Source: hyperdb 3.5.0 `lib/watch.js`.
public struct Watch<Storage: RandomAccessStorage> {
  private let database: Hyperdb<Storage>
  private let path: KeyPath
  private var known: Set<Pointer>

  /// Begins with what there is now.
  public init(_ database: Hyperdb<Storage>, prefix: String) throws(HyperdbError) {
    self.database = database
    path = KeyPath(Hyperdb<Storage>.normalise(prefix)[...], terminated: false)
    known = Set(try database.snapshot().find(path).map { $0.pointer })
  }

  /// Whether there is a change since this was last asked.
  public mutating func hasChanged() throws(HyperdbError) -> Bool {
    let now = Set(try database.snapshot().find(path).map { $0.pointer })
    defer { known = now }
    return now != known
  }
}
