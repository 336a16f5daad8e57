/// Bytes from the fuzzer as decisions: numbers, pieces, and what is left. At the end all is zero and empty.
struct Input {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  var isAtEnd: Bool { position == bytes.count }

  mutating func byte() -> UInt8 {
    guard position < bytes.count else { return 0 }
    defer { position += 1 }
    return bytes[position]
  }

  mutating func below(_ limit: Int) -> Int { Int(byte()) % limit }

  /// Eight bytes, or small where the first one is.
  mutating func number() -> UInt64 {
    let first = byte()
    if first < 0xE0 { return UInt64(first) }
    return (0..<8).reduce(0) { value, _ in value << 8 | UInt64(byte()) }
  }

  /// A piece with its size before it: a byte, or from 0xF0 on two more.
  mutating func piece() -> [UInt8] {
    let first = Int(byte())
    let count = first < 0xF0 ? first : Int(byte()) << 8 | Int(byte())
    return take(count)
  }

  mutating func rest() -> [UInt8] { take(bytes.count) }

  private mutating func take(_ count: Int) -> [UInt8] {
    let end = min(bytes.count, position + count)
    defer { position = end }
    return Array(bytes[position..<end])
  }
}

extension [UInt8] {
  /// As ``Input/piece()`` reads it.
  var asPiece: [UInt8] {
    count < 0xF0 ? [UInt8(count)] + self : [0xF0, UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF)] + self
  }
}
