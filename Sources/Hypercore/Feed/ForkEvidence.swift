/// Evidence that a feed's owner signed two versions of it, as it is kept.
public struct ForkEvidence: Equatable, Sendable {
  public let key: PublicKey
  public let fork: Fork
  /// Blocks that both versions have in common, as far as could be told; they count.
  public let common: UInt64

  public init(key: PublicKey, fork: Fork, common: UInt64) {
    self.key = key
    self.fork = fork
    self.common = common
  }

  /// The key (32 bytes), the blocks in common (8 bytes, most significant first), ``Fork/encode()``.
  public var encoded: [UInt8] {
    key.bytes + (0..<8).map { UInt8(truncatingIfNeeded: common >> (56 - 8 * UInt64($0))) } + fork.encode()
  }

  /// - Returns: `nil` for anything that proves nothing: both signatures are verified, and the blocks in common end before the
  ///   tree nodes do that differ.
  public init?(decoding bytes: [UInt8]) {
    guard bytes.count > 40, let key = PublicKey(bytes.prefix(32)),
      let fork = Fork(decoding: Array(bytes.dropFirst(40)), key: key)
    else { return nil }
    let common = bytes[32..<40].reduce(0) { $0 << 8 | UInt64($1) }
    guard common <= FlatTree.rightSpan(fork.treeIndex) / 2 else { return nil }
    self.init(key: key, fork: fork, common: common)
  }
}
