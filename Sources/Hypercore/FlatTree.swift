/// Flat-tree numbering of a binary tree: leaf `n` is at `2n`, each parent midway between its children.
///
/// Source: DEP-0002, "Merkle Tree Structure"; flat-tree 1.6.0 `index.js`.
public enum FlatTree {
  /// Height above the leaves: the number of trailing one bits.
  public static func depth(_ treeIndex: UInt64) -> UInt64 {
    UInt64((~treeIndex).trailingZeroBitCount)
  }

  /// Position among the nodes of the same depth, from the left.
  public static func offset(_ treeIndex: UInt64) -> UInt64 {
    treeIndex >> (depth(treeIndex) + 1)
  }

  /// The node of that depth and offset.
  public static func index(depth: UInt64, offset: UInt64) -> UInt64 {
    (offset << (depth + 1)) | ((1 << depth) - 1)
  }

  public static func parent(_ treeIndex: UInt64) -> UInt64 {
    let bit: UInt64 = 1 << depth(treeIndex)
    return (treeIndex | bit) & ~(bit << 1)
  }

  public static func sibling(_ treeIndex: UInt64) -> UInt64 {
    treeIndex ^ (2 << depth(treeIndex))
  }

  /// - Returns: `nil` for a leaf.
  public static func children(_ treeIndex: UInt64) -> (left: UInt64, right: UInt64)? {
    let depth = depth(treeIndex)
    guard depth > 0 else { return nil }
    let half: UInt64 = 1 << (depth - 1)
    return (treeIndex - half, treeIndex + half)
  }

  /// The left-most leaf below.
  public static func leftSpan(_ treeIndex: UInt64) -> UInt64 {
    treeIndex + 1 - (1 << depth(treeIndex))
  }

  /// The right-most leaf below.
  public static func rightSpan(_ treeIndex: UInt64) -> UInt64 {
    treeIndex + (1 << depth(treeIndex)) - 1
  }

  /// Roots of the tree over the first `length` blocks, from left to right.
  public static func roots(length: UInt64) -> [UInt64] {
    var roots: [UInt64] = []
    var start: UInt64 = 0
    var left = length
    while left > 0 {
      let size = UInt64(1) << UInt64(63 - left.leadingZeroBitCount)
      roots.append(2 * start + size - 1)
      start += size
      left -= size
    }
    return roots
  }
}
