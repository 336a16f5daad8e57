/// A post's id: a ULID in lower case. Ten characters are the time in milliseconds, sixteen are random, in Crockford's
/// base 32; as text they sort by time, and two devices never make the same.
///
/// Source: <https://github.com/ulid/spec>.
public struct PostID: Hashable, Comparable, Sendable {
  private static let alphabet = Array("0123456789abcdefghjkmnpqrstvwxyz".utf8)
  static let length = 26
  static let randomBytes = 10

  /// Milliseconds since 1970.
  public let time: Int64
  /// 80 bits.
  private let random: [UInt8]

  /// - Parameter random: ten random bytes.
  init(time: Int64, random: [UInt8]) {
    precondition(random.count == Self.randomBytes)
    self.time = max(0, min(time, (1 << 48) - 1))
    self.random = random
  }

  /// - Returns: `nil` for a text that is no id; either case is read.
  public init?(_ text: String) {
    let characters = Array(text.utf8)
    guard characters.count == Self.length, characters[0] <= UInt8(ascii: "7") else { return nil }
    var bits: [UInt8] = []
    for character in characters {
      let lower = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(character) ? character + 32 : character
      guard let value = Self.alphabet.firstIndex(of: lower) else { return nil }
      for shift in (UInt8(0)..<5).reversed() { bits.append(UInt8(value) >> shift & 1) }
    }
    // 130 bits for 128: the first two are zero.
    var bytes: [UInt8] = []
    for start in stride(from: 2, to: bits.count, by: 8) {
      bytes.append(bits[start..<start + 8].reduce(0) { $0 << 1 | $1 })
    }
    time = bytes[..<6].reduce(0) { $0 << 8 | Int64($1) }
    random = Array(bytes[6...])
  }

  /// The next id of a writer: later than `last` in any case, though the clock may have gone back.
  static func next(after last: PostID?, time: Int64, random: [UInt8]) -> PostID {
    guard let last, time <= last.time else { return PostID(time: time, random: random) }
    var following = last.random
    for place in following.indices.reversed() {
      following[place] &+= 1
      if following[place] != 0 { return PostID(time: last.time, random: following) }
    }
    return PostID(time: last.time + 1, random: random)
  }

  public var text: String {
    var bits: [UInt8] = [0, 0]
    for shift in (Int64(0)..<48).reversed() { bits.append(UInt8(time >> shift & 1)) }
    for byte in random {
      for shift in (UInt8(0)..<8).reversed() { bits.append(byte >> shift & 1) }
    }
    var characters: [UInt8] = []
    for start in stride(from: 0, to: bits.count, by: 5) {
      characters.append(Self.alphabet[Int(bits[start..<start + 5].reduce(0) { $0 << 1 | $1 })])
    }
    return String(decoding: characters, as: UTF8.self)
  }

  public static func < (a: PostID, b: PostID) -> Bool {
    a.time != b.time ? a.time < b.time : a.random.lexicographicallyPrecedes(b.random)
  }
}
