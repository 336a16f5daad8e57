import FoundationEssentials
import Glibc
import Logging
import Testing

@testable import HyphaDaemonCore

@Suite(.fewAtOnce) struct EdgeConfigurationTests {
  private func configuration(_ text: String) throws(ConfigurationError) -> Configuration {
    try Configuration(Array(text.utf8), file: "test.toml")
  }

  private func failure(_ text: String) throws -> ConfigurationError {
    try #require(throws: ConfigurationError.self) { try configuration(text) }
  }

  private static let shipped: String = {
    let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return tests.deletingLastPathComponent().appending(path: "packaging/hyphad.toml").path
  }()

  @Test func shippedFileHasEveryDefault() throws {
    #expect(try Configuration(file: Self.shipped) == Configuration())
    let text = try #require(try AtomicFile.read(Self.shipped))
    let document = try SettingsParser.parse(text)
    let there = document.settings.map { "\($0.table).\($0.key)" }
    #expect(there == (try Configuration.knownKeys().map { "\($0.table).\($0.key)" }))
    // Each setting is explained by a comment right above it.
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
    for setting in document.settings { #expect(lines[setting.line - 2].hasPrefix("# "), "\(setting.key)") }
  }

  @Test func everySettingIsRead() throws {
    let read = try configuration(
      """
      [node]
      state_folder = '/srv/hypha' # literal
      device_name = "A \\"node\\" \\u00e9"
      domain = "Example.org"
      secrets_credential = "hypha-secrets_1.key"
      [http]
      address = "[::1]:80"
      trusted_proxies = ["127.0.0.1", "2001:db8::/32"]
      [https]
      address = "[::]:443"
      certificate = "/etc/hypha/tls/certificate.pem"
      key = "hypha-key"
      acme_folder = ""
      [tcp]
      enabled = true
      address = "127.0.0.1:1"
      [control]
      socket = "/tmp/c"
      [log]
      level = "debug"
      [replication]
      max_connections = 1_000
      max_connections_per_address = 2
      [connections]
      urls = [
        "wss://example.org", # one
        "ws://127.0.0.1:8080/hypha",
      ]
      [mailbox]
      messages = 512
      bytes = 2097152
      days = 30
      [dat]
      ttl = 0
      """)
    #expect(
      read.node
        == .init(
          stateFolder: "/srv/hypha", deviceName: "A \"node\" é", domain: "example.org",
          secretsCredential: "hypha-secrets_1.key"))
    #expect(read.http.address == ListenAddress(host: "::1", port: 80))
    #expect(read.http.trustedProxies.map(\.description) == ["127.0.0.1", "2001:db8::/32"])
    #expect(read.https.address == ListenAddress(host: "::", port: 443))
    #expect(read.https.certificate == "/etc/hypha/tls/certificate.pem" && read.https.key == "hypha-key")
    #expect(read.https.acmeFolder.isEmpty)
    #expect(read.tcp.enabled && read.tcp.address == ListenAddress(host: "127.0.0.1", port: 1))
    #expect(read.control.socket == "/tmp/c")
    #expect(read.log.level == .debug)
    #expect(read.replication == Configuration.Replication(maxConnections: 1000, maxConnectionsPerAddress: 2))
    #expect(read.connections.urls.map(\.description) == ["wss://example.org", "ws://127.0.0.1:8080"])
    #expect(read.mailbox == .init(messages: 512, bytes: 2 << 20, days: 30))
    #expect(read.dat.ttl == 0)
    #expect(try configuration("") == Configuration())
  }

  @Test(arguments: [
    ("[http]\n\nadress = \"x\"", "line 3: there is no key adress in [http]: did you mean address?"),
    ("[htp]", "line 1: there is no table [htp]: did you mean [http]?"),
    ("[http]\nttl = 1", "line 2: there is no key ttl in [http]; it belongs in [dat]"),
    ("ttl = 1", "line 1: there is no key ttl before the first [table]; it belongs in [dat]"),
    ("[dat]\nttl = \"1\"", "line 2: ttl in [dat] is a string, and must be a whole number from 0"),
    ("[dat]\nttl = -1", "line 2: ttl in [dat] is -1"),
    ("[tcp]\nenabled = 1", "line 2: enabled in [tcp] is a number, and must be true or false"),
    ("[http]\naddress = \"8080\"", "line 2: address in [http] must be an address and a port"),
    ("[http]\nweb_folder = \"web\"", "line 2: web_folder in [http] must begin with /"),
    ("[http]\ntrusted_proxies = [\"proxy\"]", "line 2: trusted_proxies in [http] has “proxy”, and must be"),
    ("[http]\ntrusted_proxies = [\"10.0.0.1/8\"]", "trusted_proxies in [http] has “10.0.0.1/8”"),
    ("[https]\naddress = \"443\"", "line 2: address in [https] must be an address and a port"),
    ("[https]\ncertificate = \"tls/x.pem\"", "certificate in [https] must be a path that begins with /"),
    ("[https]\nacme_folder = \"acme\"", "acme_folder in [https] must begin with /, or be empty"),
    (
      "[https]\ncertificate = \"/x\"\nkey = \"\"",
      "line 3: key in [https] is empty, and must be set where the rest of [https] is"
    ),
    ("[log]\nlevel = \"loud\"", "line 2: level in [log] must be one of trace, debug"),
    ("[node]\nstate_folder = \"state\"", "must begin with /"),
    ("[node]\ndomain = \"https://example.org\"", "must be a domain alone"),
    ("[node]\nsecrets_credential = \"../key\"", "must be the name of a systemd credential"),
    ("[node]\nsecrets_credential = \"..\"", "must be the name of a systemd credential"),
    (
      "[mailbox]\nmessages = 0",
      "line 2: messages in [mailbox] is 0, and must be a whole number from 1 to 512"
    ),
    ("[mailbox]\nmessages = 513", "messages in [mailbox] is 513"),
    (
      "[mailbox]\nbytes = 4095", "bytes in [mailbox] is 4095, and must be a whole number from 4096 to 2097152"
    ),
    ("[mailbox]\nbytes = 2097153", "bytes in [mailbox] is 2097153"),
    ("[mailbox]\ndays = 31", "days in [mailbox] is 31, and must be a whole number from 1 to 30"),
    ("[connections]\nurls = [1]", "holds a number, and must be a list of strings"),
    ("[connections]\nurls = \"wss://example.org\"", "is a string, and must be a list"),
  ])
  func mistakesAreNamed(_ text: String, _ expected: String) throws {
    let error = try failure(text)
    #expect(error.context.hasPrefix("test.toml, line "))
    #expect(error.context.contains(expected), "\(error.context)")
  }

  @Test func secretsInURLsAreNotRepeated() throws {
    for url in ["wss://me:hunter2@example.org", "wss://example.org/hypha?code=hunter2", "hunter2://x"] {
      let error = try failure("[connections]\nurls = [\"\(url)\"]")
      #expect(error.code == .badValue)
      #expect(!error.context.contains("hunter2"))
    }
  }

  @Test(arguments: [
    "[http", "[http]]", "[[http]]", "[http]\n[http]", "a", "a =", "a = 1 2", "a = \"x", "a = \"x\ny\"",
    "a = \"\"\"x\"\"\"",
    "a = 1.5", "a = 1979-05-27", "a = {}", "a.b = 1", "a = 01", "a = 1__0", "a = _1",
    "a = 9223372036854775808",
    "a = \"\\x\"", "a = \"\\ud800\"", "a = \"\\u12\"", "a = [1", "a = [1 2]", "a = [[[[[1]]]]]",
    "a = 1\na = 2", "= 1",
    "a = True", "\u{7F}", "a = 'x\u{1}'",
  ])
  func brokenTextIsRefused(_ text: String) throws {
    #expect(throws: SettingsParser.Failure.self) { try SettingsParser.parse(Array(text.utf8)) }
  }

  @Test func randomBytesNeverTrap() {
    var random = EdgeRandom(seed: 3)
    let alphabet = Array("[]\"'\\u0={},.#\n \t-_a1te\u{E9}".utf8) + [0xFF, 0]
    for _ in 0..<20_000 {
      let bytes = (0..<Int(random.next() % 40)).map { _ in
        alphabet[Int(random.next() % UInt64(alphabet.count))]
      }
      _ = try? SettingsParser.parse(bytes)
    }
  }

  @Test func missingFileIsTold() throws {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(file: "/nonexistent/hyphad.toml")
    }
    #expect(error?.code == .unreadable)
    #expect(error?.context.contains("/nonexistent/hyphad.toml") == true)
  }

  @Test func logLinesStayWhole() throws {
    let folder = try TemporaryFolder()
    let file = try FileDescriptor("\(folder.path)/log", O_RDWR | O_CREAT)
    let threshold = LogThreshold(.info)
    var log = StandardErrorLog(label: "hyphad", threshold: threshold, descriptor: file.number)
    log[metadataKey: "peer"] = "::1"
    let logger = Logger(label: "hyphad") { _ in log }
    logger.warning("Refused\n<2>forged \u{1B}[31m", metadata: ["reason": "too many"])
    logger.debug("Not shown")
    let text = String(decoding: folder.read("log"), as: UTF8.self)
    #expect(
      text.hasSuffix("Z warning hyphad: Refused?<2>forged ?[31m peer=::1 reason=\"too many\"\n"), "\(text)")
    #expect(text.count(where: \.isNewline) == 1)
    threshold.level = .debug
    logger.debug("Shown")
    #expect(String(decoding: folder.read("log"), as: UTF8.self).hasSuffix("Z debug hyphad: Shown peer=::1\n"))
  }

  @Test func valuesAreFieldsOfTheJournal() {
    #expect(JournalLog.name("discoveryKey") == "HYPHA_DISCOVERY_KEY")
    #expect(JournalLog.name("a-b.c 1") == "HYPHA_A_B_C_1")
    #expect(JournalLog.name(String(repeating: "x", count: 59)) == nil)
  }

  @Test func serviceManagerIsToldOnItsSocket() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/notify"
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
    setenv("NOTIFY_SOCKET", path, 1)
    defer { unsetenv("NOTIFY_SOCKET") }
    ServiceManager.ready(status: "Serving\nall")
    var bytes = [UInt8](repeating: 0, count: 200)
    let count = recv(socket.number, &bytes, bytes.count, Int32(MSG_DONTWAIT))
    #expect(count > 0 && String(decoding: bytes[..<count], as: UTF8.self) == "READY=1\nSTATUS=Serving all")
  }
}
