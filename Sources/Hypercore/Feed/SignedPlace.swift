/// A block's place in a tree that a feed's owner signed, shown without anything that was known before.
public struct SignedPlace: Equatable, Sendable {
  public let index: UInt64
  /// Its leaf, then siblings from the leaf upwards, then the other roots from left to right.
  public let path: [Node]
  /// Over the roots.
  public let signature: Signature
  /// Blocks that the signature covers.
  public let length: UInt64
  /// Every node that is shown, parents too.
  let nodes: [UInt64: Node]

  /// - Returns: `nil` where the path does not lead to roots that `key` signed.
  public init?(index: UInt64, path: [Node], signature: Signature, key: PublicKey) {
    guard index < Limits.feedBlocks, path.count <= Self.mostNodes, !path.contains(where: { $0.isNone }),
      var top = path.first,
      top.treeIndex == 2 * index,
      top.byteSize <= Limits.feedBytes
    else { return nil }
    var nodes = [top.treeIndex: top]
    var rest = path[1...]
    while let next = rest.first, next.treeIndex == FlatTree.sibling(top.treeIndex) {
      rest.removeFirst()
      guard next.byteSize <= Limits.feedBytes - top.byteSize else { return nil }
      nodes[next.treeIndex] = next
      top = Node(
        treeIndex: FlatTree.parent(top.treeIndex), hash: Crypto.parent(top, next),
        byteSize: top.byteSize + next.byteSize)
      nodes[top.treeIndex] = top
    }
    var end = FlatTree.rightSpan(top.treeIndex)
    if let last = rest.last { end = max(end, FlatTree.rightSpan(last.treeIndex)) }
    guard end / 2 < Limits.feedBlocks else { return nil }
    length = end / 2 + 1
    var roots: [Node] = []
    var size: UInt64 = 0
    for treeIndex in FlatTree.roots(length: length) {
      let root: Node
      if treeIndex == top.treeIndex {
        root = top
      } else if let next = rest.popFirst(), next.treeIndex == treeIndex {
        root = next
      } else {
        return nil
      }
      guard root.byteSize <= Limits.feedBytes - size else { return nil }
      size += root.byteSize
      nodes[treeIndex] = root
      roots.append(root)
    }
    // The signature says nothing about a node that is not among the roots it covers.
    guard rest.isEmpty, roots.contains(where: { $0.treeIndex == top.treeIndex }),
      Crypto.verify(signature, of: Crypto.tree(roots), by: key)
    else { return nil }
    self.index = index
    self.path = path
    self.signature = signature
    self.nodes = nodes
  }

  /// A leaf, its siblings and the other roots, of the longest feed.
  static let mostNodes = 1 + 28 + 28
}
