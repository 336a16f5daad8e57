import Glibc

/// Bytes that go into a file.
enum Output {
  /// Makes a file, or takes the place of one, as a whole: nobody sees half of it.
  static func write(_ bytes: [UInt8], to path: String) throws(InputError) {
    let temporary = path + ".\(getpid()).new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failure("cannot make \(temporary)") }
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let failure = failure("cannot write \(temporary)")
        close(descriptor)
        unlink(temporary)
        throw failure
      }
      rest = rest.dropFirst(count)
    }
    guard close(descriptor) == 0, rename(temporary, path) == 0 else {
      let failure = failure("cannot write \(path)")
      unlink(temporary)
      throw failure
    }
  }

  private static func failure(_ what: String) -> InputError {
    InputError("\(what): \(String(cString: strerror(errno)))")
  }
}
