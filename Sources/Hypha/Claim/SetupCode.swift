import CSodium

/// The one-time code with which an owner claims an uninitialised always-on node, so that a stranger who finds
/// the domain first cannot.
///
/// Ten characters of an alphabet without look-alikes, 50 bits, in two groups of five: `7K2QD-XM4PA`. A wrong one
/// costs an attempt (``SetupAttempts``).
public struct SetupCode: Sendable {
  /// Crockford's base 32: no I, L, O, U.
  private static let alphabet = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)
  /// Characters, without the dash.
  public static let length = 10
  /// With the dash, as people see it.
  public let text: String

  /// A new code.
  ///
  /// - Parameter random: ten random bytes.
  public init(random: [UInt8]) {
    precondition(random.count == Self.length)
    // The alphabet's size divides 256, so that each character is as likely.
    text = Self.grouped(random.map { Self.alphabet[Int($0) % Self.alphabet.count] })
  }

  /// A code that was kept.
  ///
  /// - Returns: `nil` for what is not one.
  public init?(kept: String) {
    guard let characters = Self.normalise(kept), characters.count == Self.length else { return nil }
    text = Self.grouped(characters)
  }

  private static func grouped(_ characters: [UInt8]) -> String {
    let half = length / 2
    return String(decoding: characters[..<half] + [UInt8(ascii: "-")] + characters[half...], as: UTF8.self)
  }

  /// Compares in constant time. Case, dashes, spaces and look-alike letters do not matter.
  func isRight(_ attempt: String) -> Bool {
    guard let given = Self.normalise(attempt), let own = Self.normalise(text), given.count == own.count else {
      return false
    }
    return sodium_memcmp(given, own, own.count) == 0
  }

  /// Upper case, without separators, look-alikes made the letter or digit they are taken for.
  private static func normalise(_ text: String) -> [UInt8]? {
    var characters: [UInt8] = []
    for character in text.utf8.prefix(64) {
      switch character {
      case UInt8(ascii: "-"), UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"):
        continue
      case UInt8(ascii: "o"), UInt8(ascii: "O"): characters.append(UInt8(ascii: "0"))
      case UInt8(ascii: "i"), UInt8(ascii: "I"), UInt8(ascii: "l"), UInt8(ascii: "L"):
        characters.append(UInt8(ascii: "1"))
      case UInt8(ascii: "a")...UInt8(ascii: "z"): characters.append(character - 32)
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
        characters.append(character)
      default: return nil
      }
    }
    return characters
  }
}
