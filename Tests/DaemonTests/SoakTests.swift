import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// A node that serves readers that come and go, good ones and bad ones, and posts meanwhile: what it takes of the machine stays the same.
///
/// `HYPHA_SOAK_SECONDS` says for how long.
@Suite("Readers that come and go", .fewAtOnce) struct SoakTests {
  private static let seconds = getenv("HYPHA_SOAK_SECONDS").flatMap { Double(String(cString: $0)) } ?? 20
  /// Kilobytes by which the second half of the visits may raise the memory. A kilobyte that is lost at each visit comes to more within
  /// the hour.
  private static let growth = 1536

  private struct Sample: CustomStringConvertible {
    var kilobytes: Int
    var descriptors: Int
    var threads = 0

    init(_ node: TestNode) throws {
      guard let pid = node.daemon?.pid else { throw HarnessError("no daemon") }
      kilobytes = try ProcessUse(pid).kilobytes
      threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").count
      descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
    }

    var description: String { "\(kilobytes) kB, \(descriptors) descriptors, \(threads) threads" }
  }

  /// A node that posts now and then, and what is there to be read.
  private struct Hypha {
    let node: TestNode
    let link: String
    let key: PublicKey
    /// By id.
    var posts: [(id: String, text: String)] = []

    init() async throws {
      node = try await HyphactlTests.origin()
      link = try #require(try node.client().call(NodeStatus.self, .init()).hyphalink)
      key = try #require(PublicKey(hex: link.dropFirst("dat://".count)))
      for number in 0..<50 { try post("post \(number)") }
    }

    mutating func post(_ text: String) throws {
      posts.append((try node.client().call(PostsCreate.self, .init(text: text)).id, text))
    }

    mutating func deleteOldest() throws {
      _ = try node.client().call(PostsDelete.self, .init(id: posts.removeFirst().id))
    }

    /// The files of the feed have the size that its blocks need, and there is not much besides.
    func expectDiskAsWritten() throws {
      let feed = try #require(try node.client().call(NodeStatus.self, .init()).feeds.first)
      var besides = 0
      var sizes: [String: Int] = [:]
      for file in try FileManager.default.subpathsOfDirectory(atPath: node.statePath) {
        var status = stat()
        guard stat("\(node.statePath)/\(file)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
          continue
        }
        sizes[file] = Int(status.st_size)
        if !file.hasPrefix("hypha/source/") { besides += Int(status.st_size) }
      }
      let length = Int(feed.length)
      #expect(sizes["hypha/source/data"] == Int(feed.byteLength))
      #expect(sizes["hypha/source/signatures"] == 32 + 64 * length)
      #expect(try #require(sizes["hypha/source/tree"]) <= 32 + 40 * 2 * length)
      #expect(try #require(sizes["hypha/source/bitfield"]) <= 32 + 3584 * (length / 8192 + 1))
      #expect(besides < 4096, "\(sizes)")
    }
  }

  /// What one visit of readers of all kinds is.
  private func visit(_ hypha: Hypha) async throws {
    let node = hypha.node
    let reader = try await HyphactlTests.fresh()
    _ = try reader.client().call(NodeInitialise.self, .init(hyphalink: hypha.link))
    _ = try reader.client().call(ConnectionsAdd.self, .init(url: node.url))
    _ = try reader.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    try await eventually("the reader does not get the posts") {
      let posts = try reader.client().call(PostsList.self, .init(limit: 1000)).posts
      return posts.map(\.text) == hypha.posts.reversed().map(\.text) ? true : nil
    }
    for path in ["/", "/feed.json", "/.well-known/dat", "/no-such-page"] {
      let client = try RawClient(host: node.host, port: node.port)
      client.send("GET \(path) HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
      #expect(try await !client.readToEnd().isEmpty)
    }
    for _ in 0..<5 {
      let caller = try RawCaller(path: node.socket)
      try caller.send(#"{"jsonrpc":"2.0","id":1,"method":"node.status"}"#)
      #expect(try caller.line() != nil)
      try caller.send("no request")
    }
    try await breakRules(hypha)
    try await reader.kill()
    reader.folder.remove()
  }

  /// Peers that say what they may not, or go in the middle of saying it.
  private func breakRules(_ hypha: Hypha) async throws {
    func peer() async throws -> HostilePeer {
      try await HostilePeer(port: hypha.node.port, key: hypha.key, id: 7)
    }
    let liar = try await peer()
    liar.say(.data(.init(index: 0, value: [1], proof: Proof(nodes: [], signature: nil))))
    #expect(try await liar.client.readClose().0 == 1002)
    let noisy = try await peer()
    noisy.client.frame(0x82, [UInt8](repeating: 0xFF, count: 500))
    #expect(try await [1002, 1009].contains(noisy.client.readClose().0))
    let unmasked = try await peer()
    unmasked.client.frame(0x82, [1, 2, 3], masked: false)
    #expect(try await unmasked.client.readClose().0 == 1002)
    let gone = try await peer()
    gone.say(.want(.init(start: 0, length: 8192)), .request(.init(index: 1)))
    gone.client.frame(0x02, [1, 2, 3], size: 1000)
  }

  private func median(_ samples: ArraySlice<Sample>) -> Int {
    samples.map(\.kilobytes).sorted()[samples.count / 2]
  }

  @Test("Memory, descriptors and threads stay flat, and the disk has what was written")
  func flat() async throws {
    var hypha = try await Hypha()
    // What is made once, and kept.
    for _ in 0..<5 { try await visit(hypha) }
    let before = try Sample(hypha.node)
    let end = ContinuousClock.now + .seconds(Self.seconds)
    var samples: [Sample] = []
    while ContinuousClock.now < end || samples.count < 8 {
      if samples.count % 20 == 3 {
        try hypha.post("visit \(samples.count)")
        try hypha.deleteOldest()
        try hypha.expectDiskAsWritten()
      }
      try await visit(hypha)
      samples.append(try Sample(hypha.node))
    }
    // Connections that were cut are noticed a little later.
    try await eventually("descriptors stay open") {
      try Sample(hypha.node).descriptors <= before.descriptors + 2 ? true : nil
    }
    let after = try Sample(hypha.node)
    let half = samples.count / 2
    let (first, second) = (
      median(samples[half / 2..<half]), median(samples[(half + samples.count) / 2..<samples.count])
    )
    print("\(samples.count) visits: before \(before); after \(after); memory \(first), then \(second) kB")
    #expect(second - first < Self.growth, "\(samples)")
    #expect(after.threads <= before.threads, "\(before), then \(after)")
  }
}
