public import Hypercore

/// Where a writer is cut off.
public struct Cutoff: Equatable, Sendable {
  /// The first block that does not count.
  public var block: UInt64
  /// How many blocks from there on are to be replicated all the same, so that the rule knows what they say.
  public var tail: UInt64

  public init(block: UInt64, tail: UInt64 = 0) {
    self.block = block
    self.tail = tail
  }

  /// The first block that is of no use any more.
  public var end: UInt64 { block > .max - tail ? .max : block + tail }
}

/// Decides from what the writers of a database wrote where writers are cut off: from which block on their entries do
/// not count.
///
/// It goes by entries alone, so that all who hold the same entries decide the same, in whatever order these came.
public struct CutoffRule {
  /// The keys that it goes by are below this prefix.
  let prefix: [UInt8]
  /// The key by which something is said of a writer. Others below the prefix are not looked at, however many there are.
  let key: (PublicKey) -> String
  /// Bytes of the longest value that it understands.
  let valueBytes: Int
  let judge: (_ entries: [Entry], _ writers: [PublicKey]) -> [PublicKey: Cutoff]

  /// - Parameters:
  ///   - key: of what is said of a writer.
  ///   - valueBytes: a longer value is not kept in memory: its entry has none.
  ///   - judge: gets the entries of those keys, deletions too, that are the newest for at least one writer, and the
  ///     writers' keys in the order of the entries' clocks; returns for each who is cut off where. The first writer never is.
  public init(
    prefix: String, key: @escaping (PublicKey) -> String, valueBytes: Int,
    judge: @escaping (_ entries: [Entry], _ writers: [PublicKey]) -> [PublicKey: Cutoff]
  ) {
    self.prefix = Array(prefix.utf8)
    self.key = key
    self.valueBytes = valueBytes
    self.judge = judge
  }
}

/// What one writer knows of what a ``CutoffRule`` goes by.
struct View {
  /// As of how many of its blocks, and writers.
  var complete: UInt64
  var writers: Int
  /// Where it was found, to see whether it is still the same.
  var pointers: Set<Pointer>
  var nodes: [TrieNode]
}

extension Hyperdb {
  /// Finds who is cut off, and how much of each feed is to be reached.
  func cutOff(_ rule: CutoffRule?) throws(HyperdbError) {
    var ruled = [Cutoff?](repeating: nil, count: writers.count)
    if let rule { ruled = try judge(rule) }
    for writer in writers {
      writer.ruled = ruled[writer.number]
      writer.limit = nil
    }
    guard writers.contains(where: { $0.cutoff != nil }) else { return }
    try reach()
    try limit()
  }

  private func judge(_ rule: CutoffRule) throws(HyperdbError) -> [Cutoff?] {
    let nodes = try statements(rule)
    var cutoffs = [Cutoff?](repeating: nil, count: writers.count)
    var entries: [(node: TrieNode, entry: Entry)] = []
    for node in nodes where node.seq < writers[node.writer].frozen ?? .max {
      var entry = try entry(node)
      if entry.value.map({ $0.count > rule.valueBytes }) == true { entry.value = nil }
      entries.append((node, entry))
    }
    // Whom only cut-off entries authorise has no say either. Bounded: what is said could go round in circles.
    for _ in 0...writers.count {
      heard = entries.filter { cutoffs[$0.node.writer]?.end != 0 }.map { $0.entry }
      let judged = rule.judge(heard, writerKeys)
      var next = writers.map { $0.number == 0 ? nil : judged[$0.feed.key] }
      let isAnyCutOff = next.contains { $0 != nil } || writers.contains { $0.frozen != nil }
      if isAnyCutOff { try excludeUnnamed(&next) }
      if next == cutoffs { break }
      cutoffs = next
    }
    return cutoffs
  }

  /// The entries that the rule goes by, older ones first.
  ///
  /// Each writer is asked by itself what it knows: someone who was cut off could else write over the entry that says so.
  private func statements(_ rule: CutoffRule) throws(HyperdbError) -> [TrieNode] {
    let path = KeyPath(rule.prefix[...], terminated: false)
    var found: [Pointer: TrieNode] = [:]
    for writer in writers where writer.complete > 1 {
      if writer.view?.complete != writer.complete || writer.view?.writers != writers.count {
        try look(at: writer, path, rule)
      }
      for node in writer.view?.nodes ?? [] { found[node.pointer] = node }
    }
    return found.values.sorted {
      let (a, b) = ($0.seen, $1.seen)
      return a != b ? a < b : ($0.writer, $0.seq) < ($1.writer, $1.seq)
    }
  }

  /// Finds what one writer says; where a trie leads astray, nothing is said.
  private func look(at writer: Writer<Storage>, _ path: KeyPath, _ rule: CutoffRule) throws(HyperdbError) {
    guard let newest = try readable(Pointer(writer: writer.number, seq: writer.complete - 1)) else { return }
    let snapshot = Snapshot(everythingIn: self, [newest])
    let pointers = Set(
      try unlessBad { () throws(HyperdbError) in try snapshot.find(path) }.map { $0.pointer })
    if let view = writer.view, view.pointers == pointers, view.writers == writers.count {
      writer.view?.complete = writer.complete
      return
    }
    var nodes: [TrieNode] = []
    for other in writers {
      let key = Array(rule.key(other.feed.key).utf8)
      nodes += try unlessBad { () throws(HyperdbError) in try snapshot.nodes(of: key) }
    }
    writer.view = View(complete: writer.complete, writers: writers.count, pointers: pointers, nodes: nodes)
  }

  private func unlessBad(_ find: () throws(HyperdbError) -> [TrieNode]) throws(HyperdbError) -> [TrieNode] {
    do throws(HyperdbError) { return try find() } catch {
      guard error.code == .badEntry else { throw error }
      return []
    }
  }

  /// Cuts off from the start whom no entry that counts names.
  private func excludeUnnamed(_ cutoffs: inout [Cutoff?]) throws(HyperdbError) {
    var isNamed = writers.map { $0.number == 0 || !$0.isAuthorized }
    var waiting = [0]
    while let number = waiting.popLast() {
      let writer = writers[number]
      let keys: [PublicKey]
      if let cutoff = writer.cutoff(cutoffs[number]) {
        keys = try writer.named(before: min(cutoff.block, writer.held))?.keys ?? []
      } else {
        keys = writer.feeds?.keys ?? []
      }
      for key in keys {
        guard let other = self.number(known: key), !isNamed[other] else { continue }
        isNamed[other] = true
        waiting.append(other)
      }
    }
    for number in cutoffs.indices where !isNamed[number] { cutoffs[number] = Cutoff(block: 0) }
  }

  /// Finds how much of each feed is reached: what counts, and what that was built on.
  private func reach() throws(HyperdbError) {
    var ends = writers.map { min($0.complete, $0.cutoff?.block ?? .max) }
    var isSettled = false
    while !isSettled {
      isSettled = true
      for writer in writers where ends[writer.number] > 1 {
        guard let newest = try readable(Pointer(writer: writer.number, seq: ends[writer.number] - 1)) else {
          continue
        }
        for (number, seen) in newest.clock.enumerated() where seen > ends[number] {
          let end = min(seen, writers[number].complete)
          if end > ends[number] {
            ends[number] = end
            isSettled = false
          }
        }
      }
    }
    for writer in writers { writer.visible = ends[writer.number] }
  }

  /// Finds how much of each cut-off feed is of use, here or not: as above, with all entries that are here.
  private func limit() throws(HyperdbError) {
    var limits = writers.map { $0.cutoff?.end ?? $0.held }
    var isSettled = false
    while !isSettled {
      isSettled = true
      for writer in writers {
        let end = min(limits[writer.number], writer.held)
        guard end > 1 else { continue }
        guard let newest = try readable(Pointer(writer: writer.number, seq: end - 1)) else { continue }
        for (number, seen) in newest.clock.enumerated() where seen > limits[number] {
          guard writers[number].cutoff != nil else { continue }
          limits[number] = seen
          isSettled = false
        }
      }
    }
    for writer in writers where writer.cutoff != nil { writer.limit = limits[writer.number] }
  }
}

extension Snapshot {
  /// Puts in the place of entries that do not count those that they replaced.
  func counted(_ nodes: [TrieNode]) throws(HyperdbError) -> [TrieNode] {
    guard !isRaw, nodes.contains(where: { database.isCutOff($0) }) else { return nodes }
    var counted = nodes.filter { !database.isCutOff($0) }
    var waiting = nodes.filter { database.isCutOff($0) }
    var done: Set<Pointer> = []
    while let node = waiting.popLast() {
      guard done.insert(node.pointer).inserted else { continue }
      guard done.count <= HyperdbLimits.replacedEntries else {
        throw database.writers[node.writer].bad(node.seq, "replaced too many entries that do not count")
      }
      let before = try Snapshot(everythingBefore: node, in: database)
      for earlier in try before.nodes(of: node.key) {
        if database.isCutOff(earlier) { waiting.append(earlier) } else { counted.append(earlier) }
      }
    }
    if counted.count > 1 { TrieNode.removeSeen(&counted) { $0.key == $1.key } }
    return counted
  }

  /// What the writer of an entry knew when it wrote it, of others who are cut off and of itself only what counts.
  private init(everythingBefore node: TrieNode, in database: Hyperdb<Storage>) throws(HyperdbError) {
    var heads: [TrieNode] = []
    for (number, seen) in node.clock.enumerated() {
      let own = number == node.writer ? node.seq : seen
      let end = min(own, database.writers[number].cutoff?.block ?? .max)
      if end > 1 { heads.append(try database.node(Pointer(writer: number, seq: end - 1))) }
    }
    self.init(
      everythingIn: database,
      heads.filter { head in !heads.contains { $0.hasSeen(head) && $0.pointer != head.pointer } })
  }
}
