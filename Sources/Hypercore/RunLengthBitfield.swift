/// A bitfield made short: runs of bytes that are all zeros or all ones as a number, others as they are.
///
/// Each piece begins with a varint: even, twice the number of literal bytes that follow; odd, four times the
/// length of a run, plus two if it is of ones, plus one. Zeros at the end are left out.
///
/// Source: bitfield-rle 2.2.1 `index.js`; DEP-0010, "Have", field `bitfield`.
public enum RunLengthBitfield {
  /// The bytes are malformed, or stand for more than the bound.
  public struct Malformed: Error, Equatable {}

  public static func encode(_ bits: [UInt8]) -> [UInt8] {
    var end = bits.count
    while end > 0, bits[end - 1] == 0 { end -= 1 }
    var output: [UInt8] = []
    /// First byte that is not in the output yet.
    var start = 0

    func appendLiteral(upTo to: Int) {
      guard to > start else { return }
      Varint.append(UInt64(2 * (to - start)), to: &output)
      output.append(contentsOf: bits[start..<to])
    }
    func appendRun(endingAt to: Int, length: Int, of byte: UInt8) {
      let literal = to - length - start
      let run = UInt64(4 * length + (byte == 0 ? 0 : 2) + 1)
      let cost = (literal > 0 ? Varint.size(UInt64(2 * literal)) + literal : 0) + Varint.size(run)
      guard cost < Varint.size(UInt64(2 * (to - start))) + to - start else { return }
      appendLiteral(upTo: to - length)
      Varint.append(run, to: &output)
      start = to
    }

    var run = 0
    var byte: UInt8 = 0
    for index in 0..<end {
      if bits[index] == byte {
        run += 1
        continue
      }
      if run > 0 { appendRun(endingAt: index, length: run, of: byte) }
      if bits[index] == 0 || bits[index] == 255 {
        byte = bits[index]
        run = 1
      } else {
        run = 0
      }
    }
    if run > 0 { appendRun(endingAt: end, length: run, of: byte) }
    appendLiteral(upTo: end)
    return output
  }

  /// One piece of an encoded bitfield.
  public enum Piece: Equatable {
    /// As many zero or one bytes.
    case run(bytes: Int, ones: Bool)
    /// Bytes as they are.
    case literal(ArraySlice<UInt8>)
  }

  /// Calls `body` with each piece, without expanding it.
  ///
  /// - Parameter limit: most bytes that all pieces may stand for.
  public static func forEachPiece(
    of encoded: [UInt8], limit: Int, _ body: (Piece) -> Void
  ) throws(Malformed) {
    var reader = ByteReader(encoded[...])
    var total = 0
    while !reader.isAtEnd {
      guard let head = reader.varint() else { throw Malformed() }
      let isRun = head & 1 == 1
      guard let count = Int(exactly: isRun ? head >> 2 : head >> 1), count <= limit - total else {
        throw Malformed()
      }
      total += count
      if isRun {
        body(.run(bytes: count, ones: head & 2 != 0))
      } else {
        guard let bytes = reader.bytes(count) else { throw Malformed() }
        body(.literal(bytes))
      }
    }
  }

  /// The bitfield, without zeros at the end that were left out.
  ///
  /// - Parameter limit: most bytes that the result may have.
  public static func decode(_ encoded: [UInt8], limit: Int) throws(Malformed) -> [UInt8] {
    var bits: [UInt8] = []
    try forEachPiece(of: encoded, limit: limit) { piece in
      switch piece {
      case .run(let count, let ones): bits.append(contentsOf: repeatElement(ones ? 255 : 0, count: count))
      case .literal(let bytes): bits.append(contentsOf: bytes)
      }
    }
    return bits
  }
}
