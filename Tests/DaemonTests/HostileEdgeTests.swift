import Glibc
import Hypercore
import HyphaControlAPI
import NIOCore
import NIOPosix
import Testing

@testable import HyphaDaemonCore

/// What strangers do to the built daemon's sockets, from many addresses and below the protocol.
@Suite("Hostile edge", .fewAtOnce, .timeLimit(.minutes(20))) struct HostileEdgeTests {
  /// Strangers' addresses are those that they say a proxy saw.
  private static let proxied = "trusted_proxies = [\"127.0.0.1\"]"

  @Test("A few addresses that shake hands and idle on all connections keep nobody out")
  func addresses() async throws {
    let place = try await Place(http: Self.proxied)
    let (port, key) = (place.server.port, place.key)
    let before = try place.use()
    let good = try await HostilePeer(port: port, key: key, id: 1, from: "192.0.2.1")
    try await good.fetch()
    // One address has so many places and no more, though hundreds are free.
    var crowd: [HostilePeer] = []
    for number in 0..<16 {
      crowd.append(try await HostilePeer(port: port, key: key, id: UInt8(number), from: "192.0.2.2"))
    }
    let refused = try await RawClient(port: port).upgrade("/hypha", headers: "X-Forwarded-For: 192.0.2.2\r\n")
    #expect(refused.hasPrefix("HTTP/1.1 429"), "\(refused)")
    try await eventually("it is not told of") {
      let told = try place.rejections()["192.0.2.2"]
      // With a sanitizer some can be so slow that they time out.
      return told == ["tooMany": 1] || (Sanitizer.isOn && told?["tooMany"] == 1) ? true : nil
    }
    crowd = []
    // The good one, and the origin.
    try await eventually("places are not given back") {
      try place.server.client().call(PeersList.self, Nothing()).peers.count == 2 ? true : nil
    }
    var idlers: [HostilePeer] = []
    // However long it takes to connect so many.
    var last = ContinuousClock.now
    func keepAlive(_ more: HostilePeer...) {
      guard last.duration(to: .now) > .seconds(3) else { return }
      last = .now
      for peer in idlers + [good] + more { peer.keepAlive() }
    }
    for number in 0..<17 * 16 {
      keepAlive()
      // Some are turned away, once the others have all places.
      let address = "198.51.100.\(number / 16)"
      if let idler = try? await HostilePeer(port: port, key: key, id: UInt8(number % 250), from: address) {
        idlers.append(idler)
      }
    }
    #expect(idlers.count > 240)
    let newcomer = try await HostilePeer(port: port, key: key, id: 2, from: "203.0.113.1")
    try await newcomer.fetch()
    for number in 0..<64 {
      keepAlive(newcomer)
      let address = "198.51.100.\(number % 17)"
      let idler = try? await HostilePeer(port: port, key: key, id: 3, from: address)
      if let idler { idlers.append(idler) }
    }
    keepAlive(newcomer)
    try await newcomer.fetch()
    try await good.fetch()
    try await place.goodPeerSyncs("idlers from 17 addresses")
    // Somebody who rents an IPv6 network has as many addresses as he likes, and four times the places of one.
    var admitted = 0
    for number in 0..<80 {
      keepAlive()
      let address = "2001:db8:0:\(number)::1"
      if let idler = try? await HostilePeer(port: port, key: key, id: 4, from: address) {
        idlers.append(idler)
        admitted += 1
      }
    }
    #expect(admitted == 64)
    #expect(try place.rejected()["tooMany", default: 0] >= 17)
    let phone = try TestNode()
    try await phone.start()
    _ = try phone.client().call(NodeInitialise.self, .init(hyphalink: "dat://\(key.hex)"))
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: place.server.url))
    try await eventually(within: 30, "\(phone.log)") {
      try phone.client().call(PostsList.self, .init(limit: 1000)).posts.count >= 20 ? true : nil
    }
    withExtendedLifetime(idlers) {}
    try place.use().expectBounded("addresses", since: before, cpuSeconds: 5)
    try await phone.stop()
    try await place.stop()
  }

  @Test("Bytes that come one by one cost the node little more than as many that come together")
  func tinyPieces() async throws {
    let place = try await Place(http: Self.proxied)
    let (port, key) = (place.server.port, place.key)
    // Who is connected besides, and looked at whenever something is to be sent.
    var others: [HostilePeer] = []
    for number in 0..<100 {
      others.append(
        try await HostilePeer(port: port, key: key, id: UInt8(number), from: "198.51.100.\(number)"))
    }
    let before = try place.use()
    let strangers = Task {
      try await withThrowingTaskGroup { group in
        for id in 0..<2 {
          group.addTask {
            let peer = try await HostilePeer(port: port, key: key, id: UInt8(200 + id))
            peer.client.frame(0x02, [])
            // Messages of an extension that nobody knows, of 50,000 bytes each, in fragments of one.
            let message: [UInt8] = [0xD0, 0x86, 0x03, 0x0F, 0x63] + [UInt8](repeating: 0, count: 49_998)
            let pieces = message.flatMap { [0x00, 0x81, 0, 0, 0, 0, $0] as [UInt8] }
            for _ in 0..<4 where !peer.client.isEnded { peer.client.send(pieces) }
            peer.client.frame(0x80, [])
            try await peer.fetch()
            // And what is no frame at all.
            peer.client.send([0x00, 0x00])
            #expect(try await peer.client.readClose().0 == 1002)
          }
        }
        try await group.waitForAll()
      }
    }
    try await place.goodPeerSyncs("bytes that come one by one")
    try await strangers.value
    try place.use().expectBounded("tiny pieces", since: before, cpuSeconds: 10)
    try await eventually("two bad frames are not told of") {
      try place.rejected()["badFrame"] == 2 ? true : nil
    }
    withExtendedLifetime(others) {}
    try await place.stop()
  }

  @Test("A flood of messages from several addresses, over ever new connections, keeps no device out")
  func messages() async throws {
    let place = try await Place(http: Self.proxied)
    let (port, key) = (place.server.port, place.key)
    let file = "\(place.server.statePath)/membership"
    let (before, begun) = (try place.use(), ContinuousClock.now)
    let strangers = Task {
      try await withThrowingTaskGroup { group in
        for id in 0..<4 {
          group.addTask {
            for round in 0..<4 {
              let peer = try await HostilePeer(
                port: port, key: key, id: UInt8(id * 4 + round), from: "198.51.100.\(id)")
              while peer.session.remoteHandshake == nil { _ = try await peer.listen() }
              for number in 0..<300 { peer.say(sealed: id * 10_000 + round * 1000 + number) }
              try await peer.fetch()
            }
          }
        }
        try await group.waitForAll()
      }
    }
    // Each time that it is saved it is another file.
    let saves = Task {
      var files: Set<ino_t> = []
      while !Task.isCancelled {
        var info = stat()
        if stat(file, &info) == 0 { files.insert(info.st_ino) }
        try? await Task.sleep(for: .milliseconds(10))
      }
      return files.count
    }
    try await place.goodPeerSyncs("a flood of messages")
    let phone = try TestNode()
    try await phone.start()
    let signedIn = try await phone.startCtl(
      [
        "sign-in", "http://127.0.0.1:\(port)", "--domain", "example.org", "--name", "phone",
        "--passphrase-file", "-",
      ], input: Array(place.passphrase.text.utf8)
    ).end()
    #expect(signedIn.status == 0, "\(signedIn.stderr)")
    try await eventually(within: 20, "the request does not arrive: \(place.origin.log)") {
      try place.origin.client().call(RequestsList.self, .init()).requests.first { $0.name == "phone" }
    }
    try await strangers.value
    let seconds = Double((ContinuousClock.now - begun).components.seconds)
    let taken = try place.server.client().call(RequestsList.self, .init())
    let limited = Double(taken.dropped["limited"] ?? 0)
    // Of 4,800 and what the phone said.
    #expect(limited > 4800 - 512 - 4 * 4 - seconds - 10, "\(taken)")
    let passedOn = try place.origin.client().call(RequestsList.self, .init()).dropped
    #expect(passedOn["limited"] == nil && passedOn["unopened", default: 0] > 100, "\(passedOn)")
    saves.cancel()
    let saved = await saves.value
    print("a flood of messages: \(seconds) s, \(limited) dropped, saved \(saved) times")
    #expect(Double(saved) <= 14 + seconds / 5)
    try place.use().expectBounded("a flood of messages", since: before, cpuSeconds: 10)
    try await phone.stop()
    try await place.stop()
  }

  /// What is said from several connections at one time, over and over.
  private static let floods: [(name: String, bytes: [UInt8], times: Int)] = [
    ("pings with contents", [0x89, 0xFD, 0, 0, 0, 0] + [UInt8](repeating: 1, count: 125), 40_000),
    // Channel 0, type 1; all but the first mean nothing.
    ("handshakes", [0x82, 0x85, 0, 0, 0, 0, 0x04, 0x01, 0x0A, 0x01, 0x00], 40_000),
  ]

  @Test("Who keeps a connection alive and takes nothing of what is sent to it is given up, and told of")
  func takesNothing() async throws {
    let place = try await Place()
    let text = String(repeating: "long ", count: ControlLimits.postBytes / 5)
    _ = try place.origin.client().call(PostsCreate.self, .init(text: text))
    try await place.goodPeerSyncs("a long post")
    let length = try #require(try place.server.client().call(NodeStatus.self, .init()).feeds.first?.length)
    let before = try place.use()
    let peer = try await HostilePeer(port: place.server.port, key: place.key, id: 1)
    try await peer.fetch()
    // The long one, and the one after it.
    let requests = (0..<1000).map { Message.request(Message.Request(index: length - 1 - $0 % 2)) }
    peer.client.frame(0x82, peer.bytes(requests))
    // It says so from a thread that it has to itself: other tests must not make it silent.
    let alive = Task(executorPreference: OwnThreads(1)) {
      for _ in 0..<300 where !Task.isCancelled {
        peer.keepAlive()
        try? await Task.sleep(for: .seconds(1))
      }
    }
    // It is looked at once a minute, and twice in vain.
    var rejected: [String: UInt64] = [:]
    try await eventually(within: 240, "it is not given up: \(rejected)") {
      // Asking is not to cost the daemon what is measured.
      try await Task.sleep(for: .seconds(5))
      rejected = try place.rejected()
      return rejected["stalled"] == 1 ? true : nil
    }
    alive.cancel()
    try place.use().expectBounded("one that takes nothing", since: before, cpuSeconds: 5)
    try await place.goodPeerSyncs("one that takes nothing")
    try await place.stop()
  }

  @Test("Connections by the thousand, floods, who never reads, who never ends a handshake: a good peer syncs")
  func rush() async throws {
    let folder = try TemporaryFolder()
    let certificate = try await TestCertificate(folder, "edge")
    let tls = try freePorts(1)[0]
    // Places for all, so that nobody gives way before the time is over.
    let place = try await Place(
      settings: certificate.settings(port: tls) + "[replication]\nmax_connections = 4096")
    let (port, key) = (place.server.port, place.key)
    let before = try (use: place.use(), descriptors: place.descriptors())
    // Halves of TLS's first message, held open.
    let begun = ContinuousClock.now
    let unended = try (0..<64).map { _ in
      let client = try RawClient(port: tls)
      client.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00])
      return client
    }
    let notTLS = try RawClient(port: tls)
    notTLS.send("GET / HTTP/1.1\r\n\r\n")
    let notHTTP = try RawClient(port: port)
    notHTTP.send("\u{1}\r\n\r\n")
    // Who asks for all blocks time and again, and reads none of it.
    var unread: [HostilePeer] = []
    for id in 0..<8 {
      let peer = try await HostilePeer(port: port, key: key, id: UInt8(id))
      let requests = (0..<1000).map { Message.request(Message.Request(index: $0 % 20)) }
      peer.client.frame(0x82, peer.bytes(requests))
      unread.append(peer)
    }
    for flood in Self.floods {
      let strangers = Task {
        try await withThrowingTaskGroup { group in
          for id in 0..<4 {
            group.addTask {
              let peer = try await HostilePeer(port: port, key: key, id: UInt8(100 + id))
              let hundred = [UInt8](repeatElement(flood.bytes, count: 100).joined())
              for _ in 0..<flood.times / 100 where !peer.client.isEnded {
                peer.client.send(hundred)
                // Pings do not count as a sign that the node there is well.
                peer.keepAlive()
              }
              try await peer.fetchAmongPongs()
            }
          }
          try await group.waitForAll()
        }
      }
      try await place.goodPeerSyncs(flood.name)
      try await strangers.value
    }

    let threads = 8
    let each = 1000
    let pool = NIOThreadPool(numberOfThreads: threads)
    pool.start()
    let calm = try place.use()
    let start = ContinuousClock.now
    let strangers = (0..<threads).map { _ in
      pool.runIfActive(eventLoop: Edge.group.next()) {
        var held: [RawClient] = []
        for number in 0..<each {
          let client = try RawClient(port: port)
          if number % 4 == 0 { client.send("GET /hypha HTTP/1.1\r\nHost: x\r\n") }
          held.append(client)
          if held.count > 50 { held.removeFirst(25) }
        }
      }
    }
    let rush = EventLoopFuture.andAllSucceed(strangers, on: Edge.group.next())
    let isOver = Task {
      try await rush.get()
      return ContinuousClock.now - start
    }
    for number in 0..<4 { try await place.goodPeerSyncs("the rush, \(number)", within: 15) }
    let seconds = try await isOver.value / .seconds(1)
    try await pool.shutdownGracefully()
    try place.use().expectBounded("a rush", since: calm, cpuSeconds: 10)
    let rate = Int(Double(threads * each) / seconds)
    print("a rush: \(rate) connections a second")
    #expect(rate > 300 || Sanitizer.isOn)
    // The handshakes are cut off, and then all is as before but for the readers.
    for client in unended { _ = try await client.readToEnd() }
    print("handshakes were cut off after \((ContinuousClock.now - begun) / .seconds(1)) s")
    try await eventually(within: 30, "descriptors do not come back") {
      try place.descriptors() <= before.descriptors + unread.count + 8 ? true : nil
    }
    let use = try place.use()
    use.expectBounded("all of the rush", since: before.use, cpuSeconds: 40)
    #expect(use.kilobytes < before.use.kilobytes + Sanitizer.kilobytes(64 << 10))
    let rejected = try place.rejected()
    #expect(rejected["noRequest", default: 0] >= UInt64(unended.count), "\(rejected)")
    #expect(rejected["badTLS", default: 0] >= 1 && rejected["badRequest", default: 0] >= 1, "\(rejected)")
    withExtendedLifetime((unread, notTLS, notHTTP)) {}
    try await place.stop()
  }

  @Test("Who comes and goes, thousands of times, leaves nothing behind")
  func revolvingDoor() async throws {
    let node = try TestNode()
    try await node.start()
    func come() async throws {
      let client = try RawClient(port: node.port)
      #expect(try await client.upgrade("/sign-up/\(Edge.key.hex)").hasPrefix("HTTP/1.1 101"))
      client.frame(0x88, [])
      _ = try await client.readToEnd()
    }
    for _ in 0..<50 { try await come() }
    let pid = try #require(node.daemon).pid
    let before = try ProcessUse(pid)
    for _ in 0..<2000 { try await come() }
    let after = try ProcessUse(pid)
    print("2,000 that came and went: \(after.kilobytes - before.kilobytes) KiB")
    #expect(after.kilobytes < before.kilobytes + Sanitizer.kilobytes(4 << 10))
    try await node.stop()
  }

  @Test("Who guesses setup codes from many addresses uses up what all have together, and keeps no owner out")
  func guessing() async throws {
    let server = try TestNode()
    try server.configure(http: Self.proxied)
    try await server.start()
    let (port, pid) = (server.port, try #require(server.daemon).pid)
    let before = try ProcessUse(pid)
    let path = "/sign-up/\(String(repeating: "ab", count: 32))"
    /// - Returns: whether the code was looked at.
    @Sendable func guess(_ household: Int) async throws -> Bool {
      try await guess(from: "198.51.\(household >> 8).\(household & 255)")
    }
    @Sendable func guess(from address: String) async throws -> Bool {
      let client = try RawClient(port: port)
      _ = try await client.upgrade(path, headers: "X-Forwarded-For: \(address)\r\n")
      client.frame(0x81, Array("{\"setupCode\":\"AAAAA-AAAAA\"}".utf8))
      let answer = try await client.readClose().1
      guard !answer.contains("Too many wrong setup codes") else { return false }
      // It is the owner's by then.
      if answer.contains("already keeps a hypha") { throw CancellationError() }
      #expect(answer.contains("The setup code is wrong"), "\(answer)")
      return true
    }
    func rejected() throws -> [RejectedInfo] {
      try server.client().call(PeersList.self, Nothing()).rejected ?? []
    }
    let start = ContinuousClock.now
    // An address has ten, and one more each half minute, and so has a household with all that it has.
    var looked = 0
    for (address, place) in [("203.0.113.7", "203.0.113.7"), ("2001:db8::", "2001:db8::/64")] {
      let (began, before) = (ContinuousClock.now, looked)
      while looked < before + 100,
        try await guess(from: address.hasSuffix(":") ? "\(address)\(looked)" : address)
      {
        looked += 1
      }
      let count = looked - before
      #expect(count >= 10 && Double(count) <= 11 + (ContinuousClock.now - began) / .seconds(30), "\(count)")
      for (kind, count) in [("setupCode", UInt64(count)), ("setupCodeRate", 1)] {
        #expect(try rejected().contains { $0.address == place && $0.kind == kind && $0.count == count })
      }
    }
    // The first of each is looked at; of the others a hundred, and one more each second.
    for household in 0..<150 { #expect(try await guess(household)) }
    looked -= 2
    while looked < 1000, try await guess(looked % 150) { looked += 1 }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    #expect(looked >= 100 && Double(looked) <= 101 + seconds, "\(looked), \(seconds) s")
    // They go on, and new ones come.
    let guessers = Task {
      var household = 150
      while !Task.isCancelled {
        for old in 0..<4 { _ = try await guess((household + old) % 150) }
        #expect(try await guess(household))
        household += 1
      }
      return household
    }
    // The owner, from elsewhere.
    let origin = try await HyphactlTests.origin()
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    while try await guess(0) {}
    let asked = ContinuousClock.now
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    let waited = (ContinuousClock.now - asked) / .seconds(1)
    guessers.cancel()
    _ = await guessers.result
    print("guessing: \(looked) looked at within \(seconds) s; the owner waited for \(waited) s")
    #expect(waited < 10)
    try ProcessUse(pid).expectBounded("guessing", since: before, cpuSeconds: 5)
    try await origin.stop()
    try await server.stop()
  }
}

extension HostilePeer {
  /// Asks for the first block, and waits for it, whatever pings are answered before.
  fileprivate func fetchAmongPongs() async throws {
    say(.request(Message.Request(index: 0)))
    var isHere = false
    while !isHere {
      let (first, payload) = try await client.readFrame()
      guard first != 0x8A else { continue }
      guard first == 0x82 else { throw HarnessError("the node ended the connection") }
      try session.receive(payload) { event in
        if case .message(.data, _) = event { isHere = true }
      }
    }
  }
}
