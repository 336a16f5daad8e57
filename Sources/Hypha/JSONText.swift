/// Writes JSON, for the few fixed shapes in the database.
struct JSONText {
  private(set) var bytes: [UInt8] = []

  /// An object of strings, in the order given; fields without a value are left out. Names need no escapes.
  static func object(_ fields: [(name: StaticString, value: String?)]) -> [UInt8] {
    var json = JSONText()
    json.append(raw: "{")
    var separator: StaticString = "\""
    for (name, value) in fields {
      guard let value else { continue }
      json.append(raw: separator)
      json.append(raw: name)
      json.append(raw: "\":")
      json.append(string: value)
      separator = ",\""
    }
    json.append(raw: "}")
    return json.bytes
  }

  mutating func append(raw: StaticString) {
    raw.withUTF8Buffer { bytes.append(contentsOf: $0) }
  }

  /// A string in quotes: control characters, quotes and backslashes escaped, all else as UTF-8.
  mutating func append(string: String) {
    let digits = Array("0123456789abcdef".utf8)
    bytes.append(UInt8(ascii: "\""))
    for byte in string.utf8 {
      switch byte {
      case UInt8(ascii: "\""): bytes.append(contentsOf: Array("\\\"".utf8))
      case UInt8(ascii: "\\"): bytes.append(contentsOf: Array("\\\\".utf8))
      case 0x0a: bytes.append(contentsOf: Array("\\n".utf8))
      case 0x0d: bytes.append(contentsOf: Array("\\r".utf8))
      case 0x09: bytes.append(contentsOf: Array("\\t".utf8))
      case 0..<0x20:
        bytes.append(contentsOf: Array("\\u00".utf8))
        bytes.append(digits[Int(byte >> 4)])
        bytes.append(digits[Int(byte & 15)])
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}

/// Reads JSON strictly (RFC 8259), keeping the strings of one object and passing over all else.
struct JSONReader {
  private let bytes: [UInt8]
  private var offset = 0

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  /// Reads a text that is one object.
  ///
  /// - Parameter fields: takes every field that is a string.
  /// - Returns: `false` for a text that is anything else.
  mutating func readObject(into fields: inout [String: String]) -> Bool {
    skipSpace()
    guard
      members(
        depth: 0,
        { reader, name in
          if reader.peek() == UInt8(ascii: "\"") {
            guard let value = reader.string() else { return false }
            fields[name] = value
            return true
          }
          return reader.skipValue(depth: 1)
        })
    else { return false }
    skipSpace()
    return offset == bytes.count
  }

  private mutating func members(depth: Int, _ value: (inout JSONReader, String) -> Bool) -> Bool {
    guard depth < HyphaLimits.jsonDepth, take(UInt8(ascii: "{")) else { return false }
    skipSpace()
    if take(UInt8(ascii: "}")) { return true }
    while true {
      skipSpace()
      guard let name = string() else { return false }
      skipSpace()
      guard take(UInt8(ascii: ":")) else { return false }
      skipSpace()
      guard value(&self, name) else { return false }
      skipSpace()
      if take(UInt8(ascii: "}")) { return true }
      guard take(UInt8(ascii: ",")) else { return false }
    }
  }

  private mutating func skipValue(depth: Int) -> Bool {
    switch peek() {
    case UInt8(ascii: "\""): return string() != nil
    case UInt8(ascii: "{"): return members(depth: depth) { reader, _ in reader.skipValue(depth: depth + 1) }
    case UInt8(ascii: "["): return skipArray(depth: depth)
    case UInt8(ascii: "t"): return take("true")
    case UInt8(ascii: "f"): return take("false")
    case UInt8(ascii: "n"): return take("null")
    default: return skipNumber()
    }
  }

  private mutating func skipArray(depth: Int) -> Bool {
    guard depth < HyphaLimits.jsonDepth, take(UInt8(ascii: "[")) else { return false }
    skipSpace()
    if take(UInt8(ascii: "]")) { return true }
    while true {
      skipSpace()
      guard skipValue(depth: depth + 1) else { return false }
      skipSpace()
      if take(UInt8(ascii: "]")) { return true }
      guard take(UInt8(ascii: ",")) else { return false }
    }
  }

  private mutating func skipNumber() -> Bool {
    _ = take(UInt8(ascii: "-"))
    if !take(UInt8(ascii: "0")) {
      guard skipDigits() else { return false }
    }
    if take(UInt8(ascii: ".")), !skipDigits() { return false }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      return skipDigits()
    }
    return true
  }

  private mutating func skipDigits() -> Bool {
    let start = offset
    while let byte = peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { offset += 1 }
    return offset > start
  }

  /// A string in quotes, its escapes resolved; `nil` for one that is not closed, not UTF-8, or has half a pair.
  private mutating func string() -> String? {
    guard take(UInt8(ascii: "\"")) else { return nil }
    var text: [UInt8] = []
    while let byte = peek() {
      offset += 1
      switch byte {
      case UInt8(ascii: "\""): return String(validating: text, as: UTF8.self)
      case UInt8(ascii: "\\"):
        guard let scalar = escape() else { return nil }
        text.append(contentsOf: Array(String(Character(scalar)).utf8))
      case 0..<0x20: return nil
      default: text.append(byte)
      }
    }
    return nil
  }

  private mutating func escape() -> Unicode.Scalar? {
    guard let byte = peek() else { return nil }
    offset += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return Unicode.Scalar(8)
    case UInt8(ascii: "f"): return Unicode.Scalar(12)
    case UInt8(ascii: "n"): return Unicode.Scalar(10)
    case UInt8(ascii: "r"): return Unicode.Scalar(13)
    case UInt8(ascii: "t"): return Unicode.Scalar(9)
    case UInt8(ascii: "u"):
      guard let unit = hexUnit() else { return nil }
      guard (0xd800..<0xdc00).contains(unit) else { return Unicode.Scalar(unit) }
      guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")), let low = hexUnit(),
        (0xdc00..<0xe000).contains(low)
      else { return nil }
      return Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))
    default: return nil
    }
  }

  private mutating func hexUnit() -> UInt32? {
    guard bytes.count - offset >= 4 else { return nil }
    var unit: UInt32 = 0
    for byte in bytes[offset..<offset + 4] {
      switch byte {
      case 0x30...0x39: unit = unit << 4 | UInt32(byte - 0x30)
      case 0x41...0x46: unit = unit << 4 | UInt32(byte - 0x41 + 10)
      case 0x61...0x66: unit = unit << 4 | UInt32(byte - 0x61 + 10)
      default: return nil
      }
    }
    offset += 4
    return unit
  }

  private func peek() -> UInt8? {
    offset < bytes.count ? bytes[offset] : nil
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard peek() == byte else { return false }
    offset += 1
    return true
  }

  private mutating func take(_ word: StaticString) -> Bool {
    word.withUTF8Buffer { word in
      guard bytes[offset...].starts(with: word) else { return false }
      offset += word.count
      return true
    }
  }

  private mutating func skipSpace() {
    while let byte = peek(), byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { offset += 1 }
  }
}
