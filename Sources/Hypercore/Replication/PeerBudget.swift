/// What one connection may have this side do and remember, over all its feeds.
///
/// Some messages of a few bytes are about millions of blocks. Each is paid for by the blocks that it makes this side look at,
/// out of an allowance that is larger than what any peer has reason to need, and is filled up slowly.
final class PeerBudget {
  private var blocks = WireLimits.workBlocks
  private var asOf: UInt64 = 0
  /// Bytes of memory for what the peer says it holds.
  private(set) var heldBytes = 0

  /// - Parameter now: milliseconds.
  func refill(now: UInt64) {
    guard now > asOf else { return }
    if asOf > 0 {
      let milliseconds = min(now - asOf, 1_000_000)
      blocks = min(WireLimits.workBlocks, blocks + milliseconds * WireLimits.workBlocksPerSecond / 1000)
    }
    asOf = now
  }

  /// Pays for looking at so many blocks.
  func spend(_ count: UInt64) throws(WireError) {
    guard count <= blocks else {
      throw WireError(.tooLarge, "messages about more blocks than a peer has reason to send")
    }
    blocks -= count
  }

  /// Notes that more or less memory is in use.
  func hold(_ bytes: Int, insteadOf before: Int) {
    heldBytes += bytes - before
  }
}
