package import Hypercore

/// Reads the fields of a request one after the other: numbers little-endian, byte strings behind their 32-bit count.
package struct RequestReader {
  private let bytes: [UInt8]
  private var offset = 0

  package init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  private mutating func number(_ size: Int) throws(WebError) -> UInt64 {
    guard bytes.count - offset >= size else { throw Self.short }
    var number: UInt64 = 0
    for place in (0..<size).reversed() { number = number << 8 | UInt64(bytes[offset + place]) }
    offset += size
    return number
  }

  package mutating func byte() throws(WebError) -> UInt8 { UInt8(truncatingIfNeeded: try number(1)) }
  package mutating func flag() throws(WebError) -> Bool { try number(1) != 0 }
  package mutating func count() throws(WebError) -> Int { Int(clamping: try number(4)) }
  package mutating func uint64() throws(WebError) -> UInt64 { try number(8) }
  package mutating func time() throws(WebError) -> Int64 { Int64(truncatingIfNeeded: try number(8)) }

  package mutating func data() throws(WebError) -> [UInt8] {
    // `UInt32.max` is below zero where `Int` has 32 bits.
    let count = try number(4)
    guard count <= UInt64(bytes.count - offset) else { throw Self.short }
    defer { offset += Int(count) }
    return Array(bytes[offset..<offset + Int(count)])
  }

  package mutating func text() throws(WebError) -> String {
    String(decoding: try data(), as: UTF8.self)
  }

  package mutating func key() throws(WebError) -> PublicKey {
    guard let key = PublicKey(try data()) else { throw WebError("badRequest", "a key has 32 bytes") }
    return key
  }

  /// Zero bytes stand for none.
  package mutating func optional() throws(WebError) -> [UInt8]? {
    let bytes = try data()
    return bytes.isEmpty ? nil : bytes
  }

  /// What holds a secret is overwritten once it has been read. Zero bytes stand for none.
  package mutating func secret(count: Int) throws(WebError) -> SecretBytes? {
    var bytes = try data()
    if bytes.isEmpty { return nil }
    defer { bytes.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    guard bytes.count == count else { throw WebError("badRequest", "a secret has \(count) bytes here") }
    return SecretBytes(count: bytes.count) { $0.copyBytes(from: bytes) }
  }

  private static var short: WebError {
    WebError("badRequest", "the request is shorter than its method needs")
  }
}

/// Writes the fields of an answer in the form of ``RequestReader``.
package struct ResponseWriter {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  private mutating func append(_ number: UInt64, _ size: Int) {
    for shift in 0..<size { bytes.append(UInt8(truncatingIfNeeded: number >> UInt64(8 * shift))) }
  }

  package mutating func append(_ flag: Bool) { append(flag ? 1 : 0, 1) }
  package mutating func append(byte: UInt8) { bytes.append(byte) }
  package mutating func append(count: Int) { append(UInt64(count), 4) }
  package mutating func append(_ number: UInt64) { append(number, 8) }
  package mutating func append(time: Int64) { append(UInt64(bitPattern: time), 8) }

  package mutating func append(_ data: some Collection<UInt8>) {
    append(count: data.count)
    bytes.append(contentsOf: data)
  }

  package mutating func append(_ text: String) { append(text.utf8) }
  package mutating func append(_ key: PublicKey) { append(key.bytes) }

  package mutating func append(_ secret: borrowing SecretBytes) {
    append(count: secret.count)
    secret.withUnsafeBytes { bytes.append(contentsOf: $0) }
  }
}
