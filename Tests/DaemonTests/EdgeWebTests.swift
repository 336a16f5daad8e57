import Glibc
import Hypercore
import HyphaControlAPI
import Logging
import NIOCore
import Testing

@testable import HyphaDaemonCore

@Suite(.fewAtOnce) struct EdgeWebTests {
  private func get(_ edge: Edge, _ path: String, method: String = "GET", extra: String = "") async throws -> (
    head: String, body: String
  ) {
    let client = try RawClient(port: edge.port)
    client.send("\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(extra)\r\n")
    let head = try await client.readHeader()
    return (head, String(decoding: try await client.readToEnd(), as: UTF8.self))
  }

  @Test func routes() async throws {
    let edge = try await Edge()
    var answer = try await get(edge, "/.well-known/dat")
    #expect(answer.head.hasPrefix("HTTP/1.1 404"))
    #expect(answer.head.contains("Access-Control-Allow-Origin: *"))
    edge.node.state.withLock { $0.dat = WellKnownDat(key: Edge.key, ttl: 60) }
    answer = try await get(edge, "/.well-known/dat")
    #expect(answer.head.hasPrefix("HTTP/1.1 200"))
    #expect(answer.head.contains("Content-Type: text/plain"))
    #expect(answer.head.contains("Access-Control-Allow-Origin: *"))
    #expect(answer.body == "dat://\(Edge.key.hex)\nTTL=60\n")

    answer = try await get(edge, "/healthz?x")
    #expect(answer.head.hasPrefix("HTTP/1.1 200") && answer.body == "ready\n")
    edge.node.state.withLock { $0.health = Health(ready: false, text: "uninitialised") }
    answer = try await get(edge, "/healthz")
    #expect(answer.head.hasPrefix("HTTP/1.1 503") && answer.body == "uninitialised\n")

    answer = try await get(edge, "/")
    #expect(answer.head.hasPrefix("HTTP/1.1 200") && answer.body.contains("<h1>"))
    #expect(answer.head.contains("Content-Security-Policy: default-src 'none'"))
    #expect(answer.head.contains("X-Content-Type-Options: nosniff"))
    #expect(!answer.head.lowercased().contains("server:"))

    let length = answer.body.utf8.count
    answer = try await get(edge, "/", method: "HEAD")
    #expect(answer.head.hasPrefix("HTTP/1.1 200") && answer.body.isEmpty)
    #expect(answer.head.contains("Content-Length: \(length)"))

    answer = try await get(edge, "/healthz", method: "DELETE")
    #expect(answer.head.hasPrefix("HTTP/1.1 405") && answer.head.contains("Allow: GET, HEAD"))
    #expect(try await get(edge, "/nothing").head.hasPrefix("HTTP/1.1 404"))
    #expect(try await get(edge, "/replicate/abc").head.hasPrefix("HTTP/1.1 404"))
    answer = try await get(edge, "/hypha")
    #expect(answer.head.hasPrefix("HTTP/1.1 426") && answer.head.contains("Upgrade: websocket"))
    await edge.server.stop()
  }

  @Test func badRequestsEnd() async throws {
    let edge = try await Edge()
    for (text, status) in [
      ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"), ("\u{1}\u{2}\r\n\r\n", "400"),
      ("GET /\(String(repeating: "a", count: 600)) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "414"),
      ("GET / HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "a", count: 20_000))\r\n\r\n", "4"),
      (
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n\(String(repeating: "a", count: 20_000))",
        "413"
      ),
      ("GET / HTTP/1.1\r\nHost: x\r\n\(String(repeating: "A: b\r\n", count: 100))\r\n", "4"),
    ] {
      let client = try RawClient(port: edge.port)
      client.send(text)
      let answer = String(decoding: (try? await client.readToEnd()) ?? [], as: UTF8.self)
      #expect(answer.hasPrefix("HTTP/1.1 \(status)"), "\(text.prefix(40)): \(answer.prefix(80))")
    }
    // The server is still there, and keeps a connection for more than one request.
    let client = try RawClient(port: edge.port)
    for _ in 0..<3 {
      client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
      #expect(try await client.readHeader().hasPrefix("HTTP/1.1 200"))
    }
    await edge.server.stop()
  }

  @Test func upgradesAreCheckedAndRefused() async throws {
    let edge = try await Edge()
    #expect(try await RawClient(port: edge.port).upgrade("/nothing").hasPrefix("HTTP/1.1 404"))
    #expect(try await RawClient(port: edge.port).upgrade("/").hasPrefix("HTTP/1.1 404"))
    #expect(try await RawClient(port: edge.port).upgrade("/hypha?code=1").hasPrefix("HTTP/1.1 404"))
    let accepted = try await RawClient(port: edge.port).upgrade("/replicate/\(Edge.key.hex)")
    #expect(accepted.hasPrefix("HTTP/1.1 101"))
    // The example of RFC 6455, section 1.3.
    #expect(accepted.lowercased().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="))
    #expect(edge.node.requests.last?.target == .replicate(Edge.key))
    edge.node.state.withLock { $0.admission = .refuse(status: 503, reason: "Full.") }
    #expect(try await RawClient(port: edge.port).upgrade("/hypha").hasPrefix("HTTP/1.1 503"))
    let error = await #expect(throws: ConnectError.self) { try await edge.connect() }
    #expect(error?.code == .refused(503))
    #expect(error?.context == "ws://127.0.0.1:\(edge.port) refused (503): Full.")
    let client = try RawClient(port: edge.port)
    client.send("GET /hypha HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    #expect(try await client.readHeader().hasPrefix("HTTP/1.1 400"))
    // A body that may never end would keep all of the connection in memory when it closes.
    for (header, body) in [
      ("Content-Length: 2", "ab"), ("Transfer-Encoding: chunked", "2\r\nab\r\n0\r\n\r\n"),
    ] {
      let client = try RawClient(port: edge.port)
      client.send(
        "GET /hypha HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\(header)\r\n"
          + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\(body)")
      #expect(try await client.readHeader().hasPrefix("HTTP/1.1 400"))
    }
    await edge.server.stop()
  }

  @Test func fragmentsPingsAndGoodbye() async throws {
    let edge = try await Edge()
    let client = try RawClient(port: edge.port)
    _ = try await client.upgrade("/hypha")
    client.frame(0x02, Array("one ".utf8))
    client.frame(0x89, Array("are you there".utf8))
    client.frame(0x00, Array("two ".utf8))
    client.frame(0x80, Array("three".utf8))
    client.frame(0x82, [])
    client.frame(0x8A, [])
    var echoed: [UInt8] = []
    var pongs: [[UInt8]] = []
    while echoed.count < 13 || pongs.isEmpty {
      let (first, payload) = try await client.readFrame()
      if first == 0x8A { pongs.append(payload) } else { echoed += payload }
    }
    #expect(echoed == Array("one two three".utf8))
    #expect(pongs == [Array("are you there".utf8)])
    client.frame(0x88, [0x03, 0xE8] + Array("bye".utf8))
    #expect(try await client.readClose() == (1000, "bye"))
    #expect(try await client.readToEnd().isEmpty)
    let reason = try await eventually(within: 60, "no end") { edge.node.closed.first }
    #expect(reason == CloseReason(.normal, "bye"))
    await edge.server.stop()
  }

  @Test(
    arguments: [
      (0x82, false, nil, 1002), (0x81, true, nil, 1003), (0x80, true, nil, 1002), (0xC2, true, nil, 1002),
      (0x83, true, nil, 1002), (0x09, true, nil, 1002), (0x82, true, 9 << 20, 1009),
      (0x82, true, UInt64.max, 1009),
      (0x89, true, 126, 1002), (0x81, true, 2000, 1009),
    ] as [(UInt8, Bool, UInt64?, Int)])
  func violationsEnd(_ first: UInt8, _ masked: Bool, _ size: UInt64?, _ code: Int) async throws {
    let edge = try await Edge()
    let client = try RawClient(port: edge.port)
    _ = try await client.upgrade("/hypha")
    client.frame(first, [1, 2, 3], masked: masked, size: size)
    #expect(try await client.readClose().0 == code)
    // It waits for our close frame, and not for ever.
    #expect(try await client.readToEnd().isEmpty)
    _ = try await eventually(within: 60, "no end") { edge.node.closed.first }
    await edge.server.stop()
  }

  @Test func signUpNeedsTheCode() async throws {
    let edge = try await Edge()
    let path = "/sign-up/\(Edge.key.hex)"
    let connector = ReplicationConnector(group: Edge.group)
    let error = await #expect(throws: ConnectError.self) {
      try await connector.connect(to: try edge.url(path), setupCode: Secret("wrong-code"))
    }
    #expect(error?.code == .refused(0))
    #expect(error?.context.contains("That is not the setup code.") == true, "\(error?.context ?? "")")
    #expect(error?.context.contains("wrong-code") == false)
    #expect(edge.node.transports.isEmpty)

    let transport = try await connector.connect(to: try edge.url(path), setupCode: Secret(EchoNode.setupCode))
    #expect(edge.node.requests.last?.target == .signUp(Edge.key))
    #expect(edge.node.requests.last?.remoteAddress == "127.0.0.1")
    let sink = Sink(transport, on: edge.loop)
    transport.send([1, 2, 3])
    try await eventually(within: 60, "no echo") { sink.bytes == [1, 2, 3] ? true : nil }

    for (first, payload, code) in [
      (0x81, Array("[]".utf8), 1008), (0x81, [0xFF], 1008), (0x82, [1], 1002),
    ] as [(UInt8, [UInt8], Int)] {
      let client = try RawClient(port: edge.port)
      #expect(try await client.upgrade(path).hasPrefix("HTTP/1.1 101"))
      client.frame(first, payload)
      #expect(try await client.readClose().0 == code)
    }
    #expect(edge.node.state.withLock { $0.rejected } == ["badRequest", "badRequest", "badFrame"])
    // What follows the text frame at once waits for the answer.
    let client = try RawClient(port: edge.port)
    _ = try await client.upgrade(path)
    client.frame(0x81, Array("{\"setupCode\":\"\(EchoNode.setupCode)\"}".utf8))
    client.frame(0x82, [7])
    let answer = try await client.readFrame()
    #expect(answer == (0x81, Array("{\"accepted\":true}".utf8)))
    let echo = try await client.readFrame()
    #expect(echo == (0x82, [7]))
    transport.close(CloseReason(.normal, "Done."))
    await edge.server.stop()
  }

  @Test func connectionsAreLimited() async throws {
    let edge = try await Edge(connections: 2)
    let first = try RawClient(port: edge.port)
    var second: RawClient? = try RawClient(port: edge.port)
    #expect(try await first.upgrade("/hypha").hasPrefix("HTTP/1.1 101"))
    #expect(try await second?.upgrade("/hypha").hasPrefix("HTTP/1.1 101") == true)
    try await eventually { edge.node.transports.count == 2 ? true : nil }
    for transport in edge.node.transports { transport.keep() }
    let third = try RawClient(port: edge.port)
    #expect((try? await third.readToEnd()) == [])
    #expect(edge.limiter.refused == 1)
    second = nil
    try await eventually(within: 60, "not freed") { edge.limiter.count == 1 ? true : nil }
    #expect(try await RawClient(port: edge.port).upgrade("/hypha").hasPrefix("HTTP/1.1 101"))
    await edge.server.stop()
  }

  @Test func whoSaysNothingGivesWay() async throws {
    let edge = try await Edge(connections: 3)
    let kept = try RawClient(port: edge.port)
    #expect(try await kept.upgrade("/hypha").hasPrefix("HTTP/1.1 101"))
    try await eventually { edge.node.transports.first }.keep()
    let silent = try (0..<20).map { _ in try RawClient(port: edge.port) }
    try await eventually { edge.limiter.refused == 18 && edge.limiter.count == 3 ? true : nil }
    withExtendedLifetime(silent) {}
    // One more has its turn before the next comes, and the one that is kept is still there.
    #expect(try await RawClient(port: edge.port).upgrade("/hypha").hasPrefix("HTTP/1.1 101"))
    kept.frame(0x82, [7])
    #expect(try await kept.readFrame() == (0x82, [7]))
    await edge.server.stop()
  }

  /// As systemd hands one over.
  @Test func inheritedSocketIsServed() async throws {
    let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(bound == 0 && listen(socket, 8) == 0)
    let server = try await EdgeServer.http(
      at: .inherited(descriptor: socket), group: Edge.group,
      limiter: ConnectionLimiter(total: 8, perAddress: 8),
      delegate: EchoNode(Edge.group), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let port = try #require(server.address?.port)
    let client = try RawClient(port: port)
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try await client.readHeader().hasPrefix("HTTP/1.1 200"))
    await server.stop()
  }

  @Test func tcpIsRefusedByClosing() async throws {
    let edge = try await Edge(tcp: true)
    edge.node.state.withLock { $0.admission = .refuse(status: 503, reason: "Full.") }
    let client = try RawClient(port: edge.port)
    #expect(try await client.readToEnd().isEmpty)
    #expect(edge.node.requests.first?.kind == .tcp)
    #expect(edge.node.transports.isEmpty)
    await edge.server.stop()
  }

  @Test func busyAddressIsTold() async throws {
    let edge = try await Edge()
    let error = await #expect(throws: EdgeServerError.self) { try await Edge(port: edge.port) }
    #expect(error?.context == "Cannot listen on 127.0.0.1:\(edge.port): Address already in use.")
    await edge.server.stop()
  }
}

@Suite(.fewAtOnce) struct WebSocketParserTests {
  /// However the bytes are cut, the same stream comes out.
  @Test func anyCutGivesTheSameStream() throws {
    var random = EdgeRandom(seed: 11)
    for masked in [true, false] {
      var wire: [UInt8] = []
      var stream: [UInt8] = []
      for index in 0..<60 {
        let size = index % 20 == 0 ? 70_000 : Int(random.next() % 300)
        let payload = (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let mask = masked ? UInt32(truncatingIfNeeded: random.next()) : nil
        let frame = WebSocketFrame.whole(
          2, ByteBuffer(bytes: payload), mask: mask, allocator: ByteBufferAllocator())
        wire += frame.readableBytesView
        stream += payload
        let ping = WebSocketFrame.whole(
          9, ByteBuffer(bytes: [1, 2]), mask: mask, allocator: ByteBufferAllocator())
        wire += ping.readableBytesView
      }
      for limit in [30, 1000, 100_000, 9_000_000] as [UInt64] {
        var parser = WebSocketParser(masked: masked)
        var got: [UInt8] = []
        var pings = 0
        var rest = wire[...]
        while !rest.isEmpty {
          var input = ByteBuffer(bytes: rest.prefix(Int(random.next() % limit) + 1))
          rest = rest.dropFirst(input.readableBytes)
          while let event = try parser.next(&input) {
            switch event {
            case .bytes(let bytes): got += bytes.readableBytesView
            case .ping(let payload): pings += payload == ByteBuffer(bytes: [1, 2]) ? 1 : 0
            default: Issue.record("unexpected \(event)")
            }
          }
          #expect(input.readableBytes == 0)
        }
        #expect(got == stream)
        #expect(pings == 60)
      }
    }
  }

  @Test func randomBytesEndOrWait() {
    var random = EdgeRandom(seed: 5)
    for _ in 0..<20_000 {
      var parser = WebSocketParser(masked: random.next() % 2 == 0)
      var input = ByteBuffer(
        bytes: (0..<Int(random.next() % 60)).map { _ in UInt8(truncatingIfNeeded: random.next()) })
      var events = 0
      do {
        while try parser.next(&input) != nil { events += 1 }
      } catch {}
      #expect(events <= 60)
    }
  }
}
