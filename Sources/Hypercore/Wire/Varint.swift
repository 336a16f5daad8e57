/// Protocol Buffers' variable-length numbers: seven bits a byte, least significant first.
package enum Varint {
  /// Bytes that `value` takes.
  @inline(__always)
  package static func size(_ value: UInt64) -> Int {
    value < 128 ? 1 : (70 - value.leadingZeroBitCount) / 7
  }

  /// - Parameter next: the next byte, or `nil` at the end.
  @inline(__always)
  package static func read(_ next: () -> UInt8?) -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while let byte = next() {
      if shift == 63, byte > 1 { return nil }
      value |= UInt64(byte & 127) << shift
      if byte < 128 { return value }
      shift += 7
      if shift > 63 { return nil }
    }
    return nil
  }

  @inline(__always)
  package static func append(_ value: UInt64, to output: inout [UInt8]) {
    var value = value
    while value >= 128 {
      output.append(UInt8(truncatingIfNeeded: value) | 128)
      value >>= 7
    }
    output.append(UInt8(truncatingIfNeeded: value))
  }
}

/// Reads numbers and bytes from the front of a slice; `nil` where there are too few, or a number is longer than
/// 64 bits.
package struct ByteReader {
  private let bytes: ArraySlice<UInt8>
  private var position: Int

  package init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  package var isAtEnd: Bool { position == bytes.endIndex }

  /// What was not read yet.
  package var rest: ArraySlice<UInt8> { bytes[position...] }

  @inline(__always)
  package mutating func varint() -> UInt64? {
    let end = bytes.endIndex
    return Varint.read { () -> UInt8? in
      guard position < end else { return nil }
      defer { position += 1 }
      return bytes[position]
    }
  }

  package mutating func bytes(_ count: Int) -> ArraySlice<UInt8>? {
    guard count <= bytes.endIndex - position else { return nil }
    defer { position += count }
    return bytes[position..<position + count]
  }
}

/// As ``ByteReader``, over memory that is lent for as long as it reads.
struct RawReader {
  private let bytes: UnsafeRawBufferPointer
  /// Number of bytes read.
  private(set) var position = 0

  init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
  }

  var isAtEnd: Bool { position == bytes.count }

  var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[position...]) }

  @inline(__always)
  mutating func varint() -> UInt64? {
    Varint.read { () -> UInt8? in
      guard position < bytes.count else { return nil }
      defer { position += 1 }
      return bytes[position]
    }
  }

  @inline(__always)
  mutating func bytes(_ count: Int) -> UnsafeRawBufferPointer? {
    guard count <= bytes.count - position else { return nil }
    defer { position += count }
    return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
  }
}
