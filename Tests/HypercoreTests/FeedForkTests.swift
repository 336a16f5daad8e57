import TestSupport
import Testing

@testable import Hypercore

/// A writer that signed two different feeds under one key.
@Suite("Forks") struct FeedForkTests {
  private static func feed(_ blocks: [String], batch: Int = 1) throws -> Feed<MemoryStorage> {
    let seed = [UInt8](repeating: 9, count: 32)
    let pair = seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }
    let files = try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
    let feed = try Feed(files: files, keyPair: pair, storeSecretKey: false)
    var start = 0
    while start < blocks.count {
      let end = min(start + batch, blocks.count)
      try feed.append(contentsOf: blocks[start..<end].map { Array($0.utf8) })
      start = end
    }
    return feed
  }

  private static func blocks(_ count: Int, then other: String = "", from fork: Int = .max) -> [String] {
    (0..<count).map { $0 < fork ? "block \($0)" : "\(other) \($0)" }
  }

  /// As a peer shows it that is told that nothing is known.
  private static func place(_ index: UInt64, in feed: Feed<MemoryStorage>) throws -> SignedPlace? {
    let proof = try feed.proof(of: index, digest: 0, hashOnly: true, remoteTree: SparseBitfield())
    return SignedPlace(
      index: index, path: proof.nodes, signature: try #require(proof.signature), key: feed.key)
  }

  @Test("Every place of a feed is shown, and agrees with a longer or shorter copy", arguments: [1, 3, 8])
  func agrees(batch: Int) throws {
    let long = try Self.feed(Self.blocks(37), batch: batch)
    for length in [1, 2, 5, 24, 37] where length % batch == 0 || length == 37 {
      let short = try Self.feed(Self.blocks(length), batch: batch)
      for index in 0..<UInt64(length) {
        let place = try #require(try Self.place(index, in: short))
        #expect(place.length == UInt64(length))
        #expect(try long.fork(with: place) == nil)
        #expect(try long.common(with: place).length >= index + 1 - index % 2)
        #expect(try short.fork(with: #require(try Self.place(index, in: long))) == nil)
      }
    }
  }

  @Test(
    "A contradiction is found, and where it begins",
    arguments: [(20, 20), (20, 33), (33, 20), (64, 64), (7, 100)])
  func contradicts(own: Int, other: Int) throws {
    for fork in [0, 1, 3, 4, 6] + [15, 16, 19].filter({ $0 < min(own, other) }) {
      let mine = try Self.feed(Self.blocks(own))
      let theirs = try Self.feed(Self.blocks(other, then: "other", from: fork))
      for index in 0..<UInt64(other) {
        let place = try #require(try Self.place(index, in: theirs))
        let found = try mine.fork(with: place)
        if let found {
          #expect(Fork(decoding: found.encode(), key: mine.key) == found)
          let shown = [found.own, found.other].map { $0.nodes[found.treeIndex] }
          #expect(try #require(shown[0]) != #require(shown[1]))
          #expect(FlatTree.rightSpan(found.treeIndex) / 2 >= UInt64(fork))
        }
        // Before the fork a place may show nothing of what comes after; where both have a block, it does.
        #expect(
          found != nil || index < UInt64(fork) || index >= UInt64(own), "\(own) \(other) \(fork) \(index)")
        #expect(try mine.common(with: place).length <= UInt64(fork))
      }
      // Asking for the first block that is not known to be the same finds the place in few steps.
      var asked: UInt64 = 0
      var steps = 0
      while true {
        let common = try mine.common(with: #require(try Self.place(asked, in: theirs)))
        steps += 1
        if common.isExact {
          #expect(common.length == UInt64(fork))
          break
        }
        #expect(common.length > asked || steps == 1)
        asked = common.length
        try #require(steps < 12)
      }
    }
  }

  @Test(
    "A longer version, shown in full, changes nothing that is held",
    arguments: [(64, 50), (50, 45), (41, 40)] as [(Int, UInt64)])
  func longer(_ length: Int, index: UInt64) throws {
    let mine = try Self.feed(Self.blocks(40))
    let held = try Feed(files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, key: mine.key)
    for index in [UInt64(0), 9, 39] {
      let proof = try mine.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      try held.put(mine.block(at: index), at: index, proof: proof)
    }
    let theirs = try Self.feed(Self.blocks(length, then: "other", from: 4))
    let proof = try theirs.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
    let error = #expect(throws: FeedError.self) {
      try held.put(theirs.block(at: index), at: index, proof: proof)
    }
    #expect(error?.code == .badProof)
    #expect(held.length == 40 && held.heldBlocks == 3)
    for index in [UInt64(0), 9, 39] {
      #expect(try held.block(at: index) == mine.block(at: index))
      #expect(try Self.place(index, in: held)?.length == 40)
    }
  }

  @Test("Evidence is kept with what both versions have in common, and taken only whole")
  func evidence() throws {
    let mine = try Self.feed(Self.blocks(20))
    let theirs = try Self.feed(Self.blocks(24, then: "other", from: 9))
    let place = try #require(try Self.place(9, in: theirs))
    let evidence = ForkEvidence(
      key: mine.key, fork: try #require(try mine.fork(with: place)),
      common: try mine.common(with: place).length)
    let bytes = evidence.encoded
    #expect(ForkEvidence(decoding: bytes) == evidence)
    for place in [0, 31, 40, 60, bytes.count / 2, bytes.count - 1] {
      var altered = bytes
      altered[place] ^= 1
      #expect(ForkEvidence(decoding: altered) == nil, "byte \(place)")
    }
    for count in [0, 31, 40, 41, bytes.count - 1] {
      #expect(ForkEvidence(decoding: Array(bytes.prefix(count))) == nil)
    }
    // More cannot be the same than what is before the end of what the two show differently.
    let end = FlatTree.rightSpan(evidence.fork.treeIndex) / 2 + 1
    for (common, isPossible) in [(0, true), (end - 1, true), (end, false), (UInt64.max, false)] {
      let other = ForkEvidence(key: mine.key, fork: evidence.fork, common: common)
      #expect((ForkEvidence(decoding: other.encoded) == other) == isPossible, "\(common)")
    }
  }

  @Test("What was not signed is no evidence")
  func madeUp() throws {
    let mine = try Self.feed(Self.blocks(20))
    let theirs = try Self.feed(Self.blocks(20, then: "other", from: 5))
    let place = try #require(try Self.place(9, in: theirs))
    for changed in 0..<place.path.count {
      var path = place.path
      path[changed].byteSize += 1
      #expect(SignedPlace(index: 9, path: path, signature: place.signature, key: mine.key) == nil)
      path = place.path
      path.remove(at: changed)
      #expect(SignedPlace(index: 9, path: path, signature: place.signature, key: mine.key) == nil)
    }
    #expect(SignedPlace(index: 8, path: place.path, signature: place.signature, key: mine.key) == nil)
    #expect(SignedPlace(index: 9, path: [], signature: place.signature, key: mine.key) == nil)
    let evidence = try #require(try mine.fork(with: place)).encode()
    for offset in stride(from: 0, to: evidence.count, by: 3) {
      var altered = evidence
      altered[offset] ^= 1
      #expect(Fork(decoding: altered, key: mine.key) == nil, "byte \(offset)")
      #expect(Fork(decoding: Array(evidence[..<offset]), key: mine.key) == nil)
    }
    #expect(Fork(decoding: evidence + [0], key: mine.key) == nil)
    // Twice the same is none either.
    let own = try #require(try Self.place(9, in: mine))
    #expect(Fork(own: own, other: own) == nil)
  }
}
