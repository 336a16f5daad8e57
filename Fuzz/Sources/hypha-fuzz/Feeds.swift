@testable import Hypercore

/// A feed's files, and the session of two nodes that share feeds.
let feedTargets = [
  Target(
    name: "files",
    seeds: {
      [[0], [1], [2], [3], [1, 3, 0, 32, 4, 1, 2, 3, 4], [0, 5, 0, 33, 1, 0xFF], [2, 0x44, 0, 100]]
        + rawFileSeeds
    },
    run: fuzzFiles),
  Target(name: "session", seeds: { sessionSeeds }, run: fuzzSession),
]

func keyPair(_ number: UInt8) -> KeyPair {
  let seed = [UInt8](repeating: number, count: 32)
  return seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }
}

/// A feed's six files as bytes.
struct FileBytes: Sendable {
  var files: [[UInt8]] = Array(repeating: [], count: 6)

  init() {}

  init(_ open: FeedFiles<MemoryStorage>) {
    files = [open.key, open.secretKey, open.data, open.tree, open.signatures, open.bitfield].map { $0.bytes }
  }

  func opened() -> FeedFiles<MemoryStorage> {
    var next = 0
    // Memory does not fail.
    guard
      let files = try? FeedFiles({ (_) throws(StorageError) in
        defer { next += 1 }
        return MemoryStorage(files[next])
      })
    else { fatalError() }
    return files
  }
}

/// Of a feed that was written to, some blocks of it empty. Those with one number have one key; they are the same up to where one parts.
struct Sample: Sendable {
  let key: PublicKey
  let blocks: [[UInt8]]
  let written: FileBytes
  /// A clone that has the blocks 0, 3 and 4.
  let partial: FileBytes

  init(_ number: UInt8, blocks count: Int, partsAt fork: Int = .max) {
    let pair = keyPair(number)
    key = pair.publicKey
    blocks = (0..<count).map {
      [UInt8](repeating: UInt8(65 + $0), count: $0 * 7 % 23) + ($0 < fork ? [] : [UInt8(fork)])
    }
    do {
      let files = FileBytes().opened()
      let feed = try Feed(files: files, keyPair: pair, storeSecretKey: false)
      for block in blocks.prefix(count / 2) { _ = try feed.append(block) }
      _ = try feed.append(contentsOf: Array(blocks.suffix(from: count / 2)))
      try feed.flush(durable: true)
      written = FileBytes(files)
      let cloned = FileBytes().opened()
      let clone = try Feed(files: cloned, key: key)
      for index in [UInt64(0), 3, 4] where index < UInt64(count) {
        let proof = try feed.proof(
          of: index, digest: clone.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
        try clone.put(feed.block(at: index), at: index, proof: proof)
      }
      try clone.flush(durable: true)
      partial = FileBytes(cloned)
    } catch {
      fatalError("\(error)")
    }
  }
}

let feedSample = Sample(1, blocks: 11)

private var rawFileSeeds: [[UInt8]] {
  [[4] + feedSample.written.files.flatMap { $0.prefix(600).asArray.asPiece }]
}

extension ArraySlice<UInt8> {
  fileprivate var asArray: [UInt8] { Array(self) }
}

// MARK: - Files

/// Files of a feed, damaged or made up, are opened or refused, and what was opened once opens again and is the same.
private func fuzzFiles(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let kind = input.byte()
  var files = kind & 1 == 0 ? feedSample.written : feedSample.partial
  let isWriter = kind & 2 != 0
  if kind & 4 != 0 {
    for place in 0..<6 { files.files[place] = input.piece() }
    if kind & 8 != 0 {
      files.files[0] = feedSample.key.bytes
      files.files[3] = SleepHeader.tree.bytes + files.files[3]
      files.files[4] = SleepHeader.signatures.bytes + files.files[4]
      files.files[5] = SleepHeader.bitfield.bytes + files.files[5]
    }
  }
  while !input.isAtEnd { damage(&files, &input) }
  let storage = files.opened()
  guard let feed = open(storage, isWriter) else { return }
  expect(feed.length <= Limits.feedBlocks, "a feed's length stays in its bound")
  use(feed)
  let length = feed.length
  do throws(FeedError) {
    try feed.flush(durable: true)
  } catch { return }
  guard let again = open(storage, isWriter) else { fatalError("not so: what was opened once opens again") }
  expect(again.length == length, "a feed opened anew is as long as before: \(length), \(again.length)")
  guard isWriter else { return }
  do throws(FeedError) {
    let index = try again.append([1, 2, 3])
    expect(index == length, "a block is appended at the end")
    try again.flush(durable: true)
    expect(open(storage, isWriter)?.length == length + 1, "what was appended is there")
  } catch {
    expect(error.code != .badSignature, "an own signature verifies")
  }
}

private func open(_ storage: FeedFiles<MemoryStorage>, _ isWriter: Bool) -> Feed<MemoryStorage>? {
  isWriter
    ? try? Feed(files: storage, keyPair: keyPair(1), storeSecretKey: false)
    : try? Feed(files: storage, key: feedSample.key)
}

private func damage(_ files: inout FileBytes, _ input: inout Input) {
  let choice = Int(input.byte())
  let file = choice % 6
  let offset = Int(input.byte()) << 8 | Int(input.byte())
  if choice & 0x40 != 0 {
    files.files[file] = Array(files.files[file].prefix(offset))
    return
  }
  let piece = input.piece()
  if files.files[file].count < offset + piece.count {
    files.files[file] += [UInt8](repeating: 0, count: offset + piece.count - files.files[file].count)
  }
  for (place, byte) in piece.enumerated() { files.files[file][offset + place] = byte }
}

private func use(_ feed: Feed<MemoryStorage>) {
  for index in 0..<min(feed.length, 32) {
    _ = try? feed.block(at: index)
    _ = try? feed.signature(at: index)
    _ = feed.digest(of: index)
    _ = try? feed.proof(of: index, digest: 0, hashOnly: index & 1 == 0, remoteTree: SparseBitfield())
    _ = try? feed.index(ofByte: index * 5)
  }
  let check = FeedCheck(feed)
  try? check.run(until: { false })
  let progress = check.progress
  expect(progress.checked <= progress.total, "a check looks at what there is")
}

// MARK: - Session

private let ownSample = Sample(2, blocks: 5)

/// What a peer can send blocks of: the feed that the node has in part, two other versions of it, and one that it has not yet.
private let remoteSamples = [
  feedSample, Sample(1, blocks: 14, partsAt: 1), Sample(1, blocks: 16, partsAt: 9), Sample(3, blocks: 6),
]

/// A node that has one feed in part and another of its own, later one more, and peers that send it what the fuzzer says.
private final class Scene {
  let node = Replicator<MemoryStorage>()
  /// Blocks of ``clone``; all versions have them but the second, which parts behind the first of them.
  static let heldAtFirst: [UInt64] = [0, 3, 4]

  let clone: Feed<MemoryStorage>
  let own: Feed<MemoryStorage>
  /// Not shared at first.
  let late: Feed<MemoryStorage>
  let remote: [Feed<MemoryStorage>]
  var now: UInt64 = 1000
  /// Each peer's connection, while it lasts.
  var peers: [ConnectionID?] = [nil, nil]
  private var count: ConnectionID = 0

  init() {
    do {
      clone = try Feed(files: feedSample.partial.opened(), key: feedSample.key)
      own = try Feed(files: ownSample.written.opened(), keyPair: keyPair(2), storeSecretKey: false)
      late = try Feed(files: FileBytes().opened(), key: remoteSamples[3].key)
      remote = try remoteSamples.map { try Feed(files: $0.written.opened(), key: $0.key) }
      try node.share(clone, downloads: true)
      try node.share(own, downloads: true)
    } catch {
      fatalError("\(error)")
    }
  }

  func connect(_ peer: Int, live: Bool) {
    guard peers[peer] == nil else { return }
    count += 1
    peers[peer] = count
    note(peer) { () throws(WireError) in
      try node.connect(
        count, Session.Configuration(id: [9, 9], live: live, extensions: ["secure-ephemeral"]),
        first: clone.key)
    }
  }

  func disconnect(_ peer: Int) {
    guard let id = peers[peer] else { return }
    node.disconnect(id)
    peers[peer] = nil
  }

  func receive(_ bytes: [UInt8], from peer: Int) {
    guard let id = peers[peer] else { return }
    note(peer) { () throws(WireError) in try node.receive(bytes, from: id, now: now) }
  }

  func takeEvents() {
    for event in node.takeEvents() {
      guard case .forked(let key, let fork, let common) = event else { continue }
      expect(key == clone.key, "only the feed with two versions is forked")
      let evidence = ForkEvidence(key: key, fork: fork, common: common)
      expect(ForkEvidence(decoding: evidence.encoded) == evidence, "evidence is read as it was written")
    }
  }

  func note(_ peer: Int, _ body: () throws(WireError) -> Void) {
    do throws(WireError) { try body() } catch {
      if case .local(let code) = error.code {
        fatalError("not so: no peer breaks this node's own feed: \(code)")
      }
      disconnect(peer)
    }
  }
}

private func fuzzSession(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let scene = Scene()
  let start = input.byte()
  scene.connect(0, live: start & 1 == 0)
  if start & 2 != 0 { hello(scene, 0) }
  if start & 4 != 0 {
    scene.connect(1, live: true)
    hello(scene, 1)
  }
  var steps = 0
  while !input.isAtEnd, steps < 512 {
    step(scene, &input)
    steps += 1
  }
  scene.takeEvents()
  // The second version differs from what is held at first. The third does not, so that which of the two goes on is open.
  expectSigned(scene.clone, [remoteSamples[0], remoteSamples[2]])
  expectSigned(scene.late, [remoteSamples[3]])
  for index in Scene.heldAtFirst {
    let proof = try? scene.clone.proof(of: index, digest: 0, hashOnly: true, remoteTree: SparseBitfield())
    let place = proof.flatMap { proof in
      proof.signature.flatMap {
        SignedPlace(index: index, path: proof.nodes, signature: $0, key: feedSample.key)
      }
    }
    expect(
      place != nil && (try? scene.clone.block(at: index)) == feedSample.blocks[Int(index)],
      "what is the same in all versions stays held, and can be shown to others")
  }
  for case let id? in scene.peers {
    let size = scene.node.takeOutput(of: id).count
    expect(size < 4 * WireLimits.outputBytes, "\(size) bytes wait to be sent")
  }
}

private func expectSigned(_ feed: Feed<MemoryStorage>, _ versions: [Sample]) {
  for index in 0..<feed.length where feed.has(index) {
    let block = try? feed.block(at: index)
    expect(
      versions.contains { index < UInt64($0.blocks.count) && block == $0.blocks[Int(index)] },
      "what a node holds is what the owner signed")
  }
}

private func hello(_ scene: Scene, _ peer: Int) {
  scene.receive(frame(.feed(.init(discoveryKey: scene.clone.discoveryKey))), from: peer)
  scene.receive(
    frame(.handshake(.init(id: [UInt8(peer)], live: true, extensions: ["secure-ephemeral"]))), from: peer)
}

private func step(_ scene: Scene, _ input: inout Input) {
  let choice = input.byte()
  let peer = choice & 0x80 == 0 ? 0 : 1
  let channel = Int(choice >> 5 & 3)
  func send(_ message: Message) { scene.receive(frame(message, channel: channel), from: peer) }
  switch choice & 31 {
  case 0: scene.receive(input.piece(), from: peer)
  case 1:
    let header = [UInt8(channel << 4) | (input.byte() & 15)]
    let body = header + input.piece()
    scene.receive([UInt8(body.count & 127 | 128), UInt8(body.count >> 7)] + body, from: peer)
  case 2, 3: data(scene, channel, peer, &input)
  case 4:
    scene.now += min(input.number(), 1 << 32)
    for (id, _) in scene.node.tick(now: scene.now) {
      for peer in 0..<2 where scene.peers[peer] == id { scene.disconnect(peer) }
    }
  case 5:
    let unsent = Int(input.byte()) << 14
    if let id = scene.peers[peer] {
      scene.note(peer) { () throws(WireError) in try scene.node.setUnsent(unsent, on: id) }
    }
  case 6: scene.node.announce(scene.clone.key, below: input.number())
  case 7: scene.node.announce(scene.own.key)
  case 8:
    if scene.own.length < 64, let index = try? scene.own.append(input.piece()) {
      scene.node.appended(index..<index + 1, to: scene.own.key)
    }
  case 9: if let id = scene.peers[peer] { _ = scene.node.takeOutput(of: id) }
  case 10:
    let limit = input.number()
    scene.node.limit(scene.clone.key, to: limit == 0 ? nil : limit)
  case 11: scene.disconnect(peer)
  case 12:
    scene.connect(peer, live: input.byte() & 1 == 0)
    hello(scene, peer)
  case 13: send(.have(.init(start: input.number(), length: input.number())))
  case 14: send(.have(.init(start: input.number(), length: input.number(), bitfield: input.piece())))
  case 15: send(.have(.init(start: 0, length: 16, bitfield: RunLengthBitfield.encode(input.piece()))))
  case 16: send(.unhave(.init(start: input.number(), length: input.number())))
  case 17: send(.want(.init(start: input.number() << 13, length: input.number() << 13)))
  case 18: send(.want(.init(start: input.number(), length: nil)))
  case 19:
    send(
      .request(
        .init(
          index: input.number(), bytes: input.number(), hash: input.byte() & 1 == 0, nodes: input.number())))
  case 20: send(.request(.init(index: input.number(), bytes: nil, hash: nil, nodes: input.number())))
  case 21: send(.cancel(.init(index: input.number())))
  case 22: send(.info(.init(uploading: true, downloading: input.byte() & 1 == 0)))
  case 23: send(.extension(.init(id: input.number(), payload: input.piece())))
  case 24:
    let key =
      switch input.byte() & 3 {
      case 0: scene.own.discoveryKey
      case 1: scene.late.discoveryKey
      default: Bytes32([UInt8](repeating: input.byte(), count: 32)) ?? .zero
      }
    send(.feed(.init(discoveryKey: key)))
  case 25:
    send(
      .handshake(
        .init(id: input.piece(), live: false, extensions: [String(decoding: input.piece(), as: UTF8.self)])))
  case 26: scene.node.takesBlocks = input.byte() & 1 == 0
  case 27:
    if let id = scene.peers[peer] {
      _ = scene.node.send(extension: "secure-ephemeral", input.piece(), feed: scene.clone.key, on: id)
    }
  case 28: scene.takeEvents()
  case 29:
    _ = scene.node.isComplete(scene.clone.key)
    _ = scene.node.fullHolders(of: scene.own.key)
    _ = scene.node.knownLength(scene.clone.key)
    if let id = scene.peers[peer] { _ = scene.node.isSynced(id) }
  case 30:
    guard (try? scene.node.share(scene.late, downloads: true)) != nil else {
      fatalError("not so: no peer breaks this node's own feed")
    }
  default: try? scene.clone.flush(durable: true)
  }
}

/// A block as its owner would send it, or altered in one place.
private func data(_ scene: Scene, _ channel: Int, _ peer: Int, _ input: inout Input) {
  let (place, change) = (Int(input.byte()), input.byte())
  let source = Int(change >> 4 & 3)
  let (blocks, local) = (remoteSamples[source].blocks, source == 3 ? scene.late : scene.clone)
  let index = UInt64(place % blocks.count)
  guard
    let proof = try? scene.remote[source].proof(
      of: index, digest: change & 0x40 == 0 ? local.digest(of: index) : 0, hashOnly: false,
      remoteTree: SparseBitfield())
  else { return }
  var data = Message.Data(index: index, value: blocks[Int(index)], proof: proof)
  let node = input.below(max(1, proof.nodes.count))
  switch change & 15 {
  case 1: data.value = input.piece()
  case 2: data.value = nil
  case 3: data.index = input.number()
  case 4: data.proof.signature = nil
  case 5: data.proof.signature = Signature([UInt8](repeating: input.byte(), count: 64))
  case 6 where !proof.nodes.isEmpty: data.proof.nodes.remove(at: node)
  case 7 where !proof.nodes.isEmpty: data.proof.nodes[node].byteSize = input.number()
  case 8 where !proof.nodes.isEmpty: data.proof.nodes[node].treeIndex = min(input.number(), 4 << 40)
  case 9 where !proof.nodes.isEmpty:
    data.proof.nodes[node].hash = Bytes32([UInt8](repeating: input.byte(), count: 32)) ?? .zero
  case 10: data.proof.nodes.append(Node(treeIndex: min(input.number(), 4 << 40), hash: someKey, byteSize: 1))
  case 11: data.proof.nodes.reverse()
  default: break
  }
  scene.receive(frame(.data(data), channel: channel), from: peer)
}

private var sessionSeeds: [[UInt8]] {
  // Both sides meet, the peer says it has all, and sends it, as it is and altered.
  let have: [UInt8] = [15, 2, 0xFF, 0xE0]
  let blocks: [UInt8] = (0..<11).flatMap { [2, $0, 0, 0] as [UInt8] }
  let altered: [UInt8] = (1..<12).flatMap { [2, 1, $0, 0, 5] as [UInt8] }
  // Or another version of it, comes again, and shows where that parts.
  func parts(_ version: UInt8, _ shown: [UInt8]) -> [UInt8] {
    let proofs = shown.flatMap { [2, $0, version << 4 | 0x40, 0] as [UInt8] }
    return [2] + have + [2, 10, version << 4, 0, 12, 0] + have + proofs + [28]
  }
  // The peer opens a channel for a feed that is not shared yet, and says what it has of it.
  let early: [UInt8] = [56, 1, 47, 1, 0xFC, 30, 47, 1, 0xFC]
  let late = early + (0..<6).flatMap { [34, $0, 0x30, 0] as [UInt8] }
  let questions: [UInt8] = [17, 0, 128, 20, 3, 0, 19, 1, 5, 0, 0, 21, 4, 22, 0, 4, 100, 9, 5, 80]
  return [
    [2] + have + blocks, [2] + have + altered, [6] + have + questions, [3, 24, 0] + questions,
    [0, 0] + frame(.feed(.init(discoveryKey: someKey))).asPiece + [1, 3, 3, 8, 1, 16, 255],
    [2, 14, 0, 8, 2, 7, 4, 13, 0, 200, 16, 2, 3, 8, 3, 1, 2, 3, 7, 9],
    // All nodes of a longer version, which has others in the place of those that are held.
    parts(1, [10, 0]), parts(2, [10, 8]), [2, 15, 2, 0xFF, 0xFC, 2, 12, 0x50, 0], [2] + late,
  ]
}
