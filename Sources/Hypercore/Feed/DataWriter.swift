/// The `data` file behind a buffer that joins writes to neighbouring places into one.
final class DataWriter<Storage: RandomAccessStorage> {
  private static var bufferSize: Int { 256 << 10 }
  /// From this size on a write goes straight to the file.
  private static var directSize: Int { 32 << 10 }

  private let file: Storage
  private var buffer: [UInt8] = []
  private var start: UInt64 = 0

  init(_ file: Storage) {
    self.file = file
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FeedError) {
    if bytes.isEmpty { return }
    if offset != start + UInt64(buffer.count) || buffer.count + bytes.count > Self.bufferSize {
      try flush()
    }
    if bytes.count >= Self.directSize {
      try flush()
      try file.put(bytes, at: offset)
      return
    }
    if buffer.isEmpty { start = offset }
    buffer.append(contentsOf: bytes)
  }

  func read(count: Int, at offset: UInt64) throws(FeedError) -> [UInt8] {
    if count == 0 { return [] }
    let bufferEnd = start + UInt64(buffer.count)
    if offset < bufferEnd, offset + UInt64(count) > start { try flush() }
    return try file.bytes(count, at: offset)
  }

  func flush() throws(FeedError) {
    guard !buffer.isEmpty else { return }
    try file.put(buffer, at: start)
    buffer.removeAll(keepingCapacity: true)
  }
}
