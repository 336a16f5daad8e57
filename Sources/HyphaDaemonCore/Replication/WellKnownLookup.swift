public import Hypercore
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Where a hypha can be asked for: `example.org`, `example.org:8443`, `https://example.org`, or `http://` on loopback;
/// `wss://` and `ws://` mean the same.
public struct HyphaAddress: Hashable, Sendable, CustomStringConvertible {
  /// To connect to the node there.
  public let url: ReplicationURL

  /// The host: what a hypha's keys are derived from, unless it was made with another domain.
  public var domain: String { url.host }
  /// What is asked.
  public var description: String { address(of: "/.well-known/dat") }

  /// What is at a path there, for people.
  func address(of path: String) -> String {
    "\(url.kind == .wss ? "https" : "http")://\(url.authority)\(path)"
  }

  public init(_ text: String) throws(LookupError) {
    let parts = text.firstRange(of: "://").map {
      (text[..<$0.lowerBound].lowercased(), text[$0.upperBound...])
    }
    let scheme: String
    switch parts?.0 {
    case "https", "wss", nil: scheme = "wss"
    case "http", "ws": scheme = "ws"
    case "dat":
      throw LookupError(
        .badAddress, "That is a hyphalink: give the domain, or the URL of a node that has the hypha.")
    default: throw LookupError(.badAddress, "Write the address as example.org or https://example.org.")
    }
    do throws(ReplicationURL.ParseError) {
      url = try ReplicationURL("\(scheme)://\(parts?.1 ?? text[...])")
    } catch {
      // In the words of whoever wrote it.
      let reason = error.description
      throw LookupError(
        .badAddress,
        scheme == parts?.0
          ? reason : reason.replacing("wss://", with: "https://").replacing("ws://", with: "http://"))
    }
    guard url.target == .hypha else {
      throw LookupError(.badAddress, "The address has a path: leave it out, as in https://example.org.")
    }
  }
}

/// Why it is not known which hypha is at an address.
public struct LookupError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// The text is no address.
    case badAddress
    /// No connection: name, network or TLS; or no whole answer.
    case unreachable
    /// There is no hypha: status 404.
    case notFound
    /// Another status, or not what DEP-0005 says.
    case badAnswer
  }

  public var code: Code
  /// Which address, what happened, and what to do where that is known.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  public var description: String { context }
}

/// Asks domains which hypha they have, over HTTPS, and remembers the answer for as long as it says.
///
/// Source: DEP-0005, the part about `/.well-known/dat`. Its DNS records are not asked: they prove nothing without DNS over
/// HTTPS, and so a third party. That there is no hypha is not remembered: whoever asks again has just made one.
public final class WellKnownLookup: Sendable {
  private struct Known {
    var key: PublicKey
    var until: ContinuousClock.Instant
  }

  private let fetch: HTTPFetch
  private let known = Mutex<[HyphaAddress: Known]>([:])

  /// - Parameter connector: its event loops and its TLS are used.
  public convenience init(_ connector: ReplicationConnector) {
    self.init(connector, patience: .seconds(ReplicationLimits.openingSeconds))
  }

  init(_ connector: ReplicationConnector, patience: TimeAmount) {
    fetch = HTTPFetch(connector, patience: patience)
  }

  /// The public key of the hypha at an address.
  /// - Parameter now: for tests.
  public func key(
    of address: HyphaAddress, now: ContinuousClock.Instant = .now
  ) async throws(LookupError) -> PublicKey {
    if let known = known.withLock({ $0[address] }), now < known.until { return known.key }
    let answer = try await fetch.get(
      "/.well-known/dat", of: address, limit: ReplicationLimits.wellKnownBytes, accept: "text/plain, */*")
    switch answer.status {
    case 200: break
    case 404:
      throw LookupError(
        .notFound, "\(address) is not there (404): no hypha is kept at this address, or not yet. Is it right?"
      )
    case 301, 302, 303, 307, 308:
      throw LookupError(
        .badAnswer, "\(address) says to look elsewhere (\(answer.status)): give that address instead.")
    default:
      throw LookupError(
        .badAnswer, "\(address) answered with status \(answer.status) instead of a hyphalink.")
    }
    guard let dat = WellKnownDat(file: answer.body) else {
      throw LookupError(
        .badAnswer, "\(address) answered, but not with a hyphalink: dat:// and 64 hexadecimal digits.")
    }
    known.withLock { known in
      known[address] = nil
      known = known.filter { now < $0.value.until }
      guard dat.ttl > 0, known.count < ReplicationLimits.rememberedAddresses else { return }
      known[address] = Known(
        key: dat.key, until: now + .seconds(min(dat.ttl, ReplicationLimits.rememberedSeconds)))
    }
    return dat.key
  }
}

extension WellKnownDat {
  /// Reads the file: the hyphalink, or the key alone, on the first line, and `TTL=` and seconds on the second, 3600 if
  /// there is none.
  init?(file bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
    var lines = text.split(whereSeparator: \.isWhitespace)[...]
    guard var link = lines.popFirst() else { return nil }
    if link.hasPrefix("dat://") { link = link.dropFirst("dat://".count) }
    if link.hasSuffix("/") { link = link.dropLast() }
    guard let key = PublicKey(hex: link) else { return nil }
    var ttl: UInt32 = 3600
    if let line = lines.popFirst() {
      let digits = line.dropFirst("TTL=".count)
      guard line.hasPrefix("TTL="), digits.allSatisfy({ $0.isASCII && $0.isNumber }) else { return nil }
      // No digits mean none given; too many, forever.
      if !digits.isEmpty { ttl = UInt32(digits) ?? .max }
    }
    guard lines.isEmpty else { return nil }
    self.init(key: key, ttl: ttl)
  }
}
