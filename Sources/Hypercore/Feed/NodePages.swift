/// A page of nodes as the file has them. Not generic, which costs a look-up at each use.
private final class TreePage {
  /// Bytes of 128 nodes.
  static let size = 5120

  let number: UInt64
  let bytes = UnsafeMutableRawPointer.allocate(byteCount: TreePage.size, alignment: 8)
  /// Bytes changed since the page was last written.
  var dirty = 0..<0

  init(_ number: UInt64) {
    self.number = number
  }

  deinit {
    bytes.deallocate()
  }
}

/// The `tree` file behind a bounded cache: nodes are changed in memory and written out a page at a time.
///
/// A page is 128 nodes, so the leaves of 64 neighbouring blocks, and every parent among them, are one read.
final class NodePages<Storage: RandomAccessStorage> {
  private static var nodesPerPage: UInt64 { 128 }
  private static var nodeSize: Int { 40 }
  private static var pageSize: Int { TreePage.size }
  /// Pages in each of the cache's two generations: 2.5 MiB.
  private static var generationPages: Int { 512 }

  private typealias Page = TreePage

  private let file: Storage
  /// Size of the file in bytes, without what waits in memory.
  private var fileSize: UInt64
  /// Pages used lately, and the ones before them, which are dropped when the young fill up.
  private var young: [UInt64: Page] = [:]
  private var old: [UInt64: Page] = [:]
  /// Pages of the cache that are to be written.
  private var changed: [Page] = []
  private var last: Page?

  init(_ file: Storage) throws(FeedError) {
    self.file = file
    fileSize = try file.byteCount()
  }

  /// - Returns: `nil` where there is no node: zeros, or the end of the file.
  func node(_ treeIndex: UInt64) throws(FeedError) -> Node? {
    let page = try page(treeIndex / Self.nodesPerPage)
    let offset = Int(treeIndex % Self.nodesPerPage) * Self.nodeSize
    let hash = Hash(copying: UnsafeRawBufferPointer(start: page.bytes + offset, count: 32))
    let size = UInt64(bigEndian: page.bytes.load(fromByteOffset: offset + 32, as: UInt64.self))
    let node = Node(treeIndex: treeIndex, hash: hash, byteSize: size)
    return node.isNone ? nil : node
  }

  func set(_ node: Node) throws(FeedError) {
    let page = try page(node.treeIndex / Self.nodesPerPage)
    let offset = Int(node.treeIndex % Self.nodesPerPage) * Self.nodeSize
    node.hash.withUnsafeBytes {
      (page.bytes + offset).copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: 32)
    }
    page.bytes.storeBytes(of: node.byteSize.bigEndian, toByteOffset: offset + 32, as: UInt64.self)
    if page.dirty.isEmpty { changed.append(page) }
    page.dirty =
      page.dirty.isEmpty
      ? offset..<offset + Self.nodeSize
      : min(page.dirty.lowerBound, offset)..<max(page.dirty.upperBound, offset + Self.nodeSize)
  }

  /// Writes every changed page to the file.
  func flush() throws(FeedError) {
    for page in changed { try write(page) }
    changed.removeAll(keepingCapacity: true)
  }

  private func page(_ number: UInt64) throws(FeedError) -> Page {
    if let last, last.number == number { return last }
    if let page = young[number] {
      last = page
      return page
    }
    let page: Page
    let known = old[number]
    // Nothing is let go of before it is written.
    if young.count >= Self.generationPages {
      for page in old.values { try write(page) }
      changed.removeAll { $0.dirty.isEmpty }
      old = young
      young = [:]
    } else {
      old[number] = nil
    }
    if let known {
      page = known
    } else {
      page = Page(number)
      let start = UInt64(SleepHeader.size) + number * UInt64(Self.pageSize)
      let held = start < fileSize ? Int(min(UInt64(Self.pageSize), fileSize - start)) : 0
      (page.bytes + held).initializeMemory(as: UInt8.self, repeating: 0, count: Self.pageSize - held)
      if held > 0 {
        try file.fill(UnsafeMutableRawBufferPointer(start: page.bytes, count: held), at: start)
      }
    }
    young[number] = page
    last = page
    return page
  }

  private func write(_ page: Page) throws(FeedError) {
    guard !page.dirty.isEmpty else { return }
    let start = UInt64(SleepHeader.size) + page.number * UInt64(Self.pageSize) + UInt64(page.dirty.lowerBound)
    try file.put(
      UnsafeRawBufferPointer(start: page.bytes + page.dirty.lowerBound, count: page.dirty.count), at: start)
    fileSize = max(fileSize, start + UInt64(page.dirty.count))
    page.dirty = 0..<0
  }
}
