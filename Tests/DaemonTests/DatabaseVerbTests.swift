import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// The verbs of `hyphactl` for the database, as processes, against a real `hyphad`.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct DatabaseVerbTests {
  /// A node of `origin`'s hypha with a writer of its own, connected to it.
  private func device(of origin: TestNode) async throws -> (node: TestNode, writer: String) {
    let link = try #require(try origin.client().call(NodeStatus.self, .init()).hyphalink)
    let node = try await HyphactlTests.fresh()
    let made = try await node.ctl("init", "--hyphalink", link, "--writer", "--device-name", "phone")
    #expect(made.status == 0 && made.text == link)
    let status = try await node.ctl("status", "--json").json()
    guard case .string(let writer) = status["writer"] else { throw HarnessError("the device has no writer") }
    #expect(status["role"] == .string("reader") && status["canPost"] == .bool(false))
    #expect(made.stderr.contains("hyphactl authorize \(writer)"))
    #expect(try await node.ctl("status").text.contains("\(writer) (not authorised)"))
    try await #expect(node.ctl("connect", origin.url).status == 0)
    return (node, writer)
  }

  private func value(_ key: String, on node: TestNode) async throws -> String? {
    let ended = try await node.ctl("get", key)
    return ended.status == 0 ? ended.text : nil
  }

  @Test("What is put is got, byte for byte, by argument, pipe and file")
  func values() async throws {
    let node = try await HyphactlTests.origin()
    let put = try await node.ctl("put", "profile/name", "Ünï code")
    #expect(put.status == 0 && !put.text.isEmpty)
    #expect(try await value("profile/name", on: node) == "Ünï code")
    #expect(try await value("/profile/name", on: node) == "Ünï code")
    let bytes: [UInt8] = [0, 255, 10, 13, 128, 0, 10]
    try await #expect(node.ctl("put", "binary", input: bytes).status == 0)
    #expect(try await node.ctl("get", "binary").stdout == bytes)
    let source = try node.folder.write("source", Array(bytes.reversed()))
    try await #expect(node.ctl("put", "binary", "--file", source).status == 0)
    let target = "\(node.folder.path)/target"
    try await #expect(node.ctl("get", "binary", "--file", target).status == 0)
    #expect(node.folder.read("target") == Array(bytes.reversed()))
    let json = try await node.ctl("get", "binary", "--json").json()
    guard case .array(let entries) = json["entries"] else { throw HarnessError("no entries") }
    #expect(entries[0]["base64"] != nil && entries[0]["text"] == nil && json["schema"] != nil)
    #expect(json["winner"] == .integer(0))
    // A value that ends with a newline keeps it, and an empty one is a value.
    try await #expect(node.ctl("put", "line", input: Array("x\n".utf8)).status == 0)
    #expect(try await node.ctl("get", "line").stdout == Array("x\n".utf8))
    try await #expect(node.ctl("put", "empty", "").status == 0)
    #expect(try await node.ctl("get", "empty").stdout.isEmpty)
    let largest = [UInt8](repeating: 200, count: ControlLimits.valueBytes)
    try await #expect(node.ctl("put", "largest", input: largest).status == 0)
    #expect(try await node.ctl("get", "largest").stdout == largest)
  }

  @Test("A value goes where its file's name leads, and what is there stays what it is")
  func targets() async throws {
    let node = try await HyphactlTests.origin()
    try await #expect(node.ctl("put", "k", "value").status == 0)
    let folder = try TemporaryFolder()
    func path(_ name: String) -> String { "\(folder.path)/\(name)" }
    func get(_ name: String, streams: String = "") async throws {
      let ended = try await node.ctl(
        ["get", "k", "--file", name == "-" ? name : path(name)], streams: streams)
      #expect(ended.status == 0 && ended.text == (name == "-" ? "value" : ""), "\(name): \(ended)")
    }
    func kind(_ name: String) -> mode_t {
      var found = stat()
      return lstat(path(name), &found) == 0 ? found.st_mode : 0
    }
    try await get("-")
    let made = try await Running(
      "/bin/sh",
      ["-c", "umask 027; exec \"$0\" get k --file \"$1\"", try Programs.path("hyphactl"), path("new")],
      environment: ["HYPHA_SOCKET": node.socket]
    ).end()
    #expect(made.status == 0 && kind("new") == S_IFREG | 0o640)

    // A link, by way of another, to a file that its owner alone may read; and one to nothing.
    mkdir(path("below"), 0o700)
    chmod(try folder.write("below/private", "a longer value".utf8), 0o600)
    symlink("below/link", path("link"))
    symlink(path("below/private"), path("below/link"))
    symlink("made", path("dangling"))
    try await get("link")
    try await get("dangling")
    for name in ["link", "below/link", "dangling"] { #expect(kind(name) & S_IFMT == S_IFLNK, "\(name)") }
    #expect(kind("below/private") == S_IFREG | 0o600)
    for name in ["new", "below/private", "made"] { #expect(folder.read(name) == Array("value".utf8)) }

    mkfifo(path("pipe"), 0o600)
    let reader = try Running("/bin/cat", [path("pipe")])
    try await get("pipe")
    #expect(try await reader.end().text == "value")
    #expect(kind("pipe") & S_IFMT == S_IFIFO)

    // As /dev/stdout is; what stands in the file before stays.
    symlink("/proc/self/fd/1", path("stdout"))
    _ = try folder.write("log", "before ".utf8)
    try await get("stdout", streams: ">> \(path("log"))")
    #expect(kind("stdout") & S_IFMT == S_IFLNK)
    #expect(folder.read("log") == Array("before value".utf8))

    let below = try await node.ctl("get", "k", "--file", path("below"))
    #expect(below.status == 65 && below.stderr.contains("Is a directory"))
    symlink("loop", path("loop"))
    try await #expect(node.ctl("get", "k", "--file", path("loop")).status == 65)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == ["below", "dangling", "link", "log", "loop", "made", "new", "pipe", "stdout"])
  }

  @Test("A key is created once, unset, and found in its history and at earlier versions")
  func history() async throws {
    let node = try await HyphactlTests.origin()
    let first = try await node.ctl("put", "a/key", "one", "--if-not-exists").text
    let again = try await node.ctl("put", "a/key", "two", "--if-not-exists")
    #expect(again.status == 1 && again.stderr.contains("is set already"))
    try await #expect(node.ctl("put", "a/key", "three").status == 0)
    try await #expect(node.ctl("put", "other", "x").status == 0)
    let unset = try await node.ctl("unset", "a/key")
    #expect(unset.status == 0 && !unset.text.isEmpty)
    let gone = try await node.ctl("get", "a/key")
    #expect(gone.status == 1 && gone.stdout.isEmpty && gone.stderr.contains("“a/key” is not set"))
    try await #expect(node.ctl("unset", "a/key").status == 1)
    #expect(try await node.ctl("get", "a/key", "--at", first).text == "one")
    #expect(try await node.ctl("list", "--at", first).text == "a/key")
    #expect(try await node.ctl("list").text == "other")
    let lines = try await node.ctl("history").text.split(separator: "\n")
    #expect(lines.map { $0.split(separator: " ")[2] } == ["deleted", "put", "put", "put"])
    let steps = try await node.ctl("history", "a/key").text.split(separator: "\n")
    #expect(steps.count == 3 && steps[1].hasSuffix("put a/key  three"))
    #expect(try await node.ctl("history", "--limit", "2", "--json").json()["next"] != nil)
    #expect(try await node.ctl("history", "nothing").text.isEmpty)
  }

  @Test("More keys and entries than one answer holds are listed all the same")
  func pages() async throws {
    let node = try await HyphactlTests.origin()
    let client = try node.client()
    let count = ControlLimits.entriesPerList / 4 + 7
    for number in 0..<count {
      _ = try client.call(
        DatabasePut.self, .init(key: "keys/\(number)", text: String(repeating: "v", count: 1000)))
    }
    let keys = try await node.ctl("list", "keys").text.split(separator: "\n")
    #expect(Set(keys).count == count && keys.count == count)
    #expect(
      try await node.ctl("list", "keys", "--limit", "201").text.split(separator: "\n")
        == Array(keys.prefix(201)))
    let values = try await node.ctl("list", "keys", "--values", "--limit", "1").text
    #expect(values == "\(keys[0])\t" + String(repeating: "v", count: 1000))
    guard case .array(let listed) = try await node.ctl("list", "--json").json()["keys"] else {
      Issue.record("no keys")
      return
    }
    #expect(listed.count == count)
    let history = try await node.ctl("history", "--limit", "100000").text.split(separator: "\n")
    #expect(history.count == count)
  }

  @Test("A value of bytes that JSON makes six of is kept and shown like any other")
  func controlCharacters() async throws {
    let node = try await HyphactlTests.origin()
    let value = [UInt8](repeating: 0, count: ControlLimits.valueBytes)
    try await #expect(node.ctl("put", "zeros", input: value).status == 0)
    #expect(try await node.ctl("get", "zeros").stdout == value)
    // As those have that scripts put: text, whatever JSON makes of it.
    let json = #"{"a":"b\\n"}"#
    try await #expect(node.ctl("put", "json", json).status == 0)
    #expect(try node.client().call(DatabaseGet.self, .init(key: "json")).entries.map(\.text) == [json])
    #expect(try await node.ctl("list", "json", "--values").text == "json\t\(json)")
    try await #expect(node.ctl("put", "other", "value").status == 0)
    let list = try await node.ctl("list", "--values")
    #expect(list.status == 0 && list.text.contains("other\tvalue") && list.text.contains("zeros\t"))
    for limit in ["1", "20"] {
      let history = try await node.ctl("history", "--limit", limit)
      #expect(history.status == 0 && history.text.contains("put other"))
    }
    #expect(try await node.ctl("history", "zeros").text.contains("put zeros"))
  }

  @Test("What is printed is sent to nobody where standard output is closed")
  func closedOutput() async throws {
    let node = try await HyphactlTests.origin()
    let call = #"{"jsonrpc":"2.0","id":7,"method":"posts.create","params":{"text":"injected"}}"# + "\n"
    try await #expect(node.ctl("put", "call", input: Array(call.utf8)).status == 0)
    for closed in [">&-", "2>&-", "<&- >&- 2>&-"] {
      let shell = try Running(
        "/bin/sh", ["-c", #"exec "$0" get call "# + closed, Programs.path("hyphactl")],
        environment: ["HYPHA_SOCKET": node.socket])
      #expect(try await shell.end().status == 0)
    }
    #expect(try await node.ctl("posts").text.isEmpty)
  }

  @Test("Wrong keys, values, versions and writers are refused, and say what is wrong")
  func refusals() async throws {
    let node = try await HyphactlTests.origin()
    func expect(_ status: Int32, _ text: String, _ arguments: String..., input: [UInt8] = []) async throws {
      let ended = try await node.startCtl(arguments, input: input).end()
      #expect(ended.status == status, "\(arguments)")
      #expect(ended.stderr.contains(text), "\(arguments): \(ended.stderr)")
      #expect(ended.stdout.isEmpty)
    }
    try await expect(1, "4096 bytes", "put", "", "x")
    try await expect(1, "4096 bytes", "get", "/")
    try await expect(1, "4096 bytes", "put", String(repeating: "k", count: 4097), "x")
    try await expect(1, "slash", "put", "//", "x")
    let long = [UInt8](repeating: 65, count: ControlLimits.valueBytes + 1)
    try await expect(65, "at most \(ControlLimits.valueBytes) bytes", "put", "k", input: long)
    try await expect(65, "nonexistent", "put", "k", "--file", "/nonexistent/file")
    try await expect(64, "either a value or --file", "put", "k", "v", "--file", "-")
    try await expect(1, "is no version", "get", "k", "--at", "xyz")
    try await expect(1, "is not here", "list", "--at", String(repeating: "00", count: 33))
    try await expect(64, "--limit", "list", "--limit", "0")
    try await expect(64, "--limit", "history", "--limit", "-1")
    try await expect(64, "--file takes one value", "get", "k", "--all", "--file", "f")
    try await expect(1, "64 hexadecimal digits", "authorize", "xyz")
    try await expect(64, "--writer needs --hyphalink", "init", "--domain", "example.org", "--writer")
    try await #expect(node.ctl("put", "k", "v").status == 0)
    let unwritable = try await node.ctl("get", "k", "--file", "/nonexistent/target")
    #expect(unwritable.status == 65 && unwritable.stderr.contains("/nonexistent/target"))
    let fresh = try await HyphactlTests.fresh()
    for arguments in [["get", "k"], ["put", "k", "v"], ["list"], ["history"], ["unset", "k"]] {
      let ended = try await fresh.startCtl(arguments).end()
      #expect(ended.status == 1 && ended.stderr.contains("holds no hypha yet"), "\(arguments)")
    }
  }

  @Test("A device is let in by its writer's key, and not before")
  func authorize() async throws {
    let origin = try await HyphactlTests.origin()
    let (phone, writer) = try await device(of: origin)
    for arguments in [["put", "k", "v"], ["post", "x"], ["authorize", writer]] {
      let ended = try await phone.startCtl(arguments).end()
      #expect(ended.status == 1 && ended.stderr.contains("cannot write"), "\(arguments): \(ended.stderr)")
    }
    let done = try await origin.ctl("authorize", writer, "--json").json()
    #expect(done["new"] == .bool(true) && done["key"] == .string(writer))
    #expect(try await origin.ctl("authorize", writer.uppercased()).stderr.contains("already"))
    try await eventually("the device is not let in") {
      try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil
    }
    let status = try await phone.ctl("status").text
    #expect(status.contains("authorised node") && !status.contains("not authorised"))
    try await #expect(phone.ctl("put", "from/phone", "here").status == 0)
    try await eventually("what the device put does not arrive") {
      try origin.client().call(DatabaseList.self, .init(prefix: "from")).keys.first
    }
    let history = try await origin.ctl("history").text
    #expect(
      history.contains("authorised a writer") && history.contains("\(writer.prefix(8)) put from/phone  here"))
  }

  @Test("Values that were put apart are shown as a conflict until one is put that knows them")
  func conflict() async throws {
    let origin = try await HyphactlTests.origin()
    let (phone, writer) = try await device(of: origin)
    try await #expect(origin.ctl("authorize", writer).status == 0)
    try await eventually("the device is not let in") {
      try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil
    }
    let id = try await origin.ctl("post", "a post").text
    try await eventually("the post does not arrive") {
      try phone.client().call(PostsList.self, .init()).posts.first
    }
    try await #expect(phone.ctl("disconnect", origin.url).status == 0)
    try await #expect(phone.ctl("put", "color", "blue").status == 0)
    try await #expect(origin.ctl("put", "color", "red").status == 0)
    try await #expect(phone.ctl("delete", id).status == 0)
    let large = Dictionary(
      uniqueKeysWithValues: [phone, origin].map {
        ($0.url, [UInt8](repeating: UInt8(truncatingIfNeeded: $0.port) | 0x80, count: 500_000))
      })
    for node in [phone, origin] {
      try await #expect(node.ctl("put", "large", input: large[node.url] ?? []).status == 0)
    }
    let edit = #"{"text":"changed","created":"2026-01-01T00:00:00.000Z","device":"d"}"#
    try await #expect(origin.ctl("put", "posts/\(id)", edit).status == 0)
    try await #expect(phone.ctl("connect", origin.url).status == 0)
    var winners: Set<String> = []
    for node in [origin, phone] {
      try await eventually("the values do not come together") {
        try node.client().call(DatabaseGet.self, .init(key: "color")).entries.count == 2 ? true : nil
      }
      let get = try await node.ctl("get", "color")
      #expect(get.status == 0 && get.stderr.contains("2 values beside each other"))
      winners.insert(get.text)
      let all = try await node.ctl("get", "color", "--all").text.split(separator: "\n")
      #expect(all.count == 2 && all.filter { $0.hasPrefix("*") }.count == 1)
      #expect(all.contains { $0.hasSuffix("blue") } && all.contains { $0.hasSuffix("red") })
      #expect(try await node.ctl("list", "color").text == "color!")
      // Both values are too long for one answer.
      let winner = try await node.ctl("get", "large").stdout
      #expect(large.values.contains(winner))
      var values: Set<[UInt8]> = []
      for key in try node.client().call(NodeStatus.self, .init()).feeds.map(\.key) {
        values.insert(try await node.ctl("get", "large", "--feed", String(key.prefix(8))).stdout)
      }
      #expect(values == Set(large.values))
      let both = try await node.ctl("get", "large", "--all").text
      #expect(
        both.contains("(500000 bytes that are no text)")
          && both.contains("(500000 bytes that are left out here)"))
      try await #expect(node.ctl("history", "large").status == 0)
      #expect(try await node.ctl("get", "large", "--feed", "x").stderr.contains("0 values of “large”"))
      // The post is deleted on one side, and stays so; what the other made of it can be seen.
      #expect(try await node.ctl("posts").text.isEmpty)
      let versions = try await node.ctl("posts", "--all").text
      #expect(versions.contains("changed") && versions.contains("(not shown)"))
    }
    #expect(winners.count == 1)
    try await #expect(phone.ctl("put", "color", "green").status == 0)
    try await eventually("a later value does not take the place of the others") {
      try origin.client().call(DatabaseGet.self, .init(key: "color")).entries.map(\.text) == ["green"]
        ? true : nil
    }
    #expect(try await origin.ctl("get", "color").stderr.isEmpty)
  }
}
