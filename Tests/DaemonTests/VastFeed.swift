import Hypercore

/// A feed of as many blocks and bytes as can be, of which its owner made up all but the first and the last.
struct VastFeed {
  let key: PublicKey
  private let header = [10, 7] + Array("hyperdb".utf8)
  private let last: [UInt8] = [1, 2, 3]
  /// From the block up to the child of the one root.
  private let paths: [(top: Node, siblings: [Node])]
  private let signature: Signature

  init() {
    let pair = KeyPair()
    key = pair.publicKey
    let half = Limits.feedBytes / 2
    let paths = [
      Self.path(from: 0, header, size: half), Self.path(from: Limits.feedBlocks - 1, last, size: half),
    ]
    let (left, right) = (paths[0].top, paths[1].top)
    let root = Node(
      treeIndex: FlatTree.parent(left.treeIndex), hash: Crypto.parent(left, right), byteSize: Limits.feedBytes
    )
    signature = pair.sign(Crypto.tree([root]))
    self.paths = paths
  }

  /// Makes up siblings, the first of which has nearly all bytes. Their hash is any but zero, which on disk stands for none.
  private static func path(
    from index: UInt64, _ block: [UInt8], size: UInt64
  ) -> (top: Node, siblings: [Node]) {
    var top = Node(
      treeIndex: 2 * index, hash: block.withUnsafeBytes { Crypto.leaf($0) }, byteSize: UInt64(block.count))
    var siblings: [Node] = []
    while FlatTree.rightSpan(top.treeIndex) - FlatTree.leftSpan(top.treeIndex) < Limits.feedBlocks - 2 {
      let sibling = Node(
        treeIndex: FlatTree.sibling(top.treeIndex), hash: top.hash,
        byteSize: siblings.isEmpty ? size - top.byteSize : 0)
      top = Node(
        treeIndex: FlatTree.parent(top.treeIndex), hash: Crypto.parent(top, sibling),
        byteSize: top.byteSize + sibling.byteSize)
      siblings.append(sibling)
    }
    return (top, siblings)
  }

  /// The first block, or the last, with all of its proof.
  func data(_ index: UInt64) -> Message.Data {
    let (mine, other) = index == 0 ? (paths[0], paths[1]) : (paths[1], paths[0])
    return Message.Data(
      index: index, value: index == 0 ? header : last,
      proof: Proof(nodes: mine.siblings + [other.top], signature: signature))
  }
}
