import Foundation
import Hypercore
import Synchronization
import TestSupport
import Testing

/// Feeds on a simulated disk whose power is cut before any write or sync, in any of the states that can leave, and which fails.
///
/// `HYPHA_POWER_CUTS` says how often the power is cut in a run, `HYPHA_SEED` from which seed on.
@Suite("A power cut at any moment")
struct PowerCutTests {
  private typealias Contents = SimulatedDisk.Contents

  private static let rounds = Int(ProcessInfo.processInfo.environment["HYPHA_POWER_CUTS"] ?? "") ?? 12
  private static let seeds: Range<UInt64> = {
    let first = UInt64(ProcessInfo.processInfo.environment["HYPHA_SEED"] ?? "") ?? 0
    return first..<first + 8
  }()
  /// States for each call to the disk.
  private static let statesACall = 5
  /// Distinct states, and runs that are over, of writers and clones.
  private static let total = Mutex((states: 0, runs: 0))

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

  /// Adds what a run saw to the total, and expects that all together saw enough.
  private static func finish(_ what: String, _ seed: UInt64, _ states: Int) {
    print("seed \(seed): \(what) in \(states) states after power cuts")
    let (sum, runs) = total.withLock { total in
      total = (total.states + states, total.runs + 1)
      return total
    }
    // Other seeds may be of shorter runs.
    guard runs == 2 * seeds.count, rounds >= 12, seeds.lowerBound == 0 else { return }
    print("\(sum) states after power cuts in all")
    #expect(sum >= 10_000)
  }

  /// States that a power cut may leave, each once.
  private struct States {
    struct State {
      var contents: Contents
      /// Blocks that were said to be durable.
      var acknowledged: Set<UInt64>
    }

    private(set) var all: [State] = []
    /// Hashes of what there was on disk, and of that with what was acknowledged.
    private var contents: Set<Int> = []
    private var seen: Set<Int> = []
    /// How many of the states differ in what is on disk.
    var count: Int { contents.count }
    private var cuts: SeededRandom

    init(_ random: inout SeededRandom) {
      cuts = SeededRandom(random.next())
    }

    mutating func add(_ count: Int, of disk: SimulatedDisk, _ acknowledged: Set<UInt64>) {
      for _ in 0..<count {
        let contents = disk.cutPower(&cuts)
        var hasher = Hasher()
        for name in contents.keys.sorted() {
          hasher.combine(name)
          contents[name]?.withUnsafeBytes { hasher.combine(bytes: $0) }
        }
        self.contents.insert(hasher.finalize())
        // The same bytes after more was acknowledged are to be looked at again: what was acknowledged since was on disk before.
        hasher.combine(acknowledged.count)
        if seen.insert(hasher.finalize()).inserted {
          all.append(State(contents: contents, acknowledged: acknowledged))
        }
      }
    }
  }

  /// Opens what a writer's disk holds, and expects all that was acknowledged, nothing false, and that it goes on.
  ///
  /// - Parameter first: blocks before are looked at by way of the newest only.
  private static func check(
    writer secret: [UInt8], _ contents: Contents, _ blocks: [[UInt8]], acknowledged: Int, from first: Int = 0,
    _ comment: Comment
  ) throws {
    let files = try Self.files { MemoryStorage(contents[$0] ?? []) }
    let opened = try Self.writer(files, secret)
    #expect(opened.length >= acknowledged && opened.length <= blocks.count, comment)
    for index in UInt64(first)..<max(UInt64(first), opened.length) {
      #expect(try opened.block(at: index) == blocks[Int(index)], comment)
    }
    let next = try opened.append(Array("next".utf8))
    try opened.flush(durable: true)
    if first == 0 {
      let check = FeedCheck(opened)
      try check.run { false }
      #expect(check.damage.isNone, comment)
    }
    let again = try Self.writer(files, secret)
    #expect(again.recovery == .init(), comment)
    #expect(again.length == next + 1, comment)
  }

  @Test("A writer keeps what it acknowledged, and goes on", arguments: seeds)
  func writer(seed: UInt64) throws {
    var random = SeededRandom(seed &* 7919)
    let secret = random.bytes(32)
    var disk = SimulatedDisk()
    var blocks: [[UInt8]] = []
    // One begins where the next blocks need a second page of the bitfield.
    let first = seed % 8 == 7 ? 8180 : 0
    if first > 0 {
      blocks = (0..<first).map { [UInt8(truncatingIfNeeded: $0)] }
      let feed = try Self.writer(Self.files(disk.file), secret)
      try feed.append(contentsOf: blocks)
      try feed.flush(durable: true)
    }
    var acknowledged = UInt64(first)
    var tried = 0
    for _ in 0..<(first > 0 ? 4 : Self.rounds) {
      var states = States(&random)
      disk.beforeCall = { [unowned disk] in
        states.add(Self.statesACall, of: disk, Set(UInt64(first)..<acknowledged))
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
      for state in states.all {
        try Self.check(
          writer: secret, state.contents, blocks, acknowledged: first + state.acknowledged.count, from: first,
          "\(seed)")
      }
      let last = try #require(states.all.last)
      acknowledged = UInt64(first + last.acknowledged.count)
      disk = SimulatedDisk(last.contents)
    }
    #expect(first == 0 || blocks.count > 8192 + 8)
    Self.finish("a writer", seed, tried)
  }

  /// A feed of which a clone takes blocks.
  private struct Source {
    let feed: Feed<MemoryStorage>
    private(set) var blocks: [[UInt8]] = []

    init(_ random: inout SeededRandom, count: Int) throws {
      feed = try PowerCutTests.writer(FeedFiles<MemoryStorage>.empty(), random.bytes(32))
      for _ in 0..<count {
        blocks.append(PowerCutTests.block(&random))
        _ = try feed.append(blocks[blocks.count - 1])
        // Signatures at some lengths only, as in batches.
        if blocks.count % 7 == 0 {
          let batch = (0..<3).map { _ in PowerCutTests.block(&random) }
          blocks += batch
          _ = try feed.append(contentsOf: batch)
        }
      }
    }

    func give<Storage>(_ index: UInt64, to clone: Feed<Storage>, digest: UInt64) throws {
      let proof = try feed.proof(of: index, digest: digest, hashOnly: false, remoteTree: SparseBitfield())
      try clone.put(blocks[Int(index)], at: index, proof: proof)
    }

    /// Opens what a clone's disk holds, and expects all that was acknowledged, nothing false, and that it goes on.
    func check(_ contents: Contents, acknowledged: Set<UInt64>, _ comment: Comment) throws {
      let files = try PowerCutTests.files { MemoryStorage(contents[$0] ?? []) }
      let opened = try Feed(files: files, key: feed.key)
      var fetches = 5
      for index in 0..<UInt64(blocks.count) {
        let block = blocks[Int(index)]
        if opened.has(index) {
          #expect(try opened.block(at: index) == block, comment)
        } else {
          // An empty block leaves nothing by which it could be found again.
          #expect(!acknowledged.contains(index) || block.isEmpty, comment)
          if fetches > 0 { try give(index, to: opened, digest: 0) }
          fetches -= 1
        }
      }
      let held = opened.heldBlocks
      try opened.flush(durable: true)
      let check = FeedCheck(opened)
      try check.run { false }
      #expect(check.damage.isNone, comment)
      let again = try Feed(files: files, key: feed.key)
      // What was fetched may show that more is there.
      #expect(again.heldBlocks >= held, comment)
    }
  }

  @Test("A clone keeps what it acknowledged, holds nothing false, and goes on", arguments: seeds)
  func clone(seed: UInt64) throws {
    var random = SeededRandom(seed &* 104_729 &+ 1)
    let source = try Source(&random, count: 60)
    let count = UInt64(source.blocks.count)
    var disk = SimulatedDisk()
    var acknowledged: Set<UInt64> = []
    var tried = 0
    for _ in 0..<Self.rounds {
      var states = States(&random)
      disk.beforeCall = { [unowned disk] in states.add(Self.statesACall, of: disk, acknowledged) }
      let clone = try Feed(files: Self.files(disk.file), key: source.feed.key)
      var held = Set((0..<count).filter { clone.has($0) })
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        for _ in 0..<Int.random(in: 1...5, using: &random) {
          let index = UInt64.random(in: 0..<count, using: &random)
          if clone.has(index) { continue }
          try source.give(index, to: clone, digest: Bool.random(using: &random) ? clone.digest(of: index) : 0)
          held.insert(index)
        }
        let isDurable = Bool.random(using: &random)
        try clone.flush(durable: isDurable)
        if isDurable { acknowledged = held }
      }
      disk.beforeCall()
      tried += states.count
      for state in states.all {
        try source.check(state.contents, acknowledged: state.acknowledged, "\(seed)")
      }
      let last = try #require(states.all.last)
      acknowledged = last.acknowledged.filter { !source.blocks[Int($0)].isEmpty }
      disk = SimulatedDisk(last.contents)
    }
    Self.finish("a clone", seed, tried)
  }

  // MARK: - A file's first bytes

  @Test(
    "A new feed with a part of a file's first bytes is made anew; one that has blocks is left as it is",
    arguments: ["key", "secret_key", "tree", "signatures"])
  func cutBeginning(name: String) throws {
    let secret = [UInt8](repeating: 77, count: 32)
    let pair = { secret.span.bytes.withUnsafeBytes { KeyPair(seed: $0) } }
    let size = name == "secret_key" ? 64 : 32
    // What there is of a feed without blocks, and of one with some.
    var disks: [[String: MemoryStorage]] = []
    for count in [0, 3] {
      var disk: [String: MemoryStorage] = [:]
      let files = try Self.files { name in
        let file = MemoryStorage()
        disk[name] = file
        return file
      }
      let feed = try Feed(files: files, keyPair: pair())
      for index in 0..<count { _ = try feed.append([UInt8(index)]) }
      try feed.flush(durable: true)
      disks.append(disk)
    }
    for (disk, hasBlocks) in zip(disks, [false, true]) {
      let whole = try #require(disk[name]).bytes
      for written in 0..<size {
        let cut = whole[..<written] + repeatElement(0, count: size - written) + whole.dropFirst(size)
        guard Array(cut) != whole else { continue }
        var copies: [String: MemoryStorage] = [:]
        let files = try Self.files { other in
          let file = MemoryStorage(other == name ? Array(cut) : disk[other]?.bytes ?? [])
          copies[other] = file
          return file
        }
        let comment: Comment = "\(written) bytes of \(name)"
        guard name == "secret_key" || !hasBlocks else {
          #expect(throws: FeedError.self, comment) { try Feed(files: files, keyPair: pair()) }
          for (other, file) in copies where other != name {
            #expect(file.bytes == disk[other]?.bytes, comment)
          }
          continue
        }
        if name != "secret_key" { _ = try Feed(files: files, key: pair().publicKey) }
        let feed = try Feed(files: files, keyPair: pair())
        _ = try feed.append([7])
        try feed.flush(durable: true)
        let again = try Feed(files: files, key: pair().publicKey)
        #expect(again.isWritable && again.length == (hasBlocks ? 4 : 1), comment)
        #expect(again.recovery == .init(), comment)
      }
    }
  }

  // MARK: - Disks that fail

  /// A fault, once or from then on.
  private static let faults = SimulatedDisk.Fault.allCases.flatMap { [($0, false), ($0, true)] }

  /// Carries out `run` with the fault at each call to the disk, until there are no more calls.
  private static func failing(
    _ fault: (kind: SimulatedDisk.Fault, isLasting: Bool),
    _ run: (SimulatedDisk, inout SeededRandom, Comment) throws -> Void
  ) throws {
    var calls = 0
    var fires = true
    while fires {
      var random = SeededRandom(UInt64(calls))
      let disk = SimulatedDisk()
      disk.fault = (calls, fault.kind, fault.isLasting)
      try run(disk, &random, "\(fault.kind), call \(calls), \(fault.isLasting ? "lasting" : "once")")
      fires = disk.failures > 0
      calls += 1
    }
    #expect(calls > 30)
    print("\(calls) calls fail, \(fault.kind), \(fault.isLasting ? "from then on" : "once")")
  }

  @Test(
    "A writer whose disk fails loses nothing that it acknowledged, and writes nothing more", arguments: faults
  )
  func failingWriter(_ fault: (kind: SimulatedDisk.Fault, isLasting: Bool)) throws {
    let secret = [UInt8](repeating: 77, count: 32)
    try Self.failing(fault) { disk, random, comment in
      var acknowledged = 0
      var blocks: [[UInt8]] = []
      // The process is started again once its disk failed.
      for _ in 0..<2 {
        guard let feed = try? Self.writer(Self.files(disk.file), secret) else { continue }
        #expect(feed.length >= acknowledged, comment)
        blocks.removeLast(blocks.count - Int(feed.length))
        // What is here when it starts is shown to others.
        acknowledged = blocks.count
        var hasFailed = false
        for _ in 0..<8 {
          let block = Self.block(&random)
          do {
            _ = try feed.append(block)
            #expect(!hasFailed, comment)
            blocks.append(block)
            try feed.flush(durable: true)
            #expect(!hasFailed, comment)
            acknowledged = blocks.count
          } catch {
            #expect(error is FeedError, comment)
            hasFailed = true
          }
          if blocks.count > feed.length { blocks.removeLast() }
          if let index = (0..<feed.length).randomElement(using: &random) {
            do { #expect(try feed.block(at: index) == blocks[Int(index)], comment) } catch {
              #expect(disk.failures > 0, comment)
            }
          }
        }
      }
      disk.fault = nil
      for _ in 0..<3 {
        try Self.check(writer: secret, disk.cutPower(&random), blocks, acknowledged: acknowledged, comment)
      }
    }
  }

  @Test(
    "A clone whose disk fails loses nothing that it acknowledged, and holds nothing false", arguments: faults)
  func failingClone(_ fault: (kind: SimulatedDisk.Fault, isLasting: Bool)) throws {
    var random = SeededRandom(5)
    let source = try Source(&random, count: 20)
    let count = UInt64(source.blocks.count)
    try Self.failing(fault) { disk, random, comment in
      var acknowledged: Set<UInt64> = []
      for _ in 0..<2 {
        guard let clone = try? Feed(files: Self.files(disk.file), key: source.feed.key) else { continue }
        let held = { Set((0..<count).filter { clone.has($0) }) }
        acknowledged = held()
        var hasFailed = false
        for _ in 0..<6 {
          for _ in 0..<2 {
            let index = UInt64.random(in: 0..<count, using: &random)
            if !clone.has(index) { try? source.give(index, to: clone, digest: clone.digest(of: index)) }
          }
          do {
            try clone.flush(durable: true)
            #expect(!hasFailed, comment)
            acknowledged = held()
          } catch {
            hasFailed = true
          }
        }
      }
      disk.fault = nil
      for _ in 0..<3 {
        try source.check(
          disk.cutPower(&random), acknowledged: acknowledged.filter { !source.blocks[Int($0)].isEmpty },
          comment)
      }
    }
  }
}
