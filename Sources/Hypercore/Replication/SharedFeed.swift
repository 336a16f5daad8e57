/// One feed, and every peer that shares it.
final class SharedFeed<Storage: RandomAccessStorage> {
  let feed: Feed<Storage>
  /// Ask for blocks that are missing.
  var downloads: Bool
  /// Where it cannot be kept it is left out, and connections go on.
  let mayFail: Bool
  var peers: [RemoteFeed] = []
  /// Blocks asked of one peer or another: as many as there are peers times ``requestDepth``, at most.
  var reserved: Set<UInt64> = []
  /// A peer gave up blocks that it was asked for: others are to be asked.
  var hasReleased = false
  /// Proofs show nothing of blocks from here on: this node has appended them, and they are not durable yet. What is shown of them and
  /// lost would be a fork.
  var proofEnd = UInt64.max
  /// Blocks that are new here and that peers were not told of.
  var unannounced: [Range<UInt64>] = []
  /// Mean size of the blocks received of late, in bytes.
  var meanBlockBytes = 1024
  /// It was said that all that peers hold is here.
  var saidSynced = false
  /// Somebody has said anew what is there, and it was not looked at yet whether all of it is here.
  var hasNewClaims = false
  /// Each peer is to show, by a signature, how long a feed it knows.
  var asksForLength = false
  /// The longest that a peer has shown the feed to be, by a signature that was not stored.
  var shownLength: UInt64 = 0
  /// Blocks of the feed that are of use: others are neither asked for nor offered.
  var limit = UInt64.max
  /// See ``WireLimits/fetchWindow``.
  private let fetchWindow: UInt64
  /// All blocks before this one are here.
  private var firstGap: UInt64 = 0

  /// Ids of nodes that sent what does not verify: they may have another feed that the same owner signed. The latest is last.
  private var suspects: [[UInt8]] = []

  init(
    _ feed: Feed<Storage>, downloads: Bool, mayFail: Bool = false,
    fetchWindow: UInt64 = WireLimits.fetchWindow
  ) {
    self.feed = feed
    self.downloads = downloads
    self.mayFail = mayFail
    // Of its own feed a writer wants all that it has signed, wherever that is.
    self.fetchWindow = feed.isWritable ? Limits.feedBlocks : fetchWindow
  }

  /// Most blocks to ask of one peer at a time.
  var requestDepth: Int {
    min(WireLimits.openRequests, max(8, WireLimits.openRequestBytes / max(meanBlockBytes, 1)))
  }

  /// How many of the blocks that the feed has here are of use.
  var length: UInt64 { min(feed.length, limit) }

  /// Blocks from here on are not asked for now. What comes behind the first gap counts for nothing before that is closed, and an
  /// owner could have strewn a few blocks over all of a feed: each takes a page of every bitfield, here and at others that are told.
  private var fetchEnd: UInt64 {
    if firstGap < feed.length, feed.has(firstGap) {
      let before = firstGap + fetchWindow
      firstGap = feed.firstMissing(in: firstGap..<feed.length) ?? feed.length
      // Who was asked for all up to there may have more.
      if peers.contains(where: { $0.cursor >= before && $0.length > before }) { hasReleased = true }
    }
    return min(limit, firstGap + fetchWindow)
  }

  /// One more than the highest block of use that this side holds, or a peer of what is asked for now.
  var knownLength: UInt64 {
    min(max(feed.length, min(peers.reduce(0) { max($0, $1.length) }, fetchEnd)), limit)
  }

  /// Every block of use is here that the owner is known to have signed.
  var isWhole: Bool {
    guard min(shownLength, limit) <= feed.length else { return false }
    return feed.heldBlocks >= feed.length || feed.firstMissing(in: 0..<length) == nil
  }

  /// Everything is here that a peer says it has and that is asked for now. Where a signature tells of more, one has to have said
  /// what it has; what nobody has is not waited for.
  var isComplete: Bool {
    for peer in peers where !hasAll(of: peer) { return false }
    return peers.contains { $0.isAnswered } || isWhole
  }

  /// Whether all is here that a peer says it has, and that is asked for now.
  func hasAll(of peer: RemoteFeed) -> Bool {
    var work: UInt64 = 0
    return firstMissing(heldBy: peer, work: &work) == nil
  }

  /// Whether a peer has said what it has, and has all that is here, of use, and not far behind a gap: there it asks for none either.
  func isHeld(by peer: RemoteFeed) -> Bool {
    guard !asksForLength || peer.hasShownLength || peer.length == 0 else { return false }
    return peer.isAnswered && peer.held.firstUnset(in: 0..<min(length, fetchEnd), of: feed.bits) == nil
  }

  /// Takes note that a peer has said anew which of some blocks it has.
  ///
  /// - Returns: what it took to find the first that is not here, for the peer to pay.
  func noteClaims(of peer: RemoteFeed, about range: Range<UInt64>) -> UInt64 {
    var work: UInt64 = 0
    let again = range.clamped(to: 0..<peer.allFetchedBelow)
    if let missing = peer.held.first(in: again, notIn: feed.bits, work: &work) {
      peer.allFetchedBelow = missing
    }
    // The first that was missing may be one that it has taken back.
    _ = firstMissing(heldBy: peer, work: &work)
    return work
  }

  /// The first block to be asked for that a peer says it has and that is not here. Where that is, is kept: this is asked with each
  /// block that comes.
  private func firstMissing(heldBy peer: RemoteFeed, work: inout UInt64) -> UInt64? {
    let end = min(peer.length, fetchEnd)
    guard peer.allFetchedBelow < end else { return nil }
    let found = peer.held.first(in: peer.allFetchedBelow..<end, notIn: feed.bits, work: &work)
    peer.allFetchedBelow = found ?? end
    return found
  }

  func suspect(_ node: [UInt8]) {
    suspects.removeAll { $0 == node }
    if suspects.count >= WireLimits.suspects { suspects.removeFirst() }
    suspects.append(node)
  }

  /// Whether a node is to be asked for proof first; once for each time that it was suspected.
  func takeSuspicion(of node: [UInt8]) -> Bool {
    guard let place = suspects.firstIndex(of: node) else { return false }
    suspects.remove(at: place)
    return true
  }

  /// Notes the blocks of a range that are here as new.
  func noteHeld(_ range: Range<UInt64>) {
    var index = range.lowerBound
    while index < range.upperBound, let first = feed.firstHeld(in: index..<range.upperBound) {
      index = feed.firstMissing(in: first..<range.upperBound) ?? range.upperBound
      noteNew(first..<index)
    }
  }

  func noteNew(_ range: Range<UInt64>) {
    if let last = unannounced.last, last.upperBound == range.lowerBound {
      unannounced[unannounced.count - 1] = last.lowerBound..<range.upperBound
    } else {
      unannounced.append(range)
    }
  }

  /// Whether peers may know of a block: it is here, and durable as far as the caller said.
  func offers(_ index: UInt64) -> Bool {
    index < limit && feed.has(index) && !unannounced.contains { $0.contains(index) }
  }

  /// One bit for each block that is offered, as far as the feed goes.
  func offered(start: UInt64, length: UInt64) -> [UInt8] {
    guard start < self.length else { return [] }
    let end = min(start + length, (self.length + 7) & ~7)
    var bits = feed.heldBits(start: start, length: end - start)
    if self.length < end { hide(self.length..<end) }
    for range in unannounced { hide(range.clamped(to: start..<end)) }
    return bits

    func hide(_ range: Range<UInt64>) {
      for index in range { bits[Int(index - start) / 8] &= ~(128 >> UInt8(index & 7)) }
    }
  }

  /// The next block to ask `peer` for: the first that it holds and that is neither here nor asked for.
  func nextToRequest(from peer: RemoteFeed) -> UInt64? {
    let index = firstMissing(heldBy: peer, from: peer.cursor) {
      // Of those that were asked of several, one may have given it up.
      !reserved.contains($0) && !peer.requested.contains($0)
    }
    peer.cursor = index.map { $0 + 1 } ?? max(peer.cursor, min(peer.length, fetchEnd))
    return index
  }

  /// Blocks to ask a peer for that has nothing to do, whoever else was asked for them before.
  func secondRequests(of peer: RemoteFeed) -> [UInt64] {
    guard peer.requested.isEmpty, !reserved.isEmpty else { return [] }
    var found: [UInt64] = []
    while found.count < WireLimits.secondRequests,
      let index = firstMissing(heldBy: peer, from: found.last.map({ $0 + 1 }) ?? 0, where: { _ in true })
    {
      found.append(index)
    }
    return found
  }

  private func firstMissing(
    heldBy peer: RemoteFeed, from start: UInt64, where isWanted: (UInt64) -> Bool
  ) -> UInt64? {
    let end = min(peer.length, fetchEnd)
    var index = start
    var work: UInt64 = 0
    while index < end, let missing = peer.held.first(in: index..<end, notIn: feed.bits, work: &work) {
      if isWanted(missing) { return missing }
      index = missing + 1
    }
    return nil
  }

  /// Gives up on what was asked of a peer in a range of blocks that it holds no longer.
  ///
  /// - Returns: how many those are.
  func release(_ peer: RemoteFeed, from start: UInt64, count: UInt64) -> Int {
    let lost = peer.requested.filter { $0 >= start && $0 - start < count }
    release(lost)
    peer.requested.subtract(lost)
    return lost.count
  }

  /// Gives up on what was asked of a peer that is gone, so that it is asked of another.
  func release(_ peer: RemoteFeed) {
    release(peer.requested)
    peer.requested = []
  }

  private func release(_ blocks: Set<UInt64>) {
    guard let lowest = blocks.min() else { return }
    reserved.subtract(blocks)
    offerAgain(from: lowest)
  }

  /// Has all peers looked at again for blocks from here on.
  func offerAgain(from index: UInt64) {
    for peer in peers { peer.cursor = min(peer.cursor, index) }
    hasReleased = true
  }
}
