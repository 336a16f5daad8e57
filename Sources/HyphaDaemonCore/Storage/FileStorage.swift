import Glibc
public import Hypercore

/// A ``RandomAccessStorage`` in a file, mode 0600.
///
/// System calls: `open(O_RDWR|O_CREAT|O_CLOEXEC)`, then `pread`, `pwrite`, `ftruncate`, and `fdatasync` for
/// ``sync()``. A new file's own entry in its folder is made durable by ``StateFolder/sync(folder:)``.
public final class FileStorage: RandomAccessStorage {
  /// Where it is.
  public let path: String
  private let file: FileDescriptor
  /// The error of an `fdatasync`. The kernel may drop what it could not write and report no error the next
  /// time, so nothing is tried again: each later call fails with this.
  private var failure: StorageError?
  /// Written to since the last sync; also by the process before, as far as this one can know: it may have been killed before its
  /// sync, and what it wrote reads as if it were on disk.
  private var dirty = true
  /// Kept here, because the node is the only one that changes its files.
  private var knownSize: UInt64

  /// Opens the file, and makes it if it is not there.
  public init(_ path: String) throws(StorageError) {
    self.path = path
    do throws(SystemError) {
      file = try FileDescriptor(path, O_RDWR | O_CREAT)
      knownSize = try file.size("size of \(path)")
    } catch {
      throw error.storageError
    }
  }

  public var size: UInt64 {
    get throws(StorageError) {
      try check()
      return knownSize
    }
  }

  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StorageError) {
    try check()
    let count: Int
    do throws(SystemError) {
      count = try file.read(into: buffer, at: offset, "read \(path) at \(offset)")
    } catch {
      throw error.storageError
    }
    guard count == buffer.count else {
      throw StorageError(.outOfRange, "read \(buffer.count) bytes at \(offset) of \(knownSize) in \(path)")
    }
  }

  public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StorageError) {
    try check()
    guard !bytes.isEmpty else { return }
    dirty = true
    do throws(SystemError) {
      try file.write(bytes, at: offset, "write \(path) at \(offset)")
      knownSize = max(knownSize, offset + UInt64(bytes.count))
    } catch {
      // A part may have been written.
      knownSize = (try? file.size("size of \(path)")) ?? knownSize
      throw error.storageError
    }
  }

  public func truncate(to size: UInt64) throws(StorageError) {
    try check()
    dirty = true
    do throws(SystemError) {
      guard let length = off_t(exactly: size) else { throw SystemError(EFBIG, "truncate \(path) to \(size)") }
      try retried("truncate \(path) to \(size)") { ftruncate(file.number, length) }
      knownSize = size
    } catch {
      throw error.storageError
    }
  }

  public func sync() throws(StorageError) {
    try check()
    guard dirty else { return }
    do throws(SystemError) {
      guard fdatasync(file.number) == 0 else { throw SystemError("sync \(path)") }
      dirty = false
    } catch {
      let failure = error.storageError
      self.failure = failure
      throw failure
    }
  }

  private func check() throws(StorageError) {
    if let failure { throw failure }
  }
}
