/// What a ``FeedCheck`` found wrong in a feed's files.
public struct FeedDamage: Equatable, Sendable {
  /// Blocks that are marked as held, and whose bytes are not those that were signed, or that nothing here proves.
  public internal(set) var blocks: [Range<UInt64>] = []
  /// Tree nodes that do not fit those around them.
  public internal(set) var nodes: [UInt64] = []
  /// Places of signatures that are not the owner's over what is here.
  public internal(set) var signatures: [UInt64] = []
  /// Those of ``nodes`` whose right values are known from those around them.
  var known: [UInt64: Node] = [:]
  /// Trusted nodes whose children cannot be told: nothing below them is proven.
  var unproven: Set<UInt64> = []

  public init() {}

  /// Nothing is wrong.
  public var isNone: Bool { blocks.isEmpty && nodes.isEmpty && signatures.isEmpty }

  /// Blocks that are damaged.
  public var blockCount: UInt64 {
    var count: UInt64 = 0
    for range in blocks { count += range.upperBound - range.lowerBound }
    return count
  }

  mutating func note(block index: UInt64) {
    if let last = blocks.last, last.upperBound == index {
      blocks[blocks.count - 1] = last.lowerBound..<index + 1
    } else {
      blocks.append(index..<index + 1)
    }
  }

  /// Whether a node is below one whose children cannot be told.
  func isUnproven(_ treeIndex: UInt64) -> Bool {
    guard !unproven.isEmpty else { return false }
    var treeIndex = treeIndex
    while FlatTree.depth(treeIndex) < 41 {
      treeIndex = FlatTree.parent(treeIndex)
      if unproven.contains(treeIndex) { return true }
    }
    return false
  }
}

/// A check of everything that a feed has on disk, in slices: every block against its hash, every hash up to the roots
/// that were signed, every signature.
///
/// It reads the files, not what the feed has in memory. The feed can be used between slices, also to write.
public final class FeedCheck<Storage: RandomAccessStorage> {
  /// Pages of the tree file that are kept within a slice.
  private static var keptPages: Int { 64 }
  private static var nodesPerPage: UInt64 { 128 }
  /// Signatures that are read at a time.
  private static var signaturesAtOnce: UInt64 { 1024 }

  public let feed: Feed<Storage>
  /// Blocks that the feed had when the check began; what came later is not looked at.
  public let length: UInt64
  private let roots: [Node]
  /// Nodes that are trusted, and where the bytes below them begin; the one to look at next is the last.
  private var waiting: [(node: Node, offset: UInt64)] = []
  private var nextSignature: UInt64 = 0
  private var treePages: [UInt64: [UInt8]] = [:]
  private var signatures: (first: UInt64, bytes: [UInt8]) = (0, [])
  /// Where the signatures just read end, if there is none among them: a long feed of which there is little has few.
  private var blankEnd: UInt64?

  /// Blocks that were looked at: some can be reached from roots of different lengths.
  private let looked = SparseBitfield()

  /// Blocks that are held and were looked at.
  public var checkedBlocks: UInt64 { looked.count }
  /// Tree nodes that were looked at.
  public private(set) var checkedNodes: UInt64 = 0
  /// Signatures that were looked at.
  public private(set) var checkedSignatures: UInt64 = 0
  /// What is wrong, of what was looked at.
  public private(set) var damage = FeedDamage()

  public init(_ feed: Feed<Storage>) {
    self.feed = feed
    length = feed.length
    roots = feed.roots
    var end = feed.byteLength
    for root in roots.reversed() {
      end -= min(root.byteSize, end)
      waiting.append((root, end))
    }
  }

  /// Everything was looked at.
  public var isDone: Bool { waiting.isEmpty && nextSignature == length }

  /// How much there is to look at, and how much of it was.
  public var progress: (checked: UInt64, total: UInt64) {
    if isDone { return (feed.heldBlocks + length, feed.heldBlocks + length) }
    return (min(checkedBlocks, feed.heldBlocks) + nextSignature, feed.heldBlocks + length)
  }

  /// Goes on, until all is done or `isOver` says so, which is asked after each small piece of work.
  public func run(until isOver: () -> Bool) throws(FeedError) {
    try feed.flush(durable: false)
    // Other blocks may have come since.
    treePages = [:]
    signatures = (0, [])
    blankEnd = nil
    while let next = waiting.popLast() {
      if FlatTree.depth(next.node.treeIndex) > 0 {
        try look(below: next.node, next.offset)
      } else {
        try lookAtBlock(next.node, next.offset)
      }
      if isOver() { return }
    }
    while nextSignature < length {
      try lookAtSignature(nextSignature)
      nextSignature = max(nextSignature + 1, min(blankEnd ?? 0, length - 1))
      if isOver() { return }
    }
  }

  // MARK: - Blocks and nodes

  private func lookAtBlock(_ leaf: Node, _ offset: UInt64) throws(FeedError) {
    try lookAtRoot(leaf)
    let index = leaf.treeIndex / 2
    guard feed.has(index), looked.set(index) else { return }
    if try rebuilt(leaf: leaf.treeIndex, size: leaf.byteSize, offset: offset) != leaf {
      damage.note(block: index)
    }
  }

  /// A root is known from memory, where it was verified; here it is the stored one that is looked at.
  private func lookAtRoot(_ node: Node) throws(FeedError) {
    guard isRoot(node.treeIndex) else { return }
    checkedNodes += 1
    if try stored(node.treeIndex) != node { note(node) }
  }

  private func isRoot(_ treeIndex: UInt64) -> Bool {
    for root in roots where root.treeIndex == treeIndex { return true }
    return false
  }

  private func look(below node: Node, _ offset: UInt64) throws(FeedError) {
    try lookAtRoot(node)
    guard let (left, right) = FlatTree.children(node.treeIndex) else { return }
    guard feed.bits.hasNode(left), feed.bits.hasNode(right) else {
      return try lookAtUnlinked(below: node.treeIndex)
    }
    checkedNodes += 2
    let (a, b) = (try stored(left), try stored(right))
    if let a, let b, Self.are(a, b, childrenOf: node) {
      waiting.append((b, offset + a.byteSize))
      waiting.append((a, offset))
      return
    }
    let lefts = try candidates(left, stored: a, sibling: b, of: node, offset)
    let rights = try candidates(right, stored: b, sibling: a, of: node, offset)
    for first in lefts {
      for second in rights where Self.are(first, second, childrenOf: node) {
        if first != a { note(first) }
        if second != b { note(second) }
        waiting.append((second, offset + first.byteSize))
        waiting.append((first, offset))
        return
      }
    }
    if a == nil || a != rebuiltNode(left) { damage.nodes.append(left) }
    if b == nil || b != rebuiltNode(right) { damage.nodes.append(right) }
    damage.unproven.insert(node.treeIndex)
    noteBlocks(below: node.treeIndex)
  }

  /// Blocks that came when the feed was shorter, and that no nodes link to its roots of now: a signature of then proves them.
  private func lookAtUnlinked(below treeIndex: UInt64) throws(FeedError) {
    var index = FlatTree.leftSpan(treeIndex) / 2
    let end = FlatTree.rightSpan(treeIndex) / 2 + 1
    while let held = looked.firstUnset(in: index..<end, of: feed.bits) {
      var top = 2 * held
      // Not over the node itself, whatever a damaged bitfield says.
      while FlatTree.parent(top) != treeIndex, feed.bits.hasNode(FlatTree.sibling(top)) {
        top = FlatTree.parent(top)
      }
      if let (node, offset) = try signed(top) {
        waiting.append((node, offset))
      } else {
        noteBlocks(below: top)
      }
      index = FlatTree.rightSpan(top) / 2 + 1
    }
  }

  /// A node that was a root when the feed was shorter, and where the bytes below it begin.
  ///
  /// - Returns: `nil` where no signature shows that it was.
  private func signed(_ treeIndex: UInt64) throws(FeedError) -> (Node, UInt64)? {
    let length = feed.bits.length(above: treeIndex)
    guard length > 0, let signature = try signature(length - 1) else { return nil }
    var nodes: [Node] = []
    var found: (Node, UInt64)?
    var end: UInt64 = 0
    for root in FlatTree.roots(length: length) {
      guard let node = try stored(root), node.byteSize <= Limits.feedBytes else { return nil }
      if root == treeIndex { found = (node, end) }
      end += node.byteSize
      nodes.append(node)
    }
    return Crypto.verify(signature, of: Crypto.tree(nodes), by: feed.key) ? found : nil
  }

  private func note(_ node: Node) {
    damage.nodes.append(node.treeIndex)
    damage.known[node.treeIndex] = node
  }

  private func noteBlocks(below treeIndex: UInt64) {
    var index = FlatTree.leftSpan(treeIndex) / 2
    let end = FlatTree.rightSpan(treeIndex) / 2 + 1
    while let held = looked.firstUnset(in: index..<end, of: feed.bits) {
      looked.set(held)
      damage.note(block: held)
      index = held + 1
    }
  }

  private static func are(_ left: Node, _ right: Node, childrenOf parent: Node) -> Bool {
    left.byteSize <= parent.byteSize && right.byteSize == parent.byteSize - left.byteSize
      && Crypto.parent(left, right) == parent.hash
  }

  /// What a node could be: as it is stored, as it is in memory, or as what is below it says.
  private func candidates(
    _ treeIndex: UInt64, stored: Node?, sibling: Node?, of parent: Node, _ offset: UInt64
  ) throws(FeedError) -> [Node] {
    var found: [Node] = []
    if let stored { found.append(stored) }
    if let cached = try? feed.pages.node(treeIndex), cached != stored { found.append(cached) }
    guard FlatTree.depth(treeIndex) == 0 else {
      if let built = rebuiltNode(treeIndex) { found.append(built) }
      return found
    }
    // Its size may be what is wrong: then the sibling leaves this one.
    var sizes: [UInt64] = []
    if let stored, stored.byteSize <= parent.byteSize { sizes.append(stored.byteSize) }
    if let sibling, sibling.byteSize <= parent.byteSize { sizes.append(parent.byteSize - sibling.byteSize) }
    guard feed.has(treeIndex / 2) else { return found }
    for size in sizes {
      let start = treeIndex < parent.treeIndex ? offset : offset + parent.byteSize - size
      if let built = try rebuilt(leaf: treeIndex, size: size, offset: start) { found.append(built) }
    }
    return found
  }

  /// The leaf of the bytes that are in the data file.
  private func rebuilt(leaf: UInt64, size: UInt64, offset: UInt64) throws(FeedError) -> Node? {
    guard size <= UInt64(Limits.blockBytes) else { return nil }
    if size == 0 { return Node(treeIndex: leaf, hash: [].withBytes { Crypto.leaf($0) }, byteSize: 0) }
    guard let block = try bytes(feed.files.data, Int(size), at: offset) else { return nil }
    return Node(treeIndex: leaf, hash: block.withBytes { Crypto.leaf($0) }, byteSize: size)
  }

  /// The parent of what is stored below; `nil` where that is not there.
  private func rebuiltNode(_ treeIndex: UInt64) -> Node? {
    guard let (left, right) = FlatTree.children(treeIndex), feed.bits.hasNode(left),
      feed.bits.hasNode(right), let a = try? stored(left), let b = try? stored(right),
      a.byteSize <= Limits.feedBytes, b.byteSize <= Limits.feedBytes
    else { return nil }
    return Node(treeIndex: treeIndex, hash: Crypto.parent(a, b), byteSize: a.byteSize + b.byteSize)
  }

  // MARK: - Signatures

  private func lookAtSignature(_ index: UInt64) throws(FeedError) {
    guard let signature = try signature(index) else {
      // Only the last of blocks that were added together has one.
      if index + 1 == length { damage.signatures.append(index) }
      return
    }
    checkedSignatures += 1
    var nodes: [Node] = []
    if index + 1 == length {
      nodes = roots
    } else {
      for treeIndex in FlatTree.roots(length: index + 1) {
        guard let node = try trusted(treeIndex) else { return }
        nodes.append(node)
      }
    }
    if !Crypto.verify(signature, of: Crypto.tree(nodes), by: feed.key) { damage.signatures.append(index) }
  }

  private func signature(_ index: UInt64) throws(FeedError) -> Signature? {
    if index < signatures.first || index >= signatures.first + UInt64(signatures.bytes.count / 64)
      || signatures.bytes.isEmpty
    {
      let start = UInt64(SleepHeader.size) + 64 * index
      let size = try feed.files.signatures.byteCount()
      guard start + 64 <= size else { return nil }
      let count = Int(min(Self.signaturesAtOnce, (size - start) / 64)) * 64
      guard let read = try bytes(feed.files.signatures, count, at: start) else { return nil }
      signatures = (index, read)
      let isBlank = read.withUnsafeBytes { $0.bindMemory(to: UInt64.self).allSatisfy { $0 == 0 } }
      blankEnd = isBlank ? index + UInt64(count / 64) : nil
    }
    let start = Int(index - signatures.first) * 64
    return Signature(signatures.bytes[start..<start + 64]).flatMap { $0.isZero ? nil : $0 }
  }

  /// A node's right value, where it is known.
  private func trusted(_ treeIndex: UInt64) throws(FeedError) -> Node? {
    if let known = damage.known[treeIndex] { return known }
    for root in roots where root.treeIndex == treeIndex { return root }
    guard feed.bits.hasNode(treeIndex), !damage.isUnproven(treeIndex) else { return nil }
    return try stored(treeIndex)
  }

  // MARK: - Files

  private func stored(_ treeIndex: UInt64) throws(FeedError) -> Node? {
    let number = treeIndex / Self.nodesPerPage
    if treePages[number] == nil {
      if treePages.count >= Self.keptPages { treePages = [:] }
      treePages[number] = try treePage(number)
    }
    guard let page = treePages[number] else { return nil }
    let start = Int(treeIndex % Self.nodesPerPage) * 40
    guard page.count >= start + 40, let hash = Hash(page[start..<start + 32]) else { return nil }
    var size: UInt64 = 0
    for byte in page[start + 32..<start + 40] { size = size << 8 | UInt64(byte) }
    let node = Node(treeIndex: treeIndex, hash: hash, byteSize: size)
    return node.isNone ? nil : node
  }

  private func treePage(_ number: UInt64) throws(FeedError) -> [UInt8] {
    let start = UInt64(SleepHeader.size) + number * Self.nodesPerPage * 40
    let size = try feed.files.tree.byteCount()
    guard start < size else { return [] }
    return try bytes(feed.files.tree, Int(min(Self.nodesPerPage * 40, size - start)), at: start) ?? []
  }

  /// - Returns: `nil` where the disk cannot give them: a file that was cut off, a sector that cannot be read.
  private func bytes(_ file: Storage, _ count: Int, at offset: UInt64) throws(FeedError) -> [UInt8]? {
    let inputOutputError: Int32 = 5
    do throws(FeedError) { return try file.bytes(count, at: offset) } catch {
      switch error.code {
      case .storage(.outOfRange), .storage(.system(inputOutputError)): return nil
      default: throw error
      }
    }
  }
}
