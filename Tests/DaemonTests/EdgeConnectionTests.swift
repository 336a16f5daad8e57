import Glibc
import Hypercore
import HyphaControlAPI
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Testing

@testable import HyphaDaemonCore

@Suite(.fewAtOnce) struct EdgeConnectionTests {
  private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = EdgeRandom(seed: seed)
    return (0..<count / 8).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
  }

  @Test(arguments: [false, true])
  func streamComesBackWhole(_ tcp: Bool) async throws {
    let edge = try await Edge(tcp: tcp)
    let url = try ReplicationURL("\(tcp ? "tcp" : "ws")://127.0.0.1:\(edge.port)")
    let transport = try await ReplicationConnector(group: Edge.group).connect(to: url)
    #expect(transport.encryptsProtocol == tcp)
    #expect(transport.url == url)
    let sink = Sink(transport, on: edge.loop)
    let large = bytes(6 << 20, seed: 1)
    var sent: [UInt8] = []
    for size in [1, 2, 3, 125, 126, 127, 65535, 65536, 100_000, 5 << 20] {
      transport.send(Array(large[..<size]))
      sent += large[..<size]
    }
    for index in 0..<1000 {
      transport.send([UInt8(index & 255)])
      sent.append(UInt8(index & 255))
    }
    try await eventually(within: 60, "not all came back") { sink.count == sent.count ? true : nil }
    #expect(sink.bytes == sent)
    #expect(transport.bufferedBytes == 0)
    #expect(transport.counts == (UInt64(sent.count), UInt64(sent.count)))
    transport.close(CloseReason(.goingAway, "Enough."))
    // What is not to be sent is not fetched either: a stop does not wait for it.
    #expect(!transport.isWritable)
    transport.close(CloseReason(.normal, "Again."))
    let reason = try await eventually(within: 60, "no end there") { edge.node.closed.first }
    #expect(tcp || reason == CloseReason(.goingAway, "Enough."))
    #expect(try await eventually(within: 60, "no end here") { sink.closed }.text == "Enough.")
    await edge.server.stop()
  }

  /// Nobody takes the bytes: neither side's memory grows beyond its limit, and nothing is lost in the end.
  @Test(arguments: [false, true])
  func slowReaderHoldsTheSenderBack(_ tcp: Bool) async throws {
    let edge = try await Edge(tcp: tcp)
    edge.node.state.withLock { $0.idle = true }
    let url = try ReplicationURL("\(tcp ? "tcp" : "ws")://127.0.0.1:\(edge.port)")
    let transport = try await ReplicationConnector(group: Edge.group).connect(to: url)
    let own = Sink(transport, on: edge.loop)
    let block = bytes(1 << 20, seed: 2)
    var sent = 0
    for _ in 0..<60 where transport.isWritable {
      transport.send(block)
      sent += block.count
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(!transport.isWritable)
    #expect(sent < 30 << 20)
    let other = try await eventually(within: 60, "not attached") { edge.node.transports.first }
    #expect(other.counts.received < UInt64(ReplicationLimits.inboundBytes + (2 << 20)))
    let sink = Sink(other, on: edge.loop)
    try await eventually(within: 60, "not all came") { sink.count == sent ? true : nil }
    #expect(sink.bytes == Array(repeatElement(block, count: sent / block.count).joined()))
    try await eventually(within: 60, "not told") { own.writable >= 1 && transport.isWritable ? true : nil }

    // One that never takes them is given up.
    edge.node.state.withLock { $0.transports = [] }
    let stuck = try await ReplicationConnector(group: Edge.group).connect(to: url)
    for _ in 0..<100 { stuck.send(block) }
    #expect(stuck.bufferedBytes <= ReplicationLimits.outboundBytes)
    transport.close(CloseReason(.normal, ""))
    await edge.server.stop()
  }

  @Test func reconnectsWhenTheServerComesBack() async throws {
    var edge: Edge? = try await Edge()
    let port = try #require(edge?.port)
    let url = try #require(try edge?.url())
    let node = EchoNode(Edge.group)
    let connections = OutgoingConnections(
      connector: ReplicationConnector(group: Edge.group), delegate: node,
      backOff: BackOff(first: .milliseconds(20), limit: .milliseconds(100)), logger: logger)
    await connections.add(url)
    await connections.add(url)
    func status(_ state: ConnectionInfo.State, failures: Int) async throws -> ConnectionInfo {
      for _ in 0..<500 {
        let all = await connections.statuses
        try #require(all.count == 1)
        if all[0].state == state, all[0].failures >= failures { return all[0] }
        try await Task.sleep(for: .milliseconds(10))
      }
      throw HarnessError("never \(state)")
    }
    _ = try await status(.connected, failures: 0)
    #expect(node.transports.count == 1)
    let stopped = edge
    edge = nil
    for transport in stopped?.node.transports ?? [] {
      transport.close(CloseReason(.goingAway, "The node stops."))
    }
    await stopped?.server.stop()
    let waiting = try await status(.waiting, failures: 3)
    // Refused, or, where the attempt came just before the end, reset.
    #expect(waiting.lastError?.hasPrefix("\(url): Connection ") == true)
    edge = try await Edge(port: port)
    let again = try await status(.connected, failures: 0)
    #expect(again.lastError == nil)
    #expect(node.transports.count == 2)
    #expect(await connections.remove(url))
    #expect(await !connections.remove(url))
    _ = try await eventually(within: 60, "not closed") { edge?.node.closed.first }
    #expect(await connections.statuses.isEmpty)
    await connections.add(url)
    await connections.stop()
    #expect(await connections.statuses.isEmpty)
    await edge?.server.stop()
  }

  @Test func aConnectionThatIsRemovedWhileItIsTakenOverIsClosed() async throws {
    let edge = try await Edge()
    let url = try edge.url()
    let node = EchoNode(Edge.group)
    let connections = OutgoingConnections(
      connector: ReplicationConnector(group: Edge.group), delegate: node, logger: logger)
    // Removed, and added again, just as the first is taken over.
    node.state.withLock {
      $0.beforeAttach = {
        node.state.withLock { $0.beforeAttach = nil }
        #expect(await connections.remove(url))
        await connections.add(url)
      }
    }
    await connections.add(url)
    try await eventually(within: 60, "the first stays open") { edge.node.closed.count == 1 ? true : nil }
    try await eventually(within: 60, "the second is not open") {
      await connections.statuses.first?.state == .connected ? true : nil
    }
    #expect(node.transports.count == 2)
    await connections.stop()
    await edge.server.stop()
  }

  @Test func aPeerThatTakesNothingDoesNotKeepItFromStopping() async throws {
    let edge = try await Edge()
    // The other end leaves the connection alone, and reads no more than fits its buffers.
    edge.node.state.withLock { $0.idle = true }
    let node = EchoNode(Edge.group)
    let connections = OutgoingConnections(
      connector: ReplicationConnector(group: Edge.group), delegate: node, logger: logger)
    await connections.add(try edge.url())
    let transport = try await eventually(within: 60, "not connected") { node.transports.first }
    let block = [UInt8](repeating: 1, count: 1 << 20)
    try await eventually(within: 60, "it takes all") {
      transport.send(block)
      return transport.isWritable ? nil : true
    }
    let begun = ContinuousClock.now
    await connections.stop()
    #expect(begun.duration(to: .now) < .seconds(ReplicationLimits.lingerSeconds - 5))
    await edge.server.stop()
  }

  @Test func waitsLongerEachTimeUpToALimit() {
    var backOff = BackOff()
    #expect((0..<4).map { _ in backOff.ended(after: .zero, chance: 1) } == [1, 2, 4, 8].map { .seconds($0) })
    for _ in 0..<100 { _ = backOff.ended(after: .zero, chance: 0) }
    #expect(backOff.ended(after: .seconds(59), chance: 0) == .seconds(150))
    #expect(backOff.ended(after: .seconds(60), chance: 0) == .milliseconds(500))
    #expect(backOff.failures == 1)
  }

  @Test func refusalsOfTheNetworkArePlain() async throws {
    let connector = ReplicationConnector(group: Edge.group)
    // A port that nothing listens on, and that no other test is given meanwhile.
    let port = try freePorts(1)[0]
    for (url, expected) in [
      ("ws://127.0.0.1:\(port)", "Connection refused"), ("wss://no-such-host.invalid", "not found"),
    ] {
      let error = await #expect(throws: ConnectError.self) {
        try await connector.connect(to: try ReplicationURL(url))
      }
      #expect(error?.code == .unreachable)
      #expect(error?.context.contains(expected) == true, "\(error?.context ?? "")")
    }
    // Something else answers: TCP, and no HTTP.
    let other = try await Edge(tcp: true)
    let error = await #expect(throws: ConnectError.self) { try await other.connect() }
    #expect(error?.code == .notANode, "\(error?.context ?? "")")
    await other.server.stop()
  }

  @Test func tlsIsVerified() async throws {
    let folder = try TemporaryFolder()
    let made = try await Running(
      "/usr/bin/openssl",
      [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
        "\(folder.path)/key.pem",
        "-out", "\(folder.path)/certificate.pem",
      ]
    ).end()
    try #require(made.status == 0, "\(made.stderr)")
    let certificates = try NIOSSLCertificate.fromPEMFile("\(folder.path)/certificate.pem")
    let server = try NIOSSLContext(
      configuration: .makeServerConfiguration(
        certificateChain: certificates.map { .certificate($0) },
        privateKey: .privateKey(try NIOSSLPrivateKey(file: "\(folder.path)/key.pem", format: .pem))))
    let node = EchoNode(Edge.group)
    let logger = logger
    let installed = try WebFilesTests.folder()
    let web = try WebFiles(folder: installed.path)
    let channel = try await ServerBootstrap(group: Edge.group)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: server))
          try HTTPEdge(
            delegate: node, web: web, policy: EdgePolicy(),
            limiter: ConnectionLimiter(total: 100, perAddress: 100), isTLS: true, logger: logger
          ).prepare(channel)
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    let port = try #require(channel.localAddress?.port)

    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.trustRoots = .certificates(certificates)
    let trusting = ReplicationConnector(
      group: Edge.group, tls: try NIOSSLContext(configuration: configuration))
    let transport = try await trusting.connect(to: try ReplicationURL("wss://localhost:\(port)"))
    #expect(transport.kind == .wss)
    let sink = Sink(transport, on: Edge.group.next())
    let block = bytes(3 << 20, seed: 4)
    transport.send(block)
    try await eventually(within: 60, "no echo") { sink.count == block.count ? true : nil }
    #expect(sink.bytes == block)
    transport.close(CloseReason(.normal, "Done."))
    #expect(try await eventually(within: 60, "no end") { sink.closed } == CloseReason(.normal, "Done."))

    let stranger = ReplicationConnector(group: Edge.group)
    let untrusted = await #expect(throws: ConnectError.self) {
      try await stranger.connect(to: try ReplicationURL("wss://localhost:\(port)"))
    }
    #expect(untrusted?.context.contains("certificate is not trusted") == true, "\(untrusted?.context ?? "")")
    let misnamed = await #expect(throws: ConnectError.self) {
      try await trusting.connect(to: try ReplicationURL("wss://127.0.0.1:\(port)"))
    }
    #expect(misnamed?.context.contains("not valid for its name") == true, "\(misnamed?.context ?? "")")

    // So it is where a hyphalink is looked up.
    node.state.withLock { $0.dat = WellKnownDat(key: Edge.key, ttl: 0) }
    func found(_ connector: ReplicationConnector, _ address: String) async throws(LookupError) -> PublicKey {
      try await WellKnownLookup(connector).key(of: HyphaAddress(address))
    }
    #expect(try await found(trusting, "https://localhost:\(port)") == Edge.key)
    let unproved = await #expect(throws: LookupError.self) { try await found(stranger, "localhost:\(port)") }
    #expect(unproved?.context.contains("certificate is not trusted") == true, "\(unproved?.context ?? "")")
    let other = await #expect(throws: LookupError.self) {
      try await found(trusting, "https://127.0.0.1:\(port)")
    }
    #expect(other?.context.contains("not valid for its name") == true, "\(other?.context ?? "")")

    // And where files are compared.
    let address = try HyphaAddress("https://localhost:\(port)")
    let audit = WebClientAudit(installed: web, address: address, connector: trusting)
    #expect(try await audit.run().differences == [])
    let untrusting = WebClientAudit(installed: web, address: address, connector: stranger)
    await #expect(throws: LookupError.self) { try await untrusting.run() }
    try await channel.close()
  }
}

@Suite(.fewAtOnce) struct ReplicationURLTests {
  @Test(arguments: [
    ("wss://example.org", "wss://example.org"), ("WSS://Example.ORG:443/", "wss://example.org"),
    ("wss://example.org:8443/hypha", "wss://example.org:8443"), ("ws://[::1]:8080", "ws://[::1]:8080"),
    ("ws://localhost/hypha", "ws://localhost"), ("tcp://example.org", "tcp://example.org"),
    ("tcp://10.0.0.1:99/", "tcp://10.0.0.1:99"), ("wss://[2001:db8::1]", "wss://[2001:db8::1]"),
    (
      "wss://example.org/replicate/\(String(repeating: "AB", count: 32))",
      "wss://example.org/replicate/\(String(repeating: "ab", count: 32))"
    ),
  ])
  func oneFormForEachPlace(_ text: String, _ expected: String) throws {
    let url = try ReplicationURL(text)
    #expect(url.description == expected)
    #expect(try ReplicationURL(url.description) == url)
  }

  @Test(arguments: [
    "", "example.org", "https://example.org", "wss://", "wss://:443", "ws://example.org",
    "ws://127.0.0.1.example.org",
    "ws://127.0.0.999", "wss://me@example.org", "wss://example.org?x", "wss://example.org#x",
    "wss://example.org:0",
    "wss://example.org:65536", "wss://example.org:+1", "wss://example.org:", "wss://example.org/other",
    "wss://example.org/replicate/12", "wss://exa mple.org", "wss://exämple.org", "wss://[::1",
    "wss://[example]",
    "wss://[::1]x", "wss://exam/ple\\.org", "tcp://example.org/hypha",
    "wss://\(String(repeating: "a", count: 600))",
    "wss://a:b:c", "wss://example.org/replicate/\(String(repeating: "zz", count: 32))",
  ])
  func othersAreRefused(_ text: String) {
    #expect(throws: ReplicationURL.ParseError.self) { try ReplicationURL(text) }
  }
}
