/// Something that takes a message's fields in order. An absent field is left out.
protocol ProtobufSink {
  mutating func number(_ field: UInt8, _ value: UInt64?)
  mutating func bytes(_ field: UInt8, _ value: [UInt8]?)
  mutating func hash(_ field: UInt8, _ value: Hash)
  mutating func node(_ field: UInt8, _ node: Node)
  /// A bare number and bytes, no fields.
  mutating func raw(_ number: UInt64, _ bytes: [UInt8])
}

extension ProtobufSink {
  mutating func bool(_ field: UInt8, _ value: Bool?) {
    number(field, value.map { $0 ? 1 : 0 })
  }
}

extension Node {
  /// Bytes of a node as a message: index, hash, size.
  fileprivate var protobufSize: Int {
    1 + Varint.size(treeIndex) + 34 + 1 + Varint.size(byteSize)
  }
}

/// Counts the bytes that a message takes.
struct ProtobufSizer: ProtobufSink {
  private(set) var size = 0

  mutating func number(_ field: UInt8, _ value: UInt64?) {
    if let value { size += 1 + Varint.size(value) }
  }

  mutating func bytes(_ field: UInt8, _ value: [UInt8]?) {
    if let value { size += 1 + Varint.size(UInt64(value.count)) + value.count }
  }

  mutating func hash(_ field: UInt8, _ value: Hash) {
    size += 34
  }

  mutating func node(_ field: UInt8, _ node: Node) {
    let body = node.protobufSize
    size += 1 + Varint.size(UInt64(body)) + body
  }

  mutating func raw(_ number: UInt64, _ bytes: [UInt8]) {
    size += Varint.size(number) + bytes.count
  }
}

/// Writes a message's fields into memory that has room for them: as much as ``ProtobufSizer`` counts.
struct ProtobufWriter: ProtobufSink {
  private let memory: UnsafeMutableRawBufferPointer
  private var position = 0

  init(_ memory: UnsafeMutableRawBufferPointer) {
    self.memory = memory
  }

  @inline(__always)
  private mutating func byte(_ byte: UInt8) {
    memory[position] = byte
    position += 1
  }

  @inline(__always)
  mutating func varint(_ value: UInt64) {
    var value = value
    while value >= 128 {
      byte(UInt8(truncatingIfNeeded: value) | 128)
      value >>= 7
    }
    byte(UInt8(truncatingIfNeeded: value))
  }

  private mutating func copy(_ bytes: UnsafeRawBufferPointer) {
    UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + bytes.count]).copyMemory(from: bytes)
    position += bytes.count
  }

  mutating func number(_ field: UInt8, _ value: UInt64?) {
    guard let value else { return }
    byte(field << 3)
    varint(value)
  }

  mutating func bytes(_ field: UInt8, _ value: [UInt8]?) {
    guard let value else { return }
    byte(field << 3 | 2)
    varint(UInt64(value.count))
    value.withUnsafeBytes { copy($0) }
  }

  mutating func hash(_ field: UInt8, _ value: Hash) {
    byte(field << 3 | 2)
    byte(32)
    value.withUnsafeBytes { copy($0) }
  }

  mutating func node(_ field: UInt8, _ node: Node) {
    byte(field << 3 | 2)
    varint(UInt64(node.protobufSize))
    number(1, node.treeIndex)
    hash(2, node.hash)
    number(3, node.byteSize)
  }

  mutating func raw(_ number: UInt64, _ bytes: [UInt8]) {
    varint(number)
    bytes.withUnsafeBytes { copy($0) }
  }
}

/// Reads a message field by field. Fields that a reader does not know are skipped.
struct ProtobufReader {
  struct Field {
    var number: UInt64
    fileprivate var value: Value
  }

  fileprivate enum Value {
    case number(UInt64)
    case bytes(UnsafeRawBufferPointer)
    /// Four or eight bytes: no field here has this form.
    case fixed
  }

  private var reader: RawReader
  private let message: StaticString

  /// - Parameter message: its name, for errors.
  init(_ body: UnsafeRawBufferPointer, in message: StaticString) {
    reader = RawReader(body)
    self.message = message
  }

  mutating func next() throws(WireError) -> Field? {
    if reader.isAtEnd { return nil }
    guard let key = reader.varint() else { throw truncated }
    switch key & 7 {
    case 0:
      guard let value = reader.varint() else { throw truncated }
      return Field(number: key >> 3, value: .number(value))
    case 2:
      guard let count = reader.varint(), count <= UInt64(reader.rest.count),
        let bytes = reader.bytes(Int(count))
      else { throw truncated }
      return Field(number: key >> 3, value: .bytes(bytes))
    case 1, 5:
      guard reader.bytes(key & 7 == 1 ? 8 : 4) != nil else { throw truncated }
      return Field(number: key >> 3, value: .fixed)
    default:
      throw WireError(.malformed, "\(message): a field of unknown form")
    }
  }

  /// A number; over 2^53 the reference cannot represent it, so no peer means it.
  func number(_ field: Field) throws(WireError) -> UInt64 {
    guard case .number(let value) = field.value else {
      throw WireError(.malformed, "\(message): field \(field.number) is no number")
    }
    guard value <= 1 << 53 else {
      throw WireError(.tooLarge, "\(message): field \(field.number) is \(value)")
    }
    return value
  }

  func bool(_ field: Field) throws(WireError) -> Bool {
    try number(field) != 0
  }

  func bytes(_ field: Field, limit: Int = WireLimits.messageBytes) throws(WireError) -> UnsafeRawBufferPointer
  {
    guard case .bytes(let bytes) = field.value else {
      throw WireError(.malformed, "\(message): field \(field.number) has no bytes")
    }
    guard bytes.count <= limit else {
      throw WireError(.tooLarge, "\(message): field \(field.number) has \(bytes.count) bytes")
    }
    return bytes
  }

  static func required(_ value: UInt64?, _ field: StaticString, in message: StaticString) throws(WireError)
    -> UInt64
  {
    guard let value else { throw WireError(.malformed, "\(message) without \(field)") }
    return value
  }

  /// A message of start and length.
  static func range(_ body: UnsafeRawBufferPointer, in message: StaticString) throws(WireError) -> (
    UInt64, UInt64?
  ) {
    var start: UInt64?
    var length: UInt64?
    var fields = ProtobufReader(body, in: message)
    while let field = try fields.next() {
      switch field.number {
      case 1: start = try fields.number(field)
      case 2: length = try fields.number(field)
      default: continue
      }
    }
    return (try required(start, "start", in: message), length)
  }

  private var truncated: WireError { WireError(.malformed, "\(message) ends in the middle of a field") }
}
