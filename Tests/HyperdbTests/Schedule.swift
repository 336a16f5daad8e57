import Hypercore
import Hyperdb
import TestSupport
import Testing

/// What happens to a few replicas, step by step. A step that cannot be done, such as a put before its replica is
/// authorised, does nothing, so that any part of a schedule is a schedule.
struct Schedule: CustomStringConvertible {
  enum Change: CustomStringConvertible {
    case put(key: String, value: UInt8)
    case delete(key: String)

    var description: String {
      switch self {
      case .put(let key, let value): "put(\(key), \(value))"
      case .delete(let key): "delete(\(key))"
      }
    }
  }

  enum Step {
    case change(replica: Int, [Change])
    case authorize(replica: Int, other: Int)
    /// Takes over as many blocks, chosen and ordered by a seed.
    case pull(replica: Int, from: Int, blocks: Int, seed: UInt64)
    case restart(replica: Int)
  }

  var replicas: Int
  /// Whether tries are those of the reference, or leave out what others have seen.
  var isExact: Bool
  var steps: [Step]

  init(seed: UInt64) {
    var random = SeededRandom(seed)
    let replicas = Int.random(in: 1...8, using: &random)
    self.replicas = replicas
    isExact = Bool.random(using: &random)
    let keys = ["a", "a/b", "a/b/c", "posts/1", "posts/2", "posts", "é", "x/y"].prefix(
      Int.random(in: 1...8, using: &random))
    func replica() -> Int { Int.random(in: 0..<replicas, using: &random) }
    func change() -> Change {
      let key = keys.randomElement(using: &random) ?? "a"
      return Int.random(in: 0..<4, using: &random) == 0
        ? .delete(key: key) : .put(key: key, value: UInt8.random(in: 0...255, using: &random))
    }
    // Begins with some replicas that may write, so that short schedules are about something.
    var steps: [Step] = []
    for other in 0..<replicas where other > 0 && Bool.random(using: &random) {
      steps.append(.authorize(replica: 0, other: other))
    }
    for _ in 0..<Int.random(in: 10...70, using: &random) {
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<8: steps.append(.change(replica: replica(), [change()]))
      case 8:
        steps.append(
          .change(replica: replica(), (0..<Int.random(in: 2...5, using: &random)).map { _ in change() }))
      case 9: steps.append(.authorize(replica: replica(), other: replica()))
      case 10: steps.append(.restart(replica: replica()))
      default:
        let blocks = Bool.random(using: &random) ? 10_000 : Int.random(in: 1...12, using: &random)
        steps.append(.pull(replica: replica(), from: replica(), blocks: blocks, seed: random.next()))
      }
    }
    self.steps = steps
  }

  var description: String {
    (["\(replicas) replicas\(isExact ? "" : ", tries without what others have seen")"]
      + steps.map { "  \($0)" }).joined(separator: "\n")
  }

  /// The smallest schedule that was found by leaving steps out and that still fails.
  func shrunk(_ fails: (Schedule) -> Bool) -> Schedule {
    var smallest = self
    var size = smallest.steps.count / 2
    while size > 0 {
      let before = smallest.steps.count
      var start = 0
      while start < smallest.steps.count {
        var smaller = smallest
        smaller.steps.removeSubrange(start..<min(start + size, smaller.steps.count))
        if fails(smaller) { smallest = smaller } else { start += size }
      }
      if size > 1 || smallest.steps.count == before { size /= 2 }
    }
    return smallest
  }
}

/// Carries out a schedule on replicas and on a model of them, and compares what they answer.
final class ScheduleRun {
  struct Mismatch: Error, CustomStringConvertible {
    let description: String
  }

  /// One replica as the model sees it.
  private struct Copy {
    /// Blocks held of each feed from the first on, and those behind a gap.
    var prefixes: [PublicKey: UInt64]
    var others: [PublicKey: Set<UInt64>] = [:]

    mutating func add(_ index: UInt64, of key: PublicKey) {
      others[key, default: []].insert(index)
      while others[key]?.remove(prefixes[key] ?? 0) != nil { prefixes[key, default: 0] += 1 }
    }
  }

  /// What the model knows of an entry.
  private struct Block {
    /// Blocks of each feed that counted for its writer, its own included.
    var seen: [PublicKey: UInt64]
    /// The writers that counted for its writer.
    var writers: Set<PublicKey>
  }

  /// Secret keys as stored.
  private static let pairs: [[UInt8]] = (1...8).map { FeedStore.secretKey($0) }

  private let keys: [PublicKey]
  private let replicas: [Replica]
  private var copies: [Copy]
  private var blocks: [PublicKey: [Block]] = [:]
  private var writes = WriteModel()
  /// A fault to put into the model, to see that it is found.
  private let ignoresDeletions: Bool

  init(_ schedule: Schedule, ignoresDeletions: Bool = false) throws {
    self.ignoresDeletions = ignoresDeletions
    let pairs = Self.pairs.prefix(schedule.replicas)
    let keys = try pairs.map { try #require(PublicKey($0[32...])) }
    self.keys = keys
    replicas = try pairs.map { try Replica(keys[0], secretKey: $0, exactBlocks: schedule.isExact ? .max : 0) }
    copies = keys.map { Copy(prefixes: [$0: 1]) }
    for key in keys { blocks[key] = [Block(seen: [:], writers: [])] }
  }

  func run(_ schedule: Schedule) throws {
    for (place, step) in schedule.steps.enumerated() {
      try carryOut(step)
      if place % 4 == 3 { try check(place / 4 % replicas.count) }
    }
    // However they are connected, all end with the same.
    for _ in 0..<2 {
      for a in replicas.indices {
        for b in replicas.indices where a != b { try pull(a, from: b, blocks: .max, seed: 0) }
      }
    }
    let first = authorized(0)
    for replica in replicas.indices {
      try check(replica)
      try replicas[replica].open()
      try check(replica)
      guard authorized(replica) == first, lengths(replica) == lengths(0) else {
        throw Mismatch(description: "replica \(replica) did not get all that replica 0 has")
      }
    }
  }

  // MARK: - Steps

  private func carryOut(_ step: Schedule.Step) throws {
    switch step {
    case .change(let replica, let changes): try change(replica, changes)
    case .authorize(let replica, let other): try authorize(replica, other)
    case .pull(let replica, let from, let count, let seed):
      if replica != from { try pull(replica, from: from, blocks: count, seed: seed) }
    case .restart(let replica): try replicas[replica].open()
    }
  }

  private func change(_ replica: Int, _ changes: [Schedule.Change]) throws {
    guard canWrite(replica) else {
      let error = #expect(throws: HyperdbError.self) { try self.replicas[replica].database.put("a", [1]) }
      guard error?.code == .notAuthorized else {
        throw Mismatch(description: "wrong refusal: \(error as Any)")
      }
      return
    }
    let key = keys[replica]
    let seqs = try replicas[replica].database.batch(
      changes.map {
        switch $0 {
        case .put(let key, let value): .put(key: key, value: [value])
        case .delete(let key): .delete(key: key)
        }
      })
    for (seq, change) in zip(seqs, changes) {
      let clock = note(replica, seq)
      switch change {
      case .put(let name, let value):
        writes.add(WriteModel.Write(at: .init(feed: key, seq: seq), key: name, value: [value], clock: clock))
      case .delete(let name):
        if ignoresDeletions { continue }
        writes.add(WriteModel.Write(at: .init(feed: key, seq: seq), key: name, value: nil, clock: clock))
      }
    }
  }

  private func authorize(_ replica: Int, _ other: Int) throws {
    guard canWrite(replica) else { return }
    let isNew = !authorized(replica).contains(keys[other])
    let seq = try replicas[replica].database.authorize(keys[other])
    guard (seq != nil) == isNew else { throw Mismatch(description: "authorised twice, or not at all") }
    if let seq { _ = note(replica, seq, also: keys[other]) }
  }

  /// Notes an entry that a replica made.
  private func note(_ replica: Int, _ seq: UInt64, also other: PublicKey? = nil) -> [PublicKey: UInt64] {
    let key = keys[replica]
    var seen = lengths(replica)
    seen[key] = seq + 1
    let writers = authorized(replica).union(other.map { [$0] } ?? [])
    blocks[key]?.append(Block(seen: seen, writers: writers))
    copies[replica].add(seq, of: key)
    return seen
  }

  private func pull(_ replica: Int, from other: Int, blocks count: Int, seed: UInt64) throws {
    var random = SeededRandom(seed)
    var left = count
    while left > 0 {
      var missing = try replicas[replica].missing(from: replicas[other])
      if missing.isEmpty { return }
      if seed != 0 { missing.shuffle(using: &random) }
      for (key, index) in missing.prefix(left) {
        try replicas[replica].take(index, of: key, from: replicas[other])
        copies[replica].add(index, of: key)
      }
      left -= min(left, missing.count)
    }
  }

  // MARK: - The model

  /// Blocks of a feed that a replica holds from the first on.
  private func prefix(_ replica: Int, _ key: PublicKey) -> UInt64 {
    copies[replica].prefixes[key] ?? 0
  }

  private func authorized(_ replica: Int) -> Set<PublicKey> {
    var known: Set<PublicKey> = []
    var waiting = [keys[0]]
    while let key = waiting.popLast() {
      guard known.insert(key).inserted else { continue }
      for block in blocks[key]?.prefix(Int(prefix(replica, key))) ?? [] { waiting += block.writers }
    }
    return known
  }

  /// How much of each feed counts on a replica.
  private func lengths(_ replica: Int) -> [PublicKey: UInt64] {
    var lengths: [PublicKey: UInt64] = [:]
    for key in authorized(replica) { lengths[key] = prefix(replica, key) }
    var isSettled = false
    while !isSettled {
      isSettled = true
      for (key, length) in lengths where length > 1 {
        let seen = blocks[key]?[Int(length) - 1].seen ?? [:]
        if seen.contains(where: { $0.value > max(1, lengths[$0.key] ?? 0) }) {
          lengths[key] = length - 1
          isSettled = false
        }
      }
    }
    return lengths
  }

  private func canWrite(_ replica: Int) -> Bool {
    authorized(replica).contains(keys[replica])
  }

  // MARK: - Comparing

  private func check(_ replica: Int) throws {
    let database = replicas[replica].database
    let lengths = lengths(replica)
    guard try Set(database.feeds.map(\.key)) == authorized(replica) else {
      throw Mismatch(description: "replica \(replica) has other writers")
    }
    for (key, length) in lengths where try database.visibleLength(of: key) != length {
      throw Mismatch(description: "replica \(replica) counts another part of \(key.hex.prefix(4))")
    }
    var set: Set<String> = []
    for key in writes.writes.keys {
      let expected = writes.winners(key, within: lengths)
      let found = try database.get(key)
      let positions = Set(found.map { WriteModel.Position(feed: $0.feed, seq: $0.seq) })
      guard positions == Set(expected.map(\.at)), found.count == expected.count else {
        throw Mismatch(
          description: "replica \(replica) has \(key) at \(positions), the model at \(expected.map(\.at))")
      }
      for entry in found
      where entry.value
        != expected.first(where: { $0.at.seq == entry.seq && $0.at.feed == entry.feed })?.value
      {
        throw Mismatch(description: "replica \(replica) has another value of \(key)")
      }
      if !expected.isEmpty { set.insert(key) }
    }
    let listed = try database.list().map { $0[0].keyText }
    guard Set(listed) == set, listed.count == set.count else {
      throw Mismatch(description: "replica \(replica) lists \(listed), the model \(set)")
    }
    var paged: [String] = []
    var count = -1
    while paged.count != count {
      count = paged.count
      try database.snapshot().forEach(after: paged.last) {
        paged.append($0[0].keyText)
        return paged.count % 2 == 1
      }
    }
    guard paged == listed else {
      throw Mismatch(description: "replica \(replica) lists \(paged) in pages, and \(listed) at once")
    }
    let below = try database.list(prefix: "a").map { $0[0].keyText }
    guard Set(below) == set.filter({ $0 == "a" || $0.hasPrefix("a/") }) else {
      throw Mismatch(description: "replica \(replica) lists \(below) below a, of \(set)")
    }
  }
}
