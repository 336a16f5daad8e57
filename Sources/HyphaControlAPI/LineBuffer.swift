/// Cuts a stream of bytes into lines, and never holds more than one line's limit of an unfinished one.
public struct LineBuffer: Sendable {
  /// A line was longer than the limit.
  public struct TooLong: Error {}

  private let limit: Int
  private var bytes: [UInt8] = []
  /// Start of the line that comes next.
  private var start = 0
  /// Up to here there is no newline after `start`.
  private var searched = 0

  /// - Parameter limit: longest line, its newline not counted.
  public init(limit: Int = ControlLimits.lineBytes) {
    self.limit = limit
  }

  /// Bytes of a line that is not complete.
  public var hasPartialLine: Bool { start < bytes.count }

  public mutating func append(_ more: some Sequence<UInt8>) {
    if start > 0 {
      bytes.removeFirst(start)
      searched -= start
      start = 0
    }
    bytes.append(contentsOf: more)
  }

  /// The next complete line without its newline, or `nil` if more bytes are needed.
  public mutating func next() throws(TooLong) -> [UInt8]? {
    guard let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
      searched = bytes.count
      if bytes.count - start > limit { throw TooLong() }
      return nil
    }
    guard end - start <= limit else { throw TooLong() }
    defer {
      start = end + 1
      searched = start
    }
    return Array(bytes[start..<end])
  }
}
