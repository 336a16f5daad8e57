import NIOCore
import NIOHTTP1

/// Who sent a request, and whether it was encrypted on its way: as a proxy says that is trusted, or as the connection shows.
struct ClientOrigin: Equatable, Sendable {
  /// `nil` for a Unix socket.
  var address: IPAddress?
  /// It came over TLS, to here or to the proxy.
  var isSecure: Bool
  /// A proxy said so.
  var isForwarded = false

  /// In words; `local` for a Unix socket.
  var name: String { address.map { "\($0)" } ?? "local" }

  /// From this machine, and not through a proxy on it that says otherwise.
  var isLoopback: Bool { address?.isLoopback ?? true }

  /// - Parameters:
  ///   - peer: the other end of the connection.
  ///   - isTLS: the connection is one over TLS.
  ///   - trusted: proxies whose headers are believed. Those of everyone else are ignored.
  init(peer: IPAddress?, isTLS: Bool, headers: HTTPHeaders, trusted: [AddressBlock]) {
    address = peer
    isSecure = isTLS
    guard let peer, Self.isTrusted(peer, trusted) else { return }
    let forwarded = Self.forwarded(headers)
    // Each proxy adds to the right what it saw: what is left of the first that is not trusted, anybody can have made up.
    for hop in forwarded.addresses.reversed().prefix(EdgeLimits.forwardedHops) {
      guard let hop else { break }
      address = hop
      isForwarded = true
      guard Self.isTrusted(hop, trusted) else { break }
    }
    if let proto = forwarded.proto { isSecure = proto == "https" }
  }

  static func isTrusted(_ address: IPAddress, _ trusted: [AddressBlock]) -> Bool {
    trusted.contains { $0.contains(address) }
  }

  /// The addresses from the client to the last proxy but one, `nil` for what is none, and what the client spoke with the
  /// nearest proxy. `X-Forwarded-` headers count where there are any, since most proxies set those.
  private static func forwarded(_ headers: HTTPHeaders) -> (addresses: [IPAddress?], proto: String?) {
    let addresses = headers["X-Forwarded-For"].flatMap { split($0, UInt8(ascii: ",")) }
    let proto = headers["X-Forwarded-Proto"].flatMap { split($0, UInt8(ascii: ",")) }.last
    guard addresses.isEmpty, proto == nil else {
      return (addresses.map { host($0) }, proto?.lowercased())
    }
    let elements = headers["Forwarded"].flatMap { split($0, UInt8(ascii: ",")) }.map { element in
      var pairs: [String: String] = [:]
      for pair in split(element, UInt8(ascii: ";")) {
        guard let equals = pair.firstIndex(of: "=") else { continue }
        pairs[pair[..<equals].lowercased()] = unquoted(pair[pair.index(after: equals)...])
      }
      return pairs
    }
    return (elements.map { $0["for"].flatMap { host($0) } }, elements.last?["proto"]?.lowercased())
  }

  /// An address, with a port or without, of IPv6 with brackets or without.
  private static func host(_ text: String) -> IPAddress? {
    if let address = IPAddress(text) { return address }
    if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
      return IPAddress(text[text.index(after: text.startIndex)..<end])
    }
    return text.lastIndex(of: ":").flatMap { IPAddress(text[..<$0]) }
  }

  /// The parts between separators, without the spaces around them.
  ///
  /// Quotes are not looked at, and neither is what letters belong together: a client that begins a quote, or ends with a
  /// mark that joins what follows, must not swallow what a proxy adds.
  private static func split(_ text: String, _ separator: UInt8) -> [String] {
    text.utf8.split(separator: separator, omittingEmptySubsequences: false)
      .map { String(Substring($0).trimmingSpaces()) }
  }

  private static func unquoted(_ text: Substring) -> String {
    guard text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return String(text) }
    return String(text.dropFirst().dropLast().replacing("\\", with: ""))
  }
}
