/// Bounds on what other devices have a page hold: all of it is in memory, where a gap takes as much room as what is there.
enum WebLimits {
  /// Blocks in another device's feed: 2^19, one every twenty minutes for twenty years.
  static let feedBlocks: UInt64 = 1 << 19
  /// Bytes in all blocks of another device's feed.
  static let feedBytes: UInt64 = 128 << 20
  /// Bytes of all such feeds, their trees and signatures among them: WebAssembly has four gigabytes, and a file that grows is
  /// there twice for a moment.
  static let othersBytes: UInt64 = 512 << 20

  /// Bytes that a feed takes: two tree nodes and a signature for each block.
  static func memory(blocks: UInt64, bytes: UInt64) -> UInt64 { bytes + blocks * (2 * 40 + 64) }
}
