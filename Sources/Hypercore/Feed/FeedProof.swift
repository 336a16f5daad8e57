/// What shows that a block belongs to a feed.
public struct Proof: Equatable, Sendable {
  /// For a proof of a hash first that node; then siblings from the leaf upwards, then roots from left to right.
  public var nodes: [Node]
  /// The owner's signature over the roots, where the nodes go up to them.
  public var signature: Signature?

  public init(nodes: [Node], signature: Signature?) {
    self.nodes = nodes
    self.signature = signature
  }
}

/// Proofs for peers: only the nodes that the peer, by the digest it sent, does not have.
///
/// Source: hypercore 6.26.0 `lib/tree-index.js`; DEP-0010, "Request", field `nodes`.
extension Feed {
  /// Which nodes on the way from block `index` up to the roots are held here: bit 0 says that a parent is,
  /// and ends the row; bit n that the sibling at depth n - 1 is. `1` where the leaf itself is held.
  public func digest(of index: UInt64) -> UInt64 {
    let leaf = 2 * index
    if bits.hasNode(leaf) { return 1 }
    let end = max(FlatTree.sibling(leaf) + 2, bits.treeEnd)
    var digest: UInt64 = 0
    var bit: UInt64 = 2
    var next = FlatTree.sibling(leaf)
    var parent = FlatTree.parent(next)
    while FlatTree.rightSpan(next) < end || FlatTree.leftSpan(parent) > 0 {
      if bits.hasNode(next) { digest |= bit }
      if bits.hasNode(parent) {
        digest += 2 * bit
        if digest & 1 == 0 { digest += 1 }
        return digest + 1 == 4 * bit ? 1 : digest
      }
      next = FlatTree.sibling(parent)
      parent = FlatTree.parent(next)
      bit *= 2
    }
    return digest
  }

  /// What a peer needs to verify block `index`.
  ///
  /// - Parameters:
  ///   - digest: what the peer said it has, as ``digest(of:)`` gives it.
  ///   - hashOnly: prove the block's hash, without the block.
  ///   - remoteTree: what is known of the peer's tree nodes; grows by what the digest says.
  ///   - end: show nothing of blocks from there on. All before are here, and signed as a feed of that length.
  /// - Throws: ``FeedError`` with code `.missing` where the leaf is not held.
  public func proof(
    of index: UInt64, digest: UInt64, hashOnly: Bool, remoteTree: SparseBitfield, below end: UInt64 = .max
  ) throws(FeedError) -> Proof {
    let leaf = 2 * index
    guard index < min(Limits.feedBlocks, end), bits.hasNode(leaf) else {
      throw FeedError(.missing, "no proof for block \(index) of feed \(key.hex): it is not held here")
    }
    var wanted: [UInt64] = hashOnly ? [leaf] : []
    var signedLength: UInt64 = 0
    if digest != 1 {
      noteDigest(digest, of: leaf, in: remoteTree)
      var next = leaf
      while !remoteTree[next] {
        let sibling = FlatTree.sibling(next)
        guard bits.hasNode(sibling), FlatTree.rightSpan(sibling) / 2 < end else {
          // The top of what is held: the peer verifies from here by the roots and their signature.
          signedLength = min(bits.length(above: next), end)
          for root in FlatTree.roots(length: signedLength) where root != next && !remoteTree[root] {
            wanted.append(root)
          }
          break
        }
        if !remoteTree[sibling] { wanted.append(sibling) }
        next = FlatTree.parent(next)
      }
    }
    var nodes: [Node] = []
    nodes.reserveCapacity(wanted.count)
    for treeIndex in wanted {
      guard let node = try pages.node(treeIndex) else { throw damaged("tree node \(treeIndex) is missing") }
      nodes.append(node)
    }
    guard signedLength > 0 else { return Proof(nodes: nodes, signature: nil) }
    guard let signature = try signature(at: signedLength - 1) else {
      throw FeedError(.missing, "feed \(key.hex) has no signature at block \(signedLength - 1)")
    }
    return Proof(nodes: nodes, signature: signature)
  }

  private func noteDigest(_ digest: UInt64, of leaf: UInt64, in remoteTree: SparseBitfield) {
    var digest = digest
    let hasRoot = digest & 1 == 1
    digest >>= 1
    var next = leaf
    while digest > 0, FlatTree.depth(next) < 41 {
      if digest == 1 && hasRoot {
        if bits.hasNode(next) { remoteTree.setNode(next) }
        // Who has a root has the ones before it.
        let sibling = FlatTree.sibling(next)
        let right = sibling < next ? sibling : next
        for root in FlatTree.roots(length: FlatTree.rightSpan(right) / 2 + 1) where bits.hasNode(root) {
          remoteTree.setNode(root)
        }
        return
      }
      let sibling = FlatTree.sibling(next)
      if digest & 1 == 1, bits.hasNode(sibling) { remoteTree.setNode(sibling) }
      next = FlatTree.parent(next)
      digest >>= 1
    }
  }

  /// Verifies a block, or with `nil` only its hash, against what is trusted, and then stores it.
  ///
  /// Nothing is stored or changed where it does not verify. A signature over more blocks than were known
  /// makes the feed longer.
  ///
  /// - Throws: ``FeedError`` with code `.badProof` or `.badSignature` for what a peer made up, `.tooLarge` for
  ///   what is over ``Limits``, `.noRoom`, `.storage` for a disk that fails.
  public func put(_ block: [UInt8]?, at index: UInt64, proof: Proof) throws(FeedError) {
    try checkUsable()
    guard index < Limits.feedBlocks, (block?.count ?? 0) <= Limits.blockBytes else {
      throw FeedError(.tooLarge, "block \(index) of feed \(key.hex)")
    }
    let verified = try verify(block, at: index, proof)
    do throws(FeedError) {
      for node in verified.nodes {
        try pages.set(node)
        bits.setNode(node.treeIndex)
      }
      if let (signature, length) = verified.signed { try store(signature, at: length - 1) }
      if let roots = verified.roots { adopt(roots) }
      markChanged()
      if let block, !bits.has(index) {
        let offset = try byteOffset(of: index)
        // Of two versions that an owner signed, parts can be here whose sizes add up to more than either has.
        if hasRoom != nil, offset + UInt64(block.count) > byteLength { throw noRoom(length, offset) }
        try block.withBytes { (bytes) throws(FeedError) in try dataWriter.write(bytes, at: offset) }
        bits.set(index)
      }
    } catch {
      throw error.code == .noRoom ? error : fail(error)
    }
  }

  /// What a proof has shown.
  private struct Verified {
    /// Nodes to keep.
    var nodes: [Node] = []
    /// A signature that was checked, and over how many blocks.
    var signed: (Signature, length: UInt64)?
    /// Roots of a longer feed than was known.
    var roots: MerkleRoots?
  }

  private func verify(_ block: [UInt8]?, at index: UInt64, _ proof: Proof) throws(FeedError) -> Verified {
    var remote = proof.nodes[...]
    var top: Node
    if let block {
      let hash = block.withBytes { Crypto.leaf($0) }
      top = Node(treeIndex: 2 * index, hash: hash, byteSize: UInt64(block.count))
    } else {
      guard let leaf = remote.popFirst(), leaf.treeIndex == 2 * index, !leaf.isNone else {
        throw badProof(index)
      }
      top = leaf
    }
    var verified = Verified()
    while true {
      verified.nodes.append(top)
      if bits.hasNode(top.treeIndex) {
        guard let trusted = try pages.node(top.treeIndex) else {
          throw damaged("tree node \(top.treeIndex) is missing")
        }
        guard trusted == top else { throw badProof(index) }
        return verified
      }
      let siblingIndex = FlatTree.sibling(top.treeIndex)
      let sibling: Node
      if let next = remote.first, next.treeIndex == siblingIndex {
        sibling = try agreed(next, index)
        remote.removeFirst()
        verified.nodes.append(next)
      } else if bits.hasNode(siblingIndex), let held = try pages.node(siblingIndex) {
        sibling = held
      } else {
        try verifyRoots(top, remote, index, proof.signature, &verified)
        return verified
      }
      guard sibling.byteSize <= Limits.feedBytes, top.byteSize <= Limits.feedBytes - sibling.byteSize else {
        throw FeedError(.tooLarge, "the proof of block \(index) of feed \(key.hex) has an impossible size")
      }
      top = Node(
        treeIndex: FlatTree.parent(top.treeIndex), hash: Crypto.parent(top, sibling),
        byteSize: top.byteSize + sibling.byteSize)
    }
  }

  private func verifyRoots(
    _ top: Node, _ remote: ArraySlice<Node>, _ index: UInt64, _ signature: Signature?,
    _ verified: inout Verified
  ) throws(FeedError) {
    guard let signature else { throw badProof(index) }
    let last = max(
      FlatTree.rightSpan(top.treeIndex), remote.last.map { FlatTree.rightSpan($0.treeIndex) } ?? 0)
    let length = last / 2 + 1
    guard length <= Limits.feedBlocks else {
      throw FeedError(.tooLarge, "feed \(key.hex) of \(length) blocks")
    }
    let rootIndexes = FlatTree.roots(length: length)
    // The signature says nothing about a node that is not among the roots it covers.
    guard rootIndexes.contains(top.treeIndex) else { throw badProof(index) }
    var remote = remote
    var roots: [Node] = []
    var size: UInt64 = 0
    for treeIndex in rootIndexes {
      let root: Node
      if treeIndex == top.treeIndex {
        root = top
      } else if let next = remote.first, next.treeIndex == treeIndex {
        root = try agreed(next, index)
        remote.removeFirst()
        verified.nodes.append(next)
      } else if bits.hasNode(treeIndex), let held = try pages.node(treeIndex) {
        root = held
      } else {
        throw badProof(index)
      }
      guard root.byteSize <= Limits.feedBytes - size else {
        throw FeedError(.tooLarge, "feed \(key.hex) of over \(Limits.feedBytes) bytes")
      }
      size += root.byteSize
      roots.append(root)
    }
    guard Crypto.verify(signature, of: Crypto.tree(roots), by: key) else {
      throw FeedError(
        .badSignature, "the signature over \(length) blocks, sent with block \(index), is not by \(key.hex)")
    }
    if let hasRoom, !hasRoom(length, size) { throw noRoom(length, size) }
    verified.signed = (signature, length)
    if length > self.length { verified.roots = MerkleRoots(roots) }
  }

  /// A node as a proof shows it. One that is held may not be shown otherwise, whatever the owner signed: two versions of a feed
  /// would be mixed.
  private func agreed(_ node: Node, _ index: UInt64) throws(FeedError) -> Node {
    guard !node.isNone else { throw badProof(index) }
    guard bits.hasNode(node.treeIndex), let held = try pages.node(node.treeIndex), held != node else {
      return node
    }
    throw badProof(index)
  }

  private func noRoom(_ blocks: UInt64, _ bytes: UInt64) -> FeedError {
    FeedError(.noRoom, "there is no room for feed \(key.hex), of \(blocks) blocks and \(bytes) bytes")
  }

  private func badProof(_ index: UInt64) -> FeedError {
    FeedError(.badProof, "the proof of block \(index) does not lead to the roots of feed \(key.hex)")
  }
}

extension SparseBitfield {
  /// Marks a tree node, and every parent of which both children now are.
  func setNode(_ treeIndex: UInt64) {
    var treeIndex = treeIndex
    while set(treeIndex), self[FlatTree.sibling(treeIndex)] {
      treeIndex = FlatTree.parent(treeIndex)
    }
  }
}

extension FeedBitfield {
  /// One more than the highest tree index that has room.
  var treeEnd: UInt64 { pages.end * 2 * Self.blocksPerPage }

  /// Number of blocks that the tree nodes held say the feed has.
  var length: UInt64 {
    var top: UInt64 = 0
    var next: UInt64 = 0
    while FlatTree.rightSpan(next) < treeEnd {
      next = FlatTree.parent(next)
      if hasNode(next) { top = next }
    }
    return hasNode(top) ? length(above: top) : 0
  }

  /// Number of blocks under the roots of the tree that `treeIndex`, a held node, is part of.
  func length(above treeIndex: UInt64) -> UInt64 {
    var top = treeIndex
    while hasNode(FlatTree.parent(top)), hasNode(FlatTree.sibling(top)) {
      top = FlatTree.parent(top)
    }
    // To the right, ever smaller roots may follow.
    var depth = FlatTree.depth(top)
    while depth > 0 {
      let neighbour = FlatTree.index(depth: depth, offset: FlatTree.offset(top) + 1)
      depth -= 1
      top = FlatTree.index(depth: depth, offset: 2 * FlatTree.offset(neighbour))
      while depth > 0, !hasNode(top) {
        depth -= 1
        top = FlatTree.index(depth: depth, offset: 2 * FlatTree.offset(top))
      }
    }
    return hasNode(top) ? top / 2 + 1 : top / 2
  }
}
