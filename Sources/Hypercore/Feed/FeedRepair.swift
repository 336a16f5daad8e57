/// Mending what a ``FeedCheck`` found damaged.
extension Feed {
  /// What became of the damage.
  public struct Repair: Equatable, Sendable {
    /// Blocks that are not held any longer.
    public var droppedBlocks: UInt64 = 0
    /// Tree nodes that were worked out from those around them.
    public var rebuiltNodes: UInt64 = 0
    /// Signatures that were made anew, over the same blocks as before.
    public var resigned: UInt64 = 0
    /// Nothing here proves any block: the feed begins anew.
    public var isBegunAnew = false

    public init() {}
  }

  /// Writes what is known to be right, and marks the rest as not held, durably: it can come from another node then.
  ///
  /// A writer keeps its length and the roots that it signed, so that nothing else is ever signed in their place; a
  /// signature that it makes anew is the same one. Open the feed anew afterwards.
  public func repair(_ damage: FeedDamage) throws(FeedError) -> Repair {
    try checkUsable()
    var repair = Repair()
    do throws(FeedError) {
      for node in damage.known.values {
        try pages.set(node)
        repair.rebuiltNodes += 1
      }
      let held = heldBlocks
      for treeIndex in damage.unproven { bits.clear(below: treeIndex) }
      for range in damage.blocks {
        for index in range { bits.clearBlock(index) }
      }
      for index in damage.signatures {
        if try mendSignature(index) { repair.resigned += 1 }
      }
      repair.droppedBlocks = held - heldBlocks
      if !isWritable, damage.signatures.contains(where: { $0 + 1 == length }), try !isSignedEarlier() {
        bits.truncate(to: 0)
        try files.signatures.cut(to: UInt64(SleepHeader.size))
        repair.isBegunAnew = true
        repair.droppedBlocks = held
      }
      forgetOffsets()
      markChanged()
    } catch {
      throw fail(error)
    }
    try flush(durable: true)
    do throws(FeedError) { try files.bitfield.settle() } catch { throw fail(error) }
    return repair
  }

  /// A writer signs its newest roots anew, which are in memory as they were verified; any other place is emptied, as are
  /// those between blocks that were added together.
  ///
  /// - Returns: whether the signature is there again.
  private func mendSignature(_ index: UInt64) throws(FeedError) -> Bool {
    if isWritable, index + 1 == length {
      try store(sign(Crypto.tree(merkle.nodes)), at: index)
      return true
    }
    try removeSignature(at: index)
    return false
  }

  func removeSignature(at index: UInt64) throws(FeedError) {
    try files.signatures.put(
      [UInt8](repeating: 0, count: 64), at: UInt64(SleepHeader.size) + 64 * index)
  }

  /// Whether a signature before the last can stand in for it when the feed is opened.
  private func isSignedEarlier() throws(FeedError) -> Bool {
    try newestSigned(above: 0, upTo: max(length, 1) - 1) != nil
  }
}

extension FeedBitfield {
  /// Marks all nodes below one, but not that one, and all blocks below it as not held.
  func clear(below treeIndex: UInt64) {
    for below in FlatTree.leftSpan(treeIndex)...FlatTree.rightSpan(treeIndex) where below != treeIndex {
      if hasNode(below) { clearNode(below) }
      if below & 1 == 0 { clearBlock(below / 2) }
    }
  }
}
