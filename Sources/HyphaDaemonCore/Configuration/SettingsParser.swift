/// A value in a configuration file.
enum SettingValue: Equatable, Sendable {
  case string(String)
  case integer(Int64)
  case boolean(Bool)
  case array([SettingValue])

  /// Its type, in words for a message.
  var typeName: String {
    switch self {
    case .string: "a string"
    case .integer: "a number"
    case .boolean: "true or false"
    case .array: "a list"
    }
  }
}

/// One `key = value`.
struct Setting: Equatable, Sendable {
  var table: String
  var key: String
  var value: SettingValue
  /// From 1.
  var line: Int
}

/// What a configuration file says.
struct SettingsDocument: Equatable, Sendable {
  /// `[table]` headers with their lines.
  var tables: [(name: String, line: Int)] = []
  var settings: [Setting] = []

  static func == (a: Self, b: Self) -> Bool {
    a.settings == b.settings && a.tables.map(\.name) == b.tables.map(\.name)
  }
}

/// Reads the part of TOML 1.0 that settings need: `[table]`, `key = value`, comments; strings on one line, whole
/// numbers, `true`, `false`, and lists of these. What is left out (dates, fractions, inline tables, dotted keys,
/// strings over several lines) is an error that says so, never read as something else.
///
/// Written here, because the TOML packages bring all of Foundation, and so ICU's 30 MB, into the daemon.
struct SettingsParser: ~Copyable {
  /// What is wrong with the text of a file.
  struct Failure: Error, Equatable {
    var line: Int
    var text: String
  }

  /// Bytes that a file may have.
  static let sizeLimit = 1 << 20
  /// How deep lists may be in lists.
  private static let depthLimit = 4

  private let bytes: [UInt8]
  private var position = 0
  private var line = 1

  private init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  static func parse(_ bytes: [UInt8]) throws(Failure) -> SettingsDocument {
    guard bytes.count <= sizeLimit else { throw Failure(line: 1, text: "The file is larger than 1 MiB.") }
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw Failure(line: 1, text: "The file is not UTF-8 text.")
    }
    var parser = SettingsParser(bytes)
    return try parser.document()
  }

  private mutating func document() throws(Failure) -> SettingsDocument {
    var document = SettingsDocument()
    var table = ""
    while true {
      skipBlank(acrossLines: true)
      guard let byte = peek else { return document }
      if byte == UInt8(ascii: "[") {
        position += 1
        guard peek != UInt8(ascii: "[") else { throw failure("Lists of tables, [[ ]], are not used here.") }
        skipBlank()
        let name = try key()
        skipBlank()
        guard take("]") else { throw failure("The table's name has no closing ].") }
        guard !document.tables.contains(where: { $0.name == name }) else {
          throw failure("The table [\(name)] is there twice: join the two.")
        }
        document.tables.append((name, line))
        table = name
      } else {
        let start = line
        let name = try key()
        skipBlank()
        guard peek != UInt8(ascii: ".") else {
          throw failure("Dotted keys are not used here: write [\(name)].")
        }
        guard take("=") else { throw failure("After the key \(name) comes no =.") }
        skipBlank()
        let value = try value(depth: 0)
        guard !document.settings.contains(where: { $0.table == table && $0.key == name }) else {
          throw Failure(line: start, text: "The key \(name) is there twice: remove one.")
        }
        document.settings.append(Setting(table: table, key: name, value: value, line: start))
      }
      skipBlank()
      guard peek == nil || peek == UInt8(ascii: "\n") else {
        throw failure("More text where the line should end.")
      }
    }
  }

  private mutating func key() throws(Failure) -> String {
    if peek == UInt8(ascii: "\"") || peek == UInt8(ascii: "'") { return try string() }
    let start = position
    while let byte = peek, Self.isKeyByte(byte) { position += 1 }
    guard position > start else { throw failure("A key or [table] should be here.") }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  private mutating func value(depth: Int) throws(Failure) -> SettingValue {
    switch peek {
    case UInt8(ascii: "\""), UInt8(ascii: "'"):
      return .string(try string())
    case UInt8(ascii: "["):
      guard depth < Self.depthLimit else { throw failure("Lists in lists too deep.") }
      position += 1
      var values: [SettingValue] = []
      while true {
        skipBlank(acrossLines: true)
        if take("]") { return .array(values) }
        values.append(try value(depth: depth + 1))
        skipBlank(acrossLines: true)
        if take("]") { return .array(values) }
        guard take(",") else { throw failure("In the list, a comma or ] should be here.") }
      }
    case UInt8(ascii: "{"):
      throw failure("Tables on one line, { }, are not used here.")
    default:
      let start = position
      while let byte = peek,
        Self.isKeyByte(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ".")
          || byte == UInt8(ascii: ":")
      { position += 1 }
      let word = String(decoding: bytes[start..<position], as: UTF8.self)
      switch word {
      case "true": return .boolean(true)
      case "false": return .boolean(false)
      case "": throw failure("A value should be here.")
      default: break
      }
      guard let number = Self.integer(word) else {
        throw failure("\(word) is no value: a string needs quotes, a number is whole.")
      }
      return .integer(number)
    }
  }

  /// Decimal digits with a sign, and underscores between digits.
  private static func integer(_ word: String) -> Int64? {
    var digits = Substring(word)
    if digits.first == "-" || digits.first == "+" { digits = digits.dropFirst() }
    let groups = digits.split(separator: "_", omittingEmptySubsequences: false)
    guard groups.allSatisfy({ !$0.isEmpty && $0.allSatisfy { $0.isASCII && $0.isNumber } }) else {
      return nil
    }
    guard digits == "0" || digits.first != "0" else { return nil }
    return Int64(word.filter { $0 != "_" })
  }

  private mutating func string() throws(Failure) -> String {
    let quote = bytes[position]
    position += 1
    if peek == quote, position + 1 < bytes.count, bytes[position + 1] == quote {
      throw failure("Strings over several lines are not used here.")
    }
    var text: [UInt8] = []
    while let byte = peek {
      position += 1
      switch byte {
      case quote:
        return String(decoding: text, as: UTF8.self)
      case UInt8(ascii: "\\") where quote == UInt8(ascii: "\""):
        try escape(into: &text)
      case UInt8(ascii: "\t"):
        text.append(byte)
      case 0..<0x20, 0x7F:
        throw failure("The string does not end on its line, or has a control character.")
      default:
        text.append(byte)
      }
    }
    throw failure("The string has no closing quote.")
  }

  private mutating func escape(into text: inout [UInt8]) throws(Failure) {
    guard let byte = peek else { throw failure("The string has no closing quote.") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "u"), UInt8(ascii: "U"):
      let count = byte == UInt8(ascii: "u") ? 4 : 8
      let digits = bytes[position..<min(position + count, bytes.count)]
      guard digits.count == count, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
        let number = UInt32(String(decoding: digits, as: UTF8.self), radix: 16),
        let scalar = Unicode.Scalar(number)
      else {
        throw failure(
          "\\\(Character(Unicode.Scalar(byte))) needs \(count) hexadecimal digits of a character.")
      }
      position += count
      text.append(contentsOf: String(Character(scalar)).utf8)
    default:
      throw failure("After the \\ comes a character that has no meaning there; write \\\\ for a backslash.")
    }
  }

  private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard peek == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  /// Skips spaces and a comment; with `acrossLines` also ends of lines.
  private mutating func skipBlank(acrossLines: Bool = false) {
    while let byte = peek {
      switch byte {
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"):
        position += 1
      case UInt8(ascii: "#"):
        while let byte = peek, byte != UInt8(ascii: "\n") { position += 1 }
      case UInt8(ascii: "\n") where acrossLines:
        position += 1
        line += 1
      default:
        return
      }
    }
  }

  private func failure(_ text: String) -> Failure { Failure(line: line, text: text) }

  private static func isKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
