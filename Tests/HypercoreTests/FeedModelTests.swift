import TestSupport
import Testing

@testable import Hypercore

@Suite("A feed against a plain list of blocks")
struct FeedModelTests {
  /// A writer, a clone of it, and what both must hold.
  private struct World {
    var random: SeededRandom
    var blocks: [[UInt8]] = []
    var held: Set<UInt64> = []
    var writerFiles: FeedFiles<MemoryStorage>
    var cloneFiles: FeedFiles<MemoryStorage>
    var writer: Feed<MemoryStorage>
    var clone: Feed<MemoryStorage>
    var remoteTree = SparseBitfield()

    init(seed: UInt64) throws {
      random = SeededRandom(seed)
      writerFiles = try .empty()
      cloneFiles = try .empty()
      let seed = random.bytes(32)
      writer = try Feed(files: writerFiles, keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) })
      clone = try Feed(files: cloneFiles, key: writer.key)
    }

    mutating func append() throws {
      let count = Bool.random(using: &random) ? 1 : Int.random(in: 0...70, using: &random)
      try append((0..<count).map { _ in random.bytes(Int.random(in: 0...40, using: &random)) })
    }

    mutating func append(_ batch: [[UInt8]]) throws {
      let count = batch.count
      let range = try writer.append(contentsOf: batch)
      #expect(range == UInt64(blocks.count)..<UInt64(blocks.count + count))
      blocks.append(contentsOf: batch)
    }

    mutating func replicateOne() throws {
      if let index = (0..<UInt64(blocks.count)).randomElement(using: &random) { try replicate(index) }
    }

    mutating func replicate(_ index: UInt64) throws {
      // A digest of zero says nothing of what the clone has, and is right too.
      let digest = Bool.random(using: &random) ? clone.digest(of: index) : 0
      let hashOnly = UInt8.random(in: 0...9, using: &random) == 0
      let tree = digest == 0 ? SparseBitfield() : remoteTree
      let proof = try writer.proof(of: index, digest: digest, hashOnly: hashOnly, remoteTree: tree)
      if UInt8.random(in: 0...3, using: &random) == 0 { try tamper(index, proof, hashOnly) }
      try clone.put(hashOnly ? nil : blocks[Int(index)], at: index, proof: proof)
      if !hashOnly { held.insert(index) }
    }

    /// A false block, node or signature is refused and changes nothing.
    mutating func tamper(_ index: UInt64, _ proof: Proof, _ hashOnly: Bool) throws {
      let before = (clone.length, clone.byteLength, clone.heldBlocks, clone.digest(of: index))
      var proof = proof
      var block: [UInt8]? = hashOnly ? nil : blocks[Int(index)]
      if !hashOnly, Bool.random(using: &random) {
        block?.append(1)
      } else if let place = proof.nodes.indices.first, before.3 != 1 {
        proof.nodes[place].hash = try #require(Hash(random.bytes(32)))
      } else if hashOnly {
        return
      } else {
        block = random.bytes(50)
      }
      #expect(throws: FeedError.self) { try clone.put(block, at: index, proof: proof) }
      #expect(before == (clone.length, clone.byteLength, clone.heldBlocks, clone.digest(of: index)))
    }

    mutating func restart() throws {
      try writer.flush(durable: true)
      try clone.flush(durable: true)
      writerFiles = try writerFiles.copied()
      cloneFiles = try cloneFiles.copied()
      writer = try Feed(files: writerFiles, key: writer.key)
      clone = try Feed(files: cloneFiles, key: writer.key)
      remoteTree = SparseBitfield()
    }

    mutating func check() throws {
      #expect(writer.length == UInt64(blocks.count))
      #expect(writer.byteLength == UInt64(blocks.reduce(0) { $0 + $1.count }))
      #expect(clone.heldBlocks == UInt64(held.count))
      for index in (0..<UInt64(blocks.count)).shuffled(using: &random).prefix(20) {
        #expect(try writer.block(at: index) == blocks[Int(index)])
        #expect(clone.has(index) == held.contains(index))
        if held.contains(index) { #expect(try clone.block(at: index) == blocks[Int(index)]) }
      }
      #expect(clone.firstMissing(in: 0..<clone.length) == (0..<clone.length).first { !held.contains($0) })
      #expect(clone.firstHeld(in: 0..<clone.length) == held.min())
    }
  }

  @Test(arguments: UInt64(0)..<12)
  func random(seed: UInt64) throws {
    var world = try World(seed: seed)
    for step in 0..<400 {
      switch UInt8.random(in: 0...20, using: &world.random) {
      case 0...3: try world.append()
      case 4: try world.restart()
      default: try world.replicateOne()
      }
      if step % 10 == 0 { try world.check() }
    }
    try world.check()
  }

  @Test(
    "A byte changed anywhere in a feed's files is never taken for the owner's word", arguments: UInt64(0)..<8)
  func damage(seed: UInt64) throws {
    var world = try World(seed: seed)
    for _ in 0..<6 { try world.append() }
    try world.writer.append(contentsOf: [[1, 2, 3]])
    world.blocks.append([1, 2, 3])
    try world.writer.flush(durable: true)
    for _ in 0..<200 {
      let files = try world.writerFiles.copied()
      let victim = try #require(
        [files.key, files.secretKey, files.tree, files.signatures].randomElement(using: &world.random))
      let offset = UInt64.random(in: 0..<UInt64(victim.bytes.count), using: &world.random)
      let byte = victim.bytes[Int(offset)] ^ UInt8.random(in: 1...255, using: &world.random)
      try [byte].withUnsafeBytes { try victim.write($0, at: offset) }
      // Either it is noticed, or it is in a place that says nothing about the length.
      guard let feed = try? Feed(files: files, key: world.writer.key) else { continue }
      #expect(feed.length == UInt64(world.blocks.count))
      #expect(feed.roots == world.writer.roots)
    }
  }

  @Test("A stop before the bitfield is written, or in the middle of a batch, loses nothing that was durable")
  func unfinished() throws {
    var world = try World(seed: 99)
    while world.blocks.count < 100 { try world.append() }
    try world.writer.flush(durable: true)
    let before = world.writerFiles.bitfield.bytes
    let durable = world.blocks.count
    while world.blocks.count < durable + 150 { try world.append() }
    try world.writer.flush(durable: true)
    // Stale bitfield, whole files: everything is found again.
    var files = try world.writerFiles.copied()
    try files.bitfield.truncate(to: 0)
    try before.withUnsafeBytes { try files.bitfield.write($0, at: 0) }
    var feed = try Feed(files: files, key: world.writer.key)
    #expect(feed.length == UInt64(world.blocks.count))
    #expect(feed.recovery.foundBlocks == UInt64(world.blocks.count - durable))
    #expect(feed.recovery.cutBlocks == 0)
    // The end of the data is not there yet: back to the last signed block before, and on from there.
    files = try world.writerFiles.copied()
    try files.bitfield.truncate(to: 0)
    try before.withUnsafeBytes { try files.bitfield.write($0, at: 0) }
    try files.data.truncate(to: UInt64(files.data.bytes.count) - 10)
    feed = try Feed(files: files, key: world.writer.key)
    #expect(feed.length >= UInt64(durable) && feed.length < UInt64(world.blocks.count))
    #expect(feed.recovery.cutBlocks > 0)
    let index = try feed.append(Array("next".utf8))
    try feed.flush(durable: true)
    let again = try Feed(files: files.copied(), key: world.writer.key)
    #expect(again.length == index + 1)
    #expect(again.recovery == .init())
    #expect(try again.block(at: index) == Array("next".utf8))
  }

  /// Files of a clone of the writer's feed when it had three blocks.
  private func clone(of world: inout World) throws -> FeedFiles<MemoryStorage> {
    for number in UInt8(0)..<3 { try world.append([[number]]) }
    try world.writer.flush(durable: true)
    let files = try world.writerFiles.copied()
    try files.secretKey.truncate(to: 0)
    return files
  }

  @Test(
    "What a power cut left behind the last signature is not between those of blocks that come",
    arguments: [30, 64, 200])
  func junkBehind(count: Int) throws {
    var world = try World(seed: 7)
    let files = try clone(of: &world)
    try world.random.bytes(count).withUnsafeBytes {
      try files.signatures.write($0, at: files.signatures.size)
    }
    let feed = try Feed(files: files, key: world.writer.key)
    #expect(feed.length == 3)
    try world.append([[3], [4], [5], [6], [7]])
    let proof = try world.writer.proof(
      of: 7, digest: feed.digest(of: 7), hashOnly: false, remoteTree: SparseBitfield())
    try feed.put([7], at: 7, proof: proof)
    let check = FeedCheck(feed)
    try check.run { false }
    #expect(check.damage.isNone && feed.length == 8)
  }

  @Test(
    "What a power cut left in a signature's place is removed where a later one is found, and what is one stays"
  )
  func junkBetween() throws {
    var world = try World(seed: 8)
    let files = try clone(of: &world)
    for number in UInt8(3)..<6 { try world.append([[number]]) }
    try world.writer.flush(durable: true)
    // The bytes of the later blocks are not there, so that these are not taken in one by one.
    try world.writerFiles.tree.bytes.withUnsafeBytes { try files.tree.write($0, at: 0) }
    try world.writerFiles.signatures.bytes.withUnsafeBytes { try files.signatures.write($0, at: 0) }
    try world.random.bytes(64).withUnsafeBytes {
      try files.signatures.write($0, at: UInt64(SleepHeader.size) + 64 * 3)
    }
    let feed = try Feed(files: files, key: world.writer.key)
    #expect(feed.length == 6 && feed.heldBlocks == 3)
    let check = FeedCheck(feed)
    try check.run { false }
    #expect(check.damage.isNone)
    #expect(try feed.signature(at: 3) == nil)
    #expect(try feed.signature(at: 4) == world.writer.signature(at: 4))
  }

  /// Blocks at the edges of pages, of halves and of all, where what a clone knows of a feed changes.
  private func edge(of length: Int, _ random: inout SeededRandom) -> UInt64 {
    let edges = [
      0, length, 8192 * Int.random(in: 0...length / 8192, using: &random),
      1 << Int.random(in: 0...16, using: &random),
    ]
    let near = (edges.randomElement(using: &random) ?? 0) + Int.random(in: -2...2, using: &random)
    return UInt64(min(max(near, 0), length - 1))
  }

  @Test("a long feed, of which a clone has a little here and there", arguments: UInt64(0)..<4)
  func long(seed: UInt64) throws {
    var world = try World(seed: seed)
    for _ in 0..<4 {
      let count = [1, 30, 8192, 16_384, 40_000, 65_536].randomElement(using: &world.random) ?? 1
      let more = max(1, count + Int.random(in: -1...1, using: &world.random))
      try world.append((0..<more).map { [UInt8($0 & 255), 1] })
      let stale = world.cloneFiles.bitfield.bytes
      for _ in 0..<Int.random(in: 1...20, using: &world.random) {
        try world.replicate(edge(of: world.blocks.count, &world.random))
      }
      try world.restart()
      try world.check()
      #expect(world.clone.recovery == .init())
      // Found again where only some pages of the newest bitfield were written, with all that leads to it.
      let files = try world.cloneFiles.copied()
      let newest = files.bitfield.bytes
      try files.bitfield.truncate(to: 32)
      let old = Bool.random(using: &world.random) ? stale : Array(stale.prefix(32))
      for start in stride(from: 32, to: newest.count, by: FeedBitfield.pageSize) {
        let end = start + FeedBitfield.pageSize
        let before =
          end <= old.count ? Array(old[start..<end]) : [UInt8](repeating: 0, count: FeedBitfield.pageSize)
        let page = Bool.random(using: &world.random) ? Array(newest[start..<end]) : before
        try page.withUnsafeBytes { try files.bitfield.write($0, at: UInt64(start)) }
      }
      let again = try Feed(files: files, key: world.writer.key)
      #expect(
        again.heldBlocks == UInt64(world.held.count),
        "\(world.blocks.count), \(again.length), clone \(world.clone.length), held \(world.held.sorted()), again \(world.held.filter { again.has($0) }.sorted())"
      )
      for feed in [world.clone, again] {
        let check = FeedCheck(feed)
        try check.run { false }
        #expect(check.isDone && check.damage.isNone)
        #expect(check.checkedBlocks == UInt64(world.held.count))
      }
      // Others take it from there.
      let other = try Feed(files: FeedFiles<MemoryStorage>.empty(), key: world.writer.key)
      for index in world.held.shuffled(using: &world.random) {
        let proof = try again.proof(
          of: index, digest: other.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
        try other.put(again.block(at: index), at: index, proof: proof)
      }
      #expect(other.heldBlocks == UInt64(world.held.count))
    }
  }

  @Test(
    "a writer that fetches what it wrote before opens again, whichever pages of the bitfield were written",
    arguments: [(0, 20_000), (30_000, 40_000), (9000, 17_000)])
  func fetching(lengths: (held: Int, all: Int)) throws {
    let seed = [UInt8](repeating: 9, count: 32)
    func pair() -> KeyPair { seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) } }
    let source = try Feed(files: FeedFiles<MemoryStorage>.empty(), keyPair: pair())
    let files = try FeedFiles<MemoryStorage>.empty()
    let writer = try Feed(files: files, keyPair: pair())
    if lengths.held > 0 {
      let blocks = [[UInt8]](repeating: [5], count: lengths.held)
      try source.append(contentsOf: blocks)
      try writer.append(contentsOf: blocks)
      try writer.flush(durable: true)
    }
    try source.append(contentsOf: [[UInt8]](repeating: [6], count: lengths.all - lengths.held))
    let before = files.bitfield.bytes
    for index in [UInt64(lengths.held), UInt64(lengths.all) - 1] {
      let proof = try source.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      try writer.put([6], at: index, proof: proof)
    }
    try writer.flush(durable: true)
    let after = files.bitfield.bytes
    let pages = (after.count - 32) / FeedBitfield.pageSize
    for written in 0..<1 << pages {
      let torn = try files.copied()
      try torn.bitfield.truncate(to: 32)
      for page in 0..<pages {
        let start = 32 + page * FeedBitfield.pageSize
        let end = start + FeedBitfield.pageSize
        let old =
          end <= before.count
          ? Array(before[start..<end]) : [UInt8](repeating: 0, count: FeedBitfield.pageSize)
        try (written >> page & 1 == 1 ? Array(after[start..<end]) : old).withUnsafeBytes {
          try torn.bitfield.write($0, at: UInt64(start))
        }
      }
      let again = try Feed(files: torn, keyPair: pair())
      // Where the pages that were written say nothing of what is new, it comes again.
      #expect([lengths.held, lengths.all].contains(Int(again.length)))
      #expect(again.heldBlocks >= UInt64(lengths.held))
      if written == 1 << pages - 1 { #expect(again.heldBlocks == UInt64(lengths.held) + 2) }
    }
  }

  @Test("a clone that has one block of a long feed opens again", arguments: [16_384, 65_536, 90_000, 98_304])
  func little(length: Int) throws {
    let world = try World(seed: 98)
    try world.writer.append(contentsOf: [[UInt8]](repeating: [7], count: length))
    for index in [0, 1, length / 2, length - 1].map({ UInt64($0) }) {
      let files = try FeedFiles<MemoryStorage>.empty()
      let clone = try Feed(files: files, key: world.writer.key)
      let proof = try world.writer.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      try clone.put([7], at: index, proof: proof)
      try clone.flush(durable: true)
      for _ in 0..<2 {
        let again = try Feed(files: files.copied(), key: world.writer.key)
        #expect(again.length == UInt64(length) && again.heldBlocks == 1)
        #expect(try again.block(at: index) == [7] && again.recovery == .init())
      }
    }
  }

  @Test func refusals() throws {
    let world = try World(seed: 5)
    #expect(throws: FeedError.self) { try world.clone.append([1]) }
    #expect(throws: FeedError.self) {
      try Feed(
        files: world.writerFiles, key: try #require(PublicKey(hex: String(repeating: "ab", count: 32))))
    }
    #expect(throws: FeedError.self) {
      try world.writer.append([UInt8](repeating: 0, count: Limits.blockBytes + 1))
    }
    #expect(world.writer.length == 0)
    #expect(throws: FeedError.self) {
      try world.clone.put([1], at: Limits.feedBlocks, proof: Proof(nodes: [], signature: nil))
    }
    // A size that would overflow.
    let huge = Node(treeIndex: 2, hash: .zero, byteSize: .max)
    #expect(throws: FeedError.self) {
      try world.clone.put([1], at: 0, proof: Proof(nodes: [huge], signature: nil))
    }
  }

  @Test("a block is not taken for another one, whose place under the signed roots is not shown")
  func otherPlace() throws {
    var world = try World(seed: 6)
    try world.writer.append(contentsOf: (UInt8(0)..<30).map { [UInt8](repeating: $0, count: Int($0) + 1) })
    func proof(_ index: UInt64) throws -> Proof {
      try world.writer.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
    }
    try world.clone.put(world.writer.block(at: 0), at: 0, proof: proof(0))
    #expect(throws: FeedError.self) { try world.clone.put(world.writer.block(at: 1), at: 8, proof: proof(1)) }
    #expect(throws: FeedError.self) {
      try world.clone.put([1, 2, 3], at: 8, proof: Proof(nodes: [], signature: proof(1).signature))
    }
    #expect(!world.clone.has(8))
    world.blocks = []
  }
}
