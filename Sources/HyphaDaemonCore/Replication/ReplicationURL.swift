import Hypercore

/// Where another node is: `wss://host[:port][/path]`, `ws://` for loopback only, or `tcp://host[:port]`.
public struct ReplicationURL: Hashable, Sendable, CustomStringConvertible {
  /// How to connect.
  public let kind: ReplicationTransport.Kind
  /// Name or address, lower case, an IPv6 address without its brackets.
  public let host: String
  public let port: Int
  /// What to ask for; for TCP always ``ReplicationTarget/hypha``.
  public let target: ReplicationTarget

  /// Why a text is no such URL.
  public struct ParseError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What is wrong and what to write instead. Never contains a part of the text that may be secret.
    public let description: String
  }

  /// Reads a URL. One form is kept for each place: default port and path are left out of ``description``.
  public init(_ text: String) throws(ParseError) {
    func fail(_ reason: String) -> ParseError { ParseError(description: reason) }
    let form = "write it as wss://example.org"
    guard text.utf8.count <= 512 else { throw fail("The URL is longer than 512 bytes.") }
    guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
      throw fail("The URL has a space, a control character or a letter outside ASCII; \(form).")
    }
    guard let colon = text.firstRange(of: "://") else { throw fail("The URL has no scheme; \(form).") }
    guard let kind = ReplicationTransport.Kind(rawValue: text[..<colon.lowerBound].lowercased()) else {
      throw fail("The URL's scheme is not wss, ws or tcp; \(form).")
    }
    let rest = text[colon.upperBound...]
    // Looked for first: whoever puts a secret there must not find it in a log.
    guard !rest.contains("@") else {
      throw fail("The URL has a user name or password before an @: leave it out.")
    }
    guard !rest.contains("?"), !rest.contains("#") else {
      throw fail("The URL has a query or fragment: leave it out; a setup code is asked for apart.")
    }
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    let (host, port) = try Self.split(authority: rest[..<slash])
    guard !host.isEmpty else { throw fail("The URL has no host; \(form).") }
    let path = rest[slash...]
    switch kind {
    case .tcp:
      guard path.isEmpty || path == "/" else { throw fail("A tcp:// URL has no path.") }
      target = .hypha
    case .ws where !Self.isLoopback(host):
      throw fail("ws:// is not encrypted and only for this machine itself: write wss://.")
    case .ws, .wss:
      guard let target = Self.target(path: path) else {
        throw fail("The URL's path is not /hypha, /replicate/KEY or /sign-up/KEY; \(form).")
      }
      self.target = target
    }
    self.kind = kind
    self.host = host
    self.port = port ?? Self.defaultPort(kind)
  }

  /// The same place, asking for something else.
  public init(_ url: ReplicationURL, target: ReplicationTarget) {
    kind = url.kind
    host = url.host
    port = url.port
    self.target = url.kind == .tcp ? .hypha : target
  }

  public var description: String {
    let place = "\(kind.rawValue)://\(authority)"
    return kind == .tcp || target == .hypha ? place : place + path
  }

  /// Host and, if not the default, port, as in a `Host` header.
  var authority: String {
    let name = host.contains(":") ? "[\(host)]" : host
    return port == Self.defaultPort(kind) ? name : "\(name):\(port)"
  }

  /// On the web.
  var path: String { Self.path(target) }

  static func path(_ target: ReplicationTarget) -> String {
    switch target {
    case .hypha: "/hypha"
    case .replicate(let key): "/replicate/\(key.hex)"
    case .signUp(let key): "/sign-up/\(key.hex)"
    }
  }

  /// What a path asks for; `nil` for any other path.
  static func target(path: some StringProtocol) -> ReplicationTarget? {
    if path.isEmpty || path == "/" || path == "/hypha" { return .hypha }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].isEmpty, parts[2].utf8.count == 64, let key = PublicKey(hex: parts[2])
    else {
      return nil
    }
    switch parts[1] {
    case "replicate": return .replicate(key)
    case "sign-up": return .signUp(key)
    default: return nil
    }
  }

  private static func defaultPort(_ kind: ReplicationTransport.Kind) -> Int {
    switch kind {
    case .ws: 80
    case .wss: 443
    case .tcp: 3282
    }
  }

  private static func isLoopback(_ host: String) -> Bool {
    if host == "localhost" || host == "::1" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }

  private static func split(authority: Substring) throws(ParseError) -> (host: String, port: Int?) {
    var host = authority
    var port: Substring?
    if authority.hasPrefix("[") {
      guard let end = authority.firstIndex(of: "]") else {
        throw ParseError(description: "The URL's IPv6 address has no closing bracket.")
      }
      host = authority[authority.index(after: authority.startIndex)..<end]
      let after = authority[authority.index(after: end)...]
      guard after.isEmpty || after.hasPrefix(":") else {
        throw ParseError(description: "The URL has something other than a port after its IPv6 address.")
      }
      port = after.isEmpty ? nil : after.dropFirst()
      guard host.contains(":"),
        host.utf8.allSatisfy({
          $0 == 0x3A || $0 == 0x2E || Hex.decode("0\(Character(Unicode.Scalar($0)))") != nil
        })
      else { throw ParseError(description: "The URL's brackets hold no IPv6 address.") }
    } else if let colon = authority.firstIndex(of: ":") {
      host = authority[..<colon]
      port = authority[authority.index(after: colon)...]
    }
    guard authority.hasPrefix("[") || host.utf8.allSatisfy(Self.isHostByte), host.utf8.count <= 253 else {
      throw ParseError(description: "The URL's host has a character that no host name has.")
    }
    guard let port else { return (host.lowercased(), nil) }
    guard let number = UInt16(port), number > 0, !port.hasPrefix("+") else {
      throw ParseError(description: "The URL's port is not a number from 1 to 65535.")
    }
    return (host.lowercased(), Int(number))
  }

  private static func isHostByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
