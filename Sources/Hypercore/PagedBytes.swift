/// A long, mostly empty row of bytes: pages of one size, made when first written to. Absent bytes are zero.
final class PagedBytes {
  let pageSize: Int
  /// Pages by number.
  private var pages: [UInt64: UnsafeMutablePointer<UInt8>] = [:]
  /// Numbers of all pages in ascending order, so that a search leaps over what is absent.
  private var numbers: [UInt64] = []
  private var lastNumber = UInt64.max
  private var lastPage: UnsafeMutablePointer<UInt8>?
  /// Numbers of the pages changed since they were last taken.
  private(set) var changed: Set<UInt64> = []
  private var lastChanged = UInt64.max
  /// One more than the highest page number.
  private(set) var end: UInt64 = 0

  init(pageSize: Int) {
    self.pageSize = pageSize
  }

  deinit {
    for page in pages.values { page.deallocate() }
  }

  var pageCount: Int { pages.count }

  /// The page's bytes, or `nil` where all are zero.
  @inline(__always)
  func page(_ number: UInt64) -> UnsafeMutablePointer<UInt8>? {
    if number == lastNumber { return lastPage }
    guard let page = pages[number] else { return nil }
    lastNumber = number
    lastPage = page
    return page
  }

  /// The page's bytes, made if absent.
  @inline(__always)
  func makePage(_ number: UInt64) -> UnsafeMutablePointer<UInt8> {
    if let page = page(number) { return page }
    let page = UnsafeMutablePointer<UInt8>.allocate(capacity: pageSize)
    page.initialize(repeating: 0, count: pageSize)
    pages[number] = page
    numbers.insert(number, at: place(of: number))
    end = max(end, number + 1)
    lastNumber = number
    lastPage = page
    return page
  }

  /// Gives a page back: its bytes are zero again.
  func removePage(_ number: UInt64) {
    guard let page = pages.removeValue(forKey: number) else { return }
    page.deallocate()
    numbers.remove(at: place(of: number))
    end = (numbers.last ?? .max) &+ 1
    lastNumber = .max
    lastPage = nil
  }

  /// The lowest number of a page that is there and is not below `number`.
  func firstPage(from number: UInt64) -> UInt64? {
    let place = place(of: number)
    return place < numbers.count ? numbers[place] : nil
  }

  private func place(of number: UInt64) -> Int {
    number >= end ? numbers.count : numbers.firstPlace { $0 >= number }
  }

  /// The first bit of `range` that is set here and not in `other`, where the pages of both begin with 8,192 bits of what is
  /// compared, bit 7 of each byte first. Pages that are absent here cost nothing.
  ///
  /// - Parameter work: grows by one for each 64 bits that were looked at.
  func firstBit(in range: Range<UInt64>, notIn other: PagedBytes, work: inout UInt64) -> UInt64? {
    let bitsPerPage: UInt64 = 8192
    var bit = range.lowerBound
    while bit < range.upperBound {
      guard let number = firstPage(from: bit / bitsPerPage), let page = page(number) else { return nil }
      let start = number * bitsPerPage
      bit = max(bit, start)
      let end = min(start + bitsPerPage, range.upperBound)
      let bytes = UnsafeRawPointer(page)
      let others = other.page(number).map { UnsafeRawPointer($0) }
      while bit < end {
        work += 1
        let offset = Int((bit - start) / 64) * 8
        var word = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        if let others {
          word &= ~UInt64(bigEndian: others.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        word &= .max >> (bit & 63)
        if word != 0 {
          let found = (bit & ~63) + UInt64(word.leadingZeroBitCount)
          return found < end ? found : nil
        }
        bit = (bit & ~63) + 64
      }
    }
    return nil
  }

  @inline(__always)
  func markChanged(_ number: UInt64) {
    guard number != lastChanged else { return }
    changed.insert(number)
    lastChanged = number
  }

  /// Forgets which pages changed.
  func clearChanged() {
    changed.removeAll(keepingCapacity: true)
    lastChanged = .max
  }
}
