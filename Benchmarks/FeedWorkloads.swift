import Glibc
import Hypercore
import HyphaDaemonCore

extension Feed<FileStorage> {
  /// A new writable feed with its files in `folder`.
  static func create(in folder: String) throws -> Feed<FileStorage> {
    try Feed(files: files(in: folder), keyPair: KeyPair())
  }

  static func files(in folder: String) throws -> FeedFiles<FileStorage> {
    mkdir(folder, 0o700)
    return try FeedFiles { (name) throws(StorageError) in try FileStorage("\(folder)/\(name)") }
  }

  /// Appends `count` blocks of 100 bytes.
  func fill(_ count: Int) throws {
    let batch = [[UInt8]](repeating: Workload.smallBlock, count: 1000)
    for _ in 0..<count / 1000 { try append(contentsOf: batch) }
    // With the bitfield, which follows what is durable: or opening would look for every block.
    try flush(durable: true)
  }
}

extension Workload {
  static let smallBlock = [UInt8](repeating: 0x61, count: 100)
  static let largeBlock = [UInt8](repeating: 0x62, count: 64 << 10)
  /// Blocks of the feed that is opened and read.
  private static func million(_ scale: Double) -> Int { max(10_000, Int(scale * 1_000_000)) }

  static let feed: [Workload] = [
    Workload(
      name: "append 100-byte blocks one by one", limit: "limit: Ed25519 sign", goal: .ofLimit(0.6),
      reference: 5_000
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let rate = try rate(atLeast: 2 * scale) {
        _ = try feed.append(smallBlock)
        try feed.flush(durable: false)
      }
      return Measurement(rate, .perSecond)
    },
    Workload(
      name: "append 100-byte blocks, batches of 1,000",
      limit: "limit: BLAKE2b of 100-byte blocks and their parents", goal: .atLeast(1_000_000),
      reference: 236_000
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let batch = [[UInt8]](repeating: smallBlock, count: 1000)
      let rate = try rate(atLeast: 2 * scale) {
        try feed.append(contentsOf: batch)
        try feed.flush(durable: false)
      }
      return Measurement(1000 * rate, .perSecond)
    },
    Workload(
      name: "append 64 KiB blocks, batches of 64", limit: "limit: BLAKE2b of 64 KiB blocks",
      goal: .ofLimit(0.75), reference: 470
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let batch = [[UInt8]](repeating: largeBlock, count: 64)
      let rate = try rate(atLeast: 2 * scale) {
        try feed.append(contentsOf: batch)
        try feed.flush(durable: false)
      }
      return Measurement(64 * rate * Double(largeBlock.count) / 1e6, .megabytes)
    },
    Workload(
      name: "append 100-byte blocks durably, one by one", limit: "limit: fdatasync after 100 bytes"
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let rate = try rate(atLeast: 2 * scale) {
        _ = try feed.append(smallBlock)
        try feed.flush(durable: true)
      }
      return Measurement(rate, .perSecond)
    },
    Workload(
      name: "append 100-byte blocks durably, 100 that wait together",
      limit: "limit: fdatasync after 100 bytes"
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let rate = try rate(atLeast: 2 * scale) {
        for _ in 0..<100 { _ = try feed.append(smallBlock) }
        try feed.flush(durable: true)
      }
      return Measurement(100 * rate, .perSecond)
    },
    Workload(name: "open a feed of a million blocks", goal: .atMost(1000)) { folder, scale in
      let folder = folder + "/feed"
      let key = try prepared(folder, million(scale))
      let elapsed = try seconds {
        let feed = try Feed(files: Feed<FileStorage>.files(in: folder), key: key)
        precondition(feed.heldBlocks == UInt64(million(scale)))
      }
      return Measurement(1000 * elapsed, .milliseconds)
    },
    Workload(
      name: "random reads of 100-byte blocks", goal: .atLeast(200_000), reference: 6_300
    ) { folder, scale in
      let folder = folder + "/feed"
      let key = try prepared(folder, million(scale))
      let feed = try Feed(files: Feed<FileStorage>.files(in: folder), key: key)
      // A linear congruential sequence: costs nothing, and visits all of the feed.
      var state: UInt64 = 1
      let rate = try rate(atLeast: 2 * scale) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let index = (state >> 32) % feed.length
        guard try feed.block(at: index).count == 100 else { throw BenchError("a block of another size") }
      }
      return Measurement(rate, .perSecond)
    },
  ]

  /// Writes a feed in a process of its own, whose memory does not count here.
  ///
  /// - Returns: its key.
  private static func prepared(_ folder: String, _ blocks: Int) throws -> PublicKey {
    let output = try Child(["--prepare", folder, String(blocks)]).output()
    guard let key = PublicKey(hex: output) else { throw BenchError("the feed was not written: \(output)") }
    return key
  }

  /// The other side of ``prepared(_:_:)``.
  static func prepare(_ folder: String, _ blocks: Int) throws -> String {
    let feed = try Feed.create(in: folder)
    try feed.fill(blocks)
    return feed.key.hex
  }
}
