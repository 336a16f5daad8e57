/// Bounds on what a feed can be, whoever made it.
public enum Limits {
  /// Blocks in a feed: 2^28, one a second for eight years. A feed of which one block is here takes files as long as those of
  /// a whole one, a bitfield of 117 MB among them, which is read at every start; and they are to fit a file system.
  public static let feedBlocks: UInt64 = 1 << 28
  /// Bytes in a feed: 2^41; a file of ext4 has at most 2^44, of F2FS nearly 2^42.
  public static let feedBytes: UInt64 = 1 << 41
  /// Bytes in one block: what fits a wire message of 8 MiB together with its proof.
  public static let blockBytes = (8 << 20) - (64 << 10)
  /// Signatures tried, newest first, when looking for the one that a feed's length can be taken from, and places of such looked at.
  static let signatureSearch = 4096
  static let signatureScan: UInt64 = 1 << 22
  /// Places of the signatures file read at once when looking for signatures.
  static let signaturesAtOnce: UInt64 = 1024
  /// Older signatures tried for blocks that only these prove.
  static let olderSignatures = 1 << 16
  /// Blocks behind the first gap looked at, after an unclean stop, for ones that are on disk but not in the bitfield.
  static let recoveryScan: UInt64 = 1 << 20
  /// Bytes on disk read for such a block of a clone in vain: where a block should be, there may be a hole of any size.
  static let recoveryWaste = 16 << 20
  /// Blocks on disk, after an unclean stop, in a row without a signature, of which a clone remembers what they prove.
  static let recoveryBatch = 1 << 18
}
