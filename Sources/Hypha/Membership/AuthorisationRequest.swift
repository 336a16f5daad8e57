import CSodium
import Hypercore

/// What a request is known by: 16 random bytes.
public struct RequestID: Hashable, Sendable {
  static let count = 16

  let bytes: [UInt8]

  /// - Returns: `nil` for another number of bytes.
  init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == Self.count else { return nil }
    self.bytes = Array(bytes)
  }

  /// - Returns: `nil` unless `hex` is 32 hexadecimal digits.
  public init?(hex: String) {
    guard let bytes = Hex.decode(hex) else { return nil }
    self.init(bytes)
  }

  /// 32 lower-case hexadecimal digits; the first eight are the short id.
  public var hex: String { Hex.encode(bytes) }
}

/// A device's request to be let in.
///
/// In the sealed message it is a JSON object: `action` (`authorise`), `nodeName`, `timestamp`, `readKey`, as the reference
/// has them, and `id`, `expires`, `proof`. Times are RFC 3339 in UTC, bytes hexadecimal digits.
struct AuthorisationRequest: Equatable, Sendable {
  static let action = "authorise"

  var id: RequestID
  /// What the device calls itself.
  var name: String
  /// The public key of the feed that it would write.
  var writer: PublicKey
  /// Milliseconds since 1970.
  var created: Int64
  var expires: Int64

  /// What the device signs with its writer's key, so that nobody asks for another's.
  ///
  /// The feed's own signatures are over hashes of messages that begin with a byte 2, so that neither can be taken for
  /// the other.
  func proven(of hyphalink: PublicKey) -> Hash {
    var message = Array("hypha authorisation request".utf8)
    message += hyphalink.bytes
    message += writer.bytes
    message += id.bytes
    for shift in (0..<8).reversed() { message.append(UInt8(truncatingIfNeeded: expires >> Int64(8 * shift))) }
    message += Array(name.utf8)
    return Digest.hash(message)
  }

  /// Four words by which a person sees that two devices mean the same request: 51 bits.
  func words(of hyphalink: PublicKey) -> [String] {
    let digest = Digest.hash(Array("hypha approval words".utf8) + hyphalink.bytes + writer.bytes + id.bytes)
      .bytes
    return (0..<HyphaLimits.approvalWords).map { place in
      let number = digest[4 * place..<4 * place + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      return WordList.words[Int(number % UInt32(WordList.words.count))]
    }
  }

  func encode(proof: Signature) -> [UInt8] {
    JSONText.object([
      ("action", Self.action), ("nodeName", name), ("timestamp", UTCTime(milliseconds: created).text),
      ("readKey", writer.hex), ("id", id.hex), ("expires", UTCTime(milliseconds: expires).text),
      ("proof", Hex.encode(proof.bytes)),
    ])
  }

  /// - Returns: `nil` for fields that are missing or wrong.
  static func decode(_ fields: [String: String]) -> (request: AuthorisationRequest, proof: Signature)? {
    guard let id = fields["id"].flatMap({ RequestID(hex: $0) }), let name = fields["nodeName"],
      Device.isName(name), let writer = fields["readKey"].flatMap({ PublicKey(hex: $0) }),
      let created = fields["timestamp"].flatMap({ UTCTime($0) }),
      let expires = fields["expires"].flatMap({ UTCTime($0) }),
      let proof = fields["proof"].flatMap({ Hex.decode($0) }).flatMap({ Signature($0) })
    else { return nil }
    let request = AuthorisationRequest(
      id: id, name: name, writer: writer, created: created.milliseconds, expires: expires.milliseconds)
    return (request, proof)
  }
}

/// What a device that may write says to a request: a JSON object with `action` (`authorised` or `denied`), `id`,
/// `nodeName` (of the device that answers) and `timestamp`.
struct AuthorisationAnswer: Equatable, Sendable {
  enum Kind: UInt8 {
    case authorised = 1
    case denied = 2

    var action: String { self == .authorised ? "authorised" : "denied" }

    init?(action: String?) {
      switch action {
      case "authorised": self = .authorised
      case "denied": self = .denied
      default: return nil
      }
    }
  }

  var kind: Kind
  var id: RequestID
  var name: String
  /// Milliseconds since 1970.
  var time: Int64

  var encoded: [UInt8] {
    JSONText.object([
      ("action", kind.action), ("id", id.hex), ("nodeName", name),
      ("timestamp", UTCTime(milliseconds: time).text),
    ])
  }
}

enum Digest {
  /// BLAKE2b-256.
  static func hash(_ message: [UInt8]) -> Hash {
    var hash = [UInt8](repeating: 0, count: 32)
    crypto_generichash(&hash, hash.count, message, UInt64(message.count), nil, 0)
    return Hash(hash) ?? .zero
  }
}
