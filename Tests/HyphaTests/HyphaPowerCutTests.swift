import Glibc
import Hypercore
import TestSupport
import Testing

@testable import Hypha

/// A hypha's nodes that post, replicate and let devices in, and every one of which may lose its power before any call to its disk.
///
/// `HYPHA_CUT_HYPHAS` says how many runs there are, `HYPHA_SEED` from which seed on.
@Suite("A power cut at any moment in the life of a hypha") struct HyphaPowerCutTests {
  /// States that are looked at, out of a hundred calls to a disk.
  private static let likelihood = 40

  private static var count: Int { getenv("HYPHA_CUT_HYPHAS").flatMap { Int(String(cString: $0)) } ?? 6 }
  private static var first: UInt64 { getenv("HYPHA_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1 }

  /// Looks at what power cuts leave of a node.
  private final class Watch {
    let life: Life
    var cuts: SeededRandom
    /// So that one cut is looked at by a time.
    private var isLooking = false
    private(set) var states = 0

    init(_ life: Life) {
      self.life = life
      cuts = SeededRandom(life.network.seed ^ 0xCC)
      for node in life.network.nodes {
        node.beforeDiskCall = { [unowned self, unowned node] in
          guard !isLooking, node.isUp, Int.random(in: 0..<100, using: &cuts) < likelihood else { return }
          isLooking = true
          let fault = node.fault
          node.fault = nil
          defer {
            isLooking = false
            node.fault = fault
          }
          states += 1
          do { try look(at: node) } catch {
            Issue.record("seed \(life.network.seed), node \(node.place): \(error)")
          }
        }
      }
    }

    private func look(at node: SimulatedNode) throws {
      let comment: Comment = "seed \(life.network.seed), node \(node.place), state \(states)"
      let after = try node.reopened(node.cutPower(&cuts))
      // One that is not claimed yet holds nothing, whatever was on its way.
      guard let hypha = after.hypha else {
        #expect(node.record == nil && node.acknowledged.isEmpty, comment)
        return
      }
      for key in node.acknowledged.keys.sorted(by: { $0.bytes.lexicographicallyPrecedes($1.bytes) }) {
        let feed = try after.feed(key)
        let held = Set((0..<feed.length).filter { feed.has($0) })
        #expect(held.isSuperset(of: node.acknowledged[key] ?? []), comment)
        let writer = try #require(life.network.nodes.first { $0.writer == key })
        for index in held {
          let block = try feed.block(at: index)
          // What the writer has not said yet is known to itself alone.
          let isPublished = index < UInt64(writer.published.count)
          #expect(isPublished || writer === node, comment)
          #expect(
            try block == (isPublished ? writer.published[Int(index)] : node.feed(key).block(at: index)),
            comment)
        }
        let check = FeedCheck(feed)
        try check.run { false }
        #expect(check.damage.isNone, comment)
      }
      var posts: [PostID: String] = [:]
      for post in try hypha.posts(limit: 10_000).posts { posts[post.id] = post.text }
      for (id, text) in life.own[node.place] ?? [:] where !life.begun.deletions.contains(id) {
        #expect(posts[id] == text, comment)
      }
      guard try hypha.canPost() else { return }
      let now = life.network.wall + node.skew + 1
      let post = try after.commit(life.network.wall) { hypha, _ in
        try hypha.post("goes on", device: "device", now: now, random: cuts.bytes(10))
      }
      let again = try after.reopened(after.cutPower(&cuts))
      #expect(try again.hypha?.posts(limit: 10_000).posts.contains { $0.id == post.id } == true, comment)
    }
  }

  @Test(
    "Every state opens with all that was acknowledged, holds nothing false, and goes on", arguments: 0..<count
  )
  func survives(run: Int) throws {
    let seed = Self.first + UInt64(run)
    let network = try SimulatedNetwork(
      seed: seed, servers: 1, devices: 2, readers: 0, weather: .init(powerCuts: 100, faults: 10))
    let life = Life(network)
    let watch = Watch(life)
    for step in 0..<500 {
      try network.advance()
      if step % 3 == 0 { try life.act() }
    }
    #expect(try network.settle(within: 600_000), "seed \(seed): it does not come to rest")
    #expect(life.posted.count > 5, "seed \(seed): little happened")
    #expect(watch.states > 20, "seed \(seed): few states")
    print(
      "seed \(seed): \(watch.states) states after power cuts, \(network.failures) failures of disks, \(life.posted.count) posts"
    )
  }
}
