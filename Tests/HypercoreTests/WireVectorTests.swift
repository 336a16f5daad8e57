import Hypercore
import TestSupport
import Testing

/// One file of `wire/`.
struct WireVector: Decodable {
  struct Chunk: Decodable {
    let from: String
    let hex: HexBytes
  }
  struct Feed: Decodable {
    let key: HexBytes
    let blocks: [HexBytes]?
  }
  let key: HexBytes
  let secretKey: HexBytes?
  let encrypt, live: Bool
  let extensions: [String]
  let blocks: [HexBytes]?
  let feeds: [Feed]?
  let chunks: [Chunk]
  let decoded: [String: [WireVectorMessage]]

  func bytes(from side: String) -> [UInt8] {
    chunks.filter { $0.from == side }.flatMap(\.hex.bytes)
  }
}

/// A message as the reference decoded it.
struct WireVectorMessage: Decodable {
  struct Hex: Decodable { let hex: HexBytes }
  struct VectorNode: Decodable {
    let index, size: UInt64
    let hash: Hex
  }
  struct Fields: Decodable {
    let discoveryKey, nonce, id, userData, bitfield, value, signature: Hex?
    let live, ack, uploading, downloading, hash: Bool?
    let extensions: [String]?
    let start, length, index, bytes: UInt64?
    let nodes: Nodes?
  }
  enum Nodes: Decodable {
    case digest(UInt64)
    case proof([VectorNode])
    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let digest = try? container.decode(UInt64.self) {
        self = .digest(digest)
      } else {
        self = .proof(try container.decode([VectorNode].self))
      }
    }
  }
  let channel: Int
  let type: String
  let message: Fields?
  let id: UInt64?
  let payload: Hex?

  /// Compares, with what was not sent taken for its default, as the reference's decoder gives it.
  func equals(_ other: Message) -> Bool {
    switch (type, other) {
    case ("Feed", .feed(let feed)):
      feed.discoveryKey.bytes == message?.discoveryKey?.hex.bytes && feed.nonce == message?.nonce?.hex.bytes
    case ("Handshake", .handshake(let handshake)):
      handshake.id == message?.id?.hex.bytes && handshake.live ?? false == message?.live
        && handshake.extensions == message?.extensions && handshake.ack ?? false == message?.ack
        && handshake.userData == message?.userData?.hex.bytes
    case ("Info", .info(let info)):
      info.uploading ?? false == message?.uploading ?? false
        && info.downloading ?? false == message?.downloading ?? false
    case ("Have", .have(let have)):
      have.start == message?.start && have.length ?? 1 == message?.length
        && have.bitfield == message?.bitfield?.hex.bytes
    case ("Unhave", .unhave(let unhave)):
      unhave.start == message?.start && unhave.length ?? 1 == message?.length
    case ("Want", .want(let want)), ("Unwant", .unwant(let want)):
      want.start == message?.start && want.length ?? 0 == message?.length ?? 0
    case ("Request", .request(let request)):
      request.index == message?.index && request.bytes ?? 0 == message?.bytes ?? 0
        && request.hash ?? false == message?.hash ?? false && digest == request.nodes ?? 0
    case ("Data", .data(let data)):
      data.index == message?.index && data.value == message?.value?.hex.bytes
        && data.proof.signature?.bytes == message?.signature?.hex.bytes
        && data.proof.nodes.map(\.treeIndex) == proof.map(\.index)
        && data.proof.nodes.map(\.hash.bytes) == proof.map(\.hash.hex.bytes)
        && data.proof.nodes.map(\.byteSize) == proof.map(\.size)
    case ("Extension", .extension(let sent)): sent.id == id && sent.payload == payload?.hex.bytes
    default: false
    }
  }

  private var digest: UInt64 {
    if case .digest(let digest) = message?.nodes { digest } else { 0 }
  }

  private var proof: [VectorNode] {
    if case .proof(let nodes) = message?.nodes { nodes } else { [] }
  }
}

@Suite("The wire protocol equals the reference's")
struct WireVectorTests {
  private static let names = ["plain", "plain-live", "encrypted", "hyperdb-two-writers-live"]

  @Test(
    "both directions decode to the same messages and encode to the same bytes, in chunks of any size",
    arguments: names)
  func codec(name: String) throws {
    let vector: WireVector = try Vectors.json("wire/\(name).json")
    let key = try #require(PublicKey(vector.key.bytes))
    var random = SeededRandom(7)
    for (side, expected) in vector.decoded {
      let bytes = vector.bytes(from: side)
      for size in [Int.max, 1, 0] {
        var decoder = FrameDecoder()
        var frames: [Frame] = []
        var rest = bytes[...]
        while !rest.isEmpty {
          let chunk = rest.prefix(size > 0 ? size : Int.random(in: 1...90, using: &random))
          rest = rest.dropFirst(chunk.count)
          decoder.append(Array(chunk))
          while let frame = try decoder.next() {
            frames.append(frame)
            if vector.encrypt, case .feed(let feed) = frame.message, let nonce = feed.nonce {
              decoder.decrypt(key: key, nonce: nonce)
            }
          }
        }
        #expect(frames.count == expected.count, "\(side)")
        for (frame, message) in zip(frames, expected) {
          #expect(frame.channel == message.channel)
          #expect(
            frame.message.map(message.equals) == true,
            "\(side): \(message.type) is \(String(describing: frame.message))")
        }
        var encoder = FrameEncoder()
        for frame in frames {
          encoder.append(try #require(frame.message), channel: frame.channel)
          if vector.encrypt, case .feed(let feed) = frame.message, let nonce = feed.nonce {
            encoder.encrypt(key: key, nonce: nonce)
          }
        }
        // The reference ends some connections with keep-alives or half a frame; all else is the same.
        #expect(encoder.output == Array(bytes.prefix(encoder.output.count)))
        #expect(bytes.count - encoder.output.count < 8)
      }
    }
  }

  @Test("the source's bytes, fed to an empty clone, give the same blocks", arguments: names)
  func replay(name: String) throws {
    let vector: WireVector = try Vectors.json("wire/\(name).json")
    let keys = try (vector.feeds?.map(\.key) ?? [vector.key]).map { try #require(PublicKey($0.bytes)) }
    let expected = vector.feeds?.map { $0.blocks?.map(\.bytes) } ?? [vector.blocks?.map(\.bytes)]
    let clone = Replicator<MemoryStorage>()
    let feeds = try keys.map { try Feed(files: .empty(), key: $0) }
    for feed in feeds { try clone.share(feed, downloads: true) }
    try clone.connect(
      1,
      Session.Configuration(
        id: [UInt8](repeating: 2, count: 32), live: vector.live, extensions: vector.extensions,
        nonce: vector.encrypt ? [UInt8](repeating: 3, count: 24) : nil),
      first: try #require(PublicKey(vector.key.bytes)))
    for chunk in vector.chunks where chunk.from == "source" {
      try clone.receive(chunk.hex.bytes, from: 1, now: 0)
    }
    for (feed, blocks) in zip(feeds, expected) {
      let sent = vector.decoded["source"]?.filter { $0.type == "Data" }.count ?? 0
      #expect(sent > 0)
      guard let blocks else {
        #expect(feed.heldBlocks > 0)
        continue
      }
      #expect(feed.length == UInt64(blocks.count))
      for (index, block) in blocks.enumerated() { #expect(try feed.block(at: UInt64(index)) == block) }
    }
  }

  @Test("run-length bitfields equal the reference's, both ways")
  func runLength() throws {
    struct File: Decodable {
      struct Entry: Decodable { let bits, encoded: HexBytes }
      let bitfieldRle: [Entry]
    }
    let file: File = try Vectors.json("crypto.json")
    try #require(!file.bitfieldRle.isEmpty)
    for entry in file.bitfieldRle {
      #expect(RunLengthBitfield.encode(entry.bits.bytes) == entry.encoded.bytes)
      var decoded = try RunLengthBitfield.decode(entry.encoded.bytes, limit: 1 << 20)
      decoded.append(contentsOf: repeatElement(0, count: max(0, entry.bits.bytes.count - decoded.count)))
      #expect(decoded == entry.bits.bytes)
    }
  }

  @Test("a bitfield of any bits comes back; one that is malformed or too long is refused")
  func runLengthAny() throws {
    var random = SeededRandom(3)
    for _ in 0..<2000 {
      let bits = (0..<Int.random(in: 0...40, using: &random)).flatMap { _ in
        [UInt8](
          repeating: [0, 255, UInt8.random(in: 0...255, using: &random)].randomElement(using: &random) ?? 0,
          count: Int.random(in: 0...9, using: &random))
      }
      let encoded = RunLengthBitfield.encode(bits)
      let decoded = try RunLengthBitfield.decode(encoded, limit: bits.count)
      #expect(decoded + [UInt8](repeating: 0, count: bits.count - decoded.count) == bits)
      _ = try? RunLengthBitfield.decode(random.bytes(20), limit: 1000)
    }
    // A few bytes that stand for a gigabyte.
    #expect(throws: RunLengthBitfield.Malformed.self) {
      try RunLengthBitfield.decode([0xff, 0xff, 0xff, 0xff, 0x0f], limit: 1 << 20)
    }
  }
}
