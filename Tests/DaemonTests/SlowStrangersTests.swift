import FoundationEssentials
import Hypercore
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// Strangers who send or take nothing in time, or one byte a second, all at one time, and what the built daemon does about each.
@Suite("Slow strangers", .fewAtOnce, .timeLimit(.minutes(10))) struct SlowStrangersTests {
  /// What somebody sends byte by byte.
  private struct Drip {
    private let send: (UInt8) -> Void
    private var rest: ArraySlice<UInt8>
    var isDone: Bool { rest.isEmpty }

    init(_ bytes: [UInt8], _ send: @escaping (UInt8) -> Void) {
      (rest, self.send) = (bytes[...], send)
    }

    init(_ client: RawClient, _ bytes: [UInt8]) {
      self.init(bytes) { client.send([$0]) }
    }

    mutating func next() {
      if let byte = rest.popFirst() { send(byte) }
    }
  }

  /// The beginning of the protocol, up to who it is that speaks.
  private static func opening(_ key: PublicKey, nonce: [UInt8]? = nil) throws -> [UInt8] {
    let session = Session(Session.Configuration(id: [UInt8](repeating: 1, count: 32), nonce: nonce))
    _ = try session.open(key)
    return session.takeOutput()
  }

  @Test("Who sends or takes nothing in time is cut off and told of, and who is only slow is not")
  func slow() async throws {
    let (ports, folder) = (try freePorts(2), try WebFolder.large())
    let place = try await Place(
      settings: """
        [tcp]
        enabled = true
        address = "127.0.0.1:\(ports[0])"
        [metrics]
        address = "127.0.0.1:\(ports[1])"
        """, http: "trusted_proxies = [\"127.0.0.1\"]\nweb_folder = \"\(folder.path)\"")
    let (port, key) = (place.server.port, place.key)
    // Feeds for feed readers and lists of posts are as long as they can be.
    let text = String(repeating: "long ", count: ControlLimits.postBytes / 5)
    for _ in 0..<8 { _ = try place.origin.client().call(PostsCreate.self, .init(text: text)) }
    try await place.goodPeerSyncs("long posts")
    let before = try place.use()

    func from(_ number: Int) -> String { "X-Forwarded-For: 192.0.2.\(number)\r\n" }
    func request(_ path: String, _ headers: String = "") async throws -> RawClient {
      let client = try RawClient(port: port)
      client.send("GET \(path) HTTP/1.1\r\nHost: x\r\n\(headers)\r\n")
      return client
    }
    func upgrade(_ path: String, _ number: Int) async throws -> RawClient {
      let client = try RawClient(port: port)
      let answer = try await client.upgrade(path, headers: from(number))
      #expect(answer.hasPrefix("HTTP/1.1 101"), "\(answer)")
      return client
    }
    // Who takes more time for an answer than for a request, and goes on taking it.
    let slowReader = try await request("/", from(10))
    #expect(try await slowReader.readHeader().hasPrefix("HTTP/1.1 200"))
    var taken = 0
    // Who takes nothing: of an answer, and of thousands.
    let unread = try await request("/", from(1))
    let pipelined = try RawClient(port: port)
    pipelined.send(
      String(repeating: "GET /feed.json HTTP/1.1\r\nHost: x\r\n\(from(2))\r\n", count: 2000))
    // Who has had an answer, and sends nothing more, or a byte a second.
    let idle = try await request("/healthz")
    let begun = try await request("/healthz")
    for client in [idle, begun] {
      #expect(try await client.readHeader().hasPrefix("HTTP/1.1 200"))
      _ = try await client.read("Ready.\n".utf8.count)
    }
    // Who is to send a setup code.
    let path = "/sign-up/\(key.hex)"
    let signUps = [
      try await upgrade(path, 3), try await upgrade(path, 4), try await upgrade(path, 5),
      try await upgrade(path, 6),
    ]
    signUps[2].frame(0x81, Array("[]".utf8))
    signUps[3].frame(0x82, [1])
    // Who has shaken hands.
    let pinging = try await HostilePeer(port: port, key: key, id: 7, from: "192.0.2.7")
    let asking = try await HostilePeer(port: port, key: key, id: 8, from: "192.0.2.8")
    let question = asking.bytes([.request(Message.Request(index: 0))])
    // Only a frame's contents are a sign that somebody is there.
    asking.client.send([0x82, 0x80 | UInt8(question.count), 0, 0, 0, 0])
    // Who has not.
    let nameless = try await upgrade("/hypha", 9)
    let tcp = try RawClient(port: ports[0])
    let silent = try RawClient(port: ports[0])
    silent.send([0x40, 0x00])
    let web = try RawClient(port: port)
    let slowCaller = try RawCaller(path: place.server.socket)
    let header = Array("GET / HTTP/1.1\r\nX: \(String(repeating: "a", count: 200))".utf8)
    var drips = [
      Drip(asking.client, question),
      Drip(web, header), Drip(begun, header),
      Drip([UInt8](repeating: 0x20, count: 200)) { try? slowCaller.send([$0]) },
      Drip(signUps[1], [0x81, 0x80 | 100, 0, 0, 0, 0] + [UInt8](repeating: 0x20, count: 100)),
      Drip(pinging.client, [0x89, 0x80 | 125, 0, 0, 0, 0] + [UInt8](repeating: 1, count: 125)),
      Drip(try Self.opening(key)) { nameless.frame(0x82, [$0]) },
      Drip(tcp, try Self.opening(key, nonce: [UInt8](repeating: 1, count: 24))),
    ]
    // Whoever may call, and reads nothing of the answers.
    let caller = try RawCaller(path: place.server.socket)
    let call = #"{"jsonrpc":"2.0","id":1,"method":"posts.list","params":{"limit":1000}}"# + "\n"
    try caller.send(String(repeating: call, count: 2000).utf8)

    let expected: [String: [String: UInt64]] = [
      "192.0.2.1": ["stalled": 1], "192.0.2.2": ["stalled": 1], "192.0.2.3": ["noRequest": 1],
      "192.0.2.4": ["noRequest": 1], "192.0.2.5": ["badRequest": 1], "192.0.2.6": ["badFrame": 1],
      "192.0.2.7": ["timedOut": 1], "192.0.2.9": ["timedOut": 1],
      "127.0.0.1": ["noRequest": 2, "timedOut": 2],
    ]
    let start = ContinuousClock.now
    var seconds: [String: Int] = [:]
    while ContinuousClock.now < start + .seconds(85), try place.rejections() != expected {
      for index in drips.indices { drips[index].next() }
      if drips[0].isDone { asking.keepAlive() }
      // As much as is due by the clock: rounds take longer where the machine is busy.
      let due = Int(160 * ((ContinuousClock.now - start) / .seconds(1))) << 10
      taken += try await slowReader.read(min(due, 12 << 20) - taken).count
      try await Task.sleep(for: .seconds(1))
      for (address, kinds) in try place.rejections() {
        for kind in kinds.keys where seconds["\(address) \(kind)"] == nil {
          seconds["\(address) \(kind)"] = Int((ContinuousClock.now - start) / .seconds(1))
        }
      }
    }
    print("slow strangers: cut off after \(seconds.sorted { $0.value < $1.value })")
    #expect(try place.rejections() == expected)
    try await place.goodPeerSyncs("slow strangers", within: 15)

    // What each of them has seen of it.
    #expect(try await unread.readToEnd().count < 12 << 20)
    #expect(taken > (160 << 10) * 40)
    _ = try await slowReader.read((12 << 20) - taken)
    _ = try await pipelined.readToEnd()
    for client in [idle, begun, web] { #expect(try await client.readToEnd().isEmpty) }
    for (client, code) in [
      (signUps[0], 1011), (signUps[1], 1011), (signUps[2], 1008), (signUps[3], 1002), (pinging.client, 1011),
      (nameless, 1011),
    ] {
      #expect(try await client.readClose().0 == code)
    }
    for client in [tcp, silent] { _ = try await client.readToEnd() }
    #expect(try slowCaller.line()?.contains("not finished within") == true && slowCaller.line() == nil)
    // None has sent all that it was about to; one that was slow, but not too slow, was heard.
    #expect(drips[0].isDone && drips[1...].allSatisfy { !$0.isDone })
    hearing: while true {
      for case .data(let data) in try await asking.listen() where data.index == 0 { break hearing }
    }
    // The caller is held up, not cut off: all that it asked for comes as soon as it reads.
    for _ in 0..<200 { #expect(try caller.line()?.contains("\"result\"") == true) }
    try place.use().expectBounded("slow strangers", since: before, cpuSeconds: 25)
    let peers = try await place.server.ctl("peers")
    for (address, kinds) in expected {
      for (kind, count) in kinds {
        #expect(peers.text.contains("\(address)  rejected: \(kind), \(count) times"))
      }
    }
    let metrics = try RawClient(port: ports[1])
    metrics.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    let counts = String(decoding: try await metrics.readToEnd(), as: UTF8.self)
    for (kind, count) in [
      ("stalled", 2), ("noRequest", 4), ("badRequest", 1), ("badFrame", 1), ("timedOut", 4),
      ("controlLine", 1),
    ] {
      #expect(counts.contains("hypha_rejected_input_total{kind=\"\(kind)\"} \(count)\n"), "\(kind)")
    }
    try await place.stop()
  }

  @Test("Thousands of requests that come at once are answered one after the other")
  func pipelined() async throws {
    let metrics = try freePorts(1)[0]
    let node = try TestNode(settings: "[metrics]\naddress = \"127.0.0.1:\(metrics)\"")
    let folder = try WebFolder.large()
    try node.configure(http: "web_folder = \"\(folder.path)\"")
    try await node.start()
    // The first is not answered at once, so that the others wait for it; those are.
    let (first, other) = ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /x HTTP/1.1\r\nHost:\r\n\r\n")
    let client = try RawClient(port: node.port)
    for _ in 0..<2 { client.send(first + String(repeating: other, count: 9500)) }
    client.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    let lines = try await client.readToEnd().split(separator: UInt8(ascii: "\n"))
    #expect(lines.count { $0.starts(with: "HTTP/1.1 404".utf8) } == 2 * 9500)
    #expect(lines.count { $0.starts(with: "HTTP/1.1 503".utf8) } == 3)
    // The last one closes the connection once all of its answer has left.
    let last = try RawClient(port: node.port)
    last.send(other + "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    #expect(try await last.readToEnd().count > 12 << 20)
    let collector = try RawClient(port: metrics)
    collector.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" + String(repeating: other, count: 9500))
    let answer = String(decoding: try await collector.readToEnd(), as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 200") && !answer.contains("HTTP/1.1 404"))
    #expect(node.daemon?.poll() == nil)
    try await node.stop()
  }

  @Test("What follows an upgrade that is refused, or waits behind an answer, takes next to no memory")
  func notKept() async throws {
    let folder = try WebFolder.large()
    let node = try TestNode()
    try node.configure(http: "web_folder = \"\(folder.path)\"")
    try await node.start()
    let pid = try #require(node.daemon).pid
    func upgrade(_ path: String, _ protocols: String) throws -> RawClient {
      let client = try RawClient(port: node.port)
      client.send(
        "GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: \(protocols)\r\n"
          + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
      return client
    }
    let connect = try RawClient(port: node.port)
    connect.send("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    let asking = [try upgrade("/x", "h2c"), try upgrade("/replicate/\(Edge.key.hex)", "websocket"), connect]
    for client in asking { #expect(try await client.readHeader().hasPrefix("HTTP/1.1 ")) }
    let before = try ProcessUse(pid)
    for client in asking {
      for _ in 0..<64 where !client.isEnded { client.send([UInt8](repeating: 0, count: 1 << 20)) }
      #expect(client.isEnded)
    }
    // Nor does a long list of protocols take up the stack.
    let lister = try upgrade("/hypha", String(repeating: "a,", count: 8000))
    #expect(try await lister.readHeader().hasPrefix("HTTP/1.1 426"))
    let listed = try ProcessUse(pid)
    #expect(listed.kilobytes < before.kilobytes + Sanitizer.kilobytes(4 << 10), "\(before), \(listed)")
    var waiting: [RawClient] = []
    for _ in 0..<12 {
      let client = try RawClient(port: node.port)
      // As much is read at once as came at once before.
      let many = 40
      client.send(
        String(
          repeating: "GET /x HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "a", count: 15_000))\r\n\r\n",
          count: many))
      for _ in 0..<many {
        #expect(try await client.readHeader().hasPrefix("HTTP/1.1 404"))
        _ = try await client.read("There is nothing here.\n".utf8.count)
      }
      client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      client.send(String(repeating: "GET /x HTTP/1.1\r\nHost:\r\n\r\n", count: 9500))
      #expect(try await client.readHeader().hasPrefix("HTTP/1.1 200"))
      waiting.append(client)
    }
    let after = try ProcessUse(pid)
    print("requests that wait: \((after.peakKilobytes - listed.kilobytes) / waiting.count) KiB each")
    #expect(after.peakKilobytes < listed.kilobytes + Sanitizer.kilobytes(16 << 10))
    #expect(node.daemon?.poll() == nil)
    try await node.stop()
  }
}
