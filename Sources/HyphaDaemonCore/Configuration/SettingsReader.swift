/// Takes settings out of a document one by one, and so learns which ones there are: what is left over at the
/// end is unknown, and an error.
struct SettingsReader {
  private let file: String
  private let document: SettingsDocument
  /// Asked for so far, in order, as `table.key`.
  private(set) var known: [(table: String, key: String)] = []

  init(_ document: SettingsDocument, file: String) {
    self.document = document
    self.file = file
  }

  mutating func string(_ table: String, _ key: String) throws(ConfigurationError) -> String? {
    guard let setting = setting(table, key) else { return nil }
    guard case .string(let text) = setting.value else { throw wrongType(setting, "a string in quotes") }
    return text
  }

  mutating func boolean(_ table: String, _ key: String) throws(ConfigurationError) -> Bool? {
    guard let setting = setting(table, key) else { return nil }
    guard case .boolean(let value) = setting.value else { throw wrongType(setting, "true or false") }
    return value
  }

  mutating func integer(
    _ table: String, _ key: String, in range: ClosedRange<Int64>
  ) throws(ConfigurationError) -> Int64? {
    guard let setting = setting(table, key) else { return nil }
    let expected = "a whole number from \(range.lowerBound) to \(range.upperBound)"
    guard case .integer(let value) = setting.value else { throw wrongType(setting, expected) }
    guard range.contains(value) else { throw wrong(setting, "is \(value), and must be \(expected).") }
    return value
  }

  mutating func strings(_ table: String, _ key: String) throws(ConfigurationError) -> [String]? {
    guard let setting = setting(table, key) else { return nil }
    let expected = "a list of strings in quotes"
    guard case .array(let values) = setting.value else { throw wrongType(setting, expected) }
    var texts: [String] = []
    for value in values {
      guard case .string(let text) = value else {
        throw wrong(setting, "holds \(value.typeName), and must be \(expected).")
      }
      texts.append(text)
    }
    return texts
  }

  /// A setting that has the right type and makes no sense.
  func wrong(_ table: String, _ key: String, _ text: String) -> ConfigurationError {
    guard let setting = document.settings.first(where: { $0.table == table && $0.key == key }) else {
      return ConfigurationError(.badValue, "\(file): \(key) in [\(table)] \(text)")
    }
    return wrong(setting, text)
  }

  /// - Throws: if the document has a table or key that was not asked for.
  func finish() throws(ConfigurationError) {
    let tables = Set(known.map(\.table))
    for table in document.tables where !tables.contains(table.name) {
      throw ConfigurationError(
        .unknownKey,
        "\(file), line \(table.line): there is no table [\(table.name)]\(Self.hint(table.name, tables, "[", "]"))"
      )
    }
    for setting in document.settings {
      let keys = known.filter { $0.table == setting.table }.map(\.key)
      guard !keys.contains(setting.key) else { continue }
      let place = setting.table.isEmpty ? "before the first [table]" : "in [\(setting.table)]"
      var text = "\(file), line \(setting.line): there is no key \(setting.key) \(place)"
      let elsewhere = known.filter { $0.key == setting.key }.map(\.table)
      if let other = elsewhere.first {
        text += "; it belongs in [\(other)]"
      } else {
        text += Self.hint(setting.key, Set(keys.isEmpty ? known.map(\.key) : keys), "", "")
      }
      throw ConfigurationError(.unknownKey, text)
    }
  }

  private mutating func setting(_ table: String, _ key: String) -> Setting? {
    known.append((table, key))
    return document.settings.first { $0.table == table && $0.key == key }
  }

  private func wrongType(_ setting: Setting, _ expected: String) -> ConfigurationError {
    wrong(setting, "is \(setting.value.typeName), and must be \(expected).")
  }

  private func wrong(_ setting: Setting, _ text: String) -> ConfigurationError {
    ConfigurationError(
      .badValue, "\(file), line \(setting.line): \(setting.key) in [\(setting.table)] \(text)")
  }

  private static func hint(_ name: String, _ candidates: Set<String>, _ before: String, _ after: String)
    -> String
  {
    let nearest = candidates.sorted().min { distance(name, $0) < distance(name, $1) }
    guard let nearest, distance(name, nearest) <= max(2, name.count / 2) else { return "" }
    return ": did you mean \(before)\(nearest)\(after)?"
  }

  /// Letters to change, add or leave out to get from one word to the other.
  static func distance(_ a: String, _ b: String) -> Int {
    let a = Array(a.utf8)
    let b = Array(b.utf8)
    var row = Array(0...b.count)
    for (i, first) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, second) in b.enumerated() {
        let change = diagonal + (first == second ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(change, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }
}
