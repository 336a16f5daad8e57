import Hypercore
import TestSupport
import Testing

/// One entry of `feeds/index.json`.
struct FeedVector: Decodable {
  struct Root: Decodable {
    let index, size: UInt64
    let hash: HexBytes
  }
  enum Block: Decodable {
    case value([UInt8])
    case at(UInt64, [UInt8])

    private enum Keys: CodingKey { case index, value }

    init(from decoder: any Decoder) throws {
      if let hex = try? HexBytes(from: decoder) {
        self = .value(hex.bytes)
        return
      }
      let container = try decoder.container(keyedBy: Keys.self)
      self = .at(
        try container.decode(UInt64.self, forKey: .index),
        try container.decode(HexBytes.self, forKey: .value).bytes)
    }
  }
  let name, kind: String
  let key: HexBytes
  let secretKey: HexBytes?
  let discoveryKey: HexBytes?
  let length: UInt64
  let byteLength: UInt64?
  let batches: [[HexBytes]]?
  let blocks: [Block]?
  let roots: [Root]?
  let lastSignature: HexBytes?
  let has: [UInt64]?
}

extension FeedFiles<MemoryStorage> {
  /// Empty files.
  static func empty() throws(StorageError) -> Self {
    try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
  }

  /// The files in a folder of the reference data; an absent one is empty.
  static func vector(_ folder: String) throws(StorageError) -> Self {
    try FeedFiles { (name) throws(StorageError) in
      MemoryStorage((try? Vectors.bytes("\(folder)/\(name)")) ?? [])
    }
  }

  /// What a restart finds.
  func copied() throws(StorageError) -> Self {
    var storages = [key, secretKey, data, tree, signatures, bitfield].map { MemoryStorage($0.bytes) }[...]
    return try FeedFiles { (_) throws(StorageError) in storages.removeFirst() }
  }
}

@Suite("Feeds on disk equal the reference's")
struct FeedVectorTests {
  private let vectors: [FeedVector]

  init() throws {
    vectors = try Vectors.json("feeds/index.json")
    try #require(vectors.contains { $0.kind == "source" } && vectors.contains { $0.kind == "sparse clone" })
  }

  @Test("what the reference wrote opens and reads the same")
  func opens() throws {
    for vector in vectors {
      let key = try #require(PublicKey(vector.key.bytes))
      let files = try FeedFiles.vector("feeds/\(vector.name)")
      let before = [files.data, files.tree, files.signatures, files.bitfield].map(\.bytes)
      let feed = try Feed(files: files, key: key)
      #expect(feed.length == vector.length, "\(vector.name)")
      #expect(feed.isWritable == (vector.secretKey != nil))
      #expect(feed.recovery == .init(), "\(vector.name)")
      if let discoveryKey = vector.discoveryKey { #expect(feed.discoveryKey.bytes == discoveryKey.bytes) }
      if let byteLength = vector.byteLength { #expect(feed.byteLength == byteLength) }
      if let roots = vector.roots {
        #expect(feed.roots.map(\.treeIndex) == roots.map(\.index))
        #expect(feed.roots.map(\.hash.bytes) == roots.map(\.hash.bytes))
        #expect(feed.roots.map(\.byteSize) == roots.map(\.size))
      }
      if let signature = vector.lastSignature {
        #expect(try feed.signature(at: feed.length - 1)?.bytes == signature.bytes)
      }
      for (position, block) in (vector.blocks ?? []).enumerated() {
        switch block {
        case .value(let value): #expect(try feed.block(at: UInt64(position)) == value)
        case .at(let index, let value): #expect(try feed.block(at: index) == value)
        }
      }
      if let has = vector.has {
        #expect((0..<feed.length).filter { feed.has($0) } == has, "\(vector.name)")
        #expect(feed.heldBlocks == UInt64(has.count))
        let missing = try #require(feed.firstMissing(in: 0..<feed.length))
        #expect(throws: FeedError.self) { try feed.block(at: missing) }
      }
      try feed.flush(durable: true)
      #expect(
        [files.data, files.tree, files.signatures, files.bitfield].map(\.bytes) == before, "\(vector.name)")
    }
  }

  @Test("appending the same gives the same files")
  func appends() throws {
    for vector in vectors where vector.kind == "source" {
      guard let keyPair = KeyPair.stored(try #require(vector.secretKey).bytes) else {
        Issue.record("the secret key of \(vector.name) does not hold together")
        continue
      }
      let files = try FeedFiles.empty()
      let feed = try Feed(files: files, keyPair: keyPair)
      for batch in vector.batches ?? [] {
        try feed.append(contentsOf: batch.map(\.bytes))
        try feed.flush(durable: false)
      }
      try feed.flush(durable: true)
      let expected = try FeedFiles.vector("feeds/\(vector.name)")
      #expect(files.key.bytes == expected.key.bytes)
      #expect(files.secretKey.bytes == expected.secretKey.bytes)
      #expect(files.data.bytes == expected.data.bytes, "\(vector.name)")
      #expect(files.tree.bytes == expected.tree.bytes, "\(vector.name)")
      #expect(files.signatures.bytes == expected.signatures.bytes, "\(vector.name)")
      #expect(files.bitfield.bytes == expected.bitfield.bytes, "\(vector.name)")
    }
  }

  @Test("proofs from the reference's feeds verify in an empty clone, which then has the same bytes")
  func clones() throws {
    for vector in vectors where vector.kind == "source" && vector.length > 0 {
      let key = try #require(PublicKey(vector.key.bytes))
      let source = try Feed(files: FeedFiles.vector("feeds/\(vector.name)"), key: key)
      let files = try FeedFiles.empty()
      let clone = try Feed(files: files, key: key)
      let remoteTree = SparseBitfield()
      var random = SeededRandom(vector.length)
      for index in (0..<source.length).shuffled(using: &random) {
        let proof = try source.proof(
          of: index, digest: clone.digest(of: index), hashOnly: false, remoteTree: remoteTree)
        try clone.put(source.block(at: index), at: index, proof: proof)
      }
      try clone.flush(durable: true)
      #expect(clone.length == source.length)
      #expect(clone.heldBlocks == source.length)
      let expected = try FeedFiles.vector("feeds/\(vector.name)")
      #expect(files.data.bytes == expected.data.bytes)
      #expect(files.tree.bytes == expected.tree.bytes)
      let again = try Feed(files: files.copied(), key: key)
      #expect(again.heldBlocks == source.length)
      #expect(again.recovery == .init())
    }
  }
}
