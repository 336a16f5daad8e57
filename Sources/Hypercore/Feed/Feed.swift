/// One append-only list of blocks, signed by one key: hypercore 6, the same bytes on disk.
///
/// A feed is written by whoever has its secret key, and held, wholly or in part, by anybody: each block
/// proves by its merkle path and the owner's signature over the roots that it belongs.
///
/// Changes are in memory and in the files' page cache until ``flush(durable:)``. A feed belongs to one
/// isolation domain; nothing in it is thread-safe. After a storage error nothing more is written: open the
/// feed anew, which recovers what is on disk.
///
/// Source: hypercore 6.26.0 `index.js`; DEP-0002; DEP-0009.
public final class Feed<Storage: RandomAccessStorage> {
  public let key: PublicKey
  public let discoveryKey: DiscoveryKey
  let files: FeedFiles<Storage>
  private let keyPair: KeyPair?
  let bits = FeedBitfield()
  let pages: NodePages<Storage>
  let dataWriter: DataWriter<Storage>
  /// Roots over ``length`` blocks.
  var merkle = MerkleRoots()
  /// Where blocks are, as far as it was asked for.
  private var offsets = RegionOffsets()
  private var needsFlush = false
  private var needsSync = false
  /// Why nothing more is written.
  private var failure: FeedError?
  /// Asked whether there is room for so many blocks with so many bytes in all, when their owner has signed that there are. Where
  /// not, nothing of it is taken over, and the feed stays as it is.
  public var hasRoom: ((_ blocks: UInt64, _ bytes: UInt64) -> Bool)?
  /// What opening found after an unclean stop, for the log.
  public internal(set) var recovery = Recovery()

  /// What opening found that the last process had not finished.
  public struct Recovery: Equatable, Sendable {
    /// Blocks that were on disk and verify, but were not yet marked as held.
    public var foundBlocks: UInt64 = 0
    /// Places cut off at the end, never acknowledged, that did not verify.
    public var cutBlocks: UInt64 = 0
    /// Tree nodes that were on disk and verify, but were not yet marked as held.
    public var markedNodes: UInt64 = 0

    public init() {}
  }

  /// Opens the feed of `key`, or starts an empty one where the files are empty. It is writable where the
  /// files hold its secret key.
  public convenience init(files: FeedFiles<Storage>, key: PublicKey) throws(FeedError) {
    try self.init(files, key, Self.storedKeyPair(files, for: key))
  }

  /// Opens the feed of `keyPair` for writing, or starts an empty one where the files are empty.
  ///
  /// - Parameter storeSecretKey: keep the secret key beside the feed, as the reference does.
  public convenience init(
    files: FeedFiles<Storage>, keyPair: consuming KeyPair, storeSecretKey: Bool = true
  ) throws(FeedError) {
    let key = keyPair.publicKey
    if storeSecretKey, try Self.storedKeyPair(files, for: key) == nil {
      try keyPair.secretKey.withUnsafeBytes { (secret) throws(FeedError) in
        try files.secretKey.put(secret, at: 0)
      }
      try files.secretKey.settle()
    }
    try self.init(files, key, keyPair)
  }

  private init(_ files: FeedFiles<Storage>, _ key: PublicKey, _ keyPair: consuming KeyPair?) throws(FeedError)
  {
    self.files = files
    self.key = key
    discoveryKey = Crypto.discoveryKey(key)
    self.keyPair = keyPair
    try Self.clearUnfinished(files, key)
    let isUnclaimed = try Self.isUnclaimed(files)
    try Self.checkKey(files, key, rewrites: isUnclaimed)
    guard try SleepHeader.tree.isAt(files.tree, rewrites: isUnclaimed),
      try SleepHeader.signatures.isAt(files.signatures, rewrites: isUnclaimed)
    else {
      throw FeedError(.damaged, "feed \(key.hex): tree or signatures do not begin with their SLEEP header")
    }
    pages = try NodePages(files.tree)
    dataWriter = DataWriter(files.data)
    try recover()
  }

  /// The `bitfield` file as it would be written now, of a feed that goes on changing: what there is between its holes, and
  /// where.
  public func bitfieldFile() -> [(offset: UInt64, bytes: [UInt8])] {
    var pieces = [(offset: UInt64(0), bytes: SleepHeader.bitfield.bytes)]
    var next = bits.pages.firstPage(from: 0)
    while let number = next {
      let offset = UInt64(SleepHeader.size) + number * UInt64(FeedBitfield.pageSize)
      if let page = bits.pages.page(number) {
        let bytes = UnsafeBufferPointer(start: page, count: FeedBitfield.pageSize)
        if let last = pieces.indices.last, pieces[last].offset + UInt64(pieces[last].bytes.count) == offset {
          pieces[last].bytes.append(contentsOf: bytes)
        } else {
          pieces.append((offset, Array(bytes)))
        }
      }
      next = bits.pages.firstPage(from: number + 1)
    }
    return pieces
  }

  /// Whether this feed can be appended to here.
  public var isWritable: Bool {
    switch keyPair {
    case .some: true
    case .none: false
    }
  }

  /// Number of blocks in the feed, held or not.
  public var length: UInt64 { merkle.length }

  /// Number of bytes in all blocks.
  public private(set) var byteLength: UInt64 = 0

  /// Number of blocks held here.
  public var heldBlocks: UInt64 { bits.heldBlocks }

  // MARK: - Reading

  public func has(_ index: UInt64) -> Bool {
    bits.has(index)
  }

  /// The first block of `range` that is not held.
  public func firstMissing(in range: Range<UInt64>) -> UInt64? {
    bits.first(held: false, in: range)
  }

  /// The first block of `range` that is held.
  public func firstHeld(in range: Range<UInt64>) -> UInt64? {
    bits.first(held: true, in: range)
  }

  /// One bit a block from `start` on, bit 7 of each byte first; `start` and `length` are multiples of eight.
  public func heldBits(start: UInt64, length: UInt64) -> [UInt8] {
    bits.bits(start: start, length: length)
  }

  /// The bytes of a block.
  ///
  /// - Throws: ``FeedError`` with code `.missing` where the block is not held.
  public func block(at index: UInt64) throws(FeedError) -> [UInt8] {
    guard has(index) else {
      throw FeedError(
        .missing, "block \(index) of feed \(key.hex), which has \(length) blocks, is not held here")
    }
    let range = try range(of: index)
    return try dataWriter.read(count: Int(range.upperBound - range.lowerBound), at: range.lowerBound)
  }

  /// The roots over all blocks, from left to right.
  public var roots: [Node] { merkle.nodes }

  /// The signature over the roots with block `index` as the last.
  ///
  /// - Returns: `nil` where there is none: a batch is signed at its last block only.
  public func signature(at index: UInt64) throws(FeedError) -> Signature? {
    let offset = UInt64(SleepHeader.size) + 64 * index
    guard try offset + 64 <= files.signatures.byteCount() else { return nil }
    let signature = Signature(try files.signatures.bytes(64, at: offset))
    return signature.flatMap { $0.isZero ? nil : $0 }
  }

  /// The bytes of a block that is held, in the `data` file.
  private func range(of index: UInt64) throws(FeedError) -> Range<UInt64> {
    if let known = offsets.range(of: index) { return known }
    let region = index / RegionOffsets.blocks
    if bits.first(held: false, in: region * RegionOffsets.blocks..<(region + 1) * RegionOffsets.blocks) == nil
    {
      try noteEnds(region)
      if let found = offsets.range(of: index) { return found }
    }
    guard let leaf = try pages.node(2 * index) else {
      throw damaged("block \(index) is held but has no leaf in the tree file")
    }
    guard leaf.byteSize <= UInt64(Limits.blockBytes), leaf.byteSize <= byteLength else {
      throw damaged("block \(index) has an impossible size of \(leaf.byteSize) bytes")
    }
    let start = try byteOffset(of: index)
    return start..<start + leaf.byteSize
  }

  /// Notes where each block of a region ends, all of them held: that of another one is asked for soon, and in
  /// a large feed its page of the tree would not be in memory any more.
  private func noteEnds(_ region: UInt64) throws(FeedError) {
    let first = region * RegionOffsets.blocks
    let start = try byteOffset(of: first)
    var ends: [UInt32] = []
    ends.reserveCapacity(Int(RegionOffsets.blocks))
    // At most 64 times 8 MiB.
    var end: UInt32 = 0
    for index in first..<first + RegionOffsets.blocks {
      // Damage is told where the damaged block itself is read.
      guard let leaf = try pages.node(2 * index), leaf.byteSize <= UInt64(Limits.blockBytes) else { return }
      end += UInt32(leaf.byteSize)
      ends.append(end)
    }
    offsets.note(region, start: start, ends: ends)
  }

  /// Where a block begins in the `data` file: the byte size of every root over the blocks before it.
  func byteOffset(of index: UInt64) throws(FeedError) -> UInt64 {
    let region = index / RegionOffsets.blocks
    var offset: UInt64
    if let known = offsets[region] {
      offset = known
    } else {
      offset = 0
      for root in FlatTree.roots(length: region * RegionOffsets.blocks) {
        offset += try sizeBelow(root)
      }
      offsets.note(region, start: offset)
    }
    // Within the region the roots follow the bits of what is left of the index.
    var start = region * RegionOffsets.blocks
    var half = RegionOffsets.blocks / 2
    while half > 0 {
      if index & half != 0 {
        offset += try sizeBelow(2 * start + half - 1)
        start += half
      }
      half /= 2
    }
    return offset
  }

  /// The block that a byte of the feed is in.
  ///
  /// - Returns: `nil` where the feed is shorter, or the nodes that tell are not held.
  public func index(ofByte byte: UInt64) throws(FeedError) -> UInt64? {
    var offset = byte
    for root in merkle.nodes {
      if offset >= root.byteSize {
        offset -= root.byteSize
        continue
      }
      var treeIndex = root.treeIndex
      while let (left, right) = FlatTree.children(treeIndex) {
        guard let node = try pages.node(left) else { return nil }
        if offset < node.byteSize {
          treeIndex = left
        } else {
          offset -= node.byteSize
          treeIndex = right
        }
      }
      return treeIndex / 2
    }
    return nil
  }

  private func sizeBelow(_ treeIndex: UInt64) throws(FeedError) -> UInt64 {
    guard let node = try pages.node(treeIndex) else {
      throw damaged("tree node \(treeIndex) is missing")
    }
    guard node.byteSize <= Limits.feedBytes else {
      throw damaged("tree node \(treeIndex) has an impossible size of \(node.byteSize) bytes")
    }
    return node.byteSize
  }

  // MARK: - Writing

  /// Adds one block.
  ///
  /// - Returns: its index.
  public func append(_ block: [UInt8]) throws(FeedError) -> UInt64 {
    try append(contentsOf: [block]).lowerBound
  }

  /// Adds blocks under one signature.
  ///
  /// - Returns: their indexes.
  @discardableResult
  public func append(contentsOf blocks: [[UInt8]]) throws(FeedError) -> Range<UInt64> {
    let first = length
    try checkWritable(blocks)
    if blocks.isEmpty { return first..<first }
    var roots = merkle
    var end = byteLength
    do throws(FeedError) {
      for block in blocks {
        try block.withBytes { (bytes) throws(FeedError) in
          let leaf = Node(
            treeIndex: 2 * roots.length, hash: Crypto.leaf(bytes), byteSize: UInt64(bytes.count))
          try roots.append(leaf) { (node) throws(FeedError) in try pages.set(node) }
          try dataWriter.write(bytes, at: end)
          end += UInt64(bytes.count)
        }
      }
      try sign(roots)
    } catch {
      throw fail(error)
    }
    merkle = roots
    byteLength = end
    bits.set(first..<length)
    markChanged()
    return first..<length
  }

  private func checkWritable(_ blocks: [[UInt8]]) throws(FeedError) {
    if let failure { throw failure }
    guard isWritable else { throw FeedError(.notWritable, "feed \(key.hex) has no secret key here") }
    var bytes: UInt64 = 0
    for block in blocks {
      guard block.count <= Limits.blockBytes else {
        throw FeedError(.tooLarge, "a block of \(block.count) bytes; at most \(Limits.blockBytes) fit")
      }
      bytes += UInt64(block.count)
    }
    guard length + UInt64(blocks.count) <= Limits.feedBlocks, byteLength + bytes <= Limits.feedBytes else {
      throw FeedError(.tooLarge, "feed \(key.hex) is full")
    }
  }

  private func sign(_ roots: MerkleRoots) throws(FeedError) {
    switch keyPair {
    case .some(let keyPair):
      try store(keyPair.sign(Crypto.tree(roots.nodes)), at: roots.length - 1)
    case .none:
      break
    }
  }

  /// Signs a hash with the feed's secret key, to prove who owns it.
  ///
  /// - Parameter message: of what can be no tree: a tree's hash is over a message that begins with a byte 2.
  public func sign(_ message: Hash) throws(FeedError) -> Signature {
    switch keyPair {
    case .some(let keyPair): return keyPair.sign(message)
    case .none: throw FeedError(.notWritable, "feed \(key.hex) has no secret key here")
    }
  }

  func store(_ signature: Signature, at index: UInt64) throws(FeedError) {
    try signature.withUnsafeBytes { (bytes) throws(FeedError) in
      try files.signatures.put(bytes, at: UInt64(SleepHeader.size) + 64 * index)
    }
  }

  /// Writes everything to the files: data, tree, signatures, and only then the bitfield that claims them.
  ///
  /// The calls made, in order: `write` on data, tree and signatures; with `durable` one `sync` of each of
  /// the three; `write` on bitfield. The bitfield is a hint that opening completes from the other three, and
  /// is not synced.
  ///
  /// - Parameter durable: return only once it survives power loss.
  public func flush(durable: Bool) throws(FeedError) {
    if let failure { throw failure }
    guard needsFlush || (durable && needsSync) else { return }
    do throws(FeedError) {
      try dataWriter.flush()
      try pages.flush()
      needsFlush = false
      guard durable else { return }
      try files.data.settle()
      try files.tree.settle()
      try files.signatures.settle()
      needsSync = false
      for number in bits.pages.changed {
        guard let page = bits.pages.page(number) else { continue }
        try files.bitfield.put(
          UnsafeRawBufferPointer(start: page, count: FeedBitfield.pageSize),
          at: UInt64(SleepHeader.size) + number * UInt64(FeedBitfield.pageSize))
      }
      bits.pages.clearChanged()
    } catch {
      throw fail(error)
    }
  }

  func markChanged() {
    needsFlush = true
    needsSync = true
  }

  /// Takes over roots that verified: the feed is as long as they say.
  func adopt(_ roots: MerkleRoots) {
    merkle = roots
    byteLength = roots.byteLength
  }

  /// Forgets cached offsets, after a change to what is below them.
  func forgetOffsets() {
    offsets = RegionOffsets()
  }

  /// Throws why nothing is written any more, if so.
  func checkUsable() throws(FeedError) {
    if let failure { throw failure }
  }

  // MARK: - Errors

  /// Notes that memory and disk may differ from here on.
  func fail(_ error: FeedError) -> FeedError {
    failure = failure ?? error
    return error
  }

  func damaged(_ what: String) -> FeedError {
    FeedError(.damaged, "feed \(key.hex): \(what)")
  }
}
