import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// How devices come to write, as people do it: `hyphactl` on real daemons, of which the one in the middle is an
/// always-on node that knows no secret.
@Suite("A device signs in, and is let in or not", .fewAtOnce, .serialized, .timeLimit(.minutes(15)))
struct SignInFlowTests {
  /// A hypha's first device, and an always-on node that it has claimed.
  private struct Home {
    var laptop: TestNode
    var server: TestNode
  }

  private func home(serverSettings: String = "") async throws -> Home {
    let laptop = try TestNode()
    let server = try TestNode(settings: serverSettings)
    try await laptop.start()
    try await server.start()
    let made = try await laptop.ctl(
      "init", "--domain", "example.org", "--device-name", "laptop", "--passphrase-file", "-",
      input: HyphactlTests.passphrase)
    try #require(made.status == 0, "\(made.stderr)")
    let code = try await server.ctl("setup-code").stdout
    let connected = try await laptop.ctl("connect", server.url, "--setup-code-file", "-", input: code)
    try #require(connected.status == 0, "\(connected.stderr)")
    try #require(try await laptop.ctl("wait", "--synced", "--timeout", "30").status == 0)
    return Home(laptop: laptop, server: server)
  }

  /// A further device, started, that is nobody's yet.
  private func device() async throws -> TestNode { try await HyphactlTests.fresh() }

  private func arguments(_ name: String, at home: Home, _ more: [String] = []) -> [String] {
    ["sign-in", "http://127.0.0.1:\(home.server.port)", "--domain", "example.org", "--name", name]
      + ["--passphrase-file", "-"] + more
  }

  private func signIn(
    _ node: TestNode, as name: String, at home: Home, _ more: [String] = []
  ) async throws -> OwnRequestInfo {
    let ended = try await node.startCtl(
      arguments(name, at: home, ["--json"] + more), input: HyphactlTests.passphrase
    ).end()
    try #require(ended.status == 0, "\(ended.stderr)\n\(node.log)")
    let result = try JSONDecoder().decode(NodeSignIn.Result.self, from: Data(ended.stdout))
    let request = try #require(result.request)
    #expect(request.name == name && request.state == .pending)
    #expect(request.words.split(separator: " ").count == 4)
    return request
  }

  private func status(_ node: TestNode) throws -> NodeInfo {
    try node.client().call(NodeStatus.self, .init())
  }

  private func requests(_ node: TestNode) throws -> [RequestInfo] {
    try node.client().call(RequestsList.self, .init()).requests
  }

  /// Waits until a node shows a request as it should stand.
  @discardableResult
  private func request(
    _ id: String, on node: TestNode, is state: RequestInfo.State = .pending
  ) async throws -> RequestInfo {
    try await eventually("the request is not \(state); \(node.log)") {
      try requests(node).first { $0.id == id && $0.state == state }
    }
  }

  private func expectAuthorised(_ node: TestNode) async throws {
    try await eventually("the device does not learn that it may write; \(node.log)") {
      let status = try status(node)
      return status.canPost && status.role == .authorised && status.request?.state == .authorised ? true : nil
    }
  }

  /// Signs a device in and has another one approve it by its words.
  private func member(_ name: String, of home: Home, by approver: TestNode) async throws -> TestNode {
    let node = try await device()
    let own = try await signIn(node, as: name, at: home)
    try await request(own.id, on: approver)
    let approved = try await approver.ctl("approve", own.words, "--yes")
    try #require(approved.status == 0, "\(approved.stderr)")
    try await expectAuthorised(node)
    return node
  }

  private func post(_ text: String, on node: TestNode) throws -> String {
    try node.client().call(PostsCreate.self, .init(text: text)).id
  }

  private func texts(on node: TestNode) throws -> [String] {
    try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text)
  }

  private func expectTexts(_ texts: [String], on nodes: [TestNode]) async throws {
    for (place, node) in nodes.enumerated() {
      var found: [String] = []
      try await eventually("on node \(place) the posts are \(found), not \(texts)") {
        found = try self.texts(on: node).sorted()
        return found == texts.sorted() ? true : nil
      }
    }
  }

  // MARK: - Approving and denying

  @Test("A device asks through a server that cannot read it, shows the same words, is approved, and posts")
  func approve() async throws {
    let home = try await home()
    let (laptop, server) = (home.laptop, home.server)
    _ = try post("from the laptop", on: laptop)
    let phone = try await device()
    let signedIn = try await phone.startCtl(arguments("phone", at: home), input: HyphactlTests.passphrase)
      .end()
    #expect(signedIn.status == 0, "\(signedIn.stderr)\n\(phone.log)")
    let own = try #require(try status(phone).request)
    #expect(signedIn.text == "device      phone\nwords       \(own.words)")
    #expect(own.state == .pending && own.name == "phone")
    #expect(try status(phone).role == .reader)
    let shown = try await phone.ctl("status").text
    #expect(shown.contains("request     pending until") && shown.contains(own.words))
    // It reads at once, and does not post.
    try await expectTexts(["from the laptop"], on: [phone])
    let early = try await phone.ctl("post", "too early")
    #expect(early.status == 1 && !early.stderr.isEmpty)

    try await request(own.id, on: laptop)
    let listed = try await laptop.ctl("requests").text
    #expect(listed.contains(own.words) && listed.contains("“phone”") && listed.contains(own.id.prefix(8)))
    // The server holds something, and cannot say what.
    let sealed = try await eventually("the server holds no message") {
      let ended = try await server.ctl("requests", "--json").json()
      return ended["sealedMessages"] == .integer(0) ? nil : ended
    }
    #expect(sealed["canOpen"] == .bool(false) && sealed["requests"] == .array([]))
    #expect(try await server.ctl("requests").stderr.contains("cannot open"))
    #expect(try await server.ctl("approve", "phone", "--yes").status != 0)
    // Who asks cannot let itself in.
    #expect(try await phone.ctl("approve", own.words, "--yes").status != 0)

    let approved = try await laptop.ctl("approve", own.words, "--yes", "--json")
    #expect(approved.status == 0, "\(approved.stderr)")
    #expect(try approved.json()["id"] == .string(own.id))
    try await expectAuthorised(phone)
    #expect(try await laptop.ctl("requests").stdout.isEmpty)
    #expect(try await laptop.ctl("approve", own.id, "--yes").status == 6)
    #expect(try await laptop.ctl("deny", own.id).status == 6)
    #expect(try await laptop.ctl("approve", "nobody", "--yes").status == 3)
    #expect(try await phone.ctl("sign-in", "--again").status == 1)
    _ = try post("from the phone", on: phone)
    try await expectTexts(["from the laptop", "from the phone"], on: [laptop, server, phone])

    // Every node says the same of devices.
    for node in [laptop, server, phone] {
      try await eventually("the device is not listed") { () -> Bool? in
        let devices = try node.client().call(DevicesList.self, .init()).devices
        guard let phone = devices.first(where: { $0.name == "phone" }) else { return nil }
        #expect(phone.byName == "laptop" && phone.approved != nil && phone.revoked == nil)
        #expect(devices.map(\.origin) == [true, false])
        return true
      }
    }
    #expect(try await laptop.ctl("rename", "phone", "pocket").status == 0)
    try await eventually("the new name does not arrive") {
      try await phone.ctl("devices").text.contains("“pocket”  this device") ? true : nil
    }
    let words = String(decoding: HyphactlTests.passphrase, as: UTF8.self).split(separator: " ")
    for node in [laptop, server, phone] {
      for word in words { #expect(!node.log.contains(word)) }
    }
  }

  @Test("Whoever waits does not wait for a daemon that hangs") func hangs() async throws {
    let home = try await home()
    let phone = try await device()
    let waiting = try phone.startCtl(
      arguments("phone", at: home, ["--wait", "--timeout", "5"]), input: HyphactlTests.passphrase)
    try await eventually { String(decoding: waiting.stdout, as: UTF8.self).contains("words ") ? true : nil }
    phone.daemon?.send(SIGSTOP)
    let ended = try await waiting.end()
    #expect(ended.status == 2 && ended.stderr.contains("does not answer"), "\(ended)")
  }

  @Test("A device that waits ends with the answer; one that was denied may ask again")
  func waits() async throws {
    let home = try await home()
    let phone = try await device()
    // It waits whether somebody reads what it prints or not.
    let late = try await phone.ctl(
      arguments("phone", at: home, ["--wait", "--timeout", "0.2"]), streams: ">&3",
      input: HyphactlTests.passphrase)
    #expect(late.status == 1 && late.stderr.contains("not answered"), "\(late)")
    let first = try #require(try status(phone).request)
    // Pending still: there is no need for another.
    #expect(try await phone.ctl("sign-in", "--again").status == 1)
    try await request(first.id, on: home.laptop)
    #expect(try await home.laptop.ctl("deny", "phone").status == 0)
    try await eventually("the device does not learn that it was denied") {
      try status(phone).request?.state == .denied ? true : nil
    }
    #expect(try await phone.ctl("status").text.contains("request     denied"))

    var waiting = try phone.startCtl(["sign-in", "--again", "--wait", "--json"])
    let second = try await eventually("no second request") {
      try requests(home.laptop).first { $0.state == .pending }
    }
    #expect(second.id != first.id && second.words != first.words)
    #expect(try await home.laptop.ctl("deny", String(second.id.prefix(8))).status == 0)
    let denied = try await waiting.end()
    #expect(denied.status == 7, "\(denied)")
    #expect(denied.text.split(separator: "\n").count == 2)

    waiting = try phone.startCtl(["sign-in", "--again", "--wait"])
    try await eventually("no third request") {
      try requests(home.laptop).contains { $0.state == .pending } ? true : nil
    }
    #expect(try await home.laptop.ctl("approve", "phone", "--yes").status == 0)
    let approved = try await waiting.end()
    #expect(approved.status == 0 && approved.stderr.contains("may write now"), "\(approved)")
    #expect(try await phone.ctl("post", "let in").status == 0)
    #expect(!home.server.log.contains("phone"))
  }

  @Test("A request that nobody answers expires on both sides")
  func expires() async throws {
    let home = try await home()
    let phone = try await device()
    let waiting = try phone.startCtl(
      arguments("phone", at: home, ["--lifetime", "4", "--wait"]), input: HyphactlTests.passphrase)
    let id = try await eventually("no request: \(waiting.stderr) \(phone.log)") {
      try requests(home.laptop).first?.id
    }
    let expired = try await waiting.end()
    #expect(expired.status == 4 && expired.stderr.contains("expired"), "\(expired)")
    #expect(try await phone.ctl("status").text.contains("request     expired"))
    try await request(id, on: home.laptop, is: .expired)
    #expect(try await home.laptop.ctl("requests").stdout.isEmpty)
    #expect(try await home.laptop.ctl("approve", id, "--yes").status == 4)
    #expect(try await home.laptop.ctl("deny", id).status == 4)
    #expect(try !status(phone).canPost)
    #expect(try await phone.ctl("sign-in", "--again").status == 0)
    let again = try #require(try status(phone).request)
    #expect(again.id != id)
    try await request(again.id, on: home.laptop)
    #expect(try await home.laptop.ctl("approve", again.words, "--yes").status == 0)
    try await expectAuthorised(phone)
  }

  @Test("Of two devices with one name, the one whose words were compared is let in")
  func oneName() async throws {
    let home = try await home()
    let (mine, other) = (try await device(), try await device())
    let own = try await signIn(mine, as: "phone", at: home)
    let foreign = try await signIn(other, as: "phone", at: home)
    for id in [own.id, foreign.id] { try await request(id, on: home.laptop) }
    let ambiguous = try await home.laptop.ctl("approve", "phone", "--yes")
    #expect(ambiguous.status == 5 && !ambiguous.stderr.isEmpty)
    #expect(try await home.laptop.ctl("deny", "phone").status == 5)
    let words = own.words.uppercased().split(separator: " ").map(String.init)
    #expect(try await home.laptop.startCtl(["approve", "--yes"] + words).end().status == 0)
    try await expectAuthorised(mine)
    #expect(try status(other).request?.state == .pending && !status(other).canPost)
    // Now that only one has the name, it is enough.
    #expect(try await home.laptop.ctl("deny", "phone").status == 0)
    try await eventually("the other device is not denied") {
      try status(other).request?.state == .denied ? true : nil
    }
    #expect(try status(mine).canPost && !status(other).canPost)
  }

  // MARK: - Not at the same time

  @Test("Owner, server and device need never be on at the same time")
  func apart() async throws {
    let home = try await home()
    let (laptop, server) = (home.laptop, home.server)
    try await laptop.stop()
    let phone = try await device()
    let own = try await signIn(phone, as: "phone", at: home)
    try await eventually("the server does not keep the request") {
      try status(server).sealedMessages == 1 ? true : nil
    }
    try await phone.kill()
    // What the server keeps outlives it.
    try await server.kill()
    try await server.start()
    #expect(try status(server).sealedMessages == 1)
    try await laptop.start()
    try await request(own.id, on: laptop)
    #expect(try await laptop.ctl("approve", own.words, "--yes").status == 0)
    try await eventually("the server does not get the answer") {
      try status(server).sealedMessages == 2 ? true : nil
    }
    try await eventually("the server does not get what lets the device in") {
      try server.client().call(DevicesList.self, .init()).devices.count == 2 ? true : nil
    }
    // What is announced is durable there.
    #expect(try await laptop.ctl("wait", "--synced", "--timeout", "30").status == 0)
    try await laptop.kill()
    try await server.kill()
    try await server.start()
    try await phone.start()
    try await expectAuthorised(phone)
    _ = try post("while the laptop is off", on: phone)
    try await expectTexts(["while the laptop is off"], on: [server])
    // The laptop knows after its restart what it has answered.
    try await laptop.start()
    try await expectTexts(["while the laptop is off"], on: [laptop])
    #expect(try await laptop.ctl("approve", own.id, "--yes").status == 6)
  }

  @Test("A denial finds the device that was off, and a request made again finds the laptop that was")
  func denialLater() async throws {
    let home = try await home()
    let phone = try await device()
    let own = try await signIn(phone, as: "phone", at: home)
    try await request(own.id, on: home.laptop)
    try await phone.stop()
    #expect(try await home.laptop.ctl("deny", own.words).status == 0)
    try await eventually("the server does not get the answer") {
      try status(home.server).sealedMessages == 2 ? true : nil
    }
    try await home.laptop.stop()
    try await phone.start()
    try await eventually("the device does not learn that it was denied") {
      try status(phone).request?.state == .denied ? true : nil
    }
    #expect(try await phone.ctl("sign-in", "--again", "--json").status == 0)
    let again = try #require(try status(phone).request)
    try await home.laptop.start()
    try await request(again.id, on: home.laptop)
    #expect(try requests(home.laptop).first { $0.id == own.id }?.state == .denied)
    #expect(try await home.laptop.ctl("approve", again.words, "--yes").status == 0)
    try await expectAuthorised(phone)
  }

  @Test(
    "Where the origin is lost with everything on it, the passphrase makes another one that goes on from it")
  func originAgain() async throws {
    let home = try await home()
    let phone = try await device()
    let own = try await signIn(phone, as: "phone", at: home)
    try await request(own.id, on: home.laptop)
    #expect(try await home.laptop.ctl("approve", own.words, "--yes").status == 0)
    try await expectAuthorised(phone)
    var texts = ["first", "second"]
    for text in texts { _ = try post(text, on: home.laptop) }
    #expect(try await home.laptop.ctl("wait", "--synced", "--timeout", "30").status == 0)
    try await home.laptop.kill()
    // Without a node that has the hypha there is nothing to go on from.
    try await home.server.stop()
    let again = try await device()
    let arguments = arguments("new laptop", at: home, ["--as-origin"])
    let asked = try await again.startCtl(arguments, input: HyphactlTests.passphrase).end()
    #expect(asked.status == 64 && asked.stderr.contains("--yes"))
    let alone = try await again.startCtl(arguments + ["--yes"], input: HyphactlTests.passphrase).end()
    #expect(alone.status == 1 && alone.stdout.isEmpty)
    #expect(try status(again).role == .uninitialised)
    try await home.server.start()
    let made = try await again.startCtl(arguments + ["--yes"], input: HyphactlTests.passphrase).end()
    let hyphalink = try status(home.server).hyphalink
    #expect(made.status == 0 && made.text == hyphalink, "\(made)")
    // At once, and killed: nothing may be signed twice.
    _ = try await again.ctl("post", "too early, or not")
    try await again.kill()
    try await again.start()
    #expect(try await again.ctl("wait", "--synced", "--timeout", "30").status == 0)
    #expect(try status(again).role == .origin)
    if try await again.ctl("posts", "--json").text.contains("too early") { texts.append("too early, or not") }
    let posted = try await eventually("the origin may not write") {
      let ended = try await again.ctl("post", "third")
      return ended.status == 0 ? ended : nil
    }
    #expect(!posted.text.isEmpty)
    texts.append("third")
    _ = try post("from the phone", on: phone)
    texts.append("from the phone")
    for node in [again, home.server, phone] {
      try await eventually("the posts are not the same everywhere") {
        let found = try node.client().call(PostsList.self, .init(limit: 100)).posts.map(\.text)
        return Set(found) == Set(texts) && found.count == texts.count ? true : nil
      }
    }
    // It approves and revokes as the former one did.
    #expect(try await again.ctl("revoke", "phone", "--yes").status == 0)
    try await eventually("the phone is not revoked") { try status(phone).role == .revoked ? true : nil }
    // Whose writer was revoked, not who says so.
    let writer = try #require(try status(phone).writer)
    let refused = try await again.ctl("authorize", writer)
    #expect(refused.status == 1 && refused.stderr.contains("That device's writer"), "\(refused.stderr)")
    let revoked = try await phone.ctl("authorize", writer)
    #expect(revoked.status == 1 && revoked.stderr.contains("This device was revoked"), "\(revoked.stderr)")
  }

  @Test("A hypha that is made again with its passphrase goes on from what its nodes have")
  func madeAgain() async throws {
    let home = try await home()
    var texts = (0..<20).map { "before \($0)" }
    for text in texts { _ = try post(text, on: home.laptop) }
    #expect(try await home.laptop.ctl("wait", "--synced", "--timeout", "30").status == 0)
    try await home.laptop.kill()
    let again = try await device()
    let made = try await again.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: HyphactlTests.passphrase)
    let hyphalink = try status(home.server).hyphalink
    #expect(made.text == hyphalink && made.stderr.contains("example.org"), "\(made.stderr)")
    // As soon as it is to have a node, and while that is not there: it would be signed in the place of what was before.
    try await home.server.stop()
    let caller = try RawCaller(path: again.socket)
    try caller.send(
      #"{"jsonrpc":"2.0","id":1,"method":"connections.add","params":{"url":"\#(home.server.url)"}}"#)
    let kept = "\(again.statePath)/connections"
    try await eventually("no connection is kept") {
      FileManager.default.fileExists(atPath: kept) ? true : nil
    }
    try caller.send(
      #"{"jsonrpc":"2.0","id":2,"method":"posts.create","params":{"text":"too early"}}"#)
    let answers = try [caller.line(), caller.line()].compactMap { $0 }
    #expect(
      answers.contains { $0.contains("1016") } && answers.contains { $0.contains("result") }, "\(answers)"
    )
    let early = try await again.ctl("post", "too early")
    #expect(early.status == 1 && early.stderr.contains("in sync with every node"), "\(early.stderr)")
    #expect(try await again.ctl("wait", "--synced", "--timeout", "0.2").stderr.contains("may not write yet"))
    try await again.kill()
    try await again.start()
    try await home.server.start()
    #expect(try await again.ctl("wait", "--synced", "--timeout", "30").status == 0)
    _ = try post("after", on: again)
    texts.append("after")
    try await expectTexts(texts.reversed(), on: [again, home.server])
    #expect(try status(home.server).feeds.allSatisfy { $0.forkedAt == nil })
  }

  @Test(
    "An origin that was begun anew elsewhere writes once the node it connects to turns out to have nothing")
  func madeAlone() async throws {
    let origin = try await HyphactlTests.origin()
    let server = try await device()
    _ = try server.client().call(NodeInitialise.self, .init(hyphalink: status(origin).hyphalink))
    #expect(try await origin.ctl("connect", server.url).status == 0)
    #expect(try await origin.ctl("wait", "--synced", "--timeout", "30").status == 0)
    _ = try post("first", on: origin)
    try await expectTexts(["first"], on: [server])
    // What is in sync once stays as it is: it may write though no node is there.
    try await server.stop()
    #expect(try await origin.ctl("disconnect", server.url).status == 0)
    #expect(try await origin.ctl("connect", server.url).status == 0)
    _ = try post("second", on: origin)

    // Nor does it wait for a node that it does not stay connected to.
    let alone = try await HyphactlTests.origin()
    #expect(try await alone.ctl("connect", server.url).status == 0)
    #expect(try await alone.ctl("post", "too early").status == 1)
    #expect(try await alone.ctl("disconnect", server.url).status == 0)
    try await eventually("it still waits: \(alone.log)") { try status(alone).canPost ? true : nil }
    _ = try post("alone", on: alone)
  }

  // MARK: - What goes wrong at once

  @Test("A wrong passphrase, domain or address is refused with its reason, and leaves nothing behind")
  func refusals() async throws {
    let home = try await home()
    let phone = try await device()
    func expect(_ text: String, _ arguments: [String], _ passphrase: String) async throws {
      let ended = try await phone.startCtl(arguments, input: Array(passphrase.utf8)).end()
      #expect(ended.status == 1 && ended.stdout.isEmpty, "\(arguments): \(ended)")
      #expect(ended.stderr.contains(text), "\(arguments): \(ended.stderr)")
      #expect(!ended.stderr.contains(passphrase) && !phone.log.contains("dominoes"))
      #expect(try status(phone).role == .uninitialised)
    }
    let right = String(decoding: HyphactlTests.passphrase, as: UTF8.self)
    let good = arguments("phone", at: home)
    let wrong = right.replacing("buckle", with: "rascal")
    try await expect("passphrase", good, wrong)
    try await expect("buckle", good, right.replacing("buckle", with: "bukcle"))
    try await expect("passphrase", good.map { $0 == "example.org" ? "example.com" : $0 }, right)
    let port = try freePorts(1)[0]
    let nobody = ["sign-in", "http://127.0.0.1:\(port)", "--domain", "example.org", "--passphrase-file", "-"]
    try await expect("127.0.0.1:\(port)", nobody, right)
    let empty = try await device()
    try await expect(
      "127.0.0.1:\(empty.port)", nobody.map { $0.replacing("\(port)", with: "\(empty.port)") }, right)
    for name in [String(repeating: "n", count: 129), "two\nlines"] {
      try await expect("device's name", arguments(name, at: home), right)
    }
    try await expect("not a domain", good.map { $0 == "example.org" ? "no domain" : $0 }, right)
    #expect(try requests(home.laptop).isEmpty)
    #expect(try await phone.ctl("sign-in", "--again").status == 1)
    #expect(try await phone.ctl("sign-out", "--yes").status == 1)

    let own = try await signIn(phone, as: "phone", at: home)
    try await request(own.id, on: home.laptop)
    let twice = try await phone.startCtl(good, input: HyphactlTests.passphrase).end()
    #expect(twice.status == 1 && twice.stderr.contains("already"))
  }

  // MARK: - Afterwards

  @Test(
    "Three devices that were let in, one by another, post at the same time, apart and together",
    .timeLimit(.minutes(5)))
  func converge() async throws {
    let home = try await home()
    let phone = try await member("phone", of: home, by: home.laptop)
    let tablet = try await member("tablet", of: home, by: phone)
    let desk = try await member("desk", of: home, by: tablet)
    let writers = [home.laptop, phone, tablet, desk]
    var texts: [String] = []
    func postAll(_ round: String) async throws {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for (place, node) in writers.enumerated() {
          let socket = node.socket
          group.addTask {
            let client = try ControlClient(path: socket)
            for number in 0..<20 {
              _ = try client.call(PostsCreate.self, .init(text: "\(round) \(place) \(number)"))
            }
          }
        }
        try await group.waitForAll()
      }
      texts += writers.indices.flatMap { place in (0..<20).map { "\(round) \(place) \($0)" } }
    }
    try await postAll("together")
    try await expectTexts(texts, on: writers + [home.server])
    try await home.server.kill()
    try await postAll("apart")
    try await tablet.kill()
    try await tablet.start()
    try await home.server.start()
    try await expectTexts(texts, on: writers + [home.server])
    let orders = try (writers + [home.server]).map { try self.texts(on: $0) }
    #expect(Set(orders).count == 1, "the order is not the same on all")
    let devices = try await home.server.ctl("devices").text.split(separator: "\n")
    #expect(devices.count == 4)
    for (name, by) in [("phone", "laptop"), ("tablet", "phone"), ("desk", "tablet")] {
      #expect(devices.contains { $0.contains("“\(name)”") && $0.contains("by “\(by)”") }, "\(devices)")
    }
  }

  @Test("What a device writes after its revocation is shown nowhere, and it learns that it is revoked")
  func revoke() async throws {
    let home = try await home()
    let phone = try await member("phone", of: home, by: home.laptop)
    let tablet = try await member("tablet", of: home, by: home.laptop)
    _ = try post("before", on: phone)
    try await expectTexts(["before"], on: [home.laptop, home.server, tablet])
    // The phone goes on without knowing: it is off the network while it is revoked.
    #expect(try await phone.ctl("disconnect", home.server.url).status == 0)
    _ = try post("afterwards, apart", on: phone)
    let revoked = try await home.laptop.ctl("revoke", "phone", "--yes", "--json")
    #expect(revoked.status == 0, "\(revoked.stderr)")
    #expect(try await home.laptop.ctl("revoke", "nobody", "--yes").status == 3)
    #expect(try await phone.ctl("connect", home.server.url).status == 0)
    try await eventually("the phone does not learn that it is revoked") {
      try status(phone).role == .revoked ? true : nil
    }
    let refused = try await phone.ctl("post", "afterwards")
    #expect(refused.status == 1 && refused.stderr.contains("revoked"), "\(refused.stderr)")
    #expect(try await phone.ctl("sign-in", "--again").status == 1)
    _ = try post("from the tablet", on: tablet)
    try await expectTexts(["before", "from the tablet"], on: [home.laptop, home.server, tablet])
    for node in [home.laptop, home.server, tablet] {
      let line = try await node.ctl("devices").text.split(separator: "\n").first { $0.contains("“phone”") }
      #expect(line?.contains("revoked") == true && line?.contains("by “laptop”") == true)
    }
    #expect(try await home.laptop.ctl("revoke", "phone", "--undo", "--yes").status == 0)
    try await eventually("the phone does not learn that it may write again") {
      try status(phone).canPost ? true : nil
    }
    _ = try post("let in again", on: phone)
    try await eventually("what the phone writes does not arrive") {
      try texts(on: home.laptop).contains("let in again") ? true : nil
    }
  }

  @Test("A device that only a revoked one let in is shown so everywhere, and is not said to write again")
  func letInByNobody() async throws {
    let home = try await home()
    let phone = try await member("phone", of: home, by: home.laptop)
    let tablet = try await member("tablet", of: home, by: home.laptop)
    // Nobody else knows of the watch when the phone is revoked.
    #expect(try await phone.ctl("disconnect", home.server.url).status == 0)
    let watch = try await device()
    let own = try await signIn(watch, as: "watch", at: Home(laptop: home.laptop, server: phone))
    try await request(own.id, on: phone)
    #expect(try await phone.ctl("approve", own.words, "--yes").status == 0)
    try await expectAuthorised(watch)
    #expect(try await tablet.ctl("revoke", "phone", "--yes").status == 0)
    #expect(try await phone.ctl("connect", home.server.url).status == 0)
    let key = try #require(try status(watch).writer).prefix(8)
    for node in [home.laptop, tablet, phone, watch] {
      try await eventually("the watch is not shown so: \(node.log)") {
        try await node.ctl("devices").text.split(separator: "\n").contains {
          $0.hasPrefix(key) && $0.contains("may not write")
        } ? true : nil
      }
    }
    #expect(try status(watch).role == .revoked)
    let undone = try await home.laptop.ctl("revoke", String(key), "--undo", "--yes")
    #expect(undone.status == 1 && undone.stderr.contains("let in only by one that was"), "\(undone.stderr)")
    // Who let it in counts again, and so does it.
    #expect(try await home.laptop.ctl("revoke", "phone", "--undo", "--yes").status == 0)
    try await eventually("the watch may not write again") { try status(watch).canPost ? true : nil }
    #expect(try await !home.laptop.ctl("devices").text.contains("may not write"))
  }

  @Test("A device that signs out has no keys left, and comes back as another one")
  func signOut() async throws {
    let home = try await home()
    let phone = try await member("phone", of: home, by: home.laptop)
    let writer = try #require(try status(phone).writer)
    _ = try post("from the phone", on: phone)
    try await expectTexts(["from the phone"], on: [home.laptop])
    let out = try await phone.ctl("sign-out", "--yes")
    #expect(out.status == 0 && out.stderr.contains("can no longer post"))
    #expect(try await phone.ctl("post", "gone").status == 1)
    #expect(try !status(phone).canPost)
    try await expectTexts(["from the phone"], on: [home.laptop, home.server])
    try await phone.stop()
    try await phone.start()
    #expect(try !status(phone).canPost)
    let own = try await signIn(phone, as: "phone", at: home)
    try await request(own.id, on: home.laptop)
    #expect(try await home.laptop.ctl("approve", own.words, "--yes").status == 0)
    try await expectAuthorised(phone)
    #expect(try status(phone).writer != writer)
    try await expectTexts(["from the phone"], on: [phone])
  }

  @Test("The origin signs out, and comes back as a device that another one approves")
  func originSignsOut() async throws {
    let home = try await home()
    let phone = try await member("phone", of: home, by: home.laptop)
    _ = try post("from the origin", on: home.laptop)
    try await expectTexts(["from the origin"], on: [home.server, phone])
    let origin = try #require(try status(home.laptop).writer)
    let out = try await home.laptop.ctl("sign-out", "--yes")
    #expect(out.status == 0 && out.stderr.contains("passphrase"), "\(out.stderr)")
    #expect(try status(home.laptop).role == .reader && status(home.laptop).writer == nil)
    #expect(try await home.laptop.ctl("post", "no").status == 1)
    #expect(try await home.laptop.ctl("revoke", "phone", "--yes").status == 1)
    try await home.laptop.kill()
    try await home.laptop.start()
    #expect(try status(home.laptop).role == .reader)

    // Two at a time: one of them is refused, and no harm is done.
    let socket = home.laptop.socket
    let params = NodeSignIn.Params(
      address: "http://127.0.0.1:\(home.server.port)",
      passphrase: Secret(String(decoding: HyphactlTests.passphrase, as: UTF8.self)), domain: "Example.ORG.",
      deviceName: "laptop again")
    let results: [NodeSignIn.Result] = await withTaskGroup(of: NodeSignIn.Result?.self) { group in
      for _ in 0..<2 {
        group.addTask { try? ControlClient(path: socket).call(NodeSignIn.self, params) }
      }
      return await group.reduce(into: []) { if let result = $1 { $0.append(result) } }
    }
    #expect(results.count == 1)
    let own = try #require(results.first)
    #expect(try own.writer != origin && own.writer == status(home.laptop).writer)
    #expect(try status(home.laptop).domain == "example.org")
    let asked = try #require(own.request)
    try await request(asked.id, on: phone)
    #expect(try await phone.ctl("approve", asked.words, "--yes").status == 0)
    try await expectAuthorised(home.laptop)
    _ = try post("from the laptop again", on: home.laptop)
    try await expectTexts(
      ["from the origin", "from the laptop again"], on: [home.server, phone, home.laptop])
  }

  // MARK: - An always-on node that is not to be trusted

  /// A home whose laptop and devices know the server only by way of a relay that does as it is told.
  private func hostileHome() async throws -> (home: Home, relay: HostileRelay, url: String) {
    let home = try await home()
    let link = try #require(try status(home.laptop).hyphalink)
    let (relay, port) = try await HostileRelay.start(link, before: home.server)
    let url = "ws://127.0.0.1:\(port)"
    try #require(try await home.laptop.ctl("disconnect", home.server.url).status == 0)
    try #require(try await home.laptop.ctl("connect", url).status == 0)
    return (home, relay, url)
  }

  private func drops(_ node: TestNode) throws -> UInt64 {
    try node.client().call(RequestsList.self, .init()).dropped.values.reduce(0, +)
  }

  @Test(
    "A server that drops, changes, repeats and reorders messages lets nobody in, and keeps nobody out for good"
  )
  func hostileRelay() async throws {
    let (home, relay, url) = try await hostileHome()
    let laptop = home.laptop
    let through = ["--domain", "example.org", "--passphrase-file", "-", "--json"]
    func signIn(_ node: TestNode, _ name: String) async throws -> OwnRequestInfo {
      let ended = try await node.startCtl(
        ["sign-in", url.replacing("ws://", with: "http://"), "--name", name] + through,
        input: HyphactlTests.passphrase
      ).end()
      try #require(ended.status == 0, "\(ended.stderr)\n\(node.log)")
      return try #require(JSONDecoder().decode(NodeSignIn.Result.self, from: Data(ended.stdout)).request)
    }

    // Dropped: nobody hears of it, and the device says so.
    relay.become(.drop)
    let phone = try await device()
    let first = try await signIn(phone, "phone")
    try await eventually("the request is not on its way") { relay.seen >= 1 ? true : nil }
    #expect(try requests(laptop).isEmpty && status(phone).request?.state == .pending)
    // Changed: it does not open.
    relay.become(.tamper)
    let tablet = try await device()
    let second = try await signIn(tablet, "tablet")
    try await eventually("the changed request was not noticed") { try drops(laptop) >= 1 ? true : nil }
    #expect(try requests(laptop).isEmpty)

    // Once it behaves, or another way is found, the requests are sent again.
    relay.become(.hold)
    for node in [phone, tablet] {
      try await node.stop()
      try await node.start()
    }
    try await eventually("the requests are not sent again") { relay.seen >= 2 ? true : nil }
    try await Task.sleep(for: .milliseconds(300))
    relay.become(.multiply)
    relay.release()
    for id in [first.id, second.id] { try await request(id, on: laptop) }
    #expect(try requests(laptop).count == 2)
    #expect(try await laptop.ctl("deny", "tablet").status == 0)
    #expect(try await laptop.ctl("approve", first.words, "--yes").status == 0)
    try await expectAuthorised(phone)
    try await eventually("the tablet does not learn that it was denied") {
      try status(tablet).request?.state == .denied ? true : nil
    }

    // Sent again later: what was answered stays answered, and one device's yes is not another's.
    relay.become(.pass)
    let before = try drops(laptop)
    relay.replay()
    try await eventually("what was sent again was not dropped") { try drops(laptop) > before ? true : nil }
    try await laptop.stop()
    try await laptop.start()
    try await eventually("the laptop does not come back") { try status(laptop).peers == 1 ? true : nil }
    relay.replay()
    try await eventually("what was sent again was not dropped") { try drops(laptop) > 0 ? true : nil }
    #expect(try requests(laptop).allSatisfy { $0.state != .pending })
    #expect(try status(tablet).request?.state == .denied && !status(tablet).canPost)
    #expect(try status(phone).request?.state == .authorised && status(phone).canPost)
    await relay.stop()
  }
}
