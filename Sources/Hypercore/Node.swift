/// A node of a feed's merkle tree.
public struct Node: Equatable, Sendable {
  /// Flat-tree number: a block's leaf is at twice its index, a parent between its children.
  public var treeIndex: UInt64
  public var hash: Hash
  /// Bytes in all blocks below this node.
  public var byteSize: UInt64

  public init(treeIndex: UInt64, hash: Hash, byteSize: UInt64) {
    self.treeIndex = treeIndex
    self.hash = hash
    self.byteSize = byteSize
  }

  /// Whether it is what stands for no node in the tree file, so that it cannot be kept: an owner can sign it.
  var isNone: Bool { byteSize == 0 && hash.isZero }
}
