import CSodium
import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Testing

/// Secrets that are looked for wherever they must not be: logs, answers, errors, files, and memory that is swapped or dumped.
@Suite("No secret leaks", .fewAtOnce, .timeLimit(.minutes(15))) struct LeakTests {
  private struct Planted {
    var name: String
    /// As it is, and as text that somebody might make of it.
    var forms: [[UInt8]]

    init(_ name: String, key bytes: [UInt8]) {
      let hex = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
      let base64 = Data(bytes).base64EncodedString().prefix { $0 != "=" }.dropLast()
      let decimal = bytes.prefix(8).map { "\($0)" }.joined(separator: ", ")
      self.name = name
      forms = [bytes] + [hex, hex.uppercased(), String(base64), decimal].map { Array($0.utf8) }
    }

    /// - Parameter text: of several words: any three of them in a row.
    init(_ name: String, text: String) {
      let words = text.split(whereSeparator: \.isWhitespace)
      self.name = name
      forms =
        words.count < 3
        ? [Array(text.utf8)]
        : (0..<words.count - 2).map { Array(words[$0..<$0 + 3].joined(separator: " ").utf8) }
    }

    func isIn(_ bytes: [UInt8]) -> Bool {
      forms.contains { form in
        bytes.withUnsafeBytes { bytes in
          guard var from = bytes.baseAddress, bytes.count >= form.count else { return false }
          let end = from + bytes.count - form.count + 1
          while from < end, let found = memchr(from, Int32(form[0]), end - from) {
            if memcmp(found, form, form.count) == 0 { return true }
            from = UnsafeRawPointer(found) + 1
          }
          return false
        }
      }
    }
  }

  private static let backupPassphrase = "remnant sandpaper tiptoeing unhook\n"

  /// A laptop that made a hypha, a server that it claimed, a phone that it let in; all say what they do in detail.
  private struct Hypha {
    var laptop: TestNode
    var server: TestNode
    var phone: TestNode
    var all: [TestNode] { [laptop, server, phone] }
    /// Ports of `/metrics`, in the same order.
    var metrics: [Int] = []
    var setupCode = ""
    /// What was printed by whom.
    var said: [(what: String, bytes: [UInt8])] = []

    init() async throws {
      metrics = try freePorts(3)
      func node(_ metrics: Int) async throws -> TestNode {
        let node = try TestNode(
          settings: "[log]\nlevel = \"trace\"\n[metrics]\naddress = \"127.0.0.1:\(metrics)\"")
        try await node.start()
        return node
      }
      laptop = try await node(metrics[0])
      server = try await node(metrics[1])
      phone = try await node(metrics[2])
    }

    mutating func run(_ node: TestNode, _ arguments: [String], input: [UInt8] = []) async throws -> Ended {
      let ended = try await node.startCtl(arguments, input: input).end()
      said.append((arguments.joined(separator: " "), ended.stdout + Array(ended.stderr.utf8)))
      return ended
    }

    /// From nothing to posts by two devices, with what goes wrong on the way.
    mutating func live() async throws {
      let passphrase = HyphactlTests.passphrase
      setupCode = try server.client().call(SetupCodeShow.self, .init()).code.text
      var wrong = passphrase
      wrong[wrong.count - 2] = UInt8(ascii: "q")
      let made = try await run(
        laptop, ["init", "--domain", "example.org", "--passphrase-file", "-", "--json"], input: passphrase)
      try #require(made.status == 0, "\(made.stderr)")
      _ = try? laptop.client().call(
        ConnectionsAdd.self, .init(url: server.url, setupCode: Secret(String(setupCode.reversed()))))
      _ = try laptop.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: Secret(setupCode)))
      let signIn = [
        "sign-in", "http://127.0.0.1:\(server.port)", "--domain", "example.org", "--passphrase-file", "-",
      ]
      for input in [wrong, Array("abacus \(String(decoding: passphrase, as: UTF8.self))".utf8)] {
        #expect(try await run(phone, signIn, input: input).status != 0)
      }
      let signedIn = try await run(phone, signIn, input: passphrase)
      try #require(signedIn.status == 0, "\(signedIn.stderr)")
      let laptop = laptop
      let request = try await eventually("no request comes") {
        try laptop.client().call(RequestsList.self, .init()).requests.first { $0.state == .pending }
      }
      _ = try laptop.client().call(RequestsApprove.self, .init(id: request.id))
      let phone = phone
      try await eventually { try phone.client().call(NodeStatus.self, .init()).canPost ? true : nil }
      _ = try await run(phone, signIn, input: passphrase)
      #expect(try await run(phone, ["post", "from the phone"]).status == 0)
      #expect(try await run(laptop, ["post", "from the laptop"]).status == 0)
    }
  }

  /// What the passphrase gives before anything else, worked out as docs/protocol.md says.
  private static func rootKey() throws -> [UInt8] {
    let passphrase = HyphactlTests.passphrase.dropLast().map { CChar($0) }
    let message = Array("hyphaexample.org".utf8)
    var salt = [UInt8](repeating: 0, count: crypto_pwhash_saltbytes())
    crypto_generichash(&salt, salt.count, message, UInt64(message.count), nil, 0)
    var root = [UInt8](repeating: 0, count: 32)
    let derived = crypto_pwhash(
      &root, UInt64(root.count), passphrase, UInt64(passphrase.count), salt, 3, 64 << 20,
      crypto_pwhash_alg_argon2id13())
    try #require(derived == 0)
    return root
  }

  private static func subkey(_ number: UInt64) throws -> [UInt8] {
    var key = [UInt8](repeating: 0, count: 32)
    _ = crypto_kdf_derive_from_key(&key, key.count, number, Array("hyphakey".utf8CString), try rootKey())
    return key
  }

  private func secrets(_ hypha: Hypha) throws -> [Planted] {
    var secrets = [
      Planted("passphrase", text: String(decoding: HyphactlTests.passphrase, as: UTF8.self)),
      Planted("backup's passphrase", text: Self.backupPassphrase),
      Planted("setup code", text: hypha.setupCode),
      Planted("setup code without its dash", text: String(hypha.setupCode.filter { $0 != "-" })),
      Planted("the root key", key: try Self.rootKey()),
      Planted("the at-rest key", key: try Self.subkey(3)),
    ]
    for (name, node) in [("laptop", hypha.laptop), ("phone", hypha.phone)] {
      let writer = node.folder.read("state/secrets/writer")
      let channel = node.folder.read("state/secrets/channel")
      try #require(writer.count == 64 && channel.count == 32)
      secrets.append(Planted("\(name)'s secret key", key: Array(writer[..<32])))
      if name == "laptop" {
        // That the keys which are on no disk are worked out rightly.
        #expect(try Self.subkey(1) == Array(writer[..<32]) && Self.subkey(2) == channel)
        secrets.append(Planted("the channel key", key: channel))
      }
    }
    #expect(hypha.server.folder.read("state/secrets/writer").isEmpty)
    return secrets
  }

  @Test("Not in what is printed, logged, served, answered, or stored elsewhere")
  func words() async throws {
    var hypha = try await Hypha()
    try await hypha.live()
    let secrets = try secrets(hypha)
    for node in hypha.all {
      for arguments in [
        ["status"], ["status", "--json"], ["devices"], ["requests", "--json"], ["posts"],
        ["peers", "--json"],
        ["doctor"], ["doctor", "--json"], ["verify", "--json"], ["history", "--json"], ["list"],
        ["backup", "\(node.folder.path)/plain", "--force"], ["connect", "http://nobody.invalid"],
        ["no-such-verb"],
      ] { _ = try await hypha.run(node, arguments) }
    }
    let sealed = "\(hypha.laptop.folder.path)/sealed"
    let backup = try await hypha.run(
      hypha.laptop, ["backup", sealed, "--encrypt", "--passphrase-file", "-"],
      input: Array(Self.backupPassphrase.utf8))
    #expect(backup.status == 0, "\(backup.stderr)")
    hypha.said.append(("the encrypted backup", hypha.laptop.folder.read("sealed")))
    let plain = hypha.laptop.folder.read("plain")
    // A plain backup has the device's keys, as it says, and never a passphrase.
    for secret in secrets {
      #expect(
        secret.isIn(plain) == ["laptop's secret key", "the channel key"].contains(secret.name),
        "\(secret.name)")
    }

    for (name, node) in [("laptop", hypha.laptop), ("server", hypha.server), ("phone", hypha.phone)] {
      for path in ["/", "/feed.json", "/feed.atom", "/.well-known/dat", "/healthz", "/../secrets/writer"] {
        hypha.said.append(("\(name) \(path)", try await get(path, node.host, node.port)))
      }
      for (method, answer) in try answers(of: node) { hypha.said.append(("\(name) \(method)", answer)) }
      for file in try FileManager.default.subpathsOfDirectory(atPath: node.statePath)
      where !file.hasPrefix("secrets/") {
        hypha.said.append(("\(name)'s \(file)", node.folder.read("state/\(file)")))
      }
      #expect(node.log.utf8.count > 500)
      hypha.said.append(("\(name)'s log", Array(node.log.utf8)))
      let arguments = try Data(contentsOf: URL(filePath: "/proc/\(try #require(node.daemon?.pid))/cmdline"))
      hypha.said.append(("\(name)'s arguments", Array(arguments)))
    }
    for port in hypha.metrics {
      let metrics = try await get("/metrics", "127.0.0.1", port)
      #expect(String(decoding: metrics, as: UTF8.self).contains("hypha_"))
      hypha.said.append(("/metrics", metrics))
    }
    #expect(hypha.said.count > 200)
    for (what, bytes) in hypha.said {
      for secret in secrets { #expect(!secret.isIn(bytes), "\(secret.name) is in \(what)") }
    }
  }

  private func get(_ path: String, _ host: String, _ port: Int) async throws -> [UInt8] {
    let client = try RawClient(host: host, port: port)
    client.send("GET \(path) HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
    return try await client.readToEnd()
  }

  /// What a node answers to every method of its control socket, and the events that this makes. One that it refuses says so.
  private func answers(of node: TestNode) throws -> [(method: String, answer: [UInt8])] {
    // What some method or other needs; each takes its own.
    let params = """
      {"limit":10,"text":"said to all","id":"0123","key":"some/key","value":"some value","prefix":"","device":"phone","name":"phone",\
      "writer":"00","url":"ws://127.0.0.1:1","for":"ready","timeoutSeconds":1,"waitSeconds":1,"hyphalink":"none","domain":"a b",\
      "passphrase":"too short","subscription":1,"offset":0,"count":1,"bytes":""}
      """
    let caller = try RawCaller(path: node.socket)
    var lines: [(String, [UInt8])] = []
    /// Events come between the answers. Their numbers are smaller.
    func call(_ method: String, _ params: String) throws -> String {
      let id = 1_000_000 + lines.count
      try caller.send(#"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)","params":\#(params)}"#)
      while let line = try caller.line() {
        lines.append((method, Array(line.utf8)))
        if line.contains("\(id)") { return line }
      }
      throw HarnessError("no answer to \(method)")
    }
    let discovered = try JSONDecoder().decode(
      JSONValue.self, from: Data(try call("rpc.discover", "{}").utf8))
    guard case .array(let methods)? = discovered["result"]?["methods"] else {
      throw HarnessError("\(discovered)")
    }
    _ = try call("events.subscribe", #"{"after":0}"#)
    for method in methods {
      guard case .string(let name)? = method["name"] else { throw HarnessError("\(method)") }
      // That one ends what the test looks at.
      if name != "node.signOut", !name.hasPrefix("events.") { _ = try call(name, params) }
    }
    #expect(lines.contains { String(decoding: $0.1, as: UTF8.self).contains("events.event") })
    return lines
  }

  /// A process's mappings: what is in them, and the kernel's flags.
  private func memory(of pid: pid_t) throws -> [(flags: Set<String>, bytes: [UInt8])] {
    let file = open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw HarnessError("memory of \(pid): \(String(cString: strerror(errno)))") }
    defer { close(file) }
    var found: [(Set<String>, [UInt8])] = []
    var range: Range<Int>?
    for line in try kernelFile("/proc/\(pid)/smaps").split(separator: "\n") {
      let fields = line.split(separator: " ")
      let ends = fields[0].split(separator: "-").compactMap { Int($0, radix: 16) }
      if ends.count == 2 { range = ends[0]..<ends[1] }
      guard fields[0] == "VmFlags:", let mapping = range, mapping.count < 1 << 30 else { continue }
      var bytes = [UInt8](repeating: 0, count: mapping.count)
      guard pread(file, &bytes, bytes.count, off_t(mapping.lowerBound)) == bytes.count else { continue }
      found.append((Set(fields.dropFirst().map(String.init)), bytes))
    }
    return found
  }

  /// libsodium keeps secrets between pages that nobody may touch, in memory that the kernel does not swap (`lo`) and does not
  /// write into core dumps (`dd`).
  @Test("In memory keys are only where it is neither swapped nor dumped")
  func keysInMemory() async throws {
    var hypha = try await Hypha()
    try await hypha.live()
    let secrets = try secrets(hypha).filter { $0.name.hasSuffix("key") }
    for node in [hypha.laptop, hypha.phone] {
      let pid = try #require(node.daemon?.pid)
      try await eventually("keys are in memory that may be swapped or dumped") {
        let holding = try memory(of: pid).filter { mapping in secrets.contains { $0.isIn(mapping.bytes) } }
        #expect(!holding.isEmpty, "no key was found: it was not looked for where it is")
        return holding.allSatisfy { $0.flags.isSuperset(of: ["lo", "dd"]) } ? true : nil
      }
    }
  }
}
