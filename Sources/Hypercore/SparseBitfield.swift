/// A bitfield over a large range of which little is set. Bit 7 of a byte comes first, as on the wire.
public final class SparseBitfield {
  private static let pageSize = 1024
  private static let bitsPerPage: UInt64 = 8192
  private let bytes = PagedBytes(pageSize: pageSize)
  /// Number of bits set.
  public private(set) var count: UInt64 = 0

  public init() {}

  /// One more than the highest bit that has room; bits from here on are unset.
  public var end: UInt64 { bytes.end * Self.bitsPerPage }

  /// Bytes of memory held for pages.
  public var memory: Int { bytes.pageCount * Self.pageSize }

  @inline(__always)
  public subscript(_ bit: UInt64) -> Bool {
    guard let page = bytes.page(bit / Self.bitsPerPage) else { return false }
    return page[Int(bit % Self.bitsPerPage) >> 3] & (128 >> UInt8(bit & 7)) != 0
  }

  /// - Returns: whether the bit changed.
  @discardableResult
  public func set(_ bit: UInt64, to value: Bool = true) -> Bool {
    if self[bit] == value { return false }
    let page = bytes.makePage(bit / Self.bitsPerPage)
    page[Int(bit % Self.bitsPerPage) >> 3] ^= 128 >> UInt8(bit & 7)
    count = value ? count + 1 : count - 1
    return true
  }

  /// Sets or unsets every bit of `range`.
  public func set(_ range: Range<UInt64>, to value: Bool = true) {
    var bit = range.lowerBound
    while bit < range.upperBound {
      guard bit & 7 == 0, range.upperBound - bit >= 8 else {
        set(bit, to: value)
        bit += 1
        continue
      }
      let number = bit / Self.bitsPerPage
      if value || bytes.page(number) != nil {
        let end = min((number + 1) * Self.bitsPerPage, range.upperBound & ~7)
        fill(bytes.makePage(number), from: Int(bit % Self.bitsPerPage) >> 3, Int(end - bit) >> 3, with: value)
        bit = end
      } else {
        guard let next = bytes.firstPage(from: number) else { return }
        bit = min(next * Self.bitsPerPage, range.upperBound & ~7)
      }
    }
  }

  private func fill(_ page: UnsafeMutablePointer<UInt8>, from offset: Int, _ length: Int, with value: Bool) {
    let part = UnsafeMutableBufferPointer(start: page + offset, count: length)
    let before = part.reduce(0) { $0 + UInt64($1.nonzeroBitCount) }
    part.update(repeating: value ? 255 : 0)
    count = value ? count + 8 * UInt64(length) - before : count - before
  }

  /// The first bit of `range` that has that value.
  public func first(_ value: Bool, in range: Range<UInt64>) -> UInt64? {
    var bit = range.lowerBound
    while bit < range.upperBound {
      let number = bit / Self.bitsPerPage
      guard let page = bytes.page(number) else {
        if !value { return bit }
        guard let next = bytes.firstPage(from: number) else { return nil }
        bit = next * Self.bitsPerPage
        continue
      }
      let pageEnd = min((number + 1) * Self.bitsPerPage, range.upperBound)
      while bit < pageEnd {
        let byte = page[Int(bit % Self.bitsPerPage) >> 3]
        let candidates = (value ? byte : ~byte) & (255 >> UInt8(bit & 7))
        if candidates != 0 {
          let found = (bit & ~7) + UInt64(candidates.leadingZeroBitCount)
          return found < range.upperBound ? found : nil
        }
        bit = (bit & ~7) + 8
      }
    }
    return nil
  }
}
