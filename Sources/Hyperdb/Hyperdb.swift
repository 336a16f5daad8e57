public import Hypercore

/// A database of keys and values that several writers share, each with a feed of its own. Each entry holds a piece of
/// a trie over all keys as its writer knew them, so that the newest entries lead to every key.
///
/// The first writer's feed, `source`, names the database. A writer counts once one that counts names it
/// (``authorize(_:)``); writers learn of each other from their entries, in whatever order these arrive. What
/// counts of a feed is what comes before its first gap, and of that, entries whose writer had seen nothing but
/// what counts: a database that is still arriving answers as it was at an earlier time.
///
/// Where writers set a key without knowing of each other, all values are returned; the next entry whose writer saw
/// them takes their place.
///
/// It belongs to one isolation domain, as its feeds do. Changes are in the feed when a call returns, and durable once
/// all feeds are flushed.
///
/// Source: hyperdb 3.5.0 `index.js`, `lib/`.
public final class Hyperdb<Storage: RandomAccessStorage> {
  /// Opens the feed of a writer that is now authorised, or makes one for it.
  public typealias FeedOpener = (PublicKey) throws(HyperdbError) -> Feed<Storage>

  /// The feed of the first writer, which names the database.
  public let source: Feed<Storage>
  /// The feed that this node writes to, if it has one.
  public let local: Feed<Storage>?

  private(set) var writers: [Writer<Storage>] = []
  private var numbers: [PublicKey: Int] = [:]
  private let rule: CutoffRule?
  /// See ``freeze(_:at:)``.
  private var frozen: [PublicKey: UInt64] = [:]
  private let openFeed: FeedOpener
  private var cache = NodeCache()
  private var heads: [TrieNode] = []
  /// See ``statements()``.
  var heard: [Entry] = []
  /// Whether writers are to be looked at anew though no feed has grown from outside.
  private var isStale = false
  /// The disk has no room for the feed of a writer that was named: what is written in knowledge of it does not count yet.
  public private(set) var lacksRoom = false
  /// Entries of a batch that are not in the feed yet, and the block of the first.
  private var pending: (writer: Int, first: UInt64, nodes: [TrieNode])?
  /// See ``HyperdbLimits/exactBlocks``.
  var exactBlocks = HyperdbLimits.exactBlocks

  /// Opens a database; an empty feed that is writable becomes a new one, or a new writer of it.
  ///
  /// - Parameters:
  ///   - local: this node's own feed, authorised or not; not needed where that is `source`.
  ///   - begins: an empty feed that is writable becomes a new one; without, its blocks are to come from elsewhere, and nothing
  ///     can be written before.
  ///   - cutoffs: says where writers are cut off; nobody is, if there is none.
  ///   - openFeed: called for each writer but these two, as they become known.
  /// - Throws: `.notHyperdb` where a feed's first block is here and says otherwise.
  public init(
    source: Feed<Storage>, local: Feed<Storage>? = nil, begins: Bool = true, cutoffs: CutoffRule? = nil,
    openFeed: @escaping FeedOpener
  ) throws(HyperdbError) {
    self.source = source
    self.local = local ?? (source.isWritable ? source : nil)
    rule = cutoffs
    self.openFeed = openFeed
    let first = add(source, isAuthorized: true)
    var own = first
    if let local, local.key != source.key { own = add(local, isAuthorized: false) }
    if begins { try begin() }
    try checkHeader()
    // A writer goes on with its own numbering of the feeds.
    if own !== first {
      own.look()
      if let named = try own.newlyNamed() { try nameIfRoom(named.keys, isAuthorized: false) }
    }
    try refresh()
  }

  /// A database of one writer.
  public convenience init(source: Feed<Storage>) throws(HyperdbError) {
    try self.init(
      source: source,
      openFeed: { (key) throws(HyperdbError) in
        throw HyperdbError(
          .notAuthorized, "feed \(key.hex) cannot be opened: this database is open for one writer")
      })
  }

  /// Has this node's own feed begin, where it is empty: now, or later where the database was opened without and no blocks of it were
  /// elsewhere.
  public func begin() throws(HyperdbError) {
    guard let local, local.isWritable, local.length == 0 else { return }
    try append([Writer<Storage>.header], to: local)
  }

  private func checkHeader() throws(HyperdbError) {
    guard source.has(0) else { return }
    let block: [UInt8]
    do throws(FeedError) { block = try source.block(at: 0) } catch { throw HyperdbError(error) }
    guard block == Writer<Storage>.header else {
      throw HyperdbError(
        .notHyperdb, "feed \(source.key.hex) is not a database: its first block is no header")
    }
  }

  // MARK: - Writers

  /// The keys of all writers' feeds in the order of entries' clocks, this node's own among them before it counts.
  public var writerKeys: [PublicKey] { writers.map { $0.feed.key } }

  /// The feeds of all writers that were ever authorised, the first one's first.
  public var feeds: [Feed<Storage>] {
    get throws(HyperdbError) {
      try refresh()
      return writers.filter { $0.isAuthorized }.map { $0.feed }
    }
  }

  /// Whether new entries of a writer count.
  public func isAuthorized(_ key: PublicKey) throws(HyperdbError) -> Bool {
    try refresh()
    return numbers[key].map { writers[$0].isAuthorized && writers[$0].cutoff == nil } ?? false
  }

  /// Whether this node may write.
  public var isWritable: Bool {
    get throws(HyperdbError) {
      try local.map { (local) throws(HyperdbError) in try isAuthorized(local.key) } ?? false
    }
  }

  /// Blocks of a feed that count.
  ///
  /// - Returns: 0 where its writer does not.
  public func visibleLength(of key: PublicKey) throws(HyperdbError) -> UInt64 {
    try refresh()
    return numbers[key].map { writers[$0].counted } ?? 0
  }

  /// Where a writer is cut off by the rule.
  ///
  /// - Returns: `nil` where it is not.
  public func cutoff(of key: PublicKey) throws(HyperdbError) -> Cutoff? {
    try refresh()
    return numbers[key].flatMap { writers[$0].ruled }
  }

  /// Has entries from a block on not count, for good: the writer's owner signed two feeds that are the same up to there. It
  /// concerns what this node shows, and whether it writes; others are not told.
  ///
  /// - Parameter key: of one who may be a writer; it need not be known yet.
  public func freeze(_ key: PublicKey, at block: UInt64) {
    let block = min(block, frozen[key] ?? .max)
    frozen[key] = block
    if let number = numbers[key] { writers[number].frozen = block }
    isStale = true
  }

  /// From which block on a writer's entries do not count because of ``freeze(_:at:)``.
  public func frozen(_ key: PublicKey) -> UInt64? { frozen[key] }

  /// How many blocks of the feed of a writer who is cut off are of use: those that count, its tail, and those that
  /// others, who did not know better, built on. More need be neither stored nor passed on.
  ///
  /// - Returns: `nil` where all are.
  public func limit(of key: PublicKey) throws(HyperdbError) -> UInt64? {
    try refresh()
    return numbers[key].flatMap { writers[$0].limit }
  }

  /// The entries that the ``CutoffRule`` last went by, older ones first.
  public func statements() throws(HyperdbError) -> [Entry] {
    try refresh()
    return heard
  }

  func isCutOff(_ node: TrieNode) -> Bool {
    writers[node.writer].cutoff.map { node.seq >= $0.block } ?? false
  }

  func number(known key: PublicKey) -> Int? { numbers[key] }

  /// Takes in what has arrived: new entries, and the writers that they name.
  func refresh() throws(HyperdbError) {
    // A closure: in generic code, a key path is made at run time, which took a quarter of each look-up.
    guard isStale || writers.contains(where: { $0.hasGrown }) else { return }
    // Where the disk fails in between, heads and lengths do not belong together.
    (isStale, lacksRoom) = (true, false)
    try discover()
    try count()
    for writer in writers { writer.visible = writer.complete }
    try cutOff(rule)
    heads = try newest()
    isStale = false
  }

  /// Has the next look-up see whether there is room now for feeds that there was none for.
  public func tryAgain() {
    if lacksRoom { isStale = true }
  }

  private func add(_ feed: Feed<Storage>, isAuthorized: Bool) -> Writer<Storage> {
    let writer = Writer(feed, number: writers.count, isAuthorized: isAuthorized)
    writer.frozen = frozen[feed.key]
    writers.append(writer)
    numbers[feed.key] = writer.number
    return writer
  }

  /// Makes known the writers with these keys, up to the bound on their number.
  private func name(_ keys: [PublicKey], isAuthorized: Bool) throws(HyperdbError) {
    for key in keys {
      if let number = numbers[key] {
        if isAuthorized { writers[number].isAuthorized = true }
      } else if writers.count < HyperdbLimits.writers {
        _ = add(try openFeed(key), isAuthorized: isAuthorized)
      }
    }
  }

  /// As above, as far as there is room: what is here goes on being read where there is none. See ``tryAgain()``.
  private func nameIfRoom(_ keys: [PublicKey], isAuthorized: Bool) throws(HyperdbError) {
    do throws(HyperdbError) { try name(keys, isAuthorized: isAuthorized) } catch {
      guard error.code == .feed(.storage(.full)) else { throw error }
      lacksRoom = true
    }
  }

  /// Finds all writers that an authorised one names, and those that they name.
  private func discover() throws(HyperdbError) {
    for writer in writers { writer.look() }
    var isComplete = false
    while !isComplete {
      isComplete = true
      var number = 0
      while number < writers.count {
        let writer = writers[number]
        number += 1
        guard writer.isAuthorized, let named = try writer.newlyNamed() else { continue }
        try nameIfRoom(named.keys, isAuthorized: true)
        let known = named.keys.filter { numbers[$0] != nil }
        guard known.count == named.keys.count else { continue }
        writer.take(FeedList(seq: named.seq, keys: known, writers: known.compactMap { numbers[$0] }))
        for writer in writers { writer.look() }
        isComplete = false
      }
    }
  }

  /// Finds how much of each feed had seen nothing but what is here.
  private func count() throws(HyperdbError) {
    var counts = writers.map { $0.isAuthorized ? $0.held : 0 }
    var isSettled = false
    while !isSettled {
      isSettled = true
      for writer in writers where counts[writer.number] > max(writer.complete, 1) {
        let end = counts[writer.number]
        if try isMet(writer, end, counts) { continue }
        // Clocks only go forward: the entries that count are a prefix.
        var (low, high) = (max(writer.complete, 1), end)
        while high - low > 1 {
          let middle = low + (high - low) / 2
          if try isMet(writer, middle, counts) { low = middle } else { high = middle }
        }
        counts[writer.number] = low
        isSettled = false
      }
    }
    for writer in writers { writer.complete = max(writer.complete, counts[writer.number]) }
  }

  /// Whether the first `end` blocks of a feed had seen nothing beyond `counts`; not so if the last cannot be read.
  private func isMet(
    _ writer: Writer<Storage>, _ end: UInt64, _ counts: [UInt64]
  ) throws(HyperdbError) -> Bool {
    guard let node = try readable(Pointer(writer: writer.number, seq: end - 1)) else { return false }
    // A header says nothing, so it need not be here.
    for (number, seen) in node.clock.enumerated() where seen > max(counts[number], 1) { return false }
    return true
  }

  /// - Returns: `nil` for an entry that cannot be read.
  func readable(_ pointer: Pointer) throws(HyperdbError) -> TrieNode? {
    do throws(HyperdbError) { return try node(pointer) } catch {
      if error.code == .badEntry { return nil }
      throw error
    }
  }

  /// The newest entries that no other has seen.
  ///
  /// - Parameter ignored: a writer whose own are left out.
  private func newest(without ignored: Int? = nil) throws(HyperdbError) -> [TrieNode] {
    var newest: [TrieNode] = []
    for writer in writers where writer.visible > 1 && writer.number != ignored {
      if let node = try readable(Pointer(writer: writer.number, seq: writer.visible - 1)) {
        newest.append(node)
      }
    }
    return newest.filter { node in !newest.contains { $0.hasSeen(node) } }
  }

  // MARK: - Entries

  func entry(_ node: TrieNode) throws(HyperdbError) -> Entry {
    let writer = writers[node.writer]
    return Entry(
      key: node.key, value: try writer.value(node.seq), isDeleted: node.isDeleted, feed: writer.feed.key,
      seq: node.seq,
      clock: node.clock)
  }

  func entries(_ nodes: [TrieNode]) throws(HyperdbError) -> [Entry] {
    var entries: [Entry] = []
    for node in nodes { entries.append(try entry(node)) }
    return entries
  }

  func node(_ pointer: Pointer) throws(HyperdbError) -> TrieNode {
    if let pending, pointer.writer == pending.writer, pointer.seq >= pending.first,
      pointer.seq - pending.first < pending.nodes.count
    {
      return pending.nodes[Int(pointer.seq - pending.first)]
    }
    if let node = cache.node(pointer) { return node }
    let writer = writers[pointer.writer]
    let node = try writer.makeNode(try writer.stored(pointer.seq), pointer.seq) { numbers[$0] }
    // Whether one counts that is behind them is only found out.
    guard pointer.seq < writer.complete else { return node }
    // Clocks only go forward, so that all before an entry that counts have seen nothing but what counts.
    for (number, seen) in node.clock.enumerated() where seen > max(writers[number].complete, 1) {
      throw writer.bad(pointer.seq, "claims to have seen more than a later one")
    }
    cache.keep(node)
    return node
  }

  /// An entry that a trie points to for `value` at `position`, which its path therefore has there too.
  ///
  /// - Throws: `.badEntry` where it does not.
  func node(
    _ pointer: Pointer, at position: Int, value: UInt8
  ) throws(HyperdbError) -> TrieNode {
    let node = try node(pointer)
    guard position < node.path.count, node.path[position] == value else {
      throw writers[pointer.writer].bad(pointer.seq, "has another path than the trie that points to it says")
    }
    return node
  }

  /// As above, and one of at most `allowance` in this look-up.
  func node(
    _ pointer: Pointer, at position: Int, value: UInt8, allowance: inout Int
  ) throws(HyperdbError) -> TrieNode {
    guard allowance > 0 else { throw writers[pointer.writer].bad(pointer.seq, "is behind too many others") }
    let node = try node(pointer, at: position, value: value)
    allowance -= node.lookupCost
    return node
  }

  // MARK: - Writing

  /// One change of a batch.
  public enum Change: Equatable, Sendable {
    case put(key: String, value: [UInt8])
    /// Sets a key that is not set.
    case create(key: String, value: [UInt8])
    case delete(key: String)
  }

  /// Sets a key.
  ///
  /// - Returns: the entry's block in ``local``.
  @discardableResult
  public func put(_ key: String, _ value: [UInt8]) throws(HyperdbError) -> UInt64 {
    try batch([.put(key: key, value: value)]).lowerBound
  }

  /// Unsets a key; its history stays.
  @discardableResult
  public func delete(_ key: String) throws(HyperdbError) -> UInt64 {
    try batch([.delete(key: key)]).lowerBound
  }

  /// Lets another writer write, for good.
  ///
  /// - Returns: the entry that says so; `nil` where it may already.
  /// - Throws: `.otherCutOff` for one whose entries count no longer, `.tooLarge` where there are as many writers as there can be.
  @discardableResult
  public func authorize(_ key: PublicKey) throws(HyperdbError) -> UInt64? {
    let own = try writer()
    if let block = frozen[key] {
      throw HyperdbError(
        .otherCutOff,
        "the writer \(key.hex) signed two feeds that part at block \(block): it needs a new feed")
    }
    if let number = numbers[key], writers[number].isAuthorized {
      guard writers[number].cutoff == nil else {
        throw HyperdbError(.otherCutOff, "the writer \(key.hex) is cut off: it needs a new feed")
      }
      return nil
    }
    guard numbers[key] != nil || writers.count < HyperdbLimits.authorizedWriters else {
      throw HyperdbError(.tooLarge, "there are \(writers.count) writers, as many as there can be")
    }
    try name([key], isAuthorized: true)
    return try write([StoredEntry(key: [], value: nil, isDeleted: false)], as: own, isCreation: [false])
      .lowerBound
  }

  /// Carries out changes, one after the other, under one signature; all of them or, where it throws, none.
  ///
  /// - Parameter suspect: a writer whose newest entries are not taken note of, as if they had not come yet, where tries that lead
  ///   astray keep the changes from being written. Where that is not enough, nor those of any other writer are.
  /// - Returns: the entries' blocks in ``local``.
  /// - Throws: `.notWritable`, `.notAuthorized` or `.behind` where this node cannot write, `.exists` where a key to
  ///   be created is set, `.tooLarge`, `.badEntry`.
  @discardableResult
  public func batch(_ changes: [Change], suspecting suspect: PublicKey? = nil) throws(HyperdbError) -> Range<
    UInt64
  > {
    let own = try writer()
    var entries: [StoredEntry] = []
    var isCreation: [Bool] = []
    for change in changes {
      entries.append(try Self.stored(change))
      if case .create = change { isCreation.append(true) } else { isCreation.append(false) }
    }
    return try write(entries, as: own, isCreation: isCreation, suspect: suspect.flatMap { numbers[$0] })
  }

  /// This node's own writer, if it may write now.
  private func writer() throws(HyperdbError) -> Writer<Storage> {
    guard let local, local.isWritable, let number = numbers[local.key] else {
      throw HyperdbError(.notWritable, "this node has no writer of its own")
    }
    try refresh()
    let own = writers[number]
    guard own.isAuthorized else {
      throw HyperdbError(.notAuthorized, "this node's writer \(local.key.hex) is not authorised")
    }
    if let block = own.frozen {
      throw HyperdbError(
        .forked, "this node's writer \(local.key.hex) signed two feeds that part at block \(block)")
    }
    guard own.cutoff == nil else {
      throw HyperdbError(
        .cutOff, "this node's writer \(local.key.hex) is cut off: what it writes does not count")
    }
    guard own.visible == local.length, local.length > 0 else {
      if local.length > 1 { _ = try node(Pointer(writer: number, seq: local.length - 1)) }
      throw HyperdbError(
        .behind, "entries that this node's own writer had seen are missing: they have to come back first")
    }
    return own
  }

  /// What an entry is written in knowledge of.
  private struct Basis {
    var heads: [TrieNode]
    /// How many blocks of each writer.
    var clock: [UInt64]
    /// It is all that counts.
    var isWhole = true
  }

  private func basis() -> Basis {
    Basis(heads: heads, clock: writers.map { $0.visible })
  }

  /// Of a writer only what others knew.
  private func basis(without ignored: Int) throws(HyperdbError) -> Basis {
    var basis = basis()
    basis.heads = try newest(without: ignored)
    basis.clock[ignored] = basis.heads.reduce(0) {
      max($0, ignored < $1.clock.count ? $1.clock[ignored] : 0)
    }
    basis.isWhole = false
    return basis
  }

  /// Only what this node's own newest entry knew.
  private func basis(of own: Writer<Storage>) throws(HyperdbError) -> Basis {
    var basis = Basis(heads: [], clock: writers.map { _ in 0 }, isWhole: false)
    basis.clock[own.number] = own.feed.length
    guard own.feed.length > 1 else { return basis }
    let newest = try node(Pointer(writer: own.number, seq: own.feed.length - 1))
    for (number, seen) in newest.clock.enumerated() { basis.clock[number] = seen }
    basis.heads = [newest]
    return basis
  }

  /// What others wrote may be such that nothing can be written on top of it: then it is written beside that.
  private func write(
    _ entries: [StoredEntry], as own: Writer<Storage>, isCreation: [Bool], suspect: Int? = nil
  ) throws(HyperdbError) -> Range<UInt64> {
    do throws(HyperdbError) {
      return try write(entries, as: own, isCreation: isCreation, over: basis())
    } catch {
      guard error.code == .badEntry else { throw error }
    }
    if let suspect, suspect != own.number {
      do throws(HyperdbError) {
        return try write(entries, as: own, isCreation: isCreation, over: basis(without: suspect))
      } catch {
        guard error.code == .badEntry else { throw error }
      }
    }
    return try write(entries, as: own, isCreation: isCreation, over: basis(of: own))
  }

  private func write(
    _ entries: [StoredEntry], as own: Writer<Storage>, isCreation: [Bool], over basis: Basis
  ) throws(HyperdbError) -> Range<UInt64> {
    let first = own.feed.length
    guard !entries.isEmpty else { return first..<first }
    let feeds = feedList(of: own, seq: first)
    var (heads, clock) = (basis.heads, basis.clock)
    var blocks: [[UInt8]] = []
    pending = (own.number, first, [])
    defer { pending = nil }
    let keepsAll = clock.reduce(0, +) + UInt64(entries.count) <= exactBlocks
    for (entry, isCreation) in zip(entries, isCreation) {
      let seq = first + UInt64(blocks.count)
      if isCreation, !(try Snapshot(self, heads).isUnset(entry.key)) {
        throw HyperdbError(.exists, "“\(String(decoding: entry.key, as: UTF8.self))” is set already")
      }
      var entry = entry
      let path = KeyPath(entry.key[...], terminated: true)
      let trie = try TrieBuilder(
        self, key: entry.key, path: path, feeds: feeds, clock: clock, keepsAll: keepsAll
      ).build(over: heads)
      clock[own.number] = seq + 1
      entry.trie = trie.encoded
      entry.clock = feeds.writers.map { clock[$0] }
      entry.inflate = feeds.seq
      if seq == feeds.seq { entry.feeds = feeds.keys }
      let node = TrieNode(entry, path: path, trie: trie, writer: own.number, seq: seq, clock: clock)
      pending?.nodes.append(node)
      heads = [node]
      blocks.append(entry.encoded)
    }
    // A change that could cut somebody off is looked at like one from another writer.
    isStale = !basis.isWhole
    if let rule, entries.contains(where: { $0.key.starts(with: rule.prefix) }) { isStale = true }
    try append(blocks, to: own.feed)
    for node in pending?.nodes ?? [] { cache.keep(node) }
    own.appended(feeds)
    self.heads = heads
    return first..<own.feed.length
  }

  /// The numbering for an entry to be written: as in the newest, and behind these the feeds that it did not know. Whoever is
  /// cut off from the start is left out, so as not to be let in by it; but for those whose entries others built on.
  private func feedList(of own: Writer<Storage>, seq: UInt64) -> FeedList {
    var all = own.feeds?.writers ?? []
    for writer in writers where writer.isAuthorized && (writer.cutoff?.block != 0 || writer.visible > 0) {
      if own.feeds?.contains(writer.number) != true { all.append(writer.number) }
    }
    if let feeds = own.feeds, feeds.writers.count == all.count { return feeds }
    return FeedList(seq: seq, keys: all.map { writers[$0].feed.key }, writers: all)
  }

  private func append(_ blocks: [[UInt8]], to feed: Feed<Storage>) throws(HyperdbError) {
    do throws(FeedError) { try feed.append(contentsOf: blocks) } catch { throw HyperdbError(error) }
  }

  private static func stored(_ change: Change) throws(HyperdbError) -> StoredEntry {
    let stored: StoredEntry
    switch change {
    case .put(let key, let value), .create(let key, let value):
      stored = StoredEntry(key: normalise(key), value: value, isDeleted: false)
    case .delete(let key): stored = StoredEntry(key: normalise(key), value: nil, isDeleted: true)
    }
    guard stored.key.count <= HyperdbLimits.keyBytes,
      stored.key.count(where: { $0 == UInt8(ascii: "/") }) < HyperdbLimits.keyComponents
    else { throw HyperdbError(.tooLarge, "a key of \(stored.key.count) bytes") }
    // The path of the empty key is that of authorisations, which no list shows.
    guard !stored.key.isEmpty, stored.key != [UInt8(ascii: "/")] else {
      throw HyperdbError(.badKey, "a key is empty, or a slash and nothing else")
    }
    guard stored.value?.count ?? 0 <= HyperdbLimits.valueBytes else {
      throw HyperdbError(.tooLarge, "a value of \(stored.value?.count ?? 0) bytes")
    }
    return stored
  }

  /// Without a slash at the start.
  static func normalise(_ key: String) -> [UInt8] {
    let bytes = Array(key.utf8)
    return bytes.first == UInt8(ascii: "/") ? Array(bytes.dropFirst()) : bytes
  }

  // MARK: - Reading

  /// The database as it is now, and as it stays for whoever holds on to this.
  public func snapshot() throws(HyperdbError) -> Snapshot<Storage> {
    try refresh()
    return Snapshot(self, heads)
  }

  /// The database as it was.
  ///
  /// - Throws: `.badVersion` where the version is of another database, or has entries that are not here.
  public func checkout(_ version: Version) throws(HyperdbError) -> Snapshot<Storage> {
    Snapshot(self, try nodes(of: version))
  }

  func nodes(of version: Version) throws(HyperdbError) -> [TrieNode] {
    try refresh()
    var nodes: [TrieNode] = []
    for head in version.heads {
      guard let number = numbers[head.feed], head.seq > 0, head.seq < writers[number].visible else {
        throw HyperdbError(.badVersion, "entry \(head.seq) of feed \(head.feed.hex) is not here")
      }
      nodes.append(try node(Pointer(writer: number, seq: head.seq)))
    }
    return nodes
  }

  /// What a key is set to now: see ``Snapshot/get(_:)``.
  public func get(_ key: String) throws(HyperdbError) -> [Entry] {
    try snapshot().get(key)
  }

  /// What each key below `prefix` is set to now.
  public func list(prefix: String = "") throws(HyperdbError) -> [[Entry]] {
    try snapshot().list(prefix: prefix)
  }

  /// An entry of a feed, whether it counts or not; deletions too.
  ///
  /// - Throws: `.feed(.missing)` where it is not held; `.notAuthorized` where the feed's writer is unknown.
  public func entry(_ seq: UInt64, of feed: PublicKey) throws(HyperdbError) -> Entry {
    try entry(node(Pointer(writer: number(of: feed), seq: seq)))
  }

  /// Whether an entry sets a key below `prefix`. Quick: its trie is not looked at.
  public func sets(keyBelow prefix: [UInt8], at seq: UInt64, of feed: PublicKey) throws(HyperdbError) -> Bool
  {
    let entry = try writers[number(of: feed)].stored(seq)
    return !entry.isDeleted && entry.key.starts(with: prefix)
  }

  /// Whether the writer of an entry knew of none before for the same key.
  public func isFirst(_ entry: Entry) throws(HyperdbError) -> Bool {
    try Snapshot(before: [node(Pointer(writer: number(of: entry.feed), seq: entry.seq))], in: self)
      .nodes(of: entry.key).isEmpty
  }

  private func number(of feed: PublicKey) throws(HyperdbError) -> Int {
    guard let number = numbers[feed] else {
      throw HyperdbError(.notAuthorized, "feed \(feed.hex) is not of this database")
    }
    return number
  }
}
