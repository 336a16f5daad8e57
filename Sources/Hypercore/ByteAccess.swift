extension Array where Element == UInt8 {
  /// As `withUnsafeBytes`, with the error's type kept.
  @inline(__always)
  package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    try withUnsafeBufferPointer { (buffer) throws(E) in try body(UnsafeRawBufferPointer(buffer)) }
  }

  /// An array of `count` bytes, all of them written by `body` unless it throws.
  @inline(__always)
  package init<E: Error>(
    count: Int, writing body: (UnsafeMutableRawBufferPointer) throws(E) -> Void
  ) throws(E) {
    // The standard library writes a length of zero into the one empty array that all threads share.
    guard count > 0 else {
      try body(UnsafeMutableRawBufferPointer(start: nil, count: 0))
      self = []
      return
    }
    var failure: E?
    self.init(unsafeUninitializedCapacity: count) { buffer, written in
      do throws(E) {
        try body(UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]))
        written = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// As `withUnsafeMutableBytes`, with the error's type kept.
  @inline(__always)
  package mutating func withMutableBytes<R, E: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try withUnsafeMutableBufferPointer { (buffer) throws(E) in try body(UnsafeMutableRawBufferPointer(buffer))
    }
  }
}
