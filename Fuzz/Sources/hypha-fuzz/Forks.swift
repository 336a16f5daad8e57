@testable import Hypercore

/// Evidence that a feed's owner signed two versions of it, and what a peer shows to prove that.
let forkTargets = [
  Target(
    name: "forks",
    seeds: {
      let evidence = versions[1].evidence(against: versions[2], at: 4)?.encoded ?? []
      return [
        [0] + evidence, [1, 0, 100, 1, 1], [1, 1, 36, 1, 9], [2, 0, 1, 4], [2, 3, 1, 9, 10], [3, 0, 4, 1, 3],
      ]
    }, run: fuzzForks)
]

/// A feed that was written to, and what stands in its place.
private struct Written {
  let feed: Feed<MemoryStorage>
  let blocks: [[UInt8]]

  init(_ sample: Sample) {
    blocks = sample.blocks
    guard let feed = try? Feed(files: sample.written.opened(), key: sample.key) else { fatalError() }
    self.feed = feed
  }

  /// As a peer shows it that is told that nothing is known.
  func place(_ index: UInt64) -> SignedPlace {
    guard
      let proof = try? feed.proof(of: index, digest: 0, hashOnly: true, remoteTree: SparseBitfield()),
      let signature = proof.signature,
      let place = SignedPlace(index: index, path: proof.nodes, signature: signature, key: feed.key)
    else { fatalError("not so: every block has its place") }
    return place
  }

  /// Blocks that are the same in both, from the first on.
  func common(with other: Written) -> UInt64 {
    UInt64(zip(blocks, other.blocks).prefix { $0 == $1 }.count)
  }

  func evidence(against other: Written, at index: UInt64) -> ForkEvidence? {
    let place = other.place(index)
    do {
      let common = try feed.common(with: place)
      expect(common.length <= self.common(with: other), "no more is the same than there is")
      expect(
        !common.isExact || common.length == self.common(with: other), "where two versions part is one place")
      return try feed.fork(with: place).map { ForkEvidence(key: feed.key, fork: $0, common: common.length) }
    } catch {
      fatalError("not so: a feed that is whole can be compared: \(error)")
    }
  }
}

// One after the other is used, by one thread.
nonisolated(unsafe) private let versions = [
  Sample(1, blocks: 6), feedSample, Sample(1, blocks: 14, partsAt: 1), Sample(1, blocks: 16, partsAt: 9),
  Sample(1, blocks: 11, partsAt: 10), Sample(1, blocks: 32, partsAt: 8),
].map { Written($0) }

private func fuzzForks(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let kind = input.byte()
  if kind & 3 == 0 {
    let bytes = input.rest()
    if let evidence = ForkEvidence(decoding: bytes) {
      expect(evidence.encoded == bytes, "evidence is read as it was written")
    }
    return
  }
  let (own, other) = (versions[input.below(versions.count)], versions[input.below(versions.count)])
  let index = UInt64(input.below(other.blocks.count))
  if kind & 3 == 3 { return alter(other.place(index), other.feed.key, &input) }
  let evidence = own.evidence(against: other, at: index)
  let common = own.common(with: other)
  let isSame = common == UInt64(min(own.blocks.count, other.blocks.count))
  expect(evidence == nil || !isSame, "what agrees is no fork")
  expect(
    evidence != nil || isSame || index < common || index >= UInt64(own.blocks.count),
    "a block that differs shows a fork")
  guard let evidence else { return }
  let encoded = evidence.encoded
  expect(ForkEvidence(decoding: encoded) == evidence, "evidence is read as it was written")
  guard kind & 3 == 1 else { return }
  var altered = encoded
  let offset = (Int(input.byte()) << 8 | Int(input.byte())) % encoded.count
  for (place, byte) in input.rest().prefix(encoded.count - offset).enumerated() {
    altered[offset + place] ^= byte
  }
  guard let again = ForkEvidence(decoding: altered) else { return }
  expect(again.key == evidence.key && again.fork == evidence.fork, "evidence that is altered is none")
}

/// A place is what was signed, or none.
private func alter(_ place: SignedPlace, _ key: PublicKey, _ input: inout Input) {
  var (index, path) = (place.index, place.path)
  let node = input.below(path.count)
  switch input.byte() % 7 {
  case 0: index = input.number()
  case 1: path.remove(at: node)
  case 2: path[node].byteSize = input.number()
  case 3: path[node].treeIndex = min(input.number(), 4 << 40)
  case 4: path[node].hash = Bytes32([UInt8](repeating: input.byte(), count: 32)) ?? .zero
  case 5:
    path.insert(
      Node(treeIndex: min(input.number(), 4 << 40), hash: someKey, byteSize: input.number()), at: node)
  default: path.swapAt(node, input.below(path.count))
  }
  let again = SignedPlace(index: index, path: path, signature: place.signature, key: key)
  expect(again == nil || again == place, "a place that is altered is none")
}
