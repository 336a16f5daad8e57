import Glibc
import HyphaControlAPI
import Testing

/// A disk without room: what is there stays, is served, and grows again once there is room.
@Suite(
  "A disk that is full", .fewAtOnce, .timeLimit(.minutes(15)),
  .enabled(if: OwnMounts.isAllowed, "this system lets the user mount no file system"))
struct FullDiskTests {
  private static let reserve = "[storage]\nreserve_bytes = 16777216"

  private func node(megabytes: Int, files: Int = 0) async throws -> (TestNode, SmallDisk) {
    let node = try TestNode(settings: Self.reserve)
    let disk = try await SmallDisk(at: node.statePath, megabytes: megabytes, files: files)
    node.mounts = disk.mounts
    try await node.start()
    return (node, disk)
  }

  private func origin(_ node: TestNode) throws {
    let client = try node.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(
      NodeInitialise.self,
      .init(domain: "example.org", passphrase: passphrase, deviceName: "origin"))
  }

  private func claim(_ server: TestNode, by origin: TestNode) throws {
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
  }

  private func storage(_ node: TestNode) throws -> StorageInfo? {
    try node.client().call(NodeStatus.self, Nothing()).storage
  }

  private func count(_ node: TestNode) throws -> Int {
    try node.client().call(PostsList.self, .init(limit: 1000)).posts.count
  }

  @Test func postingIsRefusedAndGoesOnOnceThereIsRoom() async throws {
    let (node, disk) = try await node(megabytes: 64)
    try origin(node)
    #expect(try await node.ctl("post", "before").status == 0)
    let pid = node.daemon?.pid
    try disk.fill(leaving: 8 << 20)
    let refused = try await node.ctl("post", "too much")
    #expect(refused.status == 1)
    #expect(
      refused.stderr.contains("is full: nothing can be posted until there is room. Free 16 MiB"),
      "\(refused.stderr)")
    #expect(refused.stderr.contains(node.statePath))
    #expect(try storage(node)?.state == .low)
    #expect(try await node.ctl("status").text.contains("The disk is full"))
    #expect(try count(node) == 1)
    // Who takes up the room can still be revoked.
    let failure = #expect(throws: ControlFailure.self) {
      try node.client().call(DevicesRevoke.self, .init(device: "nobody"))
    }
    #expect(failure.map { "\($0)".contains("there is no device “nobody”") } == true, "\(failure as Any)")
    try disk.fill()
    #expect(try await node.ctl("post", "too much").status == 1)
    #expect(try count(node) == 1)
    try disk.empty()
    try await eventually { try storage(node)?.state == .enough ? true : nil }
    #expect(try await node.ctl("post", "after").status == 0)
    #expect(try count(node) == 2)
    #expect(node.daemon?.poll() == nil && node.daemon?.pid == pid)
    // Said when it changes, not each second.
    #expect(node.log.components(of: "The disk is full") == 1, "\(node.log)")
    #expect(node.log.components(of: "There is room on the disk again") == 1, "\(node.log)")
    try await node.stop()
  }

  @Test func aFullDiskDoesNotKeepItFromStarting() async throws {
    let (node, disk) = try await node(megabytes: 64)
    try origin(node)
    #expect(try await node.ctl("post", "before").status == 0)
    try await node.kill()
    try disk.fill()
    try await node.start()
    #expect(try count(node) == 1)
    #expect(try await node.ctl("post", "too much").status == 1)
    try disk.empty()
    try await eventually { try storage(node)?.state == .enough ? true : nil }
    #expect(try await node.ctl("post", "after").status == 0)
    try await node.stop()
  }

  @Test func aNewNodeOnAFullDiskSaysSoAndBeginsOnceThereIsRoom() async throws {
    let node = try TestNode(settings: Self.reserve)
    let disk = try await SmallDisk(at: node.statePath, megabytes: 64)
    node.mounts = disk.mounts
    try disk.fill()
    let ended = try await node.startInVain()
    #expect(ended.status == EXIT_FAILURE)
    #expect(ended.stderr.contains("No space left on device"), "\(ended)")
    try disk.empty()
    try await node.start()
    // Room for the little that a node without a hypha has, and none for one.
    try disk.fill()
    #expect(throws: (any Error).self) { try origin(node) }
    #expect(try node.client().call(NodeStatus.self, Nothing()).role == .uninitialised)
    try disk.empty()
    try await eventually("\(node.log)") { (try? origin(node)) != nil ? true : nil }
    #expect(try await node.ctl("post", "after").status == 0)
    try await node.kill()
    try await node.start()
    #expect(try count(node) == 1)
    try await node.stop()
  }

  @Test func replicationStopsAndGoesOn() async throws {
    let (server, disk) = try await node(megabytes: 64)
    let origin = try TestNode()
    try await origin.start()
    try self.origin(origin)
    let text = String(repeating: "x", count: 60_000)
    for number in 0..<400 {
      _ = try origin.client().call(PostsCreate.self, .init(text: "\(number) \(text)"))
    }
    let pid = server.daemon?.pid
    // 24 MB want to come, for which there is no room, however fast they do; and somebody else takes what is left.
    try disk.fill(leaving: 20 << 20)
    try claim(server, by: origin)
    try await eventually("\(server.log)") {
      try server.client().call(NodeStatus.self, Nothing()).feeds.first.map { $0.heldBlocks > 20 }
        == true
        ? true : nil
    }
    let end = ContinuousClock.now + .seconds(30)
    while try storage(server)?.state != .low, ContinuousClock.now < end { try disk.fill() }
    #expect(try storage(server)?.state == .low)
    let held = try #require(try server.client().call(NodeStatus.self, Nothing()).feeds.first)
      .heldBlocks
    #expect(held < 401)
    #expect(try await server.ctl("posts").status == 0)
    #expect(try server.client().call(NodeStatus.self, Nothing()).ready)
    try disk.empty()
    // After a write that the disk refused, it waits for half a minute; then they come, as fast as the machine has them.
    var come: UInt64 = 0
    while come < 401 {
      come = try await eventually("\(come) of 401 blocks: \(server.log)") {
        let feed = try server.client().call(NodeStatus.self, Nothing()).feeds.first
        return feed.flatMap { $0.heldBlocks > come ? $0.heldBlocks : nil }
      }
    }
    let whole = try #require(try server.client().call(NodeStatus.self, Nothing()).feeds.first)
    #expect(whole.heldBlocks == 401 && whole.length == 401)
    #expect(server.daemon?.poll() == nil && server.daemon?.pid == pid)
    try await origin.stop()
    try await server.stop()
  }

  @Test func aRefusedWriteIsOutlived() async throws {
    // Room for bytes, and none for a further file: the feed of a writer that is let in cannot be made.
    let (node, disk) = try await node(megabytes: 64, files: 60)
    try origin(node)
    #expect(try await node.ctl("post", "before").status == 0)
    let pid = node.daemon?.pid
    try disk.fillFiles()
    let writer = String(repeating: "ab", count: 32)
    let refused = try await node.ctl("authorize", writer)
    #expect(refused.stderr.contains("No space left"), "\(refused)")
    #expect(try count(node) == 1)
    try disk.empty()
    try await eventually(within: 120, "\(node.log)") {
      try await node.ctl("authorize", writer).status == 0 ? true : nil
    }
    #expect(try await node.ctl("post", "after").status == 0)
    #expect(try count(node) == 2)
    #expect(node.daemon?.poll() == nil && node.daemon?.pid == pid)
    try await node.stop()
  }

  @Test func aQuotaHoldsForWhatOthersWrite() async throws {
    let server = try TestNode(settings: "[storage]\nquota_bytes = 2000000")
    try await server.start()
    let origin = try TestNode()
    try await origin.start()
    try self.origin(origin)
    let text = String(repeating: "x", count: 60_000)
    for number in 0..<600 {
      _ = try origin.client().call(PostsCreate.self, .init(text: "\(number) \(text)"))
    }
    try claim(server, by: origin)
    try await eventually("\(server.log)") {
      try storage(server)?.state == .quotaReached ? true : nil
    }
    let held = try #require(try server.client().call(NodeStatus.self, Nothing()).feeds.first)
      .heldBlocks
    // Blocks that were asked for still come.
    #expect(held > 20 && held < 590, "\(held)")
    #expect(try await server.ctl("status").text.contains("no more of them is fetched"))
    #expect(try #require(try storage(server)?.replicatedBytes) >= 2_000_000)
    #expect(server.log.components(of: "have reached their quota") == 1)
    try await origin.stop()
    try await server.stop()
  }
}

extension String {
  /// How often a text occurs.
  fileprivate func components(of text: String) -> Int {
    ranges(of: text).count
  }
}
