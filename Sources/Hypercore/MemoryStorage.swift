/// A ``RandomAccessStorage`` in memory.
public final class MemoryStorage: RandomAccessStorage {
  /// The contents.
  public private(set) var bytes: [UInt8]

  public init(_ bytes: [UInt8] = []) {
    self.bytes = bytes
  }

  public var size: UInt64 {
    get throws(StorageError) { UInt64(bytes.count) }
  }

  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StorageError) {
    guard let start = Int(exactly: offset), start <= bytes.count, buffer.count <= bytes.count - start else {
      throw StorageError(.outOfRange, "read \(buffer.count) bytes at \(offset) of \(bytes.count) in memory")
    }
    bytes.withUnsafeBytes { source in
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[start..<start + buffer.count]))
    }
  }

  public func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(StorageError) {
    guard let start = Int(exactly: offset), start <= Int.max - source.count else {
      throw StorageError(.full, "write at \(offset) in memory")
    }
    let end = start + source.count
    if end > bytes.count { bytes.append(contentsOf: repeatElement(0, count: end - bytes.count)) }
    bytes.withUnsafeMutableBytes { target in
      UnsafeMutableRawBufferPointer(rebasing: target[start..<end]).copyMemory(from: source)
    }
  }

  public func truncate(to size: UInt64) throws(StorageError) {
    guard let size = Int(exactly: size) else { throw StorageError(.full, "truncate memory to \(size)") }
    if size < bytes.count {
      bytes.removeLast(bytes.count - size)
    } else {
      bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
    }
  }

  public func sync() throws(StorageError) {}
}
