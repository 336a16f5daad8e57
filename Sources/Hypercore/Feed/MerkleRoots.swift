/// The roots of the tree over a feed's blocks so far, from left to right: all that appending needs.
struct MerkleRoots {
  private(set) var nodes: [Node]

  init(_ nodes: [Node] = []) {
    self.nodes = nodes
  }

  /// Number of blocks below the roots.
  var length: UInt64 {
    nodes.last.map { FlatTree.rightSpan($0.treeIndex) / 2 + 1 } ?? 0
  }

  /// Number of bytes below the roots.
  var byteLength: UInt64 {
    nodes.reduce(0) { $0 + $1.byteSize }
  }

  /// Adds the next block's leaf and calls `emit` with it and every parent that it completes.
  mutating func append<E: Error>(_ leaf: Node, emit: (Node) throws(E) -> Void) throws(E) {
    nodes.append(leaf)
    try emit(leaf)
    while nodes.count > 1 {
      let right = nodes[nodes.count - 1]
      let left = nodes[nodes.count - 2]
      guard FlatTree.sibling(right.treeIndex) == left.treeIndex else { return }
      let parent = Node(
        treeIndex: FlatTree.parent(right.treeIndex), hash: Crypto.parent(left, right),
        byteSize: left.byteSize + right.byteSize)
      nodes.removeLast()
      nodes[nodes.count - 1] = parent
      try emit(parent)
    }
  }
}
