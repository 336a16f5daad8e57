public import Hypercore

/// Goes through all entries of a state of a database, deletions too: oldest first, or newest first.
///
/// The order is the reference's, which lets an entry stand on either side of the last one that it had seen of
/// another writer. Source: hyperdb 3.5.0 `lib/history.js`.
public struct History<Storage: RandomAccessStorage> {
  private let database: Hyperdb<Storage>
  private let reversed: Bool
  /// The next entry of each writer.
  private var next: [TrieNode?]
  /// The block behind the last of each writer.
  private let ends: [UInt64]

  public init(_ snapshot: Snapshot<Storage>, reversed: Bool = false) throws(HyperdbError) {
    database = snapshot.database
    self.reversed = reversed
    var ends: [UInt64] = []
    next = []
    for writer in database.writers {
      let end = snapshot.heads.reduce(0) {
        $1.clock.count > writer.number ? max($0, $1.clock[writer.number]) : $0
      }
      ends.append(end)
      next.append(
        end > 1 ? try database.node(Pointer(writer: writer.number, seq: reversed ? end - 1 : 1)) : nil)
    }
    self.ends = ends
  }

  /// Goes on newest first from where another one was: see ``rest``.
  ///
  /// - Throws: `.badVersion` where that is of another database, or of entries that are not here.
  public init(_ database: Hyperdb<Storage>, rest: Version) throws(HyperdbError) {
    self.database = database
    reversed = true
    next = Array(repeating: nil, count: database.writers.count)
    ends = []
    for node in try database.nodes(of: rest) { next[node.writer] = node }
  }

  /// What is still to come, newest first.
  public var rest: Version {
    Version(
      next.compactMap { $0 }.map {
        Version.Head(feed: database.writers[$0.writer].feed.key, seq: $0.seq)
      })
  }

  public mutating func entry() throws(HyperdbError) -> Entry? {
    while let node = try node() {
      if !database.isCutOff(node) { return try database.entry(node) }
    }
    return nil
  }

  private mutating func node() throws(HyperdbError) -> TrieNode? {
    var chosen: TrieNode?
    for case let node? in next {
      guard let best = chosen else {
        chosen = node
        continue
      }
      let seen = node.writer < best.clock.count ? best.clock[node.writer] : 0
      if reversed ? node.seq + 1 > seen : node.seq + 1 < seen { chosen = node }
    }
    guard let chosen else { return nil }
    let seq = reversed ? chosen.seq - 1 : chosen.seq + 1
    next[chosen.writer] =
      seq > 0 && (reversed || seq < ends[chosen.writer])
      ? try database.node(Pointer(writer: chosen.writer, seq: seq)) : nil
    return chosen
  }
}

extension Snapshot {
  /// What a key is set to, deletions too, and the state that the writers of these entries knew: step by step, the
  /// history of the key, newest first.
  ///
  /// Source: hyperdb 3.5.0 `lib/key-history.js`.
  ///
  /// - Returns: `nil` where the key was never set.
  public func historyStep(of key: String) throws(HyperdbError) -> (entries: [Entry], earlier: Snapshot)? {
    let nodes = try nodes(of: Hyperdb<Storage>.normalise(key))
    if nodes.isEmpty { return nil }
    return (try database.entries(nodes), try Snapshot(before: nodes, in: database))
  }
}
