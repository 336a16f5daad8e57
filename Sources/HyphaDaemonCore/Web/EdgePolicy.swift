import NIOCore
import NIOHTTP1
import Synchronization

/// What the web edge does that may change while it runs; shared by all of a node's servers.
public final class EdgePolicy: Sendable {
  /// What holds now.
  struct Rules: Sendable {
    /// Whose word about a request's origin is believed.
    var trustedProxies: [AddressBlock] = []
    /// Where `/.well-known/acme-challenge/` is served from; empty: it is not.
    var acmeFolder = ""
    /// The port of this node's own HTTPS; `nil` where it has none, and a proxy may have.
    var httpsPort: Int?
  }

  private let rules = Mutex(Rules())

  /// One without proxies, folder and HTTPS.
  public init() {}

  /// - Parameter configuration: only what may change while the node runs is read.
  public convenience init(_ configuration: Configuration) {
    self.init()
    apply(configuration)
  }

  var current: Rules { rules.withLock { $0 } }

  /// Takes settings over, for all requests from now on.
  public func apply(_ configuration: Configuration) {
    rules.withLock {
      $0.trustedProxies = configuration.http.trustedProxies
      $0.acmeFolder = configuration.https.acmeFolder
    }
  }

  /// From now on plain HTTP sends clients to HTTPS at this port.
  func redirect(toPort port: Int) {
    rules.withLock { $0.httpsPort = port }
  }

  func isTrustedProxy(_ address: SocketAddress?) -> Bool {
    guard let address = IPAddress(address) else { return false }
    return rules.withLock { ClientOrigin.isTrusted(address, $0.trustedProxies) }
  }

  func origin(_ channel: any Channel, isTLS: Bool, _ headers: HTTPHeaders) -> ClientOrigin {
    ClientOrigin(
      peer: IPAddress(channel.remoteAddress), isTLS: isTLS, headers: headers,
      trusted: rules.withLock { $0.trustedProxies })
  }
}

extension EdgePolicy.Rules {
  /// With a node's own HTTPS nothing but this is answered without it.
  static let plainPaths: Set<String> = ["/healthz"]

  /// Where a request that came in the clear is sent; `nil` where it is answered as it is.
  func redirect(_ head: HTTPRequestHead, path: String, _ origin: ClientOrigin) -> HTTPAnswer? {
    guard let httpsPort, !origin.isSecure, !Self.plainPaths.contains(path) else { return nil }
    guard let host = head.headers.first(name: "Host").flatMap({ Self.host($0) }), head.uri.hasPrefix("/"),
      head.uri.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
    else {
      return .text(.badRequest, "The request has no valid Host: use https://.")
    }
    let place = httpsPort == 443 ? host : "\(host):\(httpsPort)"
    var answer = HTTPAnswer.text(.permanentRedirect, "This is at https://\(place)\(head.uri) only.")
    answer.headers.add(name: "Location", value: "https://\(place)\(head.uri)")
    return answer
  }

  /// The host of a `Host` header without its port, if it is a name or an address.
  private static func host(_ text: String) -> String? {
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]"), isPort(text[text.index(after: end)...]) else { return nil }
      return IPAddress(text[text.index(after: text.startIndex)..<end]).map { "[\($0)]" }
    }
    let end = text.firstIndex(of: ":") ?? text.endIndex
    let name = String(text[..<end])
    return isPort(text[end...]) && Configuration.isDomain(name) ? name.lowercased() : nil
  }

  /// Nothing, or a colon and a number.
  private static func isPort(_ text: Substring) -> Bool {
    text.isEmpty || text.hasPrefix(":") && text.dropFirst().utf8.allSatisfy { (0x30...0x39).contains($0) }
  }
}
