import TestSupport
import Testing

@testable import Hypercore

/// Damage on disk: what a check says, and what comes back from another copy.
@Suite struct FeedCheckTests {
  private struct Copy {
    let files: FeedFiles<MemoryStorage>
    var feed: Feed<MemoryStorage>

    /// Changes bytes behind the feed's back.
    func flip(_ file: KeyPath<FeedFiles<MemoryStorage>, MemoryStorage>, _ offsets: Int...) throws {
      for offset in offsets {
        let byte = files[keyPath: file].bytes[offset] ^ 0x55
        try [byte].withUnsafeBytes { try files[keyPath: file].write($0, at: UInt64(offset)) }
      }
    }
  }

  private static let length: UInt64 = 203
  private static let seed = [UInt8](repeating: 3, count: 32)

  private static var pair: KeyPair { seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) } }

  private static func block(_ index: UInt64) -> [UInt8] {
    Array("block \(index) ".utf8) + [UInt8](repeating: UInt8(index % 251), count: Int(index % 37))
  }

  private static func start(_ index: UInt64) -> Int {
    (0..<index).reduce(0) { $0 + block($1).count }
  }

  private func files() throws -> FeedFiles<MemoryStorage> {
    try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
  }

  private func writer() throws -> Copy {
    let files = try files()
    let feed = try Feed(files: files, keyPair: Self.pair, storeSecretKey: false)
    for index in 0..<Self.length { _ = try feed.append(Self.block(index)) }
    try feed.flush(durable: true)
    return Copy(files: files, feed: feed)
  }

  private func clone(of writer: Copy, _ blocks: some Sequence<UInt64>) throws -> Copy {
    let files = try files()
    let copy = Copy(files: files, feed: try Feed(files: files, key: writer.feed.key))
    try fetch(blocks, from: writer, to: copy.feed)
    return copy
  }

  private func fetch(_ blocks: some Sequence<UInt64>, from: Copy, to feed: Feed<MemoryStorage>) throws {
    for index in blocks where !feed.has(index) {
      let proof = try from.feed.proof(
        of: index, digest: feed.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
      try feed.put(from.feed.block(at: index), at: index, proof: proof)
    }
    try feed.flush(durable: true)
  }

  private func check(_ feed: Feed<MemoryStorage>) throws -> FeedDamage {
    let check = FeedCheck(feed)
    var slices = 0
    while !check.isDone {
      try check.run { true }
      slices += 1
    }
    #expect(slices >= 203)
    let once = FeedCheck(feed)
    try once.run { false }
    #expect(once.isDone && once.damage == check.damage)
    #expect(check.progress.checked == check.progress.total)
    return check.damage
  }

  /// Repairs, opens anew, fetches from another copy what is missing, and expects all to be well.
  @discardableResult
  private func mend(_ copy: Copy, from other: Copy, isWriter: Bool = false) throws
    -> Feed<MemoryStorage>.Repair
  {
    let before = (copy.feed.length, copy.feed.heldBlocks)
    let held = (0..<copy.feed.length).filter { copy.feed.has($0) }
    let repair = try copy.feed.repair(check(copy.feed))
    let feed =
      isWriter
      ? try Feed(files: copy.files, keyPair: Self.pair, storeSecretKey: false)
      : try Feed(files: copy.files, key: copy.feed.key)
    if isWriter { #expect(feed.length == before.0) }
    try fetch(held, from: other, to: feed)
    #expect(feed.length == before.0 && feed.heldBlocks == before.1)
    #expect(try check(feed).isNone)
    for index in held { #expect(try feed.block(at: index) == Self.block(index)) }
    // And once more from disk.
    let again = try Feed(files: copy.files, key: copy.feed.key)
    #expect(again.length == before.0 && again.heldBlocks == before.1)
    return repair
  }

  @Test func aWholeFeedIsClean() throws {
    let writer = try writer()
    #expect(try check(writer.feed).isNone)
    #expect(try check(clone(of: writer, 0..<Self.length).feed).isNone)
    let some = stride(from: UInt64(1), to: Self.length, by: 7)
    let part = try clone(of: writer, some)
    let found = FeedCheck(part.feed)
    try found.run { false }
    #expect(found.damage.isNone && found.checkedBlocks == UInt64(Array(some).count))
  }

  @Test func aBlockThatWasAltered() throws {
    let writer = try writer()
    for isWriter in [true, false] {
      let copy = isWriter ? try self.writer() : try clone(of: writer, 0..<Self.length)
      let other = try clone(of: writer, 0..<Self.length)
      try copy.flip(\.data, Self.start(5), Self.start(6), Self.start(100) + 3)
      let damage = try check(copy.feed)
      #expect(damage.blocks == [5..<7, 100..<101] && damage.nodes == [] && damage.signatures == [])
      let repair = try mend(copy, from: other, isWriter: isWriter)
      #expect(repair.droppedBlocks == 3 && repair.rebuiltNodes == 0)
    }
  }

  @Test func nodesThatTheOthersTell() throws {
    let writer = try writer()
    let other = try clone(of: writer, 0..<Self.length)
    for isWriter in [true, false] {
      // A leaf's hash, a leaf's size, a parent high up, a root.
      for (node, byte) in [(40, 3), (42, 39), (31, 0), (127, 30), (127, 35), (404, 1)] {
        let copy = isWriter ? try self.writer() : try clone(of: writer, 0..<Self.length)
        try copy.flip(\.tree, 32 + 40 * node + byte)
        // What is in memory would hide it.
        let feed = copy.feed
        let damage = try check(feed)
        #expect(damage.nodes == [UInt64(node)] && damage.blocks == [], "\(node)")
        let repair = try mend(copy, from: other, isWriter: isWriter)
        #expect(repair.rebuiltNodes == 1 && repair.droppedBlocks == 0)
      }
    }
  }

  @Test func aSectorOfTheTree() throws {
    let writer = try writer()
    let other = try clone(of: writer, 0..<Self.length)
    for isWriter in [true, false] {
      let copy = isWriter ? try self.writer() : try clone(of: writer, 0..<Self.length)
      try [UInt8](repeating: 0, count: 1024).withUnsafeBytes { try copy.files.tree.write($0, at: 5500) }
      // As a daemon that starts after it finds it.
      let opened =
        isWriter
        ? try Feed(files: copy.files, keyPair: Self.pair, storeSecretKey: false)
        : try Feed(files: copy.files, key: copy.feed.key)
      let damage = try check(opened)
      #expect(!damage.nodes.isEmpty && damage.blockCount > 0 && damage.blockCount < Self.length)
      try mend(Copy(files: copy.files, feed: opened), from: other, isWriter: isWriter)
    }
  }

  @Test func signatures() throws {
    let writer = try writer()
    let other = try clone(of: writer, 0..<Self.length)
    let last = Int(Self.length - 1)
    let own = try self.writer()
    try own.flip(\.signatures, 32 + 64 * 17, 32 + 64 * last + 63)
    #expect(try check(own.feed).signatures == [17, UInt64(last)])
    let before = try writer.feed.signature(at: UInt64(last))
    #expect(try mend(own, from: other, isWriter: true).resigned == 1)
    #expect(try Feed(files: own.files, key: own.feed.key).signature(at: UInt64(last)) == before)
    // Of a clone that was fetched at once, the last is the only one: it begins anew.
    let clone = try clone(of: writer, 0..<Self.length)
    try clone.flip(\.signatures, 32 + 64 * last)
    #expect(try check(clone.feed).signatures == [UInt64(last)])
    #expect(try mend(clone, from: other).isBegunAnew)
  }

  /// What came when the feed was shorter need not be linked to its roots of now: the signature of then still proves it.
  @Test func blocksThatAnOlderSignatureProves() throws {
    let files = try files()
    let writer = Copy(files: files, feed: try Feed(files: files, keyPair: Self.pair, storeSecretKey: false))
    var copies: [Copy] = []
    for index in 0..<Self.length {
      _ = try writer.feed.append(Self.block(index))
      if [0, 2, 6, 20].contains(index) { copies.append(try clone(of: writer, [0, index])) }
    }
    for copy in copies {
      try fetch([150], from: writer, to: copy.feed)
      for feed in [copy.feed, try Feed(files: copy.files, key: copy.feed.key)] {
        let found = FeedCheck(feed)
        try found.run { false }
        #expect(found.damage.isNone && found.checkedBlocks == feed.heldBlocks)
      }
      try copy.flip(\.data, 3)
      let damaged = FeedCheck(copy.feed)
      try damaged.run { false }
      #expect(damaged.damage.blocks == [0..<1])
    }
  }

  @Test func filesThatWereCutOff() throws {
    let writer = try writer()
    let other = try clone(of: writer, 0..<Self.length)
    let copy = try clone(of: writer, 0..<Self.length)
    try copy.files.data.truncate(to: UInt64(Self.start(150)))
    #expect(try check(copy.feed).blocks == [150..<Self.length])
    try mend(copy, from: other)
    let tree = try clone(of: writer, 0..<Self.length)
    try tree.files.tree.truncate(to: 5000)
    #expect(try !check(tree.feed).isNone)
    try mend(tree, from: other)
  }

  @Test("Roots that their owner signed and that are larger together than a feed can be are none")
  func impossibleSize() throws {
    let files = try files()
    let nodes = [1, 4].map { Node(treeIndex: $0, hash: .zero, byteSize: 1 << 63) }
    let signature = Self.pair.sign(Crypto.tree(nodes))
    func put(_ file: MemoryStorage, _ bytes: [UInt8], at offset: UInt64) throws {
      try bytes.withUnsafeBytes { try file.write($0, at: offset) }
    }
    try put(files.key, Self.pair.publicKey.bytes, at: 0)
    try put(files.tree, SleepHeader.tree.bytes, at: 0)
    for node in nodes {
      try put(
        files.tree, node.hash.bytes + [0x80] + [UInt8](repeating: 0, count: 7), at: 32 + 40 * node.treeIndex)
    }
    try put(files.signatures, SleepHeader.signatures.bytes, at: 0)
    try put(files.signatures, signature.bytes, at: 32 + 64 * 2)
    #expect(try Feed(files: files, key: Self.pair.publicKey).length == 0)
  }

  @Test("A clone without its bitfield finds its blocks again, one signature over all of them")
  func withoutBitfield() throws {
    let writer = try self.writer()
    let clone = try clone(of: writer, 0..<Self.length)
    try clone.files.bitfield.truncate(to: 0)
    // Only the newest signature is left, as where a clone was fetched from a node that had all.
    try [UInt8](repeating: 0, count: 64 * Int(Self.length - 1)).withUnsafeBytes {
      try clone.files.signatures.write($0, at: UInt64(SleepHeader.size))
    }
    let again = try Feed(files: clone.files, key: writer.feed.key)
    #expect(again.length == Self.length && again.heldBlocks == Self.length)
    // Other ways would count the last one twice.
    #expect(again.recovery.foundBlocks == Self.length)
    #expect(try again.block(at: 100) == Self.block(100))
  }

  @Test(
    "A page of the bitfield of which pieces are newer than others: all that leads to what is found is marked")
  func pieces() throws {
    let files = try files()
    let feed = try Feed(files: files, keyPair: Self.pair, storeSecretKey: false)
    for index in 0..<UInt64(16) { _ = try feed.append(Self.block(index)) }
    try feed.flush(durable: true)
    // As of 14 blocks, but for the node above the last eight.
    func clear(_ offset: Int, _ bits: UInt8) throws {
      let byte = files.bitfield.bytes[SleepHeader.size + offset] & ~bits
      try [byte].withUnsafeBytes { try files.bitfield.write($0, at: UInt64(SleepHeader.size + offset)) }
    }
    try clear(1, 0b11)
    try clear(1024 + 3, 0b0001_1110)
    try clear(1024 + 1, 1)
    let opened = try Feed(files: files, keyPair: Self.pair, storeSecretKey: false)
    #expect(opened.length == 16 && opened.recovery.foundBlocks == 2)
    let clone = try Feed(files: self.files(), key: feed.key)
    let proof = try opened.proof(of: 5, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
    try clone.put(Self.block(5), at: 5, proof: proof)
    let again = try Feed(files: files, keyPair: Self.pair, storeSecretKey: false)
    #expect(again.length == 16 && again.recovery == .init())
  }

  @Test("A node that stands for none on disk is refused, though its owner signed it")
  func noNode() throws {
    let block = Self.block(1)
    let leaf = Node(
      treeIndex: 2, hash: block.withUnsafeBytes { Crypto.leaf($0) }, byteSize: UInt64(block.count))
    let none = Node(treeIndex: 0, hash: .zero, byteSize: 0)
    let root = Node(treeIndex: 1, hash: Crypto.parent(none, leaf), byteSize: leaf.byteSize)
    let signature = Self.pair.sign(Crypto.tree([root]))
    let clone = try Feed(files: files(), key: Self.pair.publicKey)
    let error = #expect(throws: FeedError.self) {
      try clone.put(block, at: 1, proof: Proof(nodes: [none], signature: signature))
    }
    #expect(error?.code == .badProof && clone.length == 0)
    #expect(throws: FeedError.self) {
      try clone.put(nil, at: 0, proof: Proof(nodes: [none, leaf], signature: signature))
    }
    // It takes what verifies as before.
    let writer = try self.writer()
    try fetch([0, 5], from: writer, to: clone)
    #expect(clone.heldBlocks == 2)
    #expect(SignedPlace(index: 1, path: [leaf, none], signature: signature, key: clone.key) == nil)
  }

  @Test("The bitfield as it would be written opens as what it was")
  func writtenBitfield() throws {
    let source = try Feed(files: files(), keyPair: Self.pair, storeSecretKey: false)
    try source.append(contentsOf: (0..<20_001).map { [UInt8(truncatingIfNeeded: $0)] })
    let files = try files()
    let clone = try Feed(files: files, key: source.key)
    for index in [UInt64(3), 20_000] {
      let proof = try source.proof(
        of: index, digest: clone.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
      try clone.put(source.block(at: index), at: index, proof: proof)
    }
    let check = FeedCheck(clone)
    try check.run { false }
    #expect(check.isDone && check.damage.isNone && check.checkedSignatures == 1)
    let pieces = clone.bitfieldFile()
    try files.bitfield.truncate(to: 0)
    for piece in pieces { try piece.bytes.withUnsafeBytes { try files.bitfield.write($0, at: piece.offset) } }
    let again = try Feed(files: files, key: source.key)
    #expect(again.heldBlocks == 2 && again.length == 20_001 && again.recovery == .init())
  }

  @Test("Of a signature of which a part is there at the end, nothing stays")
  func partialSignature() throws {
    let files = try files()
    let feed = try Feed(files: files, keyPair: Self.pair, storeSecretKey: false)
    for index in 0..<UInt64(3) { _ = try feed.append(Self.block(index)) }
    try feed.flush(durable: true)
    try [UInt8](repeating: 9, count: 32).withUnsafeBytes {
      try files.signatures.write($0, at: UInt64(SleepHeader.size) + 3 * 64)
    }
    let again = try Feed(files: files, keyPair: Self.pair, storeSecretKey: false)
    try again.append(contentsOf: [Self.block(3), Self.block(4)])
    try again.flush(durable: true)
    let check = FeedCheck(again)
    try check.run { false }
    #expect(check.damage.isNone && check.checkedSignatures == 4)
  }
}
