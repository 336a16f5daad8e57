import Hypercore

/// One writer of a database: its feed, and how much of it counts.
final class Writer<Storage: RandomAccessStorage> {
  /// The first block of every feed of a database: a message with `hyperdb` as its field 1.
  static var header: [UInt8] { [10, 7] + Array("hyperdb".utf8) }

  let feed: Feed<Storage>
  /// This writer's number in the database.
  let number: Int
  /// Named by another that is authorised; the first writer always is.
  var isAuthorized: Bool
  /// Blocks that are here, from the first on without a gap.
  private(set) var held: UInt64 = 0
  /// Blocks of these whose entries had seen nothing but what is here.
  var complete: UInt64 = 0
  /// Blocks of these that the database reaches. Those behind ``counted`` are there only because others, who did not
  /// know better, built on them.
  var visible: UInt64 = 0
  /// Where this writer is cut off by the ``CutoffRule``, if it is.
  var ruled: Cutoff?
  /// From which block on its entries do not count because its owner signed two feeds that part there.
  var frozen: UInt64?
  /// Where it is cut off: how many of its blocks are of use.
  var limit: UInt64?
  /// What this writer knows of what a ``CutoffRule`` goes by.
  var view: View?
  /// The feeds as the newest entry here names them; `nil` before the first.
  private(set) var feeds: FeedList?
  /// What of the feed was looked at last: its length and number of blocks held.
  private var looked: (length: UInt64, held: UInt64) = (0, 0)
  private var lists: [UInt64: FeedList] = [:]

  init(_ feed: Feed<Storage>, number: Int, isAuthorized: Bool) {
    self.feed = feed
    self.number = number
    self.isAuthorized = isAuthorized
  }

  /// Where this writer is cut off, if it is, for either reason.
  var cutoff: Cutoff? { cutoff(ruled) }

  /// Where it is cut off if the rule says `ruled`.
  func cutoff(_ ruled: Cutoff?) -> Cutoff? {
    guard let frozen else { return ruled }
    guard let ruled, ruled.block <= frozen else { return Cutoff(block: frozen) }
    return ruled
  }

  /// Blocks whose entries count.
  var counted: UInt64 { min(visible, cutoff?.block ?? .max) }

  /// Whether there are blocks that were not here at the last ``look()``.
  var hasGrown: Bool { feed.length != looked.length || feed.heldBlocks != looked.held }

  /// Sees which blocks are here.
  func look() {
    looked = (feed.length, feed.heldBlocks)
    guard held < feed.length else { return }
    held = feed.firstMissing(in: held..<feed.length) ?? feed.length
  }

  /// Takes note of entries that this node has just appended.
  func appended(_ feeds: FeedList) {
    look()
    complete = held
    visible = held
    self.feeds = feeds
    keep(feeds)
  }

  /// An entry with its value.
  func stored(_ seq: UInt64) throws(HyperdbError) -> StoredEntry {
    guard seq > 0 else { throw bad(seq, "is the header") }
    let block = try block(seq)
    guard let entry = StoredEntry(decoding: block) else { throw bad(seq, "cannot be read") }
    return entry
  }

  /// The value of an entry that could be read.
  func value(_ seq: UInt64) throws(HyperdbError) -> [UInt8]? {
    StoredEntry.value(in: try block(seq))
  }

  private func block(_ seq: UInt64) throws(HyperdbError) -> [UInt8] {
    do throws(FeedError) { return try feed.block(at: seq) } catch { throw HyperdbError(error) }
  }

  // MARK: - Naming feeds

  /// The keys of the feeds that the newest entry here goes by, and the entry that names them.
  ///
  /// - Returns: `nil` where that is no news, or there is none, or it cannot be read.
  func newlyNamed() throws(HyperdbError) -> (seq: UInt64, keys: [PublicKey])? {
    try named(before: held, unless: feeds?.seq)
  }

  /// The keys of the feeds that the last of the first `end` blocks goes by, and the entry that names them.
  ///
  /// - Parameter known: an entry that is not looked at again.
  /// - Returns: `nil` where that is this entry, or there is none, or it cannot be read.
  func named(
    before end: UInt64, unless known: UInt64? = nil
  ) throws(HyperdbError) -> (seq: UInt64, keys: [PublicKey])? {
    guard end > 1 else { return nil }
    do throws(HyperdbError) {
      let newest = try stored(end - 1)
      if newest.inflate == known { return nil }
      guard newest.inflate < end else { return nil }
      let naming = newest.inflate == end - 1 ? newest : try stored(newest.inflate)
      return (newest.inflate, naming.feeds)
    } catch {
      if error.code == .badEntry { return nil }
      throw error
    }
  }

  func take(_ feeds: FeedList) {
    self.feeds = feeds
    keep(feeds)
  }

  private func keep(_ list: FeedList) {
    if lists.count >= HyperdbLimits.cachedFeedLists { lists = [:] }
    lists[list.seq] = list
  }

  // MARK: - Entries

  /// Decodes what an entry refers to: it can only point back, to what it has seen.
  ///
  /// - Parameter number: the database's number of a feed.
  func makeNode(
    _ entry: StoredEntry, _ seq: UInt64, number: (PublicKey) -> Int?
  ) throws(HyperdbError) -> TrieNode {
    let feeds = try list(entry, seq, number: number)
    guard entry.clock.count <= feeds.writers.count else { throw bad(seq, "has a clock of unknown feeds") }
    var clock = [UInt64](repeating: 0, count: feeds.positions.count)
    for (position, count) in entry.clock.enumerated() { clock[feeds.writers[position]] = count }
    guard self.number < clock.count, clock[self.number] == seq + 1 else {
      throw bad(seq, "has a clock that is not its own")
    }
    let path = KeyPath(entry.key[...], terminated: true)
    let trie = Trie(decoding: entry.trie, feeds, pathCount: path.count) { pointer in
      pointer.seq > 0 && pointer.seq < (pointer.writer == self.number ? seq : clock[pointer.writer])
    }
    guard let trie else { throw bad(seq, "has a trie that cannot be read") }
    return TrieNode(entry, path: path, trie: trie, writer: self.number, seq: seq, clock: clock)
  }

  /// The feeds as an entry numbers them.
  private func list(
    _ entry: StoredEntry, _ seq: UInt64, number: (PublicKey) -> Int?
  ) throws(HyperdbError) -> FeedList {
    if let list = lists[entry.inflate] { return list }
    guard entry.inflate <= seq else { throw bad(seq, "names its feeds in an entry to come") }
    let keys = entry.inflate == seq ? entry.feeds : try stored(entry.inflate).feeds
    var writers: [Int] = []
    for key in keys {
      guard let writer = number(key) else {
        throw bad(seq, "names feed \(key.hex), which its newest does not")
      }
      writers.append(writer)
    }
    let list = FeedList(seq: entry.inflate, keys: keys, writers: writers)
    keep(list)
    return list
  }

  func bad(_ seq: UInt64, _ what: String) -> HyperdbError {
    HyperdbError(.badEntry, "entry \(seq) of feed \(feed.key.hex) \(what)")
  }
}
