import Glibc
import Hypercore

/// A system call that failed.
struct SystemError: Error, Equatable {
  /// `errno`.
  var number: Int32
  /// What was being done.
  var context: String

  init(_ number: Int32, _ context: String) {
    self.number = number
    self.context = context
  }

  /// Reads `errno`: nothing may come between the failed call and this.
  init(_ context: String) {
    self.init(errno, context)
  }

  /// The system's own words for the number.
  static func message(_ number: Int32) -> String {
    String(cString: strerror(number))
  }

  /// The same of a file in the state folder, with what to do where the system does not let it be used.
  var storageError: StorageError {
    let text = "\(context): \(Self.message(number))"
    switch number {
    case ENOSPC, EDQUOT:
      return StorageError(.full, text)
    case EROFS:
      return StorageError(.system(number), "\(text): mount that file system so that it can be written to")
    case EACCES, EPERM:
      let advice =
        "everything in the state folder must belong to user \(geteuid()), whom this process runs as"
      return StorageError(.system(number), "\(text): \(advice)")
    default:
      return StorageError(.system(number), text)
    }
  }
}

/// Owns an open file; closes it when it goes away.
struct FileDescriptor: ~Copyable {
  let number: Int32

  /// Takes over an open descriptor.
  init(owning number: Int32) {
    self.number = number
  }

  /// Opens a file; `O_CLOEXEC` is added to `flags`.
  init(_ path: String, _ flags: Int32, mode: mode_t = 0o600) throws(SystemError) {
    number = try retried("open \(path)") { Glibc.open(path, flags | O_CLOEXEC, mode) }
  }

  deinit {
    // Nothing is lost with an error here: what must be durable was synced before.
    Glibc.close(number)
  }

  /// Size in bytes.
  func size(_ context: @autoclosure () -> String) throws(SystemError) -> UInt64 {
    var status = stat()
    guard fstat(number, &status) == 0 else { throw SystemError(context()) }
    return UInt64(status.st_size)
  }

  /// Writes all of `bytes` at `offset`.
  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ context: @autoclosure () -> String
  ) throws(SystemError) {
    guard let start = off_t(exactly: offset) else { throw SystemError(EFBIG, context()) }
    var done = 0
    while done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = pwrite(number, rest.baseAddress, rest.count, start + off_t(done))
      if count > 0 {
        done += count
      } else if count == 0 {
        // POSIX leaves it open; never seen, and must not become an endless loop.
        throw SystemError(EIO, context())
      } else if errno != EINTR {
        throw SystemError(context())
      }
    }
  }

  /// Writes all of `bytes` at the start.
  func write(_ bytes: [UInt8], _ context: @autoclosure () -> String) throws(SystemError) {
    try bytes.withBytes { (bytes) throws(SystemError) in try write(bytes, at: 0, context()) }
  }

  /// Reads up to `limit` bytes from the start.
  func read(upTo limit: Int, _ context: @autoclosure () -> String) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: limit)
    let count = try bytes.withMutableBytes { (buffer) throws(SystemError) in
      try read(into: buffer, at: 0, context())
    }
    bytes.removeLast(limit - count)
    return bytes
  }

  /// Fills `buffer` from `offset` on, as far as the file goes.
  ///
  /// - Returns: the number of bytes read.
  func read(
    into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64, _ context: @autoclosure () -> String
  ) throws(SystemError) -> Int {
    guard let start = off_t(exactly: offset) else { throw SystemError(EFBIG, context()) }
    var done = 0
    while done < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = pread(number, rest.baseAddress, rest.count, start + off_t(done))
      if count > 0 {
        done += count
      } else if count == 0 {
        break
      } else if errno != EINTR {
        throw SystemError(context())
      }
    }
    return done
  }
}

/// Calls until it was not interrupted by a signal.
///
/// - Returns: what the call returned, never negative.
@discardableResult
func retried(_ context: @autoclosure () -> String, _ call: () -> Int32) throws(SystemError) -> Int32 {
  while true {
    let result = call()
    if result >= 0 { return result }
    if errno != EINTR { throw SystemError(context()) }
  }
}
