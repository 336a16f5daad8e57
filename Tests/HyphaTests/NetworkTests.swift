import Glibc
import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

/// The whole life of a hypha on a network that fails: set-up, servers, devices that ask, are compared, let in or not, and post.
///
/// `HYPHA_NETWORKS` says how many runs there are, `HYPHA_SEED` from which seed on.
@Suite("A hypha on a network that fails") struct NetworkTests {
  private func live(_ seed: UInt64, servers: Int, devices: Int, steps: Int, isLong: Bool = false) throws
    -> Life
  {
    let network = try SimulatedNetwork(
      seed: seed, servers: servers, devices: devices, readers: 2, weather: SimulatedNetwork.Weather())
    let life = Life(network)
    if isLong { try life.begin() }
    for step in 0..<steps {
      try network.advance()
      if step % 3 == 0 { try life.act() }
    }
    return life
  }

  private static var count: Int { getenv("HYPHA_NETWORKS").flatMap { Int(String(cString: $0)) } ?? 3 }
  private static var first: UInt64 {
    getenv("HYPHA_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1
  }

  @Test("Everything that was acknowledged reaches everybody", arguments: 0..<count)
  func converges(run: Int) throws {
    let seed = Self.first + UInt64(run)
    // By the seed alone, so that it does the same again wherever it comes first.
    let devices = [4, 10, 24][Int(seed % 3)]
    let life = try live(seed, servers: 3, devices: devices, steps: 600 + 30 * devices, isLong: devices == 4)
    let network = life.network
    #expect(try network.settle(within: 600_000), "seed \(seed): it does not come to rest")
    #expect(life.posted.count > 20, "seed \(seed): little happened")
    let expected = Set(life.posted.keys).subtracting(life.begun.deletions)
    let possible = Set(life.begun.posts.keys).subtracting(life.deleted)
    let origin = try #require(network.nodes[0].hypha)
    let there = Set(try origin.posts(limit: 100_000).posts.map(\.id))
    #expect(there.isSuperset(of: expected) && there.isSubset(of: possible), "seed \(seed)")
    let known = try origin.devices()
    for node in network.members {
      let (hypha, membership) = (try #require(node.hypha), try #require(node.membership))
      #expect(node.record?.key == origin.source.key, "seed \(seed), node \(node.place)")
      var texts: [PostID: String] = [:]
      for post in try hypha.posts(limit: 100_000).posts { texts[post.id] = post.text }
      #expect(Set(texts.keys) == there, "seed \(seed), node \(node.place): posts are missing or too many")
      for (id, text) in texts { #expect(text == life.begun.posts[id]) }
      #expect(
        try hypha.devices().map(\.writer) == known.map(\.writer), "seed \(seed), node \(node.place)")
      #expect(
        membership.drops.forged + membership.drops.malformed + membership.drops.unopened == 0,
        "seed \(seed), node \(node.place)")
    }
    try expectNoneTwice(life)
    let approved = life.approvals
    for node in network.nodes where node.writer != nil && node.kind == .device {
      let own = node.membership?.ownRequest(now: network.wall + node.skew)
      let isIn = try node.hypha?.canPost() ?? false
      if let own, approved.contains(own.id) {
        #expect(isIn, "seed \(seed), node \(node.place): let in, and does not know")
      }
      #expect(isIn == known.contains { $0.writer == node.writer })
      if let own, life.denials.contains(own.id), !isIn {
        #expect(own.state == .denied, "seed \(seed), node \(node.place): denied, and does not know")
      }
    }
  }

  /// Nobody let a device in twice, nor one of which it knew that another had; and nobody is asked about it any more.
  private func expectNoneTwice(_ life: Life) throws {
    let network = life.network
    let comment: Comment = "seed \(network.seed)"
    let database = try #require(network.nodes[0].hypha).database
    let writers = database.writerKeys
    var entries: [PublicKey: [Entry]] = [:]
    var history = try History(database.snapshot())
    while let entry = try history.entry() {
      if let writer = DeviceRecord.writer(recordKey: entry.key) { entries[writer, default: []].append(entry) }
    }
    #expect(Set(entries.keys).isSuperset(of: life.admissions.keys), comment)
    for (writer, entries) in entries {
      let authors = Set(entries.map(\.feed))
      #expect(authors.count == entries.count, comment)
      #expect(authors.isSuperset(of: feeds(of: life.admissions[writer] ?? [], in: network)), comment)
      #expect(authors.isSubset(of: feeds(of: life.begun.admissions[writer] ?? [], in: network)), comment)
      for entry in entries {
        let isSeen = try entries.contains { other in
          let number = try #require(writers.firstIndex(of: entry.feed))
          return other != entry && number < other.clock.count && other.clock[number] > entry.seq
        }
        #expect(!isSeen, comment)
      }
    }
    for node in network.nodes {
      guard let membership = node.membership, let hypha = node.hypha else { continue }
      for request in membership.requests(now: network.wall + node.skew) where request.state == .pending {
        #expect(try !hypha.database.isAuthorized(request.writer), comment)
      }
    }
  }

  /// The feeds that nodes write.
  private func feeds(of places: Set<Int>, in network: SimulatedNetwork) -> Set<PublicKey> {
    Set(places.compactMap { network.nodes[$0].writer })
  }

  @Test(
    "The same seed gives the same run",
    .enabled(if: getenv("SWIFT_DETERMINISTIC_HASHING") != nil, "needs SWIFT_DETERMINISTIC_HASHING=1"))
  func isDeterministic() throws {
    let traces = try (0..<2).map { _ in try live(77, servers: 2, devices: 5, steps: 600).network.trace }
    #expect(traces[0] == traces[1])
    #expect(try live(78, servers: 2, devices: 5, steps: 600).network.trace != traces[0])
  }
}
