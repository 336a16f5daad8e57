import Logging
import NIOCore
import NIOHTTP1
import Testing

@testable import HyphaDaemonCore

@Suite("Addresses and what proxies say", .fewAtOnce) struct OriginTests {
  @Test(arguments: [
    ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false),
    ("192.0.2.0/24", "192.0.2.255", true),
    ("192.0.2.0/24", "192.0.3.0", false), ("10.0.0.0/7", "11.255.0.1", true),
    ("10.0.0.0/7", "12.0.0.1", false),
    ("0.0.0.0/0", "203.0.113.9", true), ("0.0.0.0/0", "2001:db8::1", false),
    ("2001:db8::/32", "2001:db8:1::1", true),
    ("2001:db8::/33", "2001:db8:8000::1", false), ("::/0", "203.0.113.9", false),
    ("::ffff:192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "::ffff:192.0.2.1", true),
  ])
  func blocksContain(_ block: String, _ address: String, _ expected: Bool) throws {
    let block = try #require(AddressBlock(block))
    #expect(block.contains(try #require(IPAddress(address))) == expected)
    #expect(AddressBlock("\(block)") == block)
  }

  @Test(arguments: [
    "", "x", "192.0.2", "192.0.2.1/", "192.0.2.0/33", "192.0.2.1/24", "192.0.2.0/+24", "192.0.2.0/-1",
    "[::1]", "::1/129",
    "2001:db8::1/32", "::ffff:192.0.2.0/120", "192.0.2.0/24/8", "fe80::1%eth0", "1.2.3.4\0",
  ])
  func othersAreNoBlocks(_ text: String) {
    #expect(AddressBlock(text) == nil)
  }

  private static let trusted = ["192.0.2.0/24", "2001:db8:1::/48"].compactMap { AddressBlock($0) }

  private func origin(_ peer: String, _ headers: [(String, String)]) -> ClientOrigin {
    ClientOrigin(
      peer: IPAddress(peer), isTLS: false, headers: HTTPHeaders(headers), trusted: Self.trusted)
  }

  @Test func strangersAreNotBelieved() {
    for name in ["X-Forwarded-For", "Forwarded"] {
      let stranger = origin(
        "203.0.113.9", [(name, "for=198.51.100.1"), ("X-Forwarded-Proto", "https"), (name, "198.51.100.1")])
      #expect(
        stranger == ClientOrigin(peer: IPAddress("203.0.113.9"), isTLS: false, headers: [:], trusted: []))
      #expect(!stranger.isSecure && !stranger.isForwarded)
    }
  }

  @Test(arguments: [
    ("198.51.100.1", "198.51.100.1"), ("6.6.6.6, 198.51.100.1", "198.51.100.1"),
    // Through two trusted proxies.
    ("6.6.6.6, 198.51.100.1, 192.0.2.7", "198.51.100.1"), ("192.0.2.8,192.0.2.7", "192.0.2.8"),
    ("198.51.100.1:4711", "198.51.100.1"), ("[2001:db8::9]:4711", "2001:db8::9"),
    ("2001:db8::9", "2001:db8::9"),
    // What is no address ends the way back.
    ("198.51.100.1, unknown", "192.0.2.1"), ("198.51.100.1, unknown, 192.0.2.7", "192.0.2.7"),
    ("", "192.0.2.1"),
    (",", "192.0.2.1"), ("\", 198.51.100.1", "198.51.100.1"), ("\u{600}, 198.51.100.1", "198.51.100.1"),
    ("x\u{600},198.51.100.1", "198.51.100.1"), ("::ffff:198.51.100.1", "198.51.100.1"),
  ])
  func rightmostThatIsNotTrusted(_ header: String, _ expected: String) {
    #expect(origin("192.0.2.1", [("X-Forwarded-For", header)]).name == expected)
  }

  @Test(arguments: [
    ("for=198.51.100.1", "198.51.100.1", false), ("for=198.51.100.1;proto=https", "198.51.100.1", true),
    ("For=\"[2001:db8::9]:4711\";by=x;PROTO=HTTPS", "2001:db8::9", true),
    ("for=6.6.6.6;proto=https, for=198.51.100.1;proto=http", "198.51.100.1", false),
    ("for=_hidden", "192.0.2.1", false), ("for=\"a,b;c\", for=198.51.100.1", "198.51.100.1", false),
    ("for=\"198.51.100.1", "192.0.2.1", false), ("for=\"x, for=198.51.100.1", "198.51.100.1", false),
    ("for=\"x\u{600},for=198.51.100.1;proto=https", "198.51.100.1", true), ("proto=https", "192.0.2.1", true),
    ("=;=,;,", "192.0.2.1", false),
  ])
  func forwardedIsRead(_ header: String, _ expected: String, _ secure: Bool) {
    let found = origin("192.0.2.1", [("Forwarded", header)])
    #expect(found.name == expected && found.isSecure == secure)
  }

  @Test func severalHeadersAreOneList() {
    let found = origin(
      "192.0.2.1",
      [
        ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "198.51.100.1, 192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Proto", "http"), ("Forwarded", "for=7.7.7.7;proto=https"),
      ])
    #expect(found.name == "198.51.100.1" && found.isForwarded && !found.isSecure)
    let long = origin(
      "192.0.2.1", [("X-Forwarded-For", String(repeating: "192.0.2.9, ", count: 1000) + "192.0.2.7")])
    #expect(long.name == "192.0.2.9")
  }

  @Test func randomHeadersNeverTrap() {
    var random = EdgeRandom(seed: 8)
    let alphabet = Array("for=proto;,\"[]:1.29 \\é\t")
    for _ in 0..<5000 {
      let text = String(
        (0..<Int(random.next() % 40)).map { _ in alphabet[Int(random.next() % UInt64(alphabet.count))] })
      _ = origin("192.0.2.1", [("Forwarded", text)])
      _ = origin("192.0.2.1", [("X-Forwarded-For", text)])
    }
  }

  /// Behind a proxy, the client's connections are counted, not the proxy's.
  @Test func clientsBehindAProxyAreCounted() async throws {
    var configuration = Configuration()
    configuration.http.trustedProxies = [try #require(AddressBlock("127.0.0.1"))]
    let policy = EdgePolicy(configuration)
    let node = EchoNode(Edge.group)
    let limiter = ConnectionLimiter(total: 100, perAddress: 2)
    let server = try await EdgeServer.http(
      at: .address(ListenAddress(host: "127.0.0.1", port: 0)), group: Edge.group, limiter: limiter,
      delegate: node,
      policy: policy, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let port = try #require(server.address?.port)
    func upgrade(from client: String) async throws -> (RawClient, String) {
      let raw = try RawClient(port: port)
      raw.send(
        "GET /hypha HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
          + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: \(client)\r\n\r\n")
      return (raw, String(try await raw.readHeader().prefix(12)))
    }
    var open: [RawClient] = []
    for (client, expected) in [
      ("198.51.100.1", "101"), ("198.51.100.1", "101"), ("198.51.100.1", "429"), ("198.51.100.2", "101"),
      ("2001:db8::1", "101"), ("2001:db8::2", "101"), ("2001:db8::3", "429"), ("2001:db8:0:1::1", "101"),
      ("127.0.0.2", "101"), ("127.0.0.2", "101"), ("127.0.0.2", "101"),
    ] {
      let (raw, status) = try await upgrade(from: client)
      #expect(status == "HTTP/1.1 \(expected)", "\(client)")
      open.append(raw)
    }
    #expect(node.requests.map(\.remoteAddress).prefix(3) == ["198.51.100.1", "198.51.100.1", "198.51.100.2"])
    #expect(node.transports.last?.remoteAddress == "127.0.0.2")
    // Requests as well; and what was closed counts no longer.
    let refused = try await WebAnswer.get("/", port: port, headers: "X-Forwarded-For: 198.51.100.1\r\n")
    #expect(refused.status == "429")
    open = []
    try await eventually("not freed") { limiter.count == 0 ? true : nil }
    let taken = try await WebAnswer.get(
      "/", port: port, headers: "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n")
    #expect(taken.status == "200" && taken.header("Strict-Transport-Security") != nil)
    // Once it is not trusted any more, it is not believed.
    policy.apply(Configuration())
    let stranger = try await WebAnswer.get("/", port: port, headers: "X-Forwarded-Proto: https\r\n")
    #expect(stranger.status == "200" && stranger.header("Strict-Transport-Security") == nil)
    await server.stop()
  }

  /// With HTTPS of its own, the node goes by what a trusted proxy says the client spoke.
  @Test func proxiesThatEndTLSAreNotSentElsewhere() async throws {
    var configuration = Configuration()
    configuration.http.trustedProxies = [try #require(AddressBlock("127.0.0.1"))]
    let policy = EdgePolicy(configuration)
    policy.redirect(toPort: 443)
    let server = try await EdgeServer.http(
      at: .address(ListenAddress(host: "127.0.0.1", port: 0)), group: Edge.group,
      limiter: ConnectionLimiter(total: 100, perAddress: 2), delegate: EchoNode(Edge.group), policy: policy,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let port = try #require(server.address?.port)
    func get(_ headers: String) async throws -> WebAnswer {
      try await WebAnswer.get("/", port: port, host: "example.org", headers: headers)
    }
    #expect(try await get("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n").status == "200")
    let plain = try await get("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: http\r\n")
    #expect(plain.status == "308" && plain.header("Location") == "https://example.org/")
    let webSocket =
      "GET /hypha HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
      + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 198.51.100.1\r\n"
    let refused = try RawClient(port: port)
    refused.send(webSocket + "Connection: close\r\n\r\n")
    let answer = String(decoding: try await refused.readToEnd(), as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 403") && answer.contains("use wss://"), "\(answer)")
    let taken = try RawClient(port: port)
    taken.send(webSocket + "X-Forwarded-Proto: https\r\n\r\n")
    #expect(try await taken.readHeader().hasPrefix("HTTP/1.1 101"))
    await server.stop()
  }
}
