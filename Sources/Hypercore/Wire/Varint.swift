/// Protocol Buffers' variable-length numbers: seven bits a byte, least significant first.
package enum Varint {
  /// Bytes that `value` takes.
  @inline(__always)
  package static func size(_ value: UInt64) -> Int {
    value < 128 ? 1 : (70 - value.leadingZeroBitCount) / 7
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
  package private(set) var rest: ArraySlice<UInt8>

  package init(_ bytes: ArraySlice<UInt8>) {
    rest = bytes
  }

  package var isAtEnd: Bool { rest.isEmpty }

  @inline(__always)
  package mutating func varint() -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while let byte = rest.popFirst() {
      if shift == 63, byte > 1 { return nil }
      value |= UInt64(byte & 127) << shift
      if byte < 128 { return value }
      shift += 7
      if shift > 63 { return nil }
    }
    return nil
  }

  package mutating func bytes(_ count: Int) -> ArraySlice<UInt8>? {
    guard count <= rest.count else { return nil }
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count)
  }
}
