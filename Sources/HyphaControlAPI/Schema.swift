/// A type whose JSON schema cannot be seen by decoding it: one that checks what it decodes.
protocol SchemaDescribing {
  static var schema: JSONValue { get }
  /// Any value.
  static var sample: Self { get }
}

extension SchemaDescribing where Self: CaseIterable & RawRepresentable<String> {
  static var schema: JSONValue {
    .object(["type": .string("string"), "enum": .array(allCases.map { .string($0.rawValue) })])
  }
  static var sample: Self { allCases[allCases.startIndex] }
}

extension NodeRole: SchemaDescribing {}
extension PeerInfo.Direction: SchemaDescribing {}
extension ConnectionInfo.State: SchemaDescribing {}
extension ControlEvent.Kind: SchemaDescribing {}
extension NodeWait.Condition: SchemaDescribing {}
extension OwnRequestInfo.State: SchemaDescribing {}
extension RequestInfo.State: SchemaDescribing {}

extension Timestamp: SchemaDescribing {
  static var schema: JSONValue { .object(["type": .string("string"), "format": .string("date-time")]) }
  static var sample: Self { Self(milliseconds: 0) }
}

extension JSONValue: SchemaDescribing {
  static var schema: JSONValue { .object(["type": .string("object")]) }
  static var sample: Self { .null }
}

/// The JSON schema of a type, found by having it decode from a decoder that hands out zeros and empty strings, and
/// notes what it was asked for.
func schema<T: Decodable>(of type: T.Type) -> JSONValue {
  sampleAndSchema(of: type).schema
}

/// The types that JSON has names for.
private let plainTypes: [(sample: any Decodable & Sendable, name: String)] = [
  (false, "boolean"), ("", "string"), (0.0, "number"), (0, "integer"), (Int64(0), "integer"),
  (UInt64(0), "integer"),
]

private func sampleAndSchema<T: Decodable>(of type: T.Type) -> (sample: T?, schema: JSONValue) {
  if let described = type as? any SchemaDescribing.Type {
    return (described.sample as? T, described.schema)
  }
  for (sample, name) in plainTypes {
    if let sample = sample as? T { return (sample, .object(["type": .string(name)])) }
  }
  let note = SchemaNote()
  let sample = try? T(from: SchemaDecoder(note: note))
  return (sample, note.schema)
}

/// What a type asked for so far.
private final class SchemaNote {
  private var type = "object"
  private var properties: [String: JSONValue] = [:]
  private var required: [JSONValue] = []
  private var items: JSONValue?
  private var single: JSONValue?

  func member<T: Decodable>(_ type: T.Type, _ key: any CodingKey, isRequired: Bool) throws -> T {
    let (sample, schema) = sampleAndSchema(of: type)
    properties[key.stringValue] = schema
    if isRequired { required.append(.string(key.stringValue)) }
    return try Self.unwrap(sample)
  }

  func element<T: Decodable>(_ type: T.Type) throws -> T {
    let (sample, schema) = sampleAndSchema(of: type)
    items = schema
    return try Self.unwrap(sample)
  }

  func single<T: Decodable>(_ type: T.Type) throws -> T {
    let (sample, schema) = sampleAndSchema(of: type)
    single = schema
    return try Self.unwrap(sample)
  }

  func becomeArray() {
    type = "array"
  }

  var schema: JSONValue {
    if let single { return single }
    var members: [String: JSONValue] = ["type": .string(type)]
    if !properties.isEmpty { members["properties"] = .object(properties) }
    if !required.isEmpty { members["required"] = .array(required) }
    if let items { members["items"] = items }
    return .object(members)
  }

  private static func unwrap<T>(_ sample: T?) throws -> T {
    guard let sample else {
      throw DecodingError.typeMismatch(T.self, .init(codingPath: [], debugDescription: "has no schema"))
    }
    return sample
  }
}

private struct SchemaDecoder: Decoder {
  let note: SchemaNote
  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy: Key.Type) -> KeyedDecodingContainer<Key> {
    KeyedDecodingContainer(KeyedSchema<Key>(note: note))
  }

  func unkeyedContainer() -> any UnkeyedDecodingContainer {
    note.becomeArray()
    return UnkeyedSchema(note: note)
  }

  func singleValueContainer() -> any SingleValueDecodingContainer {
    SingleSchema(note: note)
  }
}

/// Not used by any type of this API: their containers nest only through types of their own.
private func nesting() -> DecodingError {
  .dataCorrupted(.init(codingPath: [], debugDescription: "containers that nest have no schema"))
}

private struct KeyedSchema<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let note: SchemaNote
  var codingPath: [any CodingKey] { [] }
  var allKeys: [Key] { [] }

  func contains(_: Key) -> Bool { true }
  func decodeNil(forKey: Key) -> Bool { false }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    try note.member(type, key, isRequired: true)
  }
  func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
    try note.member(type, key, isRequired: false)
  }
  // The standard library asks for these by name.
  func decodeIfPresent(_ type: Bool.Type, forKey key: Key) throws -> Bool? {
    try note.member(type, key, isRequired: false)
  }
  func decodeIfPresent(_ type: String.Type, forKey key: Key) throws -> String? {
    try note.member(type, key, isRequired: false)
  }
  func decodeIfPresent(_ type: Double.Type, forKey key: Key) throws -> Double? {
    try note.member(type, key, isRequired: false)
  }
  func decodeIfPresent(_ type: Int.Type, forKey key: Key) throws -> Int? {
    try note.member(type, key, isRequired: false)
  }
  func decodeIfPresent(_ type: Int64.Type, forKey key: Key) throws -> Int64? {
    try note.member(type, key, isRequired: false)
  }
  func decodeIfPresent(_ type: UInt64.Type, forKey key: Key) throws -> UInt64? {
    try note.member(type, key, isRequired: false)
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy: Nested.Type, forKey: Key
  ) throws -> KeyedDecodingContainer<Nested> {
    throw nesting()
  }
  func nestedUnkeyedContainer(forKey: Key) throws -> any UnkeyedDecodingContainer { throw nesting() }
  func superDecoder() throws -> any Decoder { throw nesting() }
  func superDecoder(forKey: Key) throws -> any Decoder { throw nesting() }
}

/// An array of one element.
private struct UnkeyedSchema: UnkeyedDecodingContainer {
  let note: SchemaNote
  var currentIndex = 0
  var count: Int? { 1 }
  var isAtEnd: Bool { currentIndex == 1 }
  var codingPath: [any CodingKey] { [] }

  init(note: SchemaNote) {
    self.note = note
  }

  mutating func decodeNil() -> Bool { false }
  mutating func decode<T: Decodable>(_ type: T.Type) throws -> T {
    currentIndex = 1
    return try note.element(type)
  }
  mutating func nestedContainer<Nested: CodingKey>(
    keyedBy: Nested.Type
  ) throws -> KeyedDecodingContainer<Nested> {
    throw nesting()
  }
  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { throw nesting() }
  mutating func superDecoder() throws -> any Decoder { throw nesting() }
}

private struct SingleSchema: SingleValueDecodingContainer {
  let note: SchemaNote
  var codingPath: [any CodingKey] { [] }

  func decodeNil() -> Bool { false }
  func decode<T: Decodable>(_ type: T.Type) throws -> T { try note.single(type) }
}
