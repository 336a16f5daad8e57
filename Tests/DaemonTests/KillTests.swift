import FoundationEssentials
import Glibc
import HyphaControlAPI
import Synchronization
import Testing

/// Daemons that are killed while they post and replicate as fast as they can.
///
/// `HYPHA_KILLS` says how often, `HYPHA_SEED` when, `HYPHA_KILL_BLOCKS` how many posts there are before the first time.
@Suite("Daemons that are killed", .fewAtOnce, .serialized) struct KillTests {
  private static func setting(_ name: String, _ otherwise: Int) -> Int {
    getenv(name).flatMap { Int(String(cString: $0)) } ?? otherwise
  }

  /// Posts through one connection, several at a time, until told to stop or the daemon is gone.
  private final class Poster: Sendable {
    private struct Answer: Decodable {
      struct Result: Decodable {
        var id: String
      }
      var id: Int
      var result: Result?
    }

    /// Requests without an answer.
    private static let window = 16

    private let path: String
    private let prefix: String
    private let isOver = Mutex(false)
    /// Texts by the ids that the daemon gave them.
    private let acknowledged = Mutex<[String: String]>([:])

    init(_ node: TestNode, _ prefix: String) {
      path = node.socket
      self.prefix = prefix
    }

    var count: Int { acknowledged.withLock { $0.count } }

    func stop() { isOver.withLock { $0 = true } }

    /// - Returns: what was acknowledged.
    func run() async -> [String: String] {
      await Task(executorPreference: BlockingExecutor.shared) { self.post() }.value
    }

    private func post() -> [String: String] {
      var sent = 0
      var answered = 0
      if let caller = try? RawCaller(path: path) {
        while true {
          while sent - answered < Self.window, !isOver.withLock({ $0 }) {
            let request =
              #"{"jsonrpc":"2.0","id":\#(sent),"method":"posts.create","params":{"text":"\#(prefix) \#(sent)"}}"#
            guard (try? caller.send(request)) != nil else { return acknowledged.withLock { $0 } }
            sent += 1
          }
          guard answered < sent, let line = try? caller.line(),
            let answer = try? JSONDecoder().decode(Answer.self, from: Data(line.utf8))
          else { break }
          answered += 1
          if let id = answer.result?.id { acknowledged.withLock { $0[id] = "\(prefix) \(answer.id)" } }
        }
      }
      return acknowledged.withLock { $0 }
    }
  }

  /// All posts of a node, by their ids; or the newest ones, until all of some were seen.
  private func posts(_ node: TestNode, until wanted: Set<String>? = nil) throws -> [String: String] {
    var found: [String: String] = [:]
    var missing = wanted ?? []
    var last: String?
    while wanted == nil || !missing.isEmpty {
      let page = try node.client().call(PostsList.self, .init(limit: 1000, before: last))
      for post in page.posts {
        #expect(found.updateValue(post.text, forKey: post.id) == nil)
        missing.remove(post.id)
      }
      last = page.posts.last?.id
      if !page.more { break }
    }
    return found
  }

  private func expectIntact(_ node: TestNode) async throws {
    var check = try node.client().call(NodeVerify.self, .init(waitSeconds: 1))
    try await eventually("the check does not end") {
      check = try node.client().call(NodeVerify.self, .init(id: check.id, waitSeconds: 1))
      return check.done ? true : nil
    }
    for feed in check.feeds { #expect(feed.damaged == 0, "\(feed)") }
  }

  /// A laptop, and a phone that may write, connected to it.
  private func pair() async throws -> [TestNode] {
    let (laptop, phone) = (try TestNode(), try TestNode())
    try await laptop.start()
    try await phone.start()
    let passphrase = try laptop.client().call(PassphraseGenerate.self, .init()).passphrase
    let link = try laptop.client().call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "laptop")
    ).hyphalink
    let writer = try phone.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "phone", writer: true)
    ).writer
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: laptop.url))
    _ = try laptop.client().call(DatabaseAuthorize.self, .init(key: try #require(writer)))
    try await eventually("the phone does not learn that it may post") {
      try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil
    }
    return [laptop, phone]
  }

  @Test("Nothing that was acknowledged is lost, nothing is there twice, and both come to the same")
  func killed() async throws {
    let rounds = Self.setting("HYPHA_KILLS", 24)
    let seed = Self.setting("HYPHA_SEED", 1)
    var random = EdgeRandom(seed: UInt64(seed))
    let nodes = try await pair()
    var all: [String: String] = [:]

    let wanted = Self.setting("HYPHA_KILL_BLOCKS", 0)
    if wanted > 0 {
      let poster = Poster(nodes[0], "before")
      async let posted = poster.run()
      try await eventually(within: 3600) { poster.count >= wanted ? true : nil }
      poster.stop()
      all = await posted
    }

    var slowest = Duration.zero
    for round in 0..<rounds {
      let posters = [(0, "a"), (0, "b"), (1, "c")].map { Poster(nodes[$0.0], "\(round) \($0.1)") }
      async let first = posters[0].run()
      async let second = posters[1].run()
      async let third = posters[2].run()
      try await Task.sleep(for: .milliseconds(20 + Int(random.next() % 600)))
      let victims = [[0], [1], [0, 1]][Int(random.next() % 3)]
      for victim in victims { nodes[victim].daemon?.send(SIGKILL) }
      for poster in posters { poster.stop() }
      let acknowledged = await [first, second, third]
      for victim in victims {
        try await nodes[victim].kill()
        let start = ContinuousClock.now
        try await nodes[victim].start()
        slowest = max(slowest, ContinuousClock.now - start)
      }
      for (place, posted) in [(0, acknowledged[0]), (0, acknowledged[1]), (1, acknowledged[2])] {
        let held = try posts(nodes[place], until: Set(posted.keys))
        for (id, text) in posted {
          #expect(held[id] == text, "seed \(seed), round \(round): \(text) is lost")
        }
        all.merge(posted) { $1 }
      }
    }
    #expect(all.count > rounds, "seed \(seed): hardly anything was posted")
    var held: [String: String] = [:]
    try await eventually("seed \(seed): the two nodes do not come to the same") {
      held = try posts(nodes[0])
      return try held == posts(nodes[1]) ? true : nil
    }
    for (id, text) in all { #expect(held[id] == text, "seed \(seed): \(text) is lost") }
    #expect(Set(held.values).count == held.count, "seed \(seed): a post is there twice")
    for node in nodes { try await expectIntact(node) }
    print("seed \(seed): killed \(rounds) times, \(held.count) posts, slowest start \(slowest)")
  }
}
