/// Two trees over one feed that its owner signed and that contradict each other: a writer that was copied or went back in
/// time, or means harm. It is evidence for anybody who knows the feed's key.
public struct Fork: Equatable, Sendable {
  /// As this node has it.
  public let own: SignedPlace
  public let other: SignedPlace
  /// A tree node that both show, and not alike.
  public let treeIndex: UInt64

  /// - Returns: `nil` where the two do not contradict each other.
  public init?(own: SignedPlace, other: SignedPlace) {
    guard let lowest = other.lowestDifference(from: { own.nodes[$0] }) else { return nil }
    self.own = own
    self.other = other
    treeIndex = lowest
  }

  // MARK: - As it is stored

  private static var magic: [UInt8] { Array("hypha fork 1\n".utf8) }

  /// `hypha fork 1`, newline, then for each of the two its index (8 bytes, most significant first), the number of its nodes (1 byte), each
  /// node's tree index (8), hash (32) and byte size (8), and the signature (64).
  public func encode() -> [UInt8] {
    var bytes = Self.magic
    func append(_ number: UInt64) {
      for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: number >> (56 - 8 * UInt64(shift)))) }
    }
    for place in [own, other] {
      append(place.index)
      bytes.append(UInt8(place.path.count))
      for node in place.path {
        append(node.treeIndex)
        bytes.append(contentsOf: node.hash.bytes)
        append(node.byteSize)
      }
      bytes.append(contentsOf: place.signature.bytes)
    }
    return bytes
  }

  /// - Returns: `nil` for anything but evidence about the feed of `key`.
  public init?(decoding bytes: [UInt8], key: PublicKey) {
    guard bytes.starts(with: Self.magic) else { return nil }
    var rest = bytes[Self.magic.count...]
    func take(_ count: Int) -> ArraySlice<UInt8>? {
      guard rest.count >= count else { return nil }
      defer { rest = rest.dropFirst(count) }
      return rest.prefix(count)
    }
    func number() -> UInt64? {
      guard let taken = take(8) else { return nil }
      var number: UInt64 = 0
      for byte in taken { number = number << 8 | UInt64(byte) }
      return number
    }
    func place() -> SignedPlace? {
      guard let index = number(), let count = take(1)?.first else { return nil }
      var path: [Node] = []
      for _ in 0..<count {
        guard let treeIndex = number(), let taken = take(32), let hash = Hash(taken), let size = number()
        else {
          return nil
        }
        path.append(Node(treeIndex: treeIndex, hash: hash, byteSize: size))
      }
      guard let taken = take(64), let signature = Signature(taken) else { return nil }
      return SignedPlace(index: index, path: path, signature: signature, key: key)
    }
    guard let own = place(), let other = place(), rest.isEmpty else { return nil }
    self.init(own: own, other: other)
  }
}

extension SignedPlace {
  /// The lowest tree node that another tree has, and not alike: it says most about where the two part.
  ///
  /// - Parameter node: of the other tree; `nil` where that shows none.
  fileprivate func lowestDifference<Failure>(
    from node: (_ treeIndex: UInt64) throws(Failure) -> Node?
  ) throws(Failure) -> UInt64? {
    var lowest: UInt64?
    for (treeIndex, shown) in nodes {
      guard let other = try node(treeIndex), other != shown else { continue }
      if let found = lowest, (FlatTree.depth(found), found) < (FlatTree.depth(treeIndex), treeIndex) {
        continue
      }
      lowest = treeIndex
    }
    return lowest
  }
}

extension Feed {
  /// What contradicts this feed in a place that its owner signed, too.
  ///
  /// - Parameter place: as a peer proved it; verified by ``SignedPlace/init(index:path:signature:key:)`` with this feed's key.
  /// - Returns: `nil` where it agrees with what is held here, or says nothing about it.
  public func fork(with place: SignedPlace) throws(FeedError) -> Fork? {
    let lowest = try place.lowestDifference { (treeIndex) throws(FeedError) in
      bits.hasNode(treeIndex) ? try pages.node(treeIndex) : nil
    }
    guard let lowest else { return nil }
    // The node is on the way of every block below it, a sibling on that of those below its sibling, a root shown with any block.
    var ranges: [Range<UInt64>] = []
    for treeIndex in [lowest, FlatTree.sibling(lowest)] {
      ranges.append(FlatTree.leftSpan(treeIndex) / 2..<FlatTree.rightSpan(treeIndex) / 2 + 1)
    }
    ranges.append(0..<length)
    for blocks in ranges {
      guard let held = firstHeld(in: blocks), let leaf = try pages.node(2 * held) else { continue }
      let proof: Proof
      do throws(FeedError) {
        proof = try self.proof(of: held, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      } catch {
        guard error.code == .missing else { throw error }
        continue
      }
      guard let signature = proof.signature,
        let own = SignedPlace(index: held, path: [leaf] + proof.nodes, signature: signature, key: key)
      else { continue }
      if let fork = Fork(own: own, other: place) { return fork }
    }
    return nil
  }

  /// Blocks, from the first on, that this feed has in common with a tree of which a place is shown: as many as that shows.
  ///
  /// - Returns: their number, and whether the next block is shown to differ.
  public func common(with place: SignedPlace) throws(FeedError) -> (length: UInt64, isExact: Bool) {
    var length: UInt64 = 0
    scan: while length < min(place.length, self.length) {
      // The largest node that begins here and is the same in both.
      var depth: UInt64 = length == 0 ? 40 : UInt64(length.trailingZeroBitCount)
      while true {
        let treeIndex = FlatTree.index(depth: depth, offset: length >> depth)
        if bits.hasNode(treeIndex), let theirs = place.nodes[treeIndex] {
          let own = try pages.node(treeIndex)
          if own == theirs {
            length = FlatTree.rightSpan(treeIndex) / 2 + 1
            continue scan
          }
          if depth == 0 { return (length, true) }
        }
        if depth == 0 { return (length, false) }
        depth -= 1
      }
    }
    return (length, false)
  }
}
