import NIOCore
import NIOHTTP1

/// What a request is answered with, but for the headers that every answer has.
struct HTTPAnswer: Sendable {
  var status: HTTPResponseStatus
  var headers: HTTPHeaders
  var body: ByteBuffer

  /// One line.
  static func text(_ status: HTTPResponseStatus, _ text: String) -> HTTPAnswer {
    HTTPAnswer(
      status: status, headers: ["Content-Type": "text/plain; charset=utf-8"],
      body: ByteBuffer(string: text + "\n"))
  }

  /// Headers of answers that do not say otherwise: nothing is kept, and nothing of an answer is run or loaded.
  static let defaults: [(name: String, value: String)] = [
    ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    (
      "Content-Security-Policy",
      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
  ]

  /// For a year, browsers come back over TLS only (RFC 6797).
  static let strictTransport = (name: "Strict-Transport-Security", value: "max-age=31536000")

  /// All of its headers.
  ///
  /// - Parameter isSecure: the request came over TLS.
  func head(close: Bool, isSecure: Bool = false) -> HTTPResponseHead {
    var head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
    if status != .notModified { head.headers.add(name: "Content-Length", value: "\(body.readableBytes)") }
    for (name, value) in Self.defaults where !headers.contains(name: name) {
      head.headers.add(name: name, value: value)
    }
    if isSecure { head.headers.add(name: Self.strictTransport.name, value: Self.strictTransport.value) }
    head.headers.add(name: "Connection", value: close ? "close" : "keep-alive")
    return head
  }
}

/// What a client accepts and has, as its request's headers say.
enum HTTPConditions {
  /// Whether the client's copy is the current one (RFC 9110, section 13.1.2).
  static func matches(_ headers: HTTPHeaders, tag: String) -> Bool {
    items("If-None-Match", headers).contains {
      let named = $0.hasPrefix("W/") ? $0.dropFirst(2) : $0
      return named == tag || named == "*"
    }
  }

  /// The same, or by its date where the client names no copy (section 13.1.3).
  static func isCurrent(_ headers: HTTPHeaders, tag: String, changed: HTTPDate) -> Bool {
    if headers.contains(name: "If-None-Match") { return matches(headers, tag: tag) }
    guard let date = headers.first(name: "If-Modified-Since").flatMap({ HTTPDate($0) }) else { return false }
    return changed <= date
  }

  /// The first of what a header lists.
  private static func items(_ name: String, _ headers: HTTPHeaders) -> [Substring] {
    let most = EdgeLimits.headerItems
    return headers[name].joined(separator: ",").split(separator: ",", maxSplits: most).prefix(most)
      .map { $0.trimmingSpaces() }
  }

  /// How much a client wants an encoding (RFC 9110, section 12.5.3), from 0, not at all, to 1.
  static func quality(of encoding: String, _ headers: HTTPHeaders) -> Double {
    var others: Double?
    for item in items("Accept-Encoding", headers) {
      let parts = item.split(separator: ";").map { $0.trimmingSpaces() }
      let weight =
        parts.dropFirst().first { $0.hasPrefix("q=") || $0.hasPrefix("Q=") }.flatMap {
          Double($0.dropFirst(2))
        }
        ?? 1
      if parts.first?.lowercased() == encoding { return weight }
      if parts.first == "*" { others = weight }
    }
    // Nothing at all is said of what is not named, but that bytes as they are will do.
    return others ?? (encoding == "identity" ? 0.001 : 0)
  }
}

extension Substring {
  /// Without the spaces and tabs around it.
  func trimmingSpaces() -> Substring {
    var text = self
    while text.first == " " || text.first == "\t" { text.removeFirst() }
    while text.last == " " || text.last == "\t" { text.removeLast() }
    return text
  }
}
