import Glibc
import Hypercore
import Hyperdb
import HyphaDaemonCore

/// Databases of two sizes, by one and by eight writers; the goals are for the small one of one writer, with which the
/// reference was measured.
extension Workload {
  private struct Size {
    let keys: Int
    let writers: Int
    /// What a workload is named by.
    var name: String {
      "\(keys == small ? "10,000" : "1,000,000") keys, \(writers == 1 ? "1 writer" : "8 writers")"
    }
    /// Whether the goals are for it.
    var hasGoals: Bool { keys == small && writers == 1 }

    func database(beside folder: String, _ scale: Double) throws -> SharedDatabase {
      let keys = keys == small ? keys : max(small, Int(scale * Double(keys)))
      return try SharedDatabase(keys: keys, writers: writers, beside: folder)
    }
  }

  private static let small = 10_000
  private static let sizes = [small, 1_000_000].flatMap { keys in
    [1, 8].map { Size(keys: keys, writers: $0) }
  }

  // What adds entries comes last: it changes what the others read.
  static let trie =
    sizes.map(gets) + sizes.map(coldGets) + sizes.map(memory) + sizes.map(list) + sizes.map(history)
    + sizes.map { open($0, isCold: false) } + sizes.map { open($0, isCold: true) }
    + sizes.map {
      puts("one by one", $0, batch: 1, goal: .ofLimit(0.5), reference: 2_400)
    }
    + sizes.map {
      puts("in batches of 100", $0, batch: 100, goal: .atLeast(60_000), reference: 4_000)
    }

  private static func puts(
    _ what: String, _ size: Size, batch: Int, goal: Goal, reference: Double
  ) -> Workload {
    Workload(
      name: "trie puts \(what), \(size.name)", limit: "limit: Ed25519 sign",
      goal: size.hasGoals ? goal : .none, reference: size.hasGoals ? reference : nil
    ) { folder, scale in
      let database = try size.database(beside: folder, scale)
      let replicas = try SharedDatabase.Replicas(database)
      var numbers = Numbers(below: database.keys)
      var (elapsed, puts) = (0.0, 0)
      while elapsed < 2 * scale {
        let round = try replicas.round(batch: batch) { numbers.next() }
        elapsed += round.seconds
        puts += round.puts
      }
      return Measurement(Double(puts) / elapsed, .perSecond)
    }
  }

  private static func gets(_ size: Size) -> Workload {
    Workload(
      name: "trie gets, warm, \(size.name)", goal: size.hasGoals ? .atLeast(100_000) : .none,
      reference: size.hasGoals ? 10_000 : nil
    ) { folder, scale in
      let shared = try size.database(beside: folder, scale)
      let database = try shared.open()
      var numbers = Numbers(below: shared.keys)
      for _ in 0..<2 * small { try get(numbers.next(), of: database) }
      return Measurement(try rate(atLeast: 2 * scale) { try get(numbers.next(), of: database) }, .perSecond)
    }
  }

  private static func coldGets(_ size: Size) -> Workload {
    Workload(name: "trie gets, the first 1,000, files not in memory, \(size.name)") { folder, scale in
      let shared = try size.database(beside: folder, scale)
      let database = try shared.open()
      var numbers = Numbers(below: shared.keys)
      try shared.dropFromMemory()
      let elapsed = try seconds {
        for _ in 0..<1000 { try get(numbers.next(), of: database) }
      }
      return Measurement(1000 / elapsed, .perSecond)
    }
  }

  /// The goal is a bound whatever the number of keys: each feed has caches of up to 11 MB, the database one of 12 MB.
  private static func memory(_ size: Size) -> Workload {
    Workload(
      name: "trie memory after 100,000 gets, \(size.name)", goal: .atMost(size.writers == 1 ? 64 : 128),
      reference: size.hasGoals ? 245 : nil
    ) { folder, scale in
      let shared = try size.database(beside: folder, scale)
      let database = try shared.open()
      var numbers = Numbers(below: shared.keys)
      for _ in 0..<Int(scale * 100_000) { try get(numbers.next(), of: database) }
      return Measurement(Memory.peak(), .memory)
    }
  }

  private static func list(_ size: Size) -> Workload {
    Workload(name: "trie list of everything, \(size.name)") { folder, scale in
      let shared = try size.database(beside: folder, scale)
      let snapshot = try shared.open().snapshot()
      var count = 0
      let elapsed = try seconds {
        try snapshot.forEach(prefix: "") { _ in
          count += 1
          return true
        }
      }
      guard count == shared.keys else { throw BenchError("\(count) keys instead of \(shared.keys)") }
      return Measurement(Double(count) / elapsed, .perSecond)
    }
  }

  private static func history(_ size: Size) -> Workload {
    Workload(name: "trie history of everything, \(size.name)") { folder, scale in
      let shared = try size.database(beside: folder, scale)
      var history = try History(shared.open().snapshot())
      var count = 0
      let elapsed = try seconds {
        while try history.entry() != nil { count += 1 }
      }
      guard count >= shared.keys else { throw BenchError("\(count) entries of \(shared.keys) keys") }
      return Measurement(Double(count) / elapsed, .perSecond)
    }
  }

  private static func open(_ size: Size, isCold: Bool) -> Workload {
    Workload(name: "trie open\(isCold ? ", files not in memory" : ""), \(size.name)") { folder, scale in
      let shared = try size.database(beside: folder, scale)
      if isCold { try shared.dropFromMemory() } else { _ = try shared.open().snapshot() }
      let elapsed = try seconds { _ = try shared.open().snapshot() }
      return Measurement(1000 * elapsed, .milliseconds)
    }
  }

  private static func get(_ number: Int, of database: Hyperdb<FileStorage>) throws {
    let key = SharedDatabase.key(number)
    guard try database.get(key).first?.value == SharedDatabase.value else {
      throw BenchError("\(key) has another value")
    }
  }

  /// A linear congruential sequence: costs nothing, and comes to all numbers.
  private struct Numbers {
    private var state: UInt64 = 1
    private let end: UInt64

    init(below end: Int) { self.end = UInt64(end) }

    mutating func next() -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 32) % end)
    }
  }
}
