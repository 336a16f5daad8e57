/// One feed, and every peer that shares it.
final class SharedFeed<Storage: RandomAccessStorage> {
  let feed: Feed<Storage>
  /// Ask for blocks that are missing.
  var downloads: Bool
  var peers: [RemoteFeed] = []
  /// Blocks asked of one peer or another.
  let reserved = SparseBitfield()
  /// Blocks that are new here and that peers were not told of.
  var unannounced: [Range<UInt64>] = []
  /// Mean size of the blocks received of late, in bytes.
  var meanBlockBytes = 1024
  /// It was said that all that peers hold is here.
  var saidSynced = false
  /// Blocks of the feed that are of use: others are neither asked for nor offered.
  var limit = UInt64.max

  /// Ids of nodes that sent what does not verify: they may have another feed that the same owner signed.
  private var suspects: Set<[UInt8]> = []

  init(_ feed: Feed<Storage>, downloads: Bool) {
    self.feed = feed
    self.downloads = downloads
  }

  /// Most blocks to ask of one peer at a time.
  var requestDepth: Int {
    min(WireLimits.openRequests, max(8, WireLimits.openRequestBytes / max(meanBlockBytes, 1)))
  }

  /// How many of the blocks that the feed has here are of use.
  var length: UInt64 { min(feed.length, limit) }

  /// One more than the highest block of use that this side or a peer holds.
  var knownLength: UInt64 {
    min(peers.reduce(feed.length) { max($0, $1.length) }, limit)
  }

  /// Everything that is known of is here.
  var isComplete: Bool {
    let known = knownLength
    guard feed.length >= known else { return false }
    return feed.heldBlocks >= feed.length || limit < feed.length && feed.firstMissing(in: 0..<known) == nil
  }

  func suspect(_ node: [UInt8]) {
    if suspects.count >= WireLimits.suspects { suspects = [] }
    suspects.insert(node)
  }

  /// Whether a node is to be asked for proof first; once for each time that it was suspected.
  func takeSuspicion(of node: [UInt8]) -> Bool { suspects.remove(node) != nil }

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
    var index = peer.cursor
    let end = min(peer.length, limit)
    while index < end {
      guard let missing = feed.firstMissing(in: index..<end) else { break }
      guard let free = reserved.first(false, in: missing..<end) else { break }
      if free != missing {
        index = free
        continue
      }
      guard let offered = peer.held.first(true, in: free..<end) else { break }
      if offered == free {
        peer.cursor = free + 1
        return free
      }
      index = offered
    }
    peer.cursor = max(peer.cursor, end)
    return nil
  }

  /// Gives up on what was asked of a peer in a range of blocks that it holds no longer.
  ///
  /// - Returns: the peers who can be asked instead.
  func release(_ peer: RemoteFeed, from start: UInt64, count: UInt64) -> [RemoteFeed] {
    let lost = peer.requested.filter { $0 >= start && $0 - start < count }
    guard let lowest = lost.min() else { return [] }
    peer.requested.subtract(lost)
    for index in lost { reserved.set(index, to: false) }
    for other in peers { other.cursor = min(other.cursor, lowest) }
    return peers
  }

  /// Gives up on what was asked of a peer that is gone, so that it is asked of another.
  func release(_ peer: RemoteFeed) {
    for index in peer.requested { reserved.set(index, to: false) }
    let lowest = peer.requested.min() ?? .max
    peer.requested = []
    for other in peers { other.cursor = min(other.cursor, lowest) }
  }
}
