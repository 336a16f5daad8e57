import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// What Prometheus gets.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct MetricsTests {
  @Test func tellsHowTheNodeIs() async throws {
    let port = try freePorts(1)[0]
    let origin = try TestNode(settings: "[metrics]\naddress = \"127.0.0.1:\(port)\"")
    try await origin.start()
    #expect(try await metrics(port)["hypha_ready"] == 0)
    let client = try origin.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase))
    let server = try TestNode()
    try await server.start()
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try client.call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30))
    _ = try client.call(PostsCreate.self, .init(text: "counted"))
    try await eventually { try await metrics(port)["hypha_sync_seconds_count"] == 1 ? true : nil }
    let key = try #require(try client.call(NodeStatus.self, Nothing()).writer)
    let after = try await metrics(port)
    #expect(after["hypha_ready"] == 1 && after["hypha_can_post"] == 1 && after["hypha_peers"] == 1)
    #expect(after["hypha_info{version=\"\(ControlAPI.release)\",role=\"origin\"}"] == 1)
    #expect(after["hypha_feed_blocks{feed=\"\(key)\"}"] == 2)
    #expect(after["hypha_feed_fully_held_by{feed=\"\(key)\"}"] == 1)
    #expect(
      after["hypha_commit_seconds_count"] == 1 && after["hypha_commit_seconds_bucket{le=\"+Inf\"}"] == 1)
    for name in [
      "hypha_disk_free_bytes", "hypha_state_bytes", "process_resident_memory_bytes", "process_open_fds",
    ] {
      #expect(try #require(after[name]) > 1, "\(name)")
    }
    #expect(after["hypha_takes_blocks"] == 1)
    try await origin.stop()
    try await server.stop()
  }

  @Test func countsWhatIsRefused() async throws {
    let port = try freePorts(1)[0]
    let node = try TestNode(
      settings: "[metrics]\naddress = \"127.0.0.1:\(port)\"\n[replication]\nmax_connections = 2")
    try await node.start()
    let client = try node.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase))
    _ = try await httpAnswer("/nothing", node.port)
    let peer = try RawClient(port: node.port)
    _ = try await peer.upgrade("/hypha")
    peer.frame(0x82, [UInt8](repeating: 0xFF, count: 64))
    _ = try await peer.readClose()
    try await eventually {
      let values = try await metrics(port)
      return values.contains { $0.key.hasPrefix("hypha_rejected_input_total{kind=") && $0.value == 1 }
        ? true : nil
    }
    let held = try (0..<4).map { _ in try RawClient(port: node.port) }
    try await eventually {
      try await metrics(port)["hypha_connections_refused_total"].map { $0 >= 1 } == true ? true : nil
    }
    _ = held
    #expect(try await metrics(port)["hypha_http_requests_total{status=\"404\"}"] == 1)
    // Nothing else is there, nor are metrics on the web.
    #expect(try await httpAnswer("/", port).hasPrefix("HTTP/1.1 404"))
    try await node.stop()
  }

  @Test(
    "Who holds every place for asking for metrics gives way to those that ask, and is not waited for long")
  func isBounded() async throws {
    let port = try freePorts(1)[0]
    let node = try TestNode(settings: "[metrics]\naddress = \"127.0.0.1:\(port)\"")
    try await node.start()
    let silent = try (0..<3 * EdgeLimits.metricsConnections).map { _ in try RawClient(port: port) }
    silent[silent.count - 1].send("GET /metrics HTTP/1.1\r\nHost: x\r\n")
    // Those that gave way are counted so; whose time is up is not. They come in any order, and who asks can be among the first.
    try await eventually("they do not give way") {
      let name = "hypha_connections_refused_total "
      let answer = try await httpAnswer("/metrics", port)
      let line = answer.split(separator: "\n").first { $0.hasPrefix(name) }
      let refused = line.flatMap { Int($0.dropFirst(name.count)) } ?? 0
      return refused >= silent.count - EdgeLimits.metricsConnections ? true : nil
    }
    for client in silent { #expect(try await client.readToEnd().isEmpty) }
    try await node.stop()
  }

  @Test func valuesCannotBreakTheText() {
    #expect(MetricsText.label("a", "b\"\\\nc") == #"a="b\"\\\nc""#)
  }

  @Test func aTakenAddressIsTold() async throws {
    let port = try freePorts(1)[0]
    let first = try TestNode(settings: "[metrics]\naddress = \"127.0.0.1:\(port)\"")
    try await first.start()
    let second = try TestNode(settings: "[metrics]\naddress = \"127.0.0.1:\(port)\"")
    let ended = try await second.startInVain()
    #expect(
      ended.status == 1 && ended.stderr.contains("Cannot serve metrics on 127.0.0.1:\(port)"),
      "\(ended.stderr)")
    try await first.stop()
  }
}
