import Hypercore

/// A feed of as many blocks and bytes as can be, of which its owner made up all but two: the first, and the farthest that is
/// asked for once that is here.
struct VastFeed {
  static let far: UInt64 = 1 << 15

  let key: PublicKey
  private let blocks: [UInt64: [UInt8]] = [0: [10, 7] + Array("hyperdb".utf8), far: [1, 2, 3]]
  private var nodes: [UInt64: [Node]] = [:]
  private let signature: Signature

  init() {
    let pair = KeyPair()
    key = pair.publicKey
    let (first, far) = (Self.leaf(0, blocks[0] ?? []), Self.leaf(Self.far, blocks[Self.far] ?? []))
    let right = Self.madeUp(FlatTree.index(depth: 27, offset: 1), size: Limits.feedBytes / 2)
    var next = right.byteSize - first.byteSize - far.byteSize
    // Nearly all bytes of the left half lie between the two.
    let below = Self.climb(from: first, to: 15) { treeIndex in
      defer { next = 0 }
      return Self.madeUp(treeIndex, size: next)
    }
    let beside = Self.climb(from: far, to: 15) { Self.madeUp($0, size: 0) }
    let join = Node(
      treeIndex: FlatTree.parent(below.top.treeIndex), hash: Crypto.parent(below.top, beside.top),
      byteSize: below.top.byteSize + beside.top.byteSize)
    let above = Self.climb(from: join, to: 27) { Self.madeUp($0, size: 0) }
    let root = Node(
      treeIndex: FlatTree.parent(right.treeIndex), hash: Crypto.parent(above.top, right),
      byteSize: Limits.feedBytes)
    signature = pair.sign(Crypto.tree([root]))
    let common = above.siblings + [right]
    nodes[0] = below.siblings + [beside.top] + common
    nodes[Self.far] = beside.siblings + [below.top] + common
  }

  private static func leaf(_ index: UInt64, _ block: [UInt8]) -> Node {
    Node(
      treeIndex: 2 * index, hash: block.withUnsafeBytes { Crypto.leaf($0) }, byteSize: UInt64(block.count))
  }

  /// Its hash is any but zero, which on disk stands for none.
  private static func madeUp(_ treeIndex: UInt64, size: UInt64) -> Node {
    Node(
      treeIndex: treeIndex, hash: Crypto.leaf(UnsafeRawBufferPointer(start: nil, count: 0)), byteSize: size)
  }

  private static func climb(
    from start: Node, to depth: UInt64, sibling: (UInt64) -> Node
  ) -> (top: Node, siblings: [Node]) {
    var top = start
    var siblings: [Node] = []
    while FlatTree.depth(top.treeIndex) < depth {
      let other = sibling(FlatTree.sibling(top.treeIndex))
      let (left, right) = top.treeIndex < other.treeIndex ? (top, other) : (other, top)
      top = Node(
        treeIndex: FlatTree.parent(top.treeIndex), hash: Crypto.parent(left, right),
        byteSize: left.byteSize + right.byteSize)
      siblings.append(other)
    }
    return (top, siblings)
  }

  /// The first block, or the far one, with all of its proof.
  func data(_ index: UInt64) -> Message.Data {
    Message.Data(
      index: index, value: blocks[index], proof: Proof(nodes: nodes[index] ?? [], signature: signature))
  }
}
