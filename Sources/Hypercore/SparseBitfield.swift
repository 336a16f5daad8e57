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
    let number = bit / Self.bitsPerPage
    let page = bytes.makePage(number)
    page[Int(bit % Self.bitsPerPage) >> 3] ^= 128 >> UInt8(bit & 7)
    count = value ? count + 1 : count - 1
    if !value { dropIfEmpty(number, page) }
    return true
  }

  /// Sets or unsets every bit of `range`. Absent pages cost nothing to unset, and a page without a bit is given back, so what
  /// is unset again and again is paid for by what was set before.
  public func set(_ range: Range<UInt64>, to value: Bool = true) {
    var bit = range.lowerBound
    while bit < range.upperBound {
      let number = bit / Self.bitsPerPage
      guard value || bytes.page(number) != nil else {
        guard let next = bytes.firstPage(from: number) else { return }
        bit = next * Self.bitsPerPage
        continue
      }
      let start = number * Self.bitsPerPage
      let end = min(start + Self.bitsPerPage, range.upperBound)
      let page = bytes.makePage(number)
      fill(page, Int(bit - start)..<Int(end - start), with: value)
      if !value { dropIfEmpty(number, page) }
      bit = end
    }
  }

  /// - Parameter bits: of the page.
  private func fill(_ page: UnsafeMutablePointer<UInt8>, _ bits: Range<Int>, with value: Bool) {
    let (first, last) = (bits.lowerBound >> 3, (bits.upperBound - 1) >> 3)
    let firstMask = UInt8(255) >> UInt8(bits.lowerBound & 7)
    let lastMask = ~(UInt8(127) >> UInt8((bits.upperBound - 1) & 7))
    for offset in first...last {
      var mask: UInt8 = offset == first ? firstMask : 255
      if offset == last { mask &= lastMask }
      let before = page[offset]
      let after = value ? before | mask : before & ~mask
      page[offset] = after
      count = count &+ UInt64(after.nonzeroBitCount) &- UInt64(before.nonzeroBitCount)
    }
  }

  private func dropIfEmpty(_ number: UInt64, _ page: UnsafeMutablePointer<UInt8>) {
    let words = UnsafeRawPointer(page)
    for offset in stride(from: 0, to: Self.pageSize, by: 8)
    where words.loadUnaligned(fromByteOffset: offset, as: UInt64.self) != 0 { return }
    bytes.removePage(number)
  }

  /// The highest bit that is set; `nil` where none is.
  public var last: UInt64? {
    guard bytes.end > 0, let page = bytes.page(bytes.end - 1) else { return nil }
    for offset in (0..<Self.pageSize).reversed() where page[offset] != 0 {
      return (bytes.end - 1) * Self.bitsPerPage + UInt64(8 * offset + 7 - page[offset].trailingZeroBitCount)
    }
    return nil
  }

  /// The first bit of `range` that is set here, of a block that a feed does not hold.
  ///
  /// - Parameter work: grows by one for each 64 bits that were looked at.
  func first(in range: Range<UInt64>, notIn feed: FeedBitfield, work: inout UInt64) -> UInt64? {
    bytes.firstBit(in: range, notIn: feed.pages, work: &work)
  }

  /// The first bit of `range` that is not set here, of a block that a feed holds.
  func firstUnset(in range: Range<UInt64>, of feed: FeedBitfield) -> UInt64? {
    var work: UInt64 = 0
    return feed.pages.firstBit(in: range, notIn: bytes, work: &work)
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
