/// Bounds on what a feed can be, whoever made it.
public enum Limits {
  /// Blocks in a feed: 2^40.
  public static let feedBlocks: UInt64 = 1 << 40
  /// Bytes in a feed: 2^53, the largest size that the reference implementation represents exactly.
  public static let feedBytes: UInt64 = 1 << 53
  /// Bytes in one block: what fits a wire message of 8 MiB together with its proof.
  public static let blockBytes = (8 << 20) - (64 << 10)
  /// Signatures tried, newest first, when looking for the one that a feed's length can be taken from.
  static let signatureSearch: UInt64 = 4096
  /// Blocks looked at, after an unclean stop, for ones that are on disk but not in the bitfield.
  static let recoveryScan: UInt64 = 1 << 20
}
