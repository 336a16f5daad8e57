import Glibc

/// Bytes that go into a file.
enum Output {
  /// Makes a file, or takes the place of one, as a whole: nobody sees half of it.
  static func write(_ bytes: [UInt8], to path: String) throws(InputError) {
    let temporary = path + ".\(getpid()).new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failure("cannot make \(temporary)") }
    if let error = write(bytes, to: descriptor) {
      close(descriptor)
      unlink(temporary)
      throw failure("cannot write \(temporary)", error)
    }
    guard close(descriptor) == 0, rename(temporary, path) == 0 else {
      let failure = failure("cannot write \(path)")
      unlink(temporary)
      throw failure
    }
  }

  /// Writes all of it to what is open.
  ///
  /// - Returns: the error's number if that failed.
  static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32? {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno != EINTR {
        return errno
      }
    }
    return nil
  }

  static func failure(_ what: String, _ error: Int32 = errno) -> InputError {
    InputError("\(what): \(String(cString: strerror(error)))")
  }
}
