/// 32 bytes held inline: a BLAKE2b-256 hash, a discovery key, an Ed25519 public key.
///
/// Inline, so that a merkle node costs no allocation.
public struct Bytes32: Hashable, Sendable {
  /// The bytes, eight to a word in memory order.
  var words: (UInt64, UInt64, UInt64, UInt64)

  /// 32 zero bytes.
  public static let zero = Bytes32()

  private init() {
    words = (0, 0, 0, 0)
  }

  /// - Returns: `nil` unless `bytes` has exactly 32 bytes.
  public init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 32 else { return nil }
    self.init()
    withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
  }

  /// Copies 32 bytes; `bytes` must have at least that many.
  init(copying bytes: UnsafeRawBufferPointer) {
    self.init()
    withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<32])) }
  }

  /// - Returns: `nil` unless `hex` is 64 hexadecimal digits.
  public init?(hex: some StringProtocol) {
    guard let bytes = Hex.decode(hex) else { return nil }
    self.init(bytes)
  }

  /// Made by writing into 32 zero bytes.
  init<E: Error>(initialize: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
    self.init()
    try withUnsafeMutableBytes(initialize)
  }

  public var bytes: [UInt8] {
    withUnsafeBytes { [UInt8]($0) }
  }

  /// 64 lower-case hexadecimal digits.
  public var hex: String {
    Hex.encode(bytes)
  }

  public var isZero: Bool {
    words.0 | words.1 | words.2 | words.3 == 0
  }

  public func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    var copy = words
    return try Swift.withUnsafeMutableBytes(of: &copy) { (buffer) throws(E) in
      try body(UnsafeRawBufferPointer(buffer))
    }
  }

  mutating func withUnsafeMutableBytes<R, E: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try Swift.withUnsafeMutableBytes(of: &words, body)
  }

  public static func == (a: Bytes32, b: Bytes32) -> Bool {
    (a.words.0 ^ b.words.0) | (a.words.1 ^ b.words.1) | (a.words.2 ^ b.words.2) | (a.words.3 ^ b.words.3) == 0
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
    hasher.combine(words.1)
    hasher.combine(words.2)
    hasher.combine(words.3)
  }
}

/// A BLAKE2b-256 hash.
public typealias Hash = Bytes32
/// An Ed25519 public key: it names a feed.
public typealias PublicKey = Bytes32
/// A hash of a feed's public key, by which peers that know the key find each other.
public typealias DiscoveryKey = Bytes32

/// Lower-case hexadecimal.
public enum Hex {
  /// - Returns: two digits a byte.
  public static func encode(_ bytes: some Collection<UInt8>) -> String {
    let digits: [UInt8] = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// - Returns: `nil` for an odd number of digits or anything that is not a digit; either case is read.
  public static func decode(_ text: some StringProtocol) -> [UInt8]? {
    var bytes: [UInt8] = []
    var high: UInt8?
    for character in text.utf8 {
      let digit: UInt8
      switch character {
      case 0x30...0x39: digit = character - 0x30
      case 0x61...0x66: digit = character - 0x61 + 10
      case 0x41...0x46: digit = character - 0x41 + 10
      default: return nil
      }
      if let first = high {
        bytes.append(first << 4 | digit)
        high = nil
      } else {
        high = digit
      }
    }
    return high == nil ? bytes : nil
  }
}
