import Foundation
import Hypercore
import TestSupport
import Testing

/// Feeds on a simulated disk whose power is cut before any write or sync, in any of the states that can leave.
///
/// `HYPHA_POWER_CUTS` says how often the power is cut in a run, `HYPHA_SEED` from which seed on.
@Suite("A power cut at any moment")
struct PowerCutTests {
  private struct State {
    var contents: SimulatedDisk.Contents
    /// Blocks that were said to be durable.
    var acknowledged: Set<UInt64>
  }

  private static let rounds = Int(ProcessInfo.processInfo.environment["HYPHA_POWER_CUTS"] ?? "") ?? 12
  private static let seeds: Range<UInt64> = {
    let first = UInt64(ProcessInfo.processInfo.environment["HYPHA_SEED"] ?? "") ?? 0
    return first..<first + 8
  }()
  /// States for each call to the disk.
  private static let statesACall = 3

  private static func files<Storage>(
    _ file: (String) -> Storage
  ) throws -> FeedFiles<Storage> {
    try FeedFiles { (name) throws(StorageError) in file(name) }
  }

  private static func writer<Storage>(_ files: FeedFiles<Storage>, _ seed: [UInt8]) throws -> Feed<Storage> {
    try Feed(
      files: files, keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }, storeSecretKey: false)
  }

  private static func block(_ random: inout SeededRandom) -> [UInt8] {
    random.bytes([0, 1, 20, 300, 3000].randomElement(using: &random) ?? 1)
  }

  @Test("A writer keeps what it acknowledged, and goes on", arguments: seeds)
  func writer(seed: UInt64) throws {
    var random = SeededRandom(seed &* 7919)
    let secret = random.bytes(32)
    var disk = SimulatedDisk()
    var blocks: [[UInt8]] = []
    var acknowledged: UInt64 = 0
    var tried = 0
    for _ in 0..<Self.rounds {
      var states: [State] = []
      var cuts = SeededRandom(random.next())
      disk.beforeCall = { [unowned disk] in
        for _ in 0..<Self.statesACall {
          states.append(State(contents: disk.cutPower(&cuts), acknowledged: Set(0..<acknowledged)))
        }
      }
      let feed = try Self.writer(Self.files(disk.file), secret)
      #expect(feed.length >= acknowledged)
      blocks.removeLast(blocks.count - Int(feed.length))
      acknowledged = feed.length
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let batch = (0..<Int.random(in: 1...12, using: &random)).map { _ in Self.block(&random) }
        blocks += batch
        _ = try feed.append(contentsOf: batch)
        let isDurable = Bool.random(using: &random)
        try feed.flush(durable: isDurable)
        if isDurable { acknowledged = feed.length }
      }
      disk.beforeCall()
      tried += states.count
      for state in states {
        let files = try Self.files { MemoryStorage(state.contents[$0] ?? []) }
        let opened = try Self.writer(files, secret)
        let least = UInt64(state.acknowledged.count)
        #expect(opened.length >= least && opened.length <= UInt64(blocks.count), "\(seed)")
        for index in 0..<opened.length { #expect(try opened.block(at: index) == blocks[Int(index)]) }
        let next = try opened.append(Array("next".utf8))
        try opened.flush(durable: true)
        let again = try Self.writer(files, secret)
        #expect(again.recovery == .init())
        #expect(again.length == next + 1)
      }
      let last = try #require(states.last)
      acknowledged = UInt64(last.acknowledged.count)
      disk = SimulatedDisk(last.contents)
    }
    #expect(tried > 100)
    print("seed \(seed): a writer in \(tried) states after power cuts")
  }

  @Test("A clone keeps what it acknowledged, holds nothing false, and goes on", arguments: seeds)
  func clone(seed: UInt64) throws {
    var random = SeededRandom(seed &* 104_729 &+ 1)
    let source = try Self.writer(FeedFiles<MemoryStorage>.empty(), random.bytes(32))
    var blocks: [[UInt8]] = []
    for _ in 0..<60 {
      blocks.append(Self.block(&random))
      _ = try source.append(blocks[blocks.count - 1])
      // Signatures at some lengths only, as in batches.
      if blocks.count % 7 == 0 {
        let batch = (0..<3).map { _ in Self.block(&random) }
        blocks += batch
        _ = try source.append(contentsOf: batch)
      }
    }
    func take<Storage>(_ index: UInt64, _ clone: Feed<Storage>, _ digest: UInt64) throws {
      let proof = try source.proof(
        of: index, digest: digest, hashOnly: false, remoteTree: SparseBitfield())
      try clone.put(blocks[Int(index)], at: index, proof: proof)
    }
    var disk = SimulatedDisk()
    var acknowledged: Set<UInt64> = []
    var tried = 0
    for _ in 0..<Self.rounds {
      var states: [State] = []
      var cuts = SeededRandom(random.next())
      disk.beforeCall = { [unowned disk] in
        for _ in 0..<Self.statesACall {
          states.append(State(contents: disk.cutPower(&cuts), acknowledged: acknowledged))
        }
      }
      let clone = try Feed(files: Self.files(disk.file), key: source.key)
      var held = Set((0..<UInt64(blocks.count)).filter { clone.has($0) })
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        for _ in 0..<Int.random(in: 1...5, using: &random) {
          let index = UInt64.random(in: 0..<UInt64(blocks.count), using: &random)
          if clone.has(index) { continue }
          try take(index, clone, Bool.random(using: &random) ? clone.digest(of: index) : 0)
          held.insert(index)
        }
        let isDurable = Bool.random(using: &random)
        try clone.flush(durable: isDurable)
        if isDurable { acknowledged = held }
      }
      disk.beforeCall()
      tried += states.count
      for state in states {
        let files = try Self.files { MemoryStorage(state.contents[$0] ?? []) }
        let opened = try Feed(files: files, key: source.key)
        var fetches = 5
        for index in 0..<UInt64(blocks.count) {
          let block = blocks[Int(index)]
          if opened.has(index) {
            #expect(try opened.block(at: index) == block)
          } else {
            // An empty block leaves nothing by which it could be found again.
            #expect(!state.acknowledged.contains(index) || block.isEmpty, "\(seed): \(index)")
            if fetches > 0 { try take(index, opened, 0) }
            fetches -= 1
          }
        }
        let held = opened.heldBlocks
        try opened.flush(durable: true)
        let check = FeedCheck(opened)
        try check.run { false }
        #expect(check.damage.isNone, "\(seed)")
        let again = try Feed(files: files, key: source.key)
        // What was fetched may show that more is there.
        #expect(again.heldBlocks >= held)
      }
      let last = try #require(states.last)
      acknowledged = last.acknowledged.filter { !blocks[Int($0)].isEmpty }
      disk = SimulatedDisk(last.contents)
    }
    print("seed \(seed): a clone in \(tried) states after power cuts")
  }

  @Test(
    "A disk that fails at any call loses nothing that was acknowledged",
    arguments: SimulatedDisk.Fault.allCases)
  func failing(_ kind: SimulatedDisk.Fault) throws {
    let secret = [UInt8](repeating: 77, count: 32)
    for calls in 0..<120 {
      var random = SeededRandom(UInt64(calls))
      let disk = SimulatedDisk()
      disk.fault = (calls, kind)
      var acknowledged = 0
      var blocks: [[UInt8]] = []
      do {
        let feed = try Self.writer(Self.files(disk.file), secret)
        for _ in 0..<12 {
          blocks.append(Self.block(&random))
          _ = try feed.append(blocks[blocks.count - 1])
          try feed.flush(durable: true)
          acknowledged = blocks.count
        }
      } catch {
        #expect(error is FeedError)
      }
      disk.fault = nil
      for _ in 0..<4 {
        let contents = disk.cutPower(&random)
        let feed = try Self.writer(Self.files { MemoryStorage(contents[$0] ?? []) }, secret)
        #expect(feed.length >= UInt64(acknowledged))
        for index in 0..<feed.length { #expect(try feed.block(at: index) == blocks[Int(index)]) }
      }
    }
  }
}
