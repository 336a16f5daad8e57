import TOMLKit

/// A value in a configuration file.
enum SettingValue: Equatable, Sendable {
  case string(String)
  case integer(Int64)
  case boolean(Bool)
  case array([SettingValue])
  /// What no setting is: a fraction, a date, a table.
  case other

  /// Its type, in words for a message.
  var typeName: String {
    switch self {
    case .string: "a string"
    case .integer: "a number"
    case .boolean: "true or false"
    case .array: "a list"
    case .other: "of another type"
    }
  }

  init(_ value: any TOMLValueConvertible) {
    switch value.type {
    case .string: self = value.string.map { .string($0) } ?? .other
    case .int: self = value.int.map { .integer(Int64($0)) } ?? .other
    case .bool: self = value.bool.map { .boolean($0) } ?? .other
    case .array: self = value.array.map { .array($0.map { SettingValue($0) }) } ?? .other
    case .table, .double, .date, .time, .dateTime: self = .other
    }
  }
}

/// One `key = value`.
struct Setting: Equatable, Sendable {
  var table: String
  var key: String
  var value: SettingValue
  /// From 1; `nil` where the file writes it in a way that is not looked for.
  var line: Int?
}

/// What a configuration file says.
struct SettingsDocument: Sendable {
  /// `[table]` headers with their lines.
  var tables: [(name: String, line: Int?)] = []
  var settings: [Setting] = []

  /// Largest file that is read, in bytes.
  private static let sizeLimit = 1 << 20

  /// Why a file is no settings: the line, and what is wrong there.
  struct Failure: Error, Equatable {
    var line: Int
    var text: String
  }

  init() {}

  init(parsing bytes: [UInt8]) throws(Failure) {
    guard bytes.count <= Self.sizeLimit else { throw Failure(line: 1, text: "The file is larger than 1 MiB.") }
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw Failure(line: 1, text: "The file is not UTF-8 text.")
    }
    let root: TOMLTable
    do {
      root = try TOMLTable(string: text)
    } catch let error as TOMLParseError {
      throw Failure(line: error.source.begin.line, text: error.description)
    } catch {
      throw Failure(line: 1, text: "\(error)")
    }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    for name in root.keys {
      guard let value = root[name] else { continue }
      guard let table = value.table else {
        let line = Self.line(of: name, in: "", lines)
        settings.append(Setting(table: "", key: name, value: SettingValue(value), line: line))
        continue
      }
      tables.append((name, Self.header(name, lines).map { $0 + 1 }))
      for key in table.keys {
        guard let value = table[key] else { continue }
        let line = Self.line(of: key, in: name, lines)
        settings.append(Setting(table: name, key: key, value: SettingValue(value), line: line))
      }
    }
  }

  /// The place of a table's `[name]`, from 0.
  private static func header(_ name: String, _ lines: [Substring]) -> Int? {
    lines.firstIndex { $0.drop { $0 == " " || $0 == "\t" }.hasPrefix("[\(name)]") }
  }

  /// The line of `key =` below a table's header, from 1.
  private static func line(of key: String, in table: String, _ lines: [Substring]) -> Int? {
    var place = 0
    if !table.isEmpty {
      guard let header = header(table, lines) else { return nil }
      place = header + 1
    }
    while place < lines.count {
      let line = lines[place].drop { $0 == " " || $0 == "\t" }
      if line.hasPrefix("[") { return nil }
      if line.hasPrefix(key), line.dropFirst(key.count).drop(while: { $0 == " " || $0 == "\t" }).first == "=" {
        return place + 1
      }
      place += 1
    }
    return nil
  }
}
