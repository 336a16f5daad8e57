import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// Every verb of `hyphactl`, as a process, against a real `hyphad`.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct HyphactlTests {
  static let passphrase = Array("buckle corrode dominoes filling harpist mandate panic rascal\n".utf8)

  /// A node that has been started, and holds nothing yet.
  static func fresh() async throws -> TestNode {
    let node = try TestNode()
    try await node.start()
    return node
  }

  /// A node that has been started, and may post.
  static func origin() async throws -> TestNode {
    let node = try await fresh()
    let made = try await node.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: passphrase)
    try #require(made.status == 0, "\(made.stderr)")
    return node
  }

  static func schema(_ ended: Ended) throws -> JSONValue? { try ended.json()["schema"] }

  // MARK: - Without a daemon

  @Test(arguments: [
    ["status"], ["post", "text"], ["posts"], ["posts", "--follow"], ["delete", "x"], ["peers"],
    ["connect", "ws://127.0.0.1:1"], ["disconnect", "ws://127.0.0.1:1"], ["events", "--follow"], ["wait"],
    ["setup-code"], ["version"], ["init", "--hyphalink", "x"], ["get", "k"], ["put", "k", "v"],
    ["unset", "k"],
    ["list"], ["history"], ["authorize", "x"], ["sign-in", "--again"], ["sign-out", "--yes"], ["requests"],
    ["requests", "--watch"], ["audit", "example.org"], ["approve", "x", "--yes"], ["deny", "x"], ["devices"],
    ["rename", "x", "y"],
    ["revoke", "x", "--yes"], ["sign-in", "example.org", "--passphrase-file", "-"],
  ])
  func saysThatThereIsNoDaemon(arguments: [String]) async throws {
    let node = try TestNode()
    let ended = try await node.startCtl(arguments).end()
    #expect(ended.status == 2)
    #expect(ended.stderr.contains("no daemon"))
    #expect(ended.stderr.contains(node.socket))
    #expect(ended.text == (arguments == ["version"] ? "hyphactl 0.1.0" : ""))
  }

  @Test func findsTheSocketByOptionThenByEnvironment() async throws {
    let node = try TestNode()
    let option = try await node.ctl("status", "--socket", "/nonexistent/by-option")
    #expect(option.stderr.contains("/nonexistent/by-option"))
    let standard = try await node.ctl("status", environment: ["HYPHA_SOCKET": "/nonexistent/by-variable"])
    #expect(standard.stderr.contains("/nonexistent/by-variable"))
    let long = try await node.ctl("status", "--socket", "/" + String(repeating: "x", count: 200))
    #expect(long.status == 2)
    #expect(long.stderr.contains("107"))
  }

  @Test func saysThatTheSocketOfADeadDaemonIsNotServed() async throws {
    let node = try await Self.fresh()
    try await node.kill()
    let ended = try await node.ctl("status")
    #expect(ended.status == 2)
    #expect(ended.stderr.contains("nothing listens"))
  }

  @Test func waitsForADaemonThatDoesNotAnswerNoLongerThanItMust() async throws {
    let node = try await Self.fresh()
    node.daemon?.send(SIGSTOP)
    let verbs = [
      ["status"], ["version"], ["doctor"], ["init", "--hyphalink", "x"], ["wait", "--timeout", "1"],
    ]
    for (verb, running) in try verbs.map({ ($0, try node.startCtl($0)) }) {
      let ended = try await running.end(within: 90)
      #expect(ended.status == 2, "\(verb)")
      let said = ended.stderr + (verb == ["doctor"] ? ended.text : "")
      #expect(
        said.contains("hyphad does not answer on \(node.socket)") && said.contains("systemctl status hyphad"),
        "\(verb): \(said)")
    }
  }

  @Test(arguments: [
    [], ["frobnicate"], ["status", "--frobnicate"], ["delete"], ["connect"], ["posts", "--limit", "x"],
    ["posts", "--limit", "0"], ["posts", "--since", "yesterday"], ["wait", "--timeout", "0"], ["init"],
    ["init", "--domain", "example.org"],
    ["init", "--hyphalink", "x", "--passphrase-file", "-"],
    ["init", "--domain", "d", "--passphrase-file", "-", "--generate-passphrase-to", "f"],
    ["init", "--domain", "d", "--generate-passphrase-to", "-"],
    ["sign-in"], ["sign-in", "example.org"], ["sign-in", "a.example", "b.example", "--passphrase-file", "-"],
    ["sign-in", "--again", "example.org"], ["sign-in", "--again", "--passphrase-file", "-"],
    ["sign-in", "--again", "--name", "x"], ["sign-in", "--again", "--domain", "example.org"],
    ["sign-in", "--again", "--timeout", "5"], ["sign-in", "--again", "--wait", "--timeout", "0"],
    ["sign-in", "--again", "--lifetime", "0"], ["sign-in", "--again", "--lifetime", "604801"],
    ["sign-out"], ["sign-out", "x", "--yes"], ["requests", "x"], ["approve", "--yes"], ["approve", "phone"],
    ["deny"], ["audit"], ["devices", "x"], ["rename", "phone"], ["rename"], ["revoke", "phone"],
    ["revoke", "--yes"],
  ])
  func refusesWrongUsage(arguments: [String]) async throws {
    let ended = try await TestNode().startCtl(arguments).end()
    // With no verb at all it shows its help.
    #expect(ended.status == (arguments.isEmpty ? 0 : 64), "\(ended)")
    if !arguments.isEmpty { #expect(ended.stdout.isEmpty && !ended.stderr.isEmpty) }
  }

  @Test(arguments: ["bash", "zsh", "fish"])
  func makesCompletionsThatTheShellReads(shell: String) async throws {
    let ended = try await TestNode().ctl("--generate-completion-script", shell)
    #expect(ended.status == 0)
    for verb in ["init", "setup-code", "status", "disconnect", "events"] {
      #expect(ended.text.contains(verb))
    }
    if shell == "bash" {
      let checked = try await Running("/bin/bash", ["-n"], input: ended.stdout).end()
      #expect(checked.status == 0, "\(checked.stderr)")
    }
  }

  @Test(.enabled(if: geteuid() == 0, "only root can call as another user"))
  func saysWhoMayUseTheSocket() async throws {
    let node = try await Self.origin()
    // Another user, whom neither the file's mode nor the kernel's word lets in; the program is copied to where
    // that user can run it.
    chmod(node.folder.path, 0o755)
    let program = "\(node.folder.path)/hyphactl"
    // By a process of its own: one that this process had open to write could be inherited, and then not be run.
    let copied = try await Running("/usr/bin/install", ["-m", "755", try Programs.path("hyphactl"), program])
      .end()
    #expect(copied.status == 0, "\(copied.stderr)")
    func run(_ arguments: [String]) async throws -> Ended {
      let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", program]
      return try await Running("/usr/bin/setpriv", user + arguments + ["--socket", node.socket]).end()
    }
    let byMode = try await run(["status"])
    #expect(byMode.status == 2)
    #expect(byMode.stderr.contains("join group hypha"))
    chmod(node.socket, 0o666)
    let byCredentials = try await run(["post", "text"])
    #expect(byCredentials.status == 1)
    #expect(byCredentials.stderr.contains("group hypha"))
  }

  // MARK: - Becoming something

  @Test func aFreshNodeSaysWhatItLacks() async throws {
    let node = try await Self.fresh()
    let status = try await node.ctl("status")
    #expect(status.status == 1)
    #expect(status.text.contains("uninitialised"))
    let json = try await node.ctl("status", "--json")
    #expect(json.status == 1)
    #expect(try Self.schema(json) == .integer(1))
    #expect(try json.json()["role"] == .string("uninitialised"))
    #expect(try json.json()["ready"] == .bool(false))
    for verb in [["post", "text"], ["posts"], ["delete", "x"], ["connect", "ws://127.0.0.1:1"]] {
      let ended = try await node.startCtl(verb).end()
      #expect(ended.status == 1)
      #expect(ended.stderr.contains("holds no hypha yet"), "\(verb)")
      #expect(ended.stderr.contains("hyphactl init"))
      #expect(ended.stdout.isEmpty)
    }
    let wait = try await node.ctl("wait", "--timeout", "0.2")
    #expect(wait.status == 1)
    #expect(!wait.stderr.isEmpty)
    let code = try await node.ctl("setup-code")
    #expect(code.status == 0)
    let shown = try await node.ctl("setup-code", "--json")
    #expect(try shown.json()["code"] == .string(code.text))
    let link = "/#setup=\(code.text)"
    #expect(try shown.json()["link"] == .string("http://localhost:\(node.port)\(link)"))
    #expect(code.stderr.contains("http://localhost:\(node.port)\(link)"))
    let given = try await node.ctl("setup-code", "Example.org", "--json")
    #expect(try given.json()["link"] == .string("https://example.org\(link)"))
    let wrong = try await node.ctl("setup-code", "https://example.org")
    #expect(wrong.status == 1 && wrong.stdout.isEmpty)
  }

  @Test func theSetupLinkHasTheConfiguredDomain() async throws {
    for (domain, origin) in [("example.org", "https://example.org"), ("localhost", nil)] {
      let node = try TestNode()
      try node.configure(node: "domain = \"\(domain)\"")
      try await node.start()
      let code = try await node.ctl("setup-code", "--json").json()
      guard case .string(let text) = code["code"] else { throw HarnessError("no code") }
      #expect(code["link"] == .string("\(origin ?? "http://localhost:\(node.port)")/#setup=\(text)"))
    }
  }

  @Test func initMakesTheSameHyphaFromTheSamePassphrase() async throws {
    let node = try await Self.fresh()
    let file = try node.folder.write("passphrase", Self.passphrase)
    let made = try await node.ctl(
      "init", "--domain", "example.org", "--passphrase-file", file, "--device-name", "desk", "--json")
    #expect(made.status == 0, "\(made.stderr)")
    #expect(try Self.schema(made) == .integer(1))
    #expect(try made.json()["role"] == .string("origin"))
    guard case .string(let link) = try made.json()["hyphalink"] else { throw HarnessError("no hyphalink") }
    #expect(link.hasPrefix("dat://") && link.utf8.count == 70)
    let other = try await Self.origin()
    let status = try await other.ctl("status", "--json").json()
    #expect(status["hyphalink"] == .string(link))
    #expect(status["canPost"] == .bool(true))
    #expect(try await node.ctl("status", "--json").json()["deviceName"] == .string("desk"))
    #expect(try await node.ctl("status").text.contains(link))
    for said in [node.log, made.stderr, made.text] { #expect(!said.contains("dominoes")) }
    // As Windows writes lines, after an empty one, and with another behind.
    let elsewhere = try await Self.fresh()
    let lines = "\r\n" + String(decoding: Self.passphrase.dropLast(), as: UTF8.self) + "\r\nnotes\r\n"
    let same = try await elsewhere.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: Array(lines.utf8))
    #expect(same.status == 0 && same.text == link, "\(same.stderr)")

    let again = try await node.ctl("init", "--domain", "example.org", "--passphrase-file", file)
    #expect(again.status == 1)
    #expect(again.stderr.contains(link))
    #expect(try await node.ctl("setup-code").status == 1)
  }

  @Test func initWritesAGeneratedPassphraseForItsOwnerAlone() async throws {
    let node = try await Self.fresh()
    let path = "\(node.folder.path)/generated"
    let made = try await node.ctl("init", "--domain", "example.org", "--generate-passphrase-to", path)
    #expect(made.status == 0, "\(made.stderr)")
    var status = stat()
    #expect(stat(path, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
    let text = String(decoding: node.folder.read("generated"), as: UTF8.self)
    #expect(text.hasSuffix("\n"))
    #expect(text.split(whereSeparator: { $0 == " " || $0 == "\n" }).count == 8)
    #expect(!(made.text + made.stderr + node.log).contains(text.dropLast()))
    // It is the passphrase: with it, another node makes the same hypha.
    let other = try await Self.fresh()
    let same = try await other.ctl("init", "--domain", "example.org", "--passphrase-file", path)
    #expect(same.text == made.text)
    let third = try await Self.fresh()
    let taken = try await third.ctl("init", "--domain", "example.org", "--generate-passphrase-to", path)
    #expect(taken.status == 65)
    #expect(String(decoding: node.folder.read("generated"), as: UTF8.self) == text)
    #expect(try await third.ctl("status", "--json").json()["role"] == .string("uninitialised"))
  }

  @Test func initRefusesWhatCannotBeRight() async throws {
    let node = try await Self.fresh()
    func code(_ arguments: String..., input: [UInt8] = []) async throws -> Int32 {
      let ended = try await node.startCtl(["init"] + arguments, input: input).end()
      #expect(!ended.stderr.isEmpty && ended.stdout.isEmpty)
      return ended.status
    }
    #expect(try await code("--hyphalink", "dat://12") == 1)
    let mistyped = Array("bucklr corrode dominoes filling harpist mandate panic rascal\n".utf8)
    #expect(try await code("--domain", "example.org", "--passphrase-file", "-", input: mistyped) == 1)
    #expect(try await code("--domain", "not a domain", "--passphrase-file", "-", input: Self.passphrase) == 1)
    #expect(try await code("--domain", "example.org", "--passphrase-file", "-") == 65)
    #expect(
      try await code("--domain", "example.org", "--passphrase-file", "-", input: [0x61, 0xFF, 0x0A]) == 65)
    #expect(try await code("--domain", "example.org", "--passphrase-file", "/nonexistent") == 65)
    #expect(
      try await code(
        "--domain", "example.org", "--passphrase-file", "-", input: [UInt8](repeating: 97, count: 9000))
        == 65)
    #expect(try await node.ctl("status", "--json").json()["role"] == .string("uninitialised"))
  }

  @Test func anAlwaysOnNodeReadsOnly() async throws {
    let node = try await Self.fresh()
    let key = String(repeating: "ab", count: 32)
    let made = try await node.ctl("init", "--hyphalink", key)
    #expect(made.status == 0, "\(made.stderr)")
    #expect(made.text == "dat://\(key)")
    let post = try await node.ctl("post", "text")
    #expect(post.status == 1)
    #expect(post.stdout.isEmpty)
    #expect(!post.stderr.isEmpty)
  }

  // MARK: - Posts

  @Test func postPrintsTheIDOfWhatPostsThenShows() async throws {
    let node = try await Self.origin()
    #expect(try await node.ctl("wait", "--timeout", "20").status == 0)
    let first = try await node.ctl("post", "Hello ☃")
    #expect(first.status == 0, "\(first.stderr)")
    #expect(first.stderr == "")
    // As `uptime | hyphactl post` in cron: no terminal, hardly any environment.
    let second = try await Running(
      "/bin/sh", ["-c", "printf 'one\\n\\ntwo\\n' | \(try Programs.path("hyphactl")) post"],
      environment: ["HYPHA_SOCKET": node.socket, "HOME": nil, "TERM": nil, "LANG": "C"]
    ).end()
    #expect(second.status == 0, "\(second.stderr)")
    let third = try await node.ctl("post", "--json", "\u{1B}[31mred")
    #expect(try Self.schema(third) == .integer(1))
    guard case .string(let thirdID) = try third.json()["id"] else { throw HarnessError("no id") }

    let list = try await node.ctl("posts", "--json")
    #expect(list.status == 0)
    let page = try JSONDecoder().decode(PostsList.Result.self, from: Data(list.stdout))
    #expect(page.posts.map(\.id) == [thirdID, second.text, first.text])
    #expect(page.posts.map(\.text) == ["\u{1B}[31mred", "one\n\ntwo", "Hello ☃"])
    #expect(!page.more)
    #expect(page.posts.map(\.id) == page.posts.map(\.id).sorted(by: >))

    let shown = try await node.ctl("posts")
    #expect(shown.text.contains("    one\n    \n    two"))
    #expect(!shown.text.contains("\u{1B}"))
    #expect(try await node.ctl("posts", "--limit", "1").text.contains(thirdID))
    #expect(try await !node.ctl("posts", "--limit", "1").text.contains(first.text))
    let later = Timestamp(milliseconds: page.posts[0].created.milliseconds + 3_600_000)
    #expect(try await node.ctl("posts", "--since", "\(later)").text == "")
    #expect(try await node.ctl("posts", "--since", "2020-01-01").text == shown.text)
  }

  @Test func listsMorePostsThanOneAnswerHolds() async throws {
    let node = try await Self.origin()
    let text = String(repeating: "\u{1}x", count: ControlLimits.postBytes / 2)
    for number in 0..<5 {
      #expect(try await node.ctl("post", input: Array(text.utf8)).status == 0, "\(number)")
    }
    let list = try await node.ctl("posts", "--json")
    let page = try JSONDecoder().decode(PostsList.Result.self, from: Data(list.stdout))
    #expect(page.posts.count == 5)
    #expect(page.posts.allSatisfy { $0.text == text })
  }

  @Test func postSaysWhatIsWrongWithTheText() async throws {
    let node = try await Self.origin()
    func post(_ input: [UInt8]) async throws -> Ended { try await node.ctl("post", input: input) }
    let longest = [UInt8](repeating: 97, count: ControlLimits.postBytes)
    #expect(try await post(longest).status == 0)
    let tooLong = try await post(longest + [97])
    #expect(tooLong.status == 65)
    #expect(tooLong.stderr.contains("65536"))
    // The newline that ends the last line is not part of the text.
    for newline in ["\n", "\r\n"] { #expect(try await post(longest + newline.utf8).status == 0) }
    #expect(try await post(longest + "\n\n".utf8).status == 65)
    let asArgument = try await node.ctl("post", String(repeating: "a", count: longest.count + 1))
    #expect(asArgument.status == 65 && asArgument.stderr.contains("65536"))
    for (bytes, place) in [
      ([0xFF], "byte 1 "), ([0x61, 0xC3], "byte 2 "), ([0x61, 0xC3, 0x28, 0x62], "byte 2 "),
      ([0xE2, 0x98, 0x83, 0xED, 0xA0, 0x80], "byte 4 "), ([0xC0, 0x80], "byte 1 "),
      ([0x61, 0xF4, 0x90, 0x80, 0x80], "byte 2 "),
    ] as [([UInt8], String)] {
      let ended = try await post(bytes)
      #expect(ended.status == 65)
      #expect(ended.stderr.contains("not UTF-8") && ended.stderr.contains(place), "\(ended.stderr)")
    }
    for empty in ["", "\n", " \t\n\n"] {
      let ended = try await post(Array(empty.utf8))
      #expect(ended.status == 1)
      #expect(ended.stderr.contains("empty"))
    }
    #expect(try await node.ctl("post", "").status == 1)
    let argument = try await Running(
      "/bin/sh", ["-c", "'\(try Programs.path("hyphactl"))' post \"$(printf 'a\\377b')\""],
      environment: ["HYPHA_SOCKET": node.socket]
    ).end()
    #expect(argument.status == 65)
    #expect(argument.stderr.contains("argument 2 is not UTF-8"))
    let page = try await node.ctl("posts", "--json").json()
    guard case .array(let posts) = page["posts"] else { throw HarnessError("no posts") }
    #expect(
      posts.map { $0["text"] }
        == Array(repeating: .string(String(decoding: longest, as: UTF8.self)), count: 3))
  }

  @Test func deleteTakesAPostBack() async throws {
    let node = try await Self.origin()
    let id = try await node.ctl("post", "soon gone").text
    let deleted = try await node.ctl("delete", id, "--json")
    #expect(deleted.status == 0, "\(deleted.stderr)")
    #expect(try deleted.json() == .object(["schema": .integer(1), "id": .string(id)]))
    #expect(try await node.ctl("posts").text == "")
    let again = try await node.ctl("delete", id)
    #expect(again.status == 1)
    #expect(!again.stderr.isEmpty)
    let nonsense = try await node.ctl("delete", "nonsense")
    #expect(nonsense.status == 1)
    #expect(nonsense.stderr.contains("nonsense"))
  }

  @Test func followsPostsAndEvents() async throws {
    let node = try await Self.origin()
    let old = try await node.ctl("post", "old").text
    let posts = try node.startCtl(["posts", "--follow", "--json"])
    let events = try node.startCtl(["events", "--follow"])
    func lines(_ running: Running) throws -> [JSONValue] {
      try running.stdout.split(separator: 10).map { try JSONDecoder().decode(JSONValue.self, from: Data($0)) }
    }
    try await eventually { try lines(posts).count == 1 && lines(events).count >= 2 ? true : nil }
    let new = try await node.ctl("post", "new").text
    _ = try await node.ctl("delete", old)
    let shown = try await eventually { try lines(posts).count == 3 ? lines(posts) : nil }
    #expect(shown[0]["post"]?["id"] == .string(old))
    #expect(shown[1]["post"]?["id"] == .string(new))
    #expect(shown[2]["deleted"] == .string(old))
    let happened = try await eventually {
      try lines(events).contains { $0["kind"] == .string("deleted") } ? lines(events) : nil
    }
    #expect(happened.allSatisfy { $0["schema"] == .integer(1) })
    #expect(happened.map { $0["id"] } == (1...happened.count).map { .integer(Int64($0)) })
    #expect(
      happened.map { $0["kind"] } == ["initialised", "posted", "posted", "deleted"].map { .string($0) })
    let lately = try await node.ctl("events")
    #expect(lately.status == 0)
    #expect(lately.stdout.split(separator: 10).count == 4)

    // The daemon stops: whoever follows is told.
    try await node.stop()
    #expect(try await [1, 2].contains(posts.end().status))
    #expect(try await [1, 2].contains(events.end().status))
  }

  @Test func endsQuietlyWhenNobodyReads() async throws {
    let node = try await Self.origin()
    for number in 0..<3 { _ = try await node.ctl("post", "\(number)") }
    let program = try Programs.path("hyphactl")
    let ended = try await Running(
      "/bin/bash", ["-c", "'\(program)' posts | true; echo ${PIPESTATUS[0]}"],
      environment: ["HYPHA_SOCKET": node.socket]
    ).end()
    #expect(ended.text == "0")
    #expect(ended.stderr == "")
  }

  @Test func tellsByItsStatusEvenIfNobodyReadsWhatItSays() async throws {
    let node = try await Self.origin()
    let taken = try node.folder.write("taken", [])
    for (arguments, status) in [
      (["delete", "nonsense"], 1), (["get", "nonsense"], 1), (["audit", "http://127.0.0.1:1"], 1),
      (["approve", "nonsense", "--yes"], 3), (["backup", taken], 65),
      (["status", "--socket", "/nonexistent"], 2), (["post", "text", "--socket", "/nonexistent"], 2),
    ] as [([String], Int32)] {
      #expect(try await node.ctl(arguments, streams: "2>&3").status == status, "\(arguments)")
    }
    #expect(try await node.ctl(["setup-code"], streams: "1>&3 2>&3").status == 1)
  }

  @Test(arguments: [["posts", "--follow"], ["events", "--follow"]])
  func followsNoLongerThanSomebodyReads(arguments: [String]) async throws {
    let node = try await Self.origin()
    _ = try await node.ctl("post", "text")
    let unread = try await node.ctl(arguments, streams: ">&3")
    #expect(unread.status == 0 && unread.stderr == "")
    let full = try await node.ctl(arguments, streams: "> /dev/full")
    #expect(full.status == 74 && full.stderr.contains("standard output"))
  }

  @Test func saysWhatItCouldNotPrint() async throws {
    let node = try await Self.fresh()
    let notReady = try await node.ctl(["status"], streams: "> /dev/full")
    #expect(notReady.status == 1)
    let made = try await node.ctl(
      ["init", "--domain", "example.org", "--passphrase-file", "-"], streams: "> /dev/full",
      input: Self.passphrase)
    for ended in [notReady, made] {
      #expect(ended.stderr.contains("cannot write standard output: No space left on device"))
    }
    #expect(made.status == 74)
    // What was to be done is done.
    let posted = try await node.ctl(["post", "text"], streams: "> /dev/full")
    #expect(posted.status == 74)
    #expect(try node.texts() == ["text"])
  }

  // MARK: - Other nodes

  @Test func connectsClaimsWaitsAndDisconnects() async throws {
    let laptop = try await Self.origin()
    let server = try await Self.fresh()
    let id = try await laptop.ctl("post", "before").text

    let wrong = try await laptop.ctl(
      "connect", server.url, "--setup-code-file", "-", input: Array("00000-00000\n".utf8))
    #expect(wrong.status == 1)
    #expect(!wrong.stderr.isEmpty)
    #expect(try await server.ctl("status", "--json").json()["role"] == .string("uninitialised"))

    let code = try await server.ctl("setup-code").text
    let file = try laptop.folder.write("code", Array((code + "\n").utf8))
    let connected = try await laptop.ctl("connect", server.url, "--setup-code-file", file, "--json")
    #expect(connected.status == 0, "\(connected.stderr)")
    #expect(try Self.schema(connected) == .integer(1))
    #expect(!(laptop.log + server.log).contains(code))
    let again = try await laptop.ctl("connect", server.url)
    #expect(again.status == 1)

    let waited = try await laptop.ctl("wait", "--synced", "--timeout", "30", "--json")
    #expect(waited.status == 0, "\(waited.stderr)")
    guard case .array(let feeds) = try waited.json()["feeds"] else { throw HarnessError("no feeds") }
    #expect(feeds.first?["fullyHeldBy"] == .integer(1))
    #expect(try await server.ctl("wait", "--timeout", "30").status == 0)
    #expect(try await server.ctl("posts").text.contains(id))
    let status = try await server.ctl("status", "--json")
    #expect(status.status == 0)
    #expect(try status.json()["role"] == .string("alwaysOn"))
    #expect(try await server.ctl("setup-code").status == 1)
    let readOnly = try await server.ctl("post", "no")
    #expect(readOnly.status == 1)
    #expect(readOnly.stderr.contains("cannot write"))

    let follower = try server.startCtl(["posts", "--follow"])
    let live = try await laptop.ctl("post", "live").text
    try await eventually { String(decoding: follower.stdout, as: UTF8.self).contains(live) ? true : nil }

    let peers = try await laptop.ctl("peers", "--json").json()
    guard case .array(let list) = peers["peers"] else { throw HarnessError("no peers") }
    #expect(list.count == 1)
    #expect(list.first?["direction"] == .string("outgoing"))
    #expect(try await laptop.ctl("peers").text.contains("127.0.0.1:\(server.port)"))

    #expect(try await laptop.ctl("disconnect", server.url).status == 0)
    try await eventually {
      try await laptop.ctl("status", "--json").json()["peers"] == .integer(0) ? true : nil
    }
    #expect(try await laptop.ctl("disconnect", server.url).status == 1)
    #expect(try await laptop.ctl("wait", "--synced", "--timeout", "0.3").status == 1)
  }

  @Test(arguments: ["http://127.0.0.1:1", "ws://example.org", "nonsense", "", "wss://user:pw@example.org"])
  func connectRefusesURLsThatAreNone(url: String) async throws {
    let node = try await Self.origin()
    let ended = try await node.ctl("connect", url)
    #expect(ended.status == 1)
    #expect(!ended.stderr.isEmpty)
    #expect(!(ended.stderr + node.log).contains("user:pw"))
    #expect(try await node.ctl("peers").text == "")
  }

  @Test func connectsToANodeThatIsNotThereYet() async throws {
    let node = try await Self.origin()
    let url = "ws://127.0.0.1:\(try freePorts(1)[0])"
    #expect(try await node.ctl("connect", url).status == 0)
    try await eventually { try await node.ctl("peers").text.contains("not connected") ? true : nil }
    let claimed = try await node.ctl(
      "connect", "ws://127.0.0.1:\(try freePorts(1)[0])", "--setup-code-file", "-",
      input: Array("AAAAA-AAAAA".utf8))
    #expect(claimed.status == 1)
    #expect(!claimed.stderr.isEmpty)
  }

  @Test func versionTellsBoth() async throws {
    let node = try await Self.fresh()
    #expect(try await node.ctl("version").text == "hyphactl 0.1.0\nhyphad 0.1.0")
    let json = try await node.ctl("version", "--json").json()
    #expect(json["schema"] == .integer(1))
    #expect(json["daemon"]?["name"] == .string("hyphad"))
    #expect(try await node.ctl("--version").text == "hyphactl 0.1.0")
  }
}
