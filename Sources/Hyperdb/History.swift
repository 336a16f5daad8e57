import Hypercore

extension Snapshot {
  /// Calls `body` with every entry, deletions too, until it returns `false`: oldest first, or newest first.
  ///
  /// The order is the reference's, which lets an entry stand on either side of the last one that it had seen of
  /// another writer.
  ///
  /// Source: hyperdb 3.5.0 `lib/history.js`.
  public func forEachInHistory(
    reversed: Bool = false, _ body: (Entry) -> Bool
  ) throws(HyperdbError) {
    var next: [TrieNode?] = []
    var ends: [UInt64] = []
    for writer in database.writers {
      let end = heads.reduce(0) { $1.clock.count > writer.number ? max($0, $1.clock[writer.number]) : $0 }
      ends.append(end)
      next.append(end > 1 ? try node(writer.number, reversed ? end - 1 : 1) : nil)
    }
    while true {
      var chosen: TrieNode?
      for case let node? in next {
        guard let best = chosen else {
          chosen = node
          continue
        }
        let seen = node.writer < best.clock.count ? best.clock[node.writer] : 0
        if reversed ? node.seq + 1 > seen : node.seq + 1 < seen { chosen = node }
      }
      guard let chosen else { return }
      if !body(try database.entry(chosen)) { return }
      let seq = reversed ? chosen.seq - 1 : chosen.seq + 1
      next[chosen.writer] = seq > 0 && seq < ends[chosen.writer] ? try node(chosen.writer, seq) : nil
    }
  }

  private func node(_ writer: Int, _ seq: UInt64) throws(HyperdbError) -> TrieNode {
    try database.node(Pointer(writer: writer, seq: seq))
  }

  /// Calls `body` with what a key was set to, newest first, each time with all that stood beside each other, deletions
  /// too, until it returns `false`.
  ///
  /// Source: hyperdb 3.5.0 `lib/key-history.js`.
  public func forEachInHistory(of key: String, _ body: ([Entry]) -> Bool) throws(HyperdbError) {
    let key = Hyperdb<Storage>.normalise(key)
    var earlier = self
    while true {
      let nodes = try earlier.nodes(of: key)
      if nodes.isEmpty { return }
      if !body(try database.entries(nodes)) { return }
      var heads: [TrieNode] = []
      for node in nodes {
        for (writer, seen) in node.clock.enumerated() {
          let end = writer == node.writer ? node.seq : seen
          if end > 1 { heads.append(try self.node(writer, end - 1)) }
        }
      }
      earlier = Snapshot(
        database, heads.filter { head in !heads.contains { $0.hasSeen(head) && $0.pointer != head.pointer } })
    }
  }
}
