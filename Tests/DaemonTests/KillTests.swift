import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Synchronization
import Testing

@testable import Hyperdb
@testable import HyphaDaemonCore

/// Daemons that are killed while they start, post and replicate as fast as they can, while they are claimed and while they let others in.
///
/// `HYPHA_KILLS` says how often, `HYPHA_SEED` when.
@Suite("Daemons that are killed", .fewAtOnce, .serialized) struct KillTests {
  private static let rounds = setting("HYPHA_KILLS", 16)
  private static let seed = setting("HYPHA_SEED", 1)
  /// Seconds of processor time in which a daemon answers after it was killed. Time by the clock would depend on what else the
  /// machine does.
  private static let startSeconds = 1.0

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

    func stop() { isOver.withLock { $0 = true } }

    /// - Returns: what was acknowledged.
    func run() async -> [String: String] {
      await Task(executorPreference: BlockingExecutor.shared) { self.post() }.value
    }

    private func post() -> [String: String] {
      var sent = 0
      var answered = 0
      var isGone = false
      if let caller = try? RawCaller(path: path) {
        while true {
          while !isGone, sent - answered < Self.window, !isOver.withLock({ $0 }) {
            let request =
              #"{"jsonrpc":"2.0","id":\#(sent),"method":"posts.create","params":{"text":"\#(prefix) \#(sent)"}}"#
            // What it answered before it was gone is read all the same.
            do { try caller.send(request) } catch { isGone = true }
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

  private func role(_ node: TestNode) throws -> NodeRole {
    try node.client().call(NodeStatus.self, .init()).role
  }

  /// Has a server keep a laptop's hypha, and waits until it does.
  private func claim(_ server: TestNode, by laptop: TestNode) async throws {
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try laptop.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    try await eventually("the server does not get the hypha: \(server.log)") {
      try role(server) == .alwaysOn ? true : nil
    }
  }

  /// A laptop, a phone that may write, connected to it, and a server that keeps what both write.
  private func three() async throws -> [TestNode] {
    let laptop = try await HyphactlTests.origin()
    let (phone, server) = (try await HyphactlTests.fresh(), try await HyphactlTests.fresh())
    let link = try laptop.client().call(NodeStatus.self, .init()).hyphalink
    let writer = try phone.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "phone", writer: true)
    ).writer
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: laptop.url))
    _ = try laptop.client().call(DatabaseAuthorize.self, .init(key: try #require(writer)))
    try await claim(server, by: laptop)
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: server.url))
    try await eventually("the phone does not learn that it may post") {
      try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil
    }
    return [laptop, phone, server]
  }

  /// Starts a daemon that was killed, now and then in vain.
  ///
  /// - Returns: seconds of processor time that it took until it answered.
  private func restart(_ node: TestNode, _ random: inout EdgeRandom) async throws -> Double {
    for _ in 0..<Int(random.next() % 3) {
      try await node.startAndKill(after: .milliseconds(Int(random.next() % 150)))
    }
    try await node.start()
    return try ProcessUse(try #require(node.daemon).pid).cpuSeconds
  }

  @Test("Nothing that was acknowledged is lost, nothing is there twice, and all come to the same")
  func killed() async throws {
    let (rounds, seed) = (Self.rounds, Self.seed)
    var random = EdgeRandom(seed: UInt64(seed))
    let nodes = try await three()
    var all: [String: String] = [:]
    var slowest = 0.0
    for round in 0..<rounds {
      let posters = [(0, "a"), (0, "b"), (1, "c")].map { Poster(nodes[$0.0], "\(round) \($0.1)") }
      async let first = posters[0].run()
      async let second = posters[1].run()
      async let third = posters[2].run()
      try await Task.sleep(for: .milliseconds(Int(random.next() % 600)))
      let victims = [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]][Int(random.next() % 7)]
      for victim in victims { nodes[victim].daemon?.send(SIGKILL) }
      for poster in posters { poster.stop() }
      let acknowledged = await [first, second, third]
      for victim in victims {
        try await nodes[victim].kill()
        slowest = max(slowest, try await restart(nodes[victim], &random))
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
    #expect(slowest < Self.startSeconds, "seed \(seed)")
    var held: [String: String] = [:]
    try await eventually("seed \(seed): the nodes do not come to the same") {
      held = try posts(nodes[0])
      return try held == posts(nodes[1]) && held == posts(nodes[2]) ? true : nil
    }
    for (id, text) in all { #expect(held[id] == text, "seed \(seed): \(text) is lost") }
    #expect(Set(held.values).count == held.count, "seed \(seed): a post is there twice")
    for node in nodes { try await expectIntact(node) }
    print(
      "seed \(seed): killed \(rounds) times, \(held.count) posts, slowest start \(slowest) s of processor time"
    )
  }

  // MARK: - A long feed

  /// Makes a device's own feed as long as it is to be, with its last entry, which is put again and again and changes nothing.
  private func lengthen(_ node: TestNode, to length: UInt64) async throws {
    _ = try node.client().call(DatabasePut.self, .init(key: "before", text: "there"))
    try await node.stop()
    let files = try FeedFiles { (name) throws(StorageError) in
      try FileStorage("\(node.statePath)/hypha/source/\(name)")
    }
    let feed: Feed<FileStorage>
    switch KeyPair.stored(node.folder.read("state/secrets/writer")) {
    case .some(let pair): feed = try Feed(files: files, keyPair: pair, storeSecretKey: false)
    case .none: throw HarnessError("no secret key")
    }
    var entry = try #require(StoredEntry(decoding: try feed.block(at: feed.length - 1)))
    while feed.length < length {
      try feed.append(
        contentsOf: (feed.length..<min(feed.length + 500, length)).map { place in
          entry.clock = [place + 1]
          return entry.encoded
        })
    }
    try feed.flush(durable: true)
    try await node.start()
  }

  @Test("With 100,000 blocks, it answers within a second after it was killed, and has what it acknowledged")
  func longFeed() async throws {
    let seed = Self.seed
    var random = EdgeRandom(seed: UInt64(seed))
    let node = try await HyphactlTests.origin()
    try await lengthen(node, to: 100_000)
    var slowest = 0.0
    for round in 0..<max(1, Self.rounds / 4) {
      let caller = Caller(node)
      async let putting = caller.put(round)
      try await Task.sleep(for: .seconds(Sanitizer.seconds(Double(random.next() % 400) / 1000)))
      node.daemon?.send(SIGKILL)
      let count = await putting
      try await node.kill()
      slowest = max(slowest, try await restart(node, &random))
      let client = try node.client()
      for number in 0..<count {
        let entries = try? client.call(DatabaseGet.self, .init(key: "\(round)/\(number)")).entries
        #expect(entries?.count == 1, "seed \(seed): \(round)/\(number) is lost")
      }
    }
    let length = try #require(try node.client().call(NodeStatus.self, .init()).feeds.first).length
    #expect(length > 100_000)
    #expect(slowest < Self.startSeconds, "seed \(seed)")
    print("seed \(seed): \(length) blocks, slowest start \(slowest) s of processor time")
  }

  @Test("Among 100,000 blocks that it fetches, it answers within a second, too, and comes to have all")
  func longFeedOfAnother() async throws {
    let seed = Self.seed
    var random = EdgeRandom(seed: UInt64(seed))
    let laptop = try await HyphactlTests.origin()
    let server = try await HyphactlTests.fresh()
    try await claim(server, by: laptop)
    try await lengthen(laptop, to: 100_000)
    func held() throws -> UInt64 {
      try server.client().call(NodeStatus.self, .init()).feeds.first?.heldBlocks ?? 0
    }
    var (slowest, midway) = (0.0, 0)
    for _ in 0..<max(4, Self.rounds / 4) {
      let before = try held()
      try await eventually(within: Sanitizer.seconds(90), "\(server.log)") {
        try held() > before || held() == 100_000 ? true : nil
      }
      try await Task.sleep(for: .milliseconds(Int(random.next() % 400)))
      if try held() < 100_000 { midway += 1 }
      try await server.kill()
      slowest = max(slowest, try await restart(server, &random))
      // The laptop waits longer each time before it tries again.
      _ = try laptop.client().call(ConnectionsRemove.self, .init(url: server.url))
      _ = try laptop.client().call(ConnectionsAdd.self, .init(url: server.url))
    }
    #expect(midway > 0, "seed \(seed): it had all of them before it was killed")
    #expect(slowest < Self.startSeconds, "seed \(seed)")
    try await eventually(within: Sanitizer.seconds(90), "\(server.log)") {
      try held() == 100_000 ? true : nil
    }
    try await expectIntact(server)
    print("seed \(seed): killed \(midway) times as it fetched, slowest start \(slowest) s of processor time")
  }

  // MARK: - Claiming and letting in

  @Test(
    "Killed while a node is claimed and while a device is let in, both come about when they are asked for again"
  )
  func claimedAndLetIn() async throws {
    var random = EdgeRandom(seed: UInt64(Self.seed))
    let laptop = try await HyphactlTests.origin()
    for round in 0..<max(1, Self.rounds / 4) {
      let server = try await HyphactlTests.fresh()
      let (owner, claimed) = (Caller(laptop), Caller(server))
      async let claiming: Void = owner.claim(claimed)
      try await Task.sleep(for: .milliseconds(Int(random.next() % 80)))
      let victim = random.next() % 3 == 0 ? laptop : server
      victim.daemon?.send(SIGKILL)
      _ = await claiming
      try await victim.kill()
      _ = try await restart(victim, &random)
      if try role(server) == .uninitialised {
        // The connection may be kept already.
        _ = try? laptop.client().call(ConnectionsRemove.self, .init(url: server.url))
        try await claim(server, by: laptop)
      } else {
        _ = try? laptop.client().call(ConnectionsAdd.self, .init(url: server.url))
      }
      _ = try laptop.client().call(PostsCreate.self, .init(text: "\(round) by the laptop"))
      try await expectSame([laptop, server])

      let phone = try await HyphactlTests.fresh()
      let asked = try await phone.ctl(
        "sign-in", "http://127.0.0.1:\(server.port)", "--domain", "example.org", "--name", "phone \(round)",
        "--passphrase-file", "-", input: HyphactlTests.passphrase)
      #expect(asked.status == 0, "\(asked.stderr)")
      func pending() throws -> RequestInfo? {
        try laptop.client().call(RequestsList.self, .init()).requests.first { $0.state == .pending }
      }
      let request = try await eventually("no request comes") { try pending() }
      async let approving: Void = owner.approve(request.id)
      try await Task.sleep(for: .milliseconds(Int(random.next() % 40)))
      let other = [laptop, server, phone][Int(random.next() % 3)]
      other.daemon?.send(SIGKILL)
      _ = await approving
      try await other.kill()
      _ = try await restart(other, &random)
      try await eventually("seed \(Self.seed), round \(round): the phone is not let in") {
        if let request = try pending() {
          _ = try laptop.client().call(RequestsApprove.self, .init(id: request.id))
        }
        return try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil
      }
      _ = try phone.client().call(PostsCreate.self, .init(text: "\(round) by the phone"))
      try await expectSame([laptop, server, phone])
      for node in [server, phone] { try await expectIntact(node) }
      _ = try? laptop.client().call(ConnectionsRemove.self, .init(url: server.url))
    }
    #expect(try posts(laptop).count == 2 * max(1, Self.rounds / 4))
    try await expectIntact(laptop)
  }

  private func expectSame(_ nodes: [TestNode]) async throws {
    try await eventually("seed \(Self.seed): the nodes do not come to the same") {
      let held = try posts(nodes[0])
      return try nodes.dropFirst().allSatisfy { try posts($0) == held } ? true : nil
    }
  }

  /// A node's control socket, from any thread; what fails because a daemon is killed is no matter.
  private struct Caller: Sendable {
    private let socket: String
    private let url: String

    init(_ node: TestNode) {
      socket = node.socket
      url = node.url
    }

    func claim(_ server: Caller) async {
      await away {
        let code = try ControlClient(path: server.socket).call(SetupCodeShow.self, .init()).code
        _ = try ControlClient(path: socket).call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
      }
    }

    func approve(_ id: String) async {
      await away { _ = try ControlClient(path: socket).call(RequestsApprove.self, .init(id: id)) }
    }

    /// Puts one value after the other, as long as the daemon runs.
    ///
    /// - Returns: how many were acknowledged.
    func put(_ round: Int) async -> Int {
      await Task(executorPreference: BlockingExecutor.shared) {
        guard let client = try? ControlClient(path: socket) else { return 0 }
        var count = 0
        while (try? client.call(DatabasePut.self, .init(key: "\(round)/\(count)", text: "there"))) != nil {
          count += 1
        }
        return count
      }.value
    }

    private func away(_ work: @escaping @Sendable () throws -> Void) async {
      await Task(executorPreference: BlockingExecutor.shared) { try? work() }.value
    }
  }
}
