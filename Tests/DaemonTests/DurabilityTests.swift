import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import TestSupport
import Testing

@testable import HyphaDaemonCore

/// The order of the daemon's own writes, syncs and answers. What a process wrote is there for the next one however it ends: only a
/// disk that waits, fails or loses its power shows what was synced.
@Suite("What is acknowledged is durable", .fewAtOnce, .timeLimit(.minutes(15)))
struct DurabilityTests {
  private static let blocked = Duration.milliseconds(300)

  private func initialise(_ node: TestNode) throws {
    _ = try node.client().call(
      NodeInitialise.self,
      .init(
        domain: "example.org",
        passphrase: Secret(String(decoding: HyphactlTests.passphrase.dropLast(), as: UTF8.self)),
        deviceName: "laptop"))
  }

  private func origin() async throws -> (TestNode, TestDisk) {
    let node = try TestNode()
    let disk = try await TestDisk(of: node)
    try await node.start()
    try initialise(node)
    return (node, disk)
  }

  private func post(_ node: TestNode, _ text: String) throws {
    _ = try node.client().call(PostsCreate.self, .init(text: text))
  }

  private func texts(_ node: TestNode) throws -> Set<String> {
    Set(try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text))
  }

  private func follow(_ node: TestNode) async throws -> TestNode {
    let reader = try await HyphactlTests.fresh()
    _ = try reader.client().call(
      NodeInitialise.self,
      .init(hyphalink: try node.client().call(NodeStatus.self, .init()).hyphalink))
    _ = try reader.client().call(ConnectionsAdd.self, .init(url: node.url))
    return reader
  }

  /// An always-on node that is a laptop's.
  private func claim(_ server: TestNode, by laptop: TestNode) throws {
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try laptop.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
  }

  private func isSynced(_ node: TestNode) throws -> Bool {
    let peers = try node.client().call(PeersList.self, .init()).peers
    return !peers.isEmpty && peers.allSatisfy(\.synced)
  }

  /// Whether something waits to be read.
  private func hasAnswer(_ caller: RawCaller) -> Bool {
    var byte: UInt8 = 0
    return recv(caller.descriptor, &byte, 1, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT)) >= 0
  }

  private func ask(_ caller: RawCaller, toPost text: String, id: Int = 1) throws {
    try caller.send(
      #"{"jsonrpc":"2.0","id":\#(id),"method":"posts.create","params":{"text":"\#(text)"}}"#)
  }

  // MARK: - A disk without room

  @Test("A node whose record there is no room for is nobody's, says so, and becomes one's once there is room")
  func noRoomForTheRecord() async throws {
    let node = try TestNode()
    let disk = try await TestDisk(of: node)
    try await node.start()
    let code = try node.client().call(SetupCodeShow.self, .init()).code
    try disk.fill("node.json")
    #expect(throws: (any Error).self) { try initialise(node) }
    try await eventually("\(node.log)") {
      try node.client().call(NodeStatus.self, .init()).role == .uninitialised ? true : nil
    }
    #expect(throws: (any Error).self) { try post(node, "lost") }
    #expect(try node.client().call(SetupCodeShow.self, .init()).code == code)
    disk.empty()
    // It is not tried again for a while.
    try await eventually(within: 60, "\(node.log)") { (try? initialise(node)) != nil ? true : nil }
    try post(node, "kept")
    try await node.kill()
    try await node.start()
    #expect(try texts(node) == ["kept"])
    try await node.stop()
  }

  @Test(
    "A node that has no room for the feed of a device that was let in goes on with what it has, and takes it up later"
  )
  func noRoomForAFeed() async throws {
    let laptop = try await HyphactlTests.origin()
    let server = try TestNode()
    let disk = try await TestDisk(of: server)
    try await server.start()
    try claim(server, by: laptop)
    try post(laptop, "before")
    try await eventually { (try? texts(server)) == ["before"] ? true : nil }
    try disk.fill("hypha/peers/")
    // It posts to its own feed alone.
    let phone = try await HyphactlTests.fresh()
    #expect(try await signIn(phone, at: laptop) == 0)
    let asked = try await eventually { try laptop.client().call(RequestsList.self, .init()).requests.first }
    _ = try laptop.client().call(RequestsApprove.self, .init(id: asked.id))
    try await eventually { try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil }
    try post(phone, "from the phone")
    try await eventually("\(server.log)") {
      try server.client().call(NodeStatus.self, .init()).storage?.state == .low ? true : nil
    }
    #expect(try texts(server) == ["before"])
    // It starts so, too.
    try await server.kill()
    try await server.start()
    #expect(try texts(server) == ["before"])
    disk.empty()
    // Whoever asks meanwhile.
    try await eventually(within: 90, "\(server.log)") {
      _ = try server.client().call(NodeStatus.self, .init())
      return try texts(server) == ["before", "from the phone"] ? true : nil
    }
    for node in [phone, server, laptop] { _ = try await node.stop() }
  }

  @Test(
    "A node that is claimed and has no room to say so is nobody's, and is claimed anew once there is room")
  func noRoomToBeClaimed() async throws {
    let laptop = try await HyphactlTests.origin()
    try post(laptop, "one")
    let server = try TestNode()
    let disk = try await TestDisk(of: server)
    try await server.start()
    try disk.fill("node.json")
    try claim(server, by: laptop)
    try await eventually("\(server.log)") { server.log.contains("The disk is full") ? true : nil }
    #expect(try server.client().call(NodeStatus.self, .init()).role == .uninitialised)
    disk.empty()
    try await eventually(within: 60, "\(server.log)") {
      try? claim(server, by: laptop)
      return try server.client().call(NodeStatus.self, .init()).role == .alwaysOn ? true : nil
    }
    try await eventually { try texts(server) == ["one"] ? true : nil }
    try await server.kill()
    try await server.start()
    #expect(try texts(server) == ["one"])
    for node in [server, laptop] { _ = try await node.stop() }
  }

  @Test("A reader that finds no room to sign in reads on, and signs in once there is room")
  func noRoomToSignIn() async throws {
    let laptop = try await HyphactlTests.origin()
    try post(laptop, "one")
    let phone = try TestNode()
    let disk = try await TestDisk(of: phone)
    try await phone.start()
    #expect(try await signIn(phone, at: laptop) == 0)
    #expect(try await phone.ctl("sign-out", "--yes").status == 0)
    try disk.fill("node.json")
    #expect(try await signIn(phone, at: laptop) != 0)
    try await eventually("\(phone.log)") { try texts(phone) == ["one"] ? true : nil }
    let pid = phone.daemon?.pid
    disk.empty()
    try await eventually(within: 60, "\(phone.log)") { try await signIn(phone, at: laptop) == 0 ? true : nil }
    #expect(phone.daemon?.pid == pid && phone.daemon?.poll() == nil)
    #expect(try phone.client().call(NodeStatus.self, .init()).request != nil)
    for node in [phone, laptop] { _ = try await node.stop() }
  }

  /// - Returns: the status with which `hyphactl` ends.
  private func signIn(_ phone: TestNode, at other: TestNode) async throws -> Int32 {
    try await phone.ctl(
      "sign-in", "http://127.0.0.1:\(other.port)", "--domain", "example.org", "--name", "phone",
      "--passphrase-file", "-", input: HyphactlTests.passphrase
    ).status
  }

  @Test("A device that is killed once it has signed in comes back connected")
  func killedWhileSigningIn() async throws {
    let laptop = try await HyphactlTests.origin()
    let server = try await HyphactlTests.fresh()
    try claim(server, by: laptop)
    try await eventually { try isSynced(laptop) ? true : nil }
    let phone = try TestNode()
    let disk = try await TestDisk(of: phone)
    try disk.kill(after: 1, "r", "node.json.new")
    try await phone.start()
    #expect(try await signIn(phone, at: server) != 0)
    _ = try await phone.daemon?.end()
    disk.killNoMore()
    try await phone.start()
    let client = try phone.client()
    #expect(try client.call(NodeStatus.self, .init()).role == .reader)
    try await eventually("\(phone.log)") {
      try client.call(ConnectionsList.self, Nothing()).connections.first?.state == .connected ? true : nil
    }
    try await phone.stop()
    try await server.stop()
    try await laptop.stop()
  }

  // MARK: - A disk that waits

  @Test(
    "A post is neither answered nor shown to others before it is synced",
    arguments: ["data", "tree", "signatures"])
  func answerWaits(file: String) async throws {
    let (laptop, disk) = try await origin()
    try post(laptop, "before")
    let reader = try await follow(laptop)
    try await eventually { try texts(reader) == ["before"] ? true : nil }
    try disk.block("source/\(file)")
    let caller = try RawCaller(path: laptop.socket)
    try ask(caller, toPost: "after")
    try await eventually("neither sync nor answer") {
      disk.isBlocked || hasAnswer(caller) ? true : nil
    }
    #expect(disk.isBlocked, "answered without a sync of \(file)")
    try await Task.sleep(for: Self.blocked)
    #expect(!hasAnswer(caller))
    #expect(try texts(reader) == ["before"])
    disk.release()
    #expect(try caller.line()?.contains("result") == true)
    try await eventually { try texts(reader) == ["before", "after"] ? true : nil }
  }

  @Test(
    "A node that keeps blocks for others says so once they are synced",
    arguments: ["data", "tree", "signatures"])
  func announcementWaits(file: String) async throws {
    let laptop = try await HyphactlTests.origin()
    try post(laptop, "before")
    let server = try TestNode()
    let disk = try await TestDisk(of: server)
    try await server.start()
    try claim(server, by: laptop)
    try await eventually { try server.client().call(NodeStatus.self, .init()).role == .alwaysOn ? true : nil }
    let reader = try await follow(server)
    try await eventually { try texts(reader) == ["before"] && isSynced(laptop) ? true : nil }
    try disk.block("source/\(file)")
    try post(laptop, "after")
    try await eventually("the block is not synced") { disk.isBlocked ? true : nil }
    try await Task.sleep(for: Self.blocked)
    #expect(try !isSynced(laptop))
    #expect(try texts(reader) == ["before"])
    disk.release()
    try await eventually {
      try texts(reader) == ["before", "after"] && isSynced(laptop) ? true : nil
    }
  }

  // MARK: - A disk that fails

  @Test(
    "After a sync that failed nothing goes out, and the next start has all",
    arguments: ["data", "tree", "signatures"])
  func syncFails(file: String) async throws {
    let (laptop, disk) = try await origin()
    try post(laptop, "before")
    let status = try laptop.client().call(NodeStatus.self, .init())
    let length = try #require(status.feeds.first).length
    let link = try #require(status.hyphalink)
    let key = try #require(PublicKey(hex: link.dropFirst("dat://".count)))
    let peer = try await HostilePeer(port: laptop.port, key: key, id: 1)
    peer.say(.want(.init(start: 0, length: 8192)))
    while true {
      let said = try await peer.listen().contains {
        if case .have(let have) = $0 { have.bitfield != nil } else { false }
      }
      if said { break }
    }
    try disk.block("source/\(file)")
    try disk.fail("source/\(file)")
    let caller = try RawCaller(path: laptop.socket)
    try ask(caller, toPost: "after")
    try await eventually("no sync comes") { disk.isBlocked ? true : nil }
    // What arrives meanwhile is dealt with after the failure.
    peer.say(.request(.init(index: length)), .want(.init(start: 0, length: 8192)))
    try await Task.sleep(for: Self.blocked)
    disk.release()
    let ended = try await #require(laptop.daemon).end()
    #expect(disk.hasFailed)
    #expect(ended.status == EX_IOERR, "\(ended)")
    #expect(try caller.line()?.contains("\"result\"") != true)
    while let messages = try? await peer.listen() {
      for message in messages {
        switch message {
        case .data(let data): #expect(data.index < length)
        case .have(let have) where have.bitfield == nil: #expect(have.start < length)
        case .have(let have):
          let bits = try RunLengthBitfield.decode(try #require(have.bitfield), limit: 1024)
          #expect(
            bits.count <= Int(length / 8) || bits[Int(length / 8)] & 128 >> UInt8(length & 7) == 0)
        default: break
        }
      }
    }
    try await laptop.start()
    #expect(try texts(laptop).contains("before"))
    try post(laptop, "later")
    #expect(try texts(laptop).isSuperset(of: ["before", "later"]))
  }

  @Test("Connections that are kept and cannot be read stay, and none is added or ended in their place")
  func unreadableConnections() async throws {
    let laptop = try await HyphactlTests.origin()
    let urls = (0..<3).map { "ws://127.0.0.1:\(9 + $0)" }
    for url in urls.prefix(2) { try await #expect(laptop.ctl("connect", url).status == 0) }
    let file = "\(laptop.statePath)/connections"
    #expect(rename(file, "\(file).old") == 0 && mkdir(file, 0o700) == 0)
    for verb in ["connect", "disconnect"] {
      let ended = try await laptop.ctl(verb, urls[verb == "connect" ? 2 : 0])
      #expect(ended.status != 0 && ended.stderr.contains("connections"), "\(ended)")
    }
    #expect(rmdir(file) == 0 && rename("\(file).old", file) == 0)
    try await #expect(laptop.ctl("disconnect", urls[0]).status == 0)
    try await laptop.kill()
    try await laptop.start()
    #expect(
      try laptop.client().call(ConnectionsList.self, Nothing()).connections.map(\.url) == [urls[1]])
    try await laptop.stop()
  }

  @Test(
    "A file system that turns read-only ends the daemon, and loses nothing; it does not start before that is over"
  )
  func readOnly() async throws {
    let (laptop, disk) = try await origin()
    try post(laptop, "before")
    try disk.becomeReadOnly()
    #expect(throws: (any Error).self) { try post(laptop, "refused") }
    let ended = try await #require(laptop.daemon).end()
    #expect(ended.status == EX_IOERR, "\(ended)")
    #expect(ended.stderr.contains("Read-only file system"), "\(ended)")
    let again = try await laptop.startInVain()
    #expect(again.status == EXIT_FAILURE)
    #expect(
      again.stderr.contains(
        "Read-only file system: mount that file system so that it can be written to"),
      "\(again)")
    disk.becomeWritable()
    try await laptop.start()
    #expect(try texts(laptop).contains("before"))
    try post(laptop, "after")
    #expect(try await laptop.ctl("verify").status == 0)
  }

  // MARK: - A disk that does less than it was asked

  @Test("Reads and writes that are cut short or interrupted are finished")
  func shortCalls() async throws {
    let (laptop, disk) = try await origin()
    try disk.shorten()
    let reader = try await follow(laptop)
    var all: Set<String> = []
    for round in 0..<3 {
      for number in 0..<20 {
        let text = "\(round) \(number) " + String(repeating: "x", count: 100 * number)
        try post(laptop, text)
        all.insert(text)
      }
      #expect(try texts(laptop) == all)
      try await eventually { try texts(reader) == all ? true : nil }
      try await laptop.kill()
      try await laptop.start()
    }
    #expect(try texts(laptop) == all)
    #expect(try await laptop.ctl("verify").status == 0)
    #expect(try await laptop.stop()?.status == 0)
  }
}
