import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

@Suite("SIGHUP", .fewAtOnce, .timeLimit(.minutes(15))) struct ReloadTests {
  @Test func settingsAreReadAnew() async throws {
    let node = try TestNode()
    try await node.start()
    let forwarded = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n"
    func isBelieved() async throws -> Bool {
      try await WebAnswer.get("/", port: node.port, headers: forwarded).header("Strict-Transport-Security")
        != nil
    }
    #expect(try await !isBelieved())
    try node.configure(http: "trusted_proxies = [\"127.0.0.1\"]")
    node.daemon?.send(SIGHUP)
    try await eventually("not reloaded: \(node.log)") { try await isBelieved() ? true : nil }

    // What cannot be used changes nothing.
    try node.configure(node: "nonsense = 1")
    node.daemon?.send(SIGHUP)
    try await eventually("no word of it: \(node.log)") { node.log.contains("Not reloaded") ? true : nil }
    #expect(node.log.contains("there is no key nonsense in [node]"))
    #expect(try await isBelieved())
    #expect(try await node.stop()?.status == 0)
  }

  @Test func takesOverWhatItCanAndNamesTheRest() async throws {
    let node = try TestNode()
    try await node.start()
    #expect(!node.log.contains("debug hyphad"))
    let settings = try String(contentsOfFile: "\(node.folder.path)/hyphad.toml", encoding: .utf8)
    let changed =
      settings.replacing("127.0.0.1:\(node.port)", with: "127.0.0.1:1")
      + "\n[log]\nlevel = \"debug\"\n[replication]\nmax_connections = 1\n"
    _ = try node.folder.write("hyphad.toml", changed.utf8)
    node.daemon?.send(SIGHUP)
    try await eventually("\(node.log)") { node.log.contains("Reloaded") ? true : nil }
    try await eventually("\(node.log)") {
      node.log.contains("read at the start alone: restart hyphad settings=\"[http] address\"") ? true : nil
    }
    // One connection at a time now: the second takes the place of the first, which does not replicate.
    let held = try RawClient(port: node.port)
    held.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try await held.readHeader().hasPrefix("HTTP/1.1 "))
    let second = try RawClient(port: node.port)
    second.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try await second.readHeader().hasPrefix("HTTP/1.1 "))
    _ = try await held.readToEnd()
    try await node.stop()
  }

  @Test func systemdHearsHowItIs() async throws {
    let node = try TestNode()
    let path = "\(node.folder.path)/notify"
    let socket = FileDescriptor(owning: Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0))
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket.number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(bound == 0)
    var heard = ""
    func hears(_ text: String) async throws {
      try await eventually("no \(text) in \(heard)") {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket.number, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        if count > 0 { heard += String(decoding: bytes[..<count], as: UTF8.self) + "\n" }
        return heard.contains(text) ? true : nil
      }
    }
    for (name, value) in ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"] {
      node.environment[name] = .some(value)
    }
    node.environment["WATCHDOG_PID"] = .some(nil)
    try await node.start()
    try await hears("READY=1")
    try await hears("; waits to be set up: hyphactl init")
    heard = ""
    for _ in 0..<3 {
      // Again and again, for as long as the node's own loop answers.
      heard = ""
      try await hears("WATCHDOG=1")
    }
    let client = try node.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase))
    try await hears("; origin, 0 nodes connected")
    node.daemon?.send(SIGHUP)
    try await hears("RELOADING=1\nMONOTONIC_USEC=")
    heard = ""
    try await hears("READY=1")
    node.daemon?.send(SIGTERM)
    try await hears("STOPPING=1")
    try await node.stop()
    // Looking for damage may take long: it is given time for as long as it gets on.
    #expect(FileManager.default.createFile(atPath: "\(node.statePath)/resync", contents: nil))
    heard = ""
    try await node.start()
    try await hears("READY=1")
    let asked = heard.firstRange(of: "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=Looking for damage")
    let ready = heard.firstRange(of: "READY=1")
    #expect(try #require(asked).lowerBound < #require(ready).lowerBound, "\(heard)")
    try await node.stop()
  }

  @Test("A state folder that stays unfit is told by the exit status, so that systemd does not try again")
  func unfitStateFolder() async throws {
    let node = try TestNode()
    try await node.start()
    try await node.stop()
    for version in ["2\n", "one\n"] {
      _ = try node.folder.write("state/version", version.utf8)
      let ended = try await node.startInVain()
      #expect(ended.status == 78, "\(ended.stderr)")
      #expect(ended.stderr.contains("version"))
    }
  }

  /// A terminal that is closed sends it, too.
  @Test func endsInATerminal() async throws {
    let node = try TestNode()
    let terminal = try PseudoTerminal()
    let daemon = try Running(
      try Programs.path("hyphad"), ["--config", "\(node.folder.path)/hyphad.toml"], terminal: terminal,
      use: .session)
    try await eventually("no answer: \(terminal.shown)") { try? node.client() }
    daemon.send(SIGHUP)
    #expect(try await daemon.end().status == 0)
  }
}
