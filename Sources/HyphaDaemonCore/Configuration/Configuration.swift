import Hypercore
public import Logging

/// Why a configuration file cannot be used.
public struct ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// The file cannot be read.
    case unreadable
    /// It is not TOML, or of TOML's parts uses one that settings do not need.
    case syntax
    /// A table or key that does not exist.
    case unknownKey
    /// A wrong type, or a value that makes no sense.
    case badValue
  }

  public var code: Code
  /// File and line, what is wrong, and what to do.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  public var description: String { context }
}

/// A host and port to listen on.
public struct ListenAddress: Hashable, Sendable, CustomStringConvertible {
  /// An IP address or name, an IPv6 address without its brackets.
  public var host: String
  /// 0 lets the system choose.
  public var port: Int

  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// Reads `127.0.0.1:8080`, `[::1]:80` or `localhost:80`.
  ///
  /// - Returns: `nil` for anything else.
  public init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let digits = text[text.index(after: colon)...]
    guard let port = UInt16(digits), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    var host = text[..<colon]
    if host.hasPrefix("[") && host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      guard host.contains(":") else { return nil }
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }) else {
      return nil
    }
    self.init(host: String(host), port: Int(port))
  }

  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// The daemon's settings. Each is described in `packaging/hyphad.toml`, which is installed as
/// `/etc/hypha/hyphad.toml` and has the values below.
public struct Configuration: Equatable, Sendable {
  /// Where the file is unless the command line says otherwise.
  public static let defaultPath = "/etc/hypha/hyphad.toml"

  public struct Node: Equatable, Sendable {
    /// Everything that the node keeps.
    public var stateFolder = "/var/lib/hypha"
    /// Name of this device, as other nodes show it; empty: the host's name.
    public var deviceName = ""
    /// The hypha's domain, which the keys are derived from; empty: none.
    public var domain = ""
    /// Name of the systemd credential that seals stored secrets; empty: they are stored as they are.
    public var secretsCredential = ""
  }

  public struct HTTP: Equatable, Sendable {
    /// Where to serve HTTP and WebSocket.
    public var address = ListenAddress(host: "127.0.0.1", port: 8080)
    /// Where the web client is installed.
    public var webFolder = "/usr/share/hyphad/web"
    /// Proxies whose word about where a request came from is believed.
    public var trustedProxies: [AddressBlock] = []
  }

  public struct HTTPS: Equatable, Sendable {
    /// Where to serve HTTP and WebSocket over TLS; `nil`: nowhere, unless systemd hands over a socket for it.
    public var address: ListenAddress?
    /// The certificate with its chain: a path, or the name of a systemd credential.
    public var certificate = ""
    /// The certificate's key: a path, or the name of a systemd credential.
    public var key = ""
    /// What an ACME client uses as its webroot; empty: none.
    public var acmeFolder = "/var/lib/hypha-acme"
  }

  public struct TCP: Equatable, Sendable {
    /// Also take replication over TCP, encrypted by the protocol itself.
    public var enabled = false
    public var address = ListenAddress(host: "::", port: 3282)
  }

  public struct Control: Equatable, Sendable {
    /// Path of the socket for `hyphactl`.
    public var socket = "/run/hyphad/control.sock"
  }

  public struct Log: Equatable, Sendable {
    /// The least that is logged.
    public var level = Logger.Level.info
  }

  public struct Replication: Equatable, Sendable {
    /// Connections from outside at one time, replication and other HTTP together.
    public var maxConnections = 256
    /// Of these, from one address; the machine itself, where a proxy may be, is not counted.
    public var maxConnectionsPerAddress = 16
  }

  /// How much of the disk the node may fill.
  public struct Storage: Equatable, Sendable {
    /// Bytes that stay free: with fewer, nothing is posted or fetched.
    public var reserveBytes: UInt64 = 64 << 20
    /// Bytes that other writers' feeds may take up; 0: all there are.
    public var quotaBytes: UInt64 = 0
  }

  public struct Metrics: Equatable, Sendable {
    /// Where to serve metrics for Prometheus; `nil`: nowhere.
    public var address: ListenAddress?
  }

  public struct Connections: Equatable, Sendable {
    /// Nodes to stay connected to.
    public var urls: [ReplicationURL] = []
  }

  /// What is kept for devices of the hypha that are not connected.
  public struct Mailbox: Equatable, Sendable {
    public var messages = 256
    public var bytes = 512 << 10
    public var days = 7
  }

  public struct Dat: Equatable, Sendable {
    /// Seconds for which others may remember this node's hyphalink (DEP-0005).
    public var ttl: UInt32 = 3600
  }

  public var node = Node()
  public var http = HTTP()
  public var https = HTTPS()
  public var tcp = TCP()
  public var control = Control()
  public var log = Log()
  public var replication = Replication()
  public var storage = Storage()
  public var metrics = Metrics()
  public var connections = Connections()
  public var mailbox = Mailbox()
  public var dat = Dat()

  /// The defaults.
  public init() {}

  /// Reads a file.
  public init(file path: String) throws(ConfigurationError) {
    let bytes: [UInt8]?
    do throws(StorageError) {
      bytes = try AtomicFile.read(path)
    } catch {
      throw ConfigurationError(.unreadable, "The configuration file cannot be read: \(error.context)")
    }
    guard let bytes else {
      throw ConfigurationError(
        .unreadable, "There is no configuration file \(path): make it, or give another --config.")
    }
    try self.init(bytes, file: path)
  }

  /// Reads the contents of a file; what it does not set is the default.
  ///
  /// - Parameter file: its name, for errors.
  public init(_ bytes: [UInt8], file: String) throws(ConfigurationError) {
    let document: SettingsDocument
    do throws(SettingsParser.Failure) {
      document = try SettingsParser.parse(bytes)
    } catch {
      throw ConfigurationError(.syntax, "\(file), line \(error.line): \(error.text)")
    }
    var reader = SettingsReader(document, file: file)
    try read(&reader)
    try reader.finish()
  }

  /// Every table and key that there is, in the order of reading.
  static func knownKeys() throws(ConfigurationError) -> [(table: String, key: String)] {
    var reader = SettingsReader(SettingsDocument(), file: "")
    var configuration = Configuration()
    try configuration.read(&reader)
    return reader.known
  }

  private mutating func read(_ reader: inout SettingsReader) throws(ConfigurationError) {
    if let text = try reader.string("node", "state_folder") {
      guard text.hasPrefix("/") else { throw reader.wrong("node", "state_folder", "must begin with /.") }
      node.stateFolder = text
    }
    if let text = try reader.string("node", "device_name") {
      guard text.utf8.count <= 100, text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
      else {
        throw reader.wrong("node", "device_name", "must have at most 100 bytes, and no control characters.")
      }
      node.deviceName = text
    }
    if let text = try reader.string("node", "domain") {
      guard text.isEmpty || Self.isDomain(text) else {
        throw reader.wrong(
          "node", "domain", "must be a domain alone, such as example.org, without https:// or a port.")
      }
      node.domain = text.lowercased()
    }
    if let text = try reader.string("node", "secrets_credential") {
      guard text.isEmpty || Self.isCredentialName(text) else {
        throw reader.wrong(
          "node", "secrets_credential",
          "must be the name of a systemd credential: letters, digits, “.”, “_” and “-”, at most 255.")
      }
      node.secretsCredential = text
    }
    if let address = try Self.address(&reader, "http") { http.address = address }
    if let text = try reader.string("http", "web_folder") {
      guard text.hasPrefix("/") else { throw reader.wrong("http", "web_folder", "must begin with /.") }
      http.webFolder = text
    }
    for text in try reader.strings("http", "trusted_proxies") ?? [] {
      guard let block = AddressBlock(text) else {
        throw reader.wrong(
          "http", "trusted_proxies",
          "has “\(text)”, and must be a list of addresses or blocks of them, such as \"192.0.2.1\" or "
            + "\"2001:db8::/32\".")
      }
      http.trustedProxies.append(block)
    }
    try readHTTPS(&reader)
    tcp.enabled = try reader.boolean("tcp", "enabled") ?? tcp.enabled
    if let address = try Self.address(&reader, "tcp") { tcp.address = address }
    if let text = try reader.string("control", "socket") {
      // sockaddr_un holds 107 bytes and a zero.
      guard text.hasPrefix("/"), text.utf8.count <= 107 else {
        throw reader.wrong("control", "socket", "must begin with / and have at most 107 bytes.")
      }
      control.socket = text
    }
    if let text = try reader.string("log", "level") {
      guard let level = Logger.Level(rawValue: text) else {
        let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
        throw reader.wrong("log", "level", "must be one of \(levels).")
      }
      log.level = level
    }
    if let count = try reader.integer("replication", "max_connections", in: 1...100_000) {
      replication.maxConnections = Int(count)
    }
    if let count = try reader.integer("replication", "max_connections_per_address", in: 1...100_000) {
      replication.maxConnectionsPerAddress = Int(count)
    }
    // Less would not do for what the node has to write whatever happens: requests, and blocks that are on their way.
    if let bytes = try reader.integer("storage", "reserve_bytes", in: 16 << 20...1 << 50) {
      storage.reserveBytes = UInt64(bytes)
    }
    if let bytes = try reader.integer("storage", "quota_bytes", in: 0...1 << 50) {
      storage.quotaBytes = UInt64(bytes)
    }
    metrics.address = try Self.optionalAddress(&reader, "metrics")
    for text in try reader.strings("connections", "urls") ?? [] {
      do throws(ReplicationURL.ParseError) {
        connections.urls.append(try ReplicationURL(text))
      } catch {
        // The text itself stays out of the message: it may have a password in it.
        throw reader.wrong(
          "connections", "urls", "has a wrong URL (number \(connections.urls.count + 1)). \(error)")
      }
    }
    // A message has up to 4,096 bytes: one always has room.
    if let count = try reader.integer("mailbox", "messages", in: 1...512) { mailbox.messages = Int(count) }
    if let count = try reader.integer("mailbox", "bytes", in: 4096...2 << 20) { mailbox.bytes = Int(count) }
    if let count = try reader.integer("mailbox", "days", in: 1...30) { mailbox.days = Int(count) }
    if let seconds = try reader.integer("dat", "ttl", in: 0...Int64(UInt32.max)) { dat.ttl = UInt32(seconds) }
  }

  private mutating func readHTTPS(_ reader: inout SettingsReader) throws(ConfigurationError) {
    if let text = try reader.string("https", "address"), !text.isEmpty {
      guard let address = ListenAddress(text) else {
        throw reader.wrong(
          "https", "address", "must be an address and a port, such as [::]:443, or empty for no TLS.")
      }
      https.address = address
    }
    https.certificate = try Self.file(&reader, "certificate") ?? ""
    https.key = try Self.file(&reader, "key") ?? ""
    if let text = try reader.string("https", "acme_folder") {
      guard text.isEmpty || text.hasPrefix("/") else {
        throw reader.wrong("https", "acme_folder", "must begin with /, or be empty.")
      }
      https.acmeFolder = text
    }
    guard https.address != nil || !https.certificate.isEmpty || !https.key.isEmpty else { return }
    for (key, value) in [("certificate", https.certificate), ("key", https.key)] where value.isEmpty {
      throw reader.wrong(
        "https", key, "is empty, and must be set where the rest of [https] is: see docs/tls.md.")
    }
  }

  /// A path in `[https]`, or a credential's name.
  private static func file(_ reader: inout SettingsReader, _ key: String) throws(ConfigurationError)
    -> String?
  {
    guard let text = try reader.string("https", key) else { return nil }
    guard text.isEmpty || text.hasPrefix("/") || isCredentialName(text) else {
      throw reader.wrong(
        "https", key, "must be a path that begins with /, or the name of a systemd credential.")
    }
    return text
  }

  private static func address(
    _ reader: inout SettingsReader, _ table: String
  ) throws(ConfigurationError) -> ListenAddress? {
    guard let text = try reader.string(table, "address") else { return nil }
    return try address(text, reader, table)
  }

  /// - Returns: `nil` for an empty text, too.
  private static func optionalAddress(
    _ reader: inout SettingsReader, _ table: String
  ) throws(ConfigurationError) -> ListenAddress? {
    guard let text = try reader.string(table, "address"), !text.isEmpty else { return nil }
    return try address(text, reader, table)
  }

  private static func address(
    _ text: String, _ reader: borrowing SettingsReader, _ table: String
  ) throws(ConfigurationError) -> ListenAddress {
    guard let address = ListenAddress(text) else {
      throw reader.wrong(
        table, "address", "must be an address and a port, such as 127.0.0.1:8080 or [::]:80.")
    }
    return address
  }

  /// A file's name in one folder; nothing that leads out of it.
  private static func isCredentialName(_ text: String) -> Bool {
    (1...255).contains(text.utf8.count) && !text.hasPrefix(".")
      && text.utf8.allSatisfy { byte in
        (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte)
          || [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-")].contains(byte)
      }
  }

  static func isDomain(_ text: String) -> Bool {
    text.utf8.count <= 253
      && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
        !label.isEmpty && label.utf8.count <= 63 && !label.hasPrefix("-") && !label.hasSuffix("-")
          && label.utf8.allSatisfy { byte in
            let lower = byte | 0x20
            return (0x61...0x7A).contains(lower) || (0x30...0x39).contains(byte) || byte == UInt8(ascii: "-")
          }
      }
  }
}
