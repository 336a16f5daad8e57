/// What a feed holds, page by page as the `bitfield` file has it: which blocks, which tree nodes, and an
/// index over the blocks by which the reference implementation skips long runs.
///
/// A page covers 8,192 blocks: 1,024 bytes of block bits, 2,048 bytes of tree bits, 512 bytes of index.
///
/// Source: hypercore 6.26.0 `lib/bitfield.js`; DEP-0009, "bitfield".
final class FeedBitfield {
  static let pageSize = 3584
  static let blocksPerPage: UInt64 = 8192
  private static let treeStart = 1024
  private static let treeBitsPerPage: UInt64 = 16384
  private static let indexStart = 3072
  private static let indexBytesPerPage: UInt64 = 512

  let pages = PagedBytes(pageSize: pageSize)
  /// Number of blocks held.
  private(set) var heldBlocks: UInt64 = 0

  @inline(__always)
  func has(_ index: UInt64) -> Bool {
    guard let page = pages.page(index / Self.blocksPerPage) else { return false }
    return page[Int(index % Self.blocksPerPage) >> 3] & (128 >> UInt8(index & 7)) != 0
  }

  @inline(__always)
  func hasNode(_ treeIndex: UInt64) -> Bool {
    guard let page = pages.page(treeIndex / Self.treeBitsPerPage) else { return false }
    let offset = Self.treeStart + Int(treeIndex % Self.treeBitsPerPage) >> 3
    return page[offset] & (128 >> UInt8(treeIndex & 7)) != 0
  }

  /// Whether a node is the one above eight blocks, and all below it are held as well. Quick, for a look at many.
  func hasAllNodes(belowEight treeIndex: UInt64) -> Bool {
    guard FlatTree.depth(treeIndex) == 3, let page = pages.page(treeIndex / Self.treeBitsPerPage) else {
      return false
    }
    let offset = Self.treeStart + Int(treeIndex % Self.treeBitsPerPage) >> 3
    return page[offset] == 255 && page[offset + 1] & 254 == 254
  }

  /// Marks a block as held.
  func set(_ index: UInt64) {
    let number = index / Self.blocksPerPage
    let page = pages.makePage(number)
    let offset = Int(index % Self.blocksPerPage) >> 3
    let bit: UInt8 = 128 >> UInt8(index & 7)
    guard page[offset] & bit == 0 else { return }
    page[offset] |= bit
    heldBlocks += 1
    pages.markChanged(number)
    updateIndex(byte: index >> 3, value: page[offset])
  }

  /// Marks a tree node as held, and every parent of which both children now are: it can be computed.
  func setNode(_ treeIndex: UInt64) {
    var treeIndex = treeIndex
    while setNodeBit(treeIndex), hasNode(FlatTree.sibling(treeIndex)) {
      treeIndex = FlatTree.parent(treeIndex)
    }
  }

  /// Marks blocks as held, and their leaves in the tree.
  func set(_ range: Range<UInt64>) {
    var index = range.lowerBound
    while index < range.upperBound {
      if index & 7 == 0, range.upperBound - index >= 8 {
        setEight(from: index)
        index += 8
      } else {
        set(index)
        setNode(2 * index)
        index += 1
      }
    }
  }

  /// As ``set(_:)-(Range<UInt64>)`` for the eight blocks of one byte, which are below one node.
  private func setEight(from first: UInt64) {
    let number = first / Self.blocksPerPage
    let page = pages.makePage(number)
    let offset = Int(first % Self.blocksPerPage) >> 3
    heldBlocks += UInt64((~page[offset]).nonzeroBitCount)
    page[offset] = 255
    // Of their sixteen places in the tree the eighth is the node above all of them, the last is not theirs.
    page[Self.treeStart + 2 * offset] |= 254
    page[Self.treeStart + 2 * offset + 1] |= 254
    pages.markChanged(number)
    setNode(2 * first + 7)
    updateIndex(byte: first >> 3, value: 255)
  }

  private func setNodeBit(_ treeIndex: UInt64) -> Bool {
    let number = treeIndex / Self.treeBitsPerPage
    let page = pages.makePage(number)
    let offset = Self.treeStart + Int(treeIndex % Self.treeBitsPerPage) >> 3
    let bit: UInt8 = 128 >> UInt8(treeIndex & 7)
    guard page[offset] & bit == 0 else { return false }
    page[offset] |= bit
    pages.markChanged(number)
    return true
  }

  /// Marks a block as not held. Its leaf in the tree stays.
  func clearBlock(_ index: UInt64) {
    guard has(index) else { return }
    let number = index / Self.blocksPerPage
    let page = pages.makePage(number)
    let offset = Int(index % Self.blocksPerPage) >> 3
    page[offset] &= ~(128 >> UInt8(index & 7))
    heldBlocks -= 1
    pages.markChanged(number)
    updateIndex(byte: index >> 3, value: page[offset])
  }

  func clearNode(_ treeIndex: UInt64) {
    let number = treeIndex / Self.treeBitsPerPage
    let page = pages.makePage(number)
    page[Self.treeStart + Int(treeIndex % Self.treeBitsPerPage) >> 3] &= ~(128 >> UInt8(treeIndex & 7))
    pages.markChanged(number)
  }

  /// Takes over a page as read from the file.
  func load(page number: UInt64, _ bytes: UnsafeRawBufferPointer) {
    guard bytes.contains(where: { $0 != 0 }) else { return }
    let page = pages.makePage(number)
    UnsafeMutableRawBufferPointer(start: page, count: Self.pageSize).copyMemory(from: bytes)
    for offset in 0..<Self.treeStart { heldBlocks += UInt64(page[offset].nonzeroBitCount) }
  }

  /// Forgets everything from block `length` on.
  func truncate(to length: UInt64) {
    for number in length / Self.blocksPerPage..<max(pages.end, length / Self.blocksPerPage) {
      guard let page = pages.page(number) else { continue }
      let first = number * Self.blocksPerPage
      for index in max(first, length)..<first + Self.blocksPerPage where has(index) {
        page[Int(index % Self.blocksPerPage) >> 3] &= ~(128 >> UInt8(index & 7))
        heldBlocks -= 1
        updateIndex(byte: index >> 3, value: page[Int(index % Self.blocksPerPage) >> 3])
      }
      pages.markChanged(number)
    }
    // A tree node is about blocks up to its right-most leaf.
    for number in 0..<pages.end {
      guard let page = pages.page(number) else { continue }
      let first = number * Self.treeBitsPerPage
      for treeIndex in first..<first + Self.treeBitsPerPage
      where hasNode(treeIndex) && FlatTree.rightSpan(treeIndex) >= 2 * length {
        page[Self.treeStart + Int(treeIndex % Self.treeBitsPerPage) >> 3] &= ~(128 >> UInt8(treeIndex & 7))
        pages.markChanged(number)
      }
    }
  }

  /// Blocks that the pages have room for.
  var coveredBlocks: UInt64 { pages.end * Self.blocksPerPage }

  /// The first block of `range` that is held, or that is not.
  func first(held: Bool, in range: Range<UInt64>) -> UInt64? {
    var index = range.lowerBound
    while index < range.upperBound {
      let number = index / Self.blocksPerPage
      let pageEnd = min((number + 1) * Self.blocksPerPage, range.upperBound)
      guard let page = pages.page(number) else {
        if !held { return index }
        guard let next = pages.firstPage(from: number) else { return nil }
        index = next * Self.blocksPerPage
        continue
      }
      while index < pageEnd {
        let byte = page[Int(index % Self.blocksPerPage) >> 3]
        let candidates = (held ? byte : ~byte) & (255 >> UInt8(index & 7))
        if candidates != 0 {
          let found = (index & ~7) + UInt64(candidates.leadingZeroBitCount)
          return found < range.upperBound ? found : nil
        }
        index = (index & ~7) + 8
      }
    }
    return nil
  }

  /// Block bits from `start` on, both multiples of eight.
  func bits(start: UInt64, length: UInt64) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(length / 8))
    var index = start
    while index < start + length {
      let number = index / Self.blocksPerPage
      let pageEnd = min((number + 1) * Self.blocksPerPage, start + length)
      if let page = pages.page(number) {
        let from = Int(index % Self.blocksPerPage) / 8
        let to = Int((index - start) / 8)
        for i in 0..<Int((pageEnd - index) / 8) { bytes[to + i] = page[from + i] }
      }
      index = pageEnd
    }
    return bytes
  }

  // MARK: - Index

  /// Two bits for each byte of block bits: `11` all set, `00` none, `01` some; four to a leaf byte of a
  /// flat tree whose parents hold the same of their two children.
  private func updateIndex(byte: UInt64, value: UInt8) {
    let shift = UInt8(byte & 3) * 2
    let state: UInt8 = value == 255 ? 0b1100_0000 : value == 0 ? 0 : 0b0100_0000
    var position = 2 * (byte >> 2)
    var entry = indexByte(position) & ~(0b1100_0000 >> shift) | state >> shift
    let end = pages.end * Self.indexBytesPerPage
    while position < end, setIndexByte(position, entry) {
      let sibling = Self.summary(indexByte(FlatTree.sibling(position)))
      let own = Self.summary(entry)
      let isLeft = FlatTree.offset(position) & 1 == 0
      entry = isLeft ? own << 4 | sibling : sibling << 4 | own
      position = FlatTree.parent(position)
    }
  }

  /// Four two-bit states made two.
  private static func summary(_ entry: UInt8) -> UInt8 {
    func half(_ nibble: UInt8) -> UInt8 { nibble == 15 ? 3 : nibble == 0 ? 0 : 1 }
    return half(entry >> 4) << 2 | half(entry & 15)
  }

  private func indexByte(_ position: UInt64) -> UInt8 {
    guard let page = pages.page(position / Self.indexBytesPerPage) else { return 0 }
    return page[Self.indexStart + Int(position % Self.indexBytesPerPage)]
  }

  private func setIndexByte(_ position: UInt64, _ value: UInt8) -> Bool {
    let number = position / Self.indexBytesPerPage
    if indexByte(position) == value { return false }
    pages.makePage(number)[Self.indexStart + Int(position % Self.indexBytesPerPage)] = value
    pages.markChanged(number)
    return true
  }
}
