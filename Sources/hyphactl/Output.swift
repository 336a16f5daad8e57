import FoundationEssentials
import Glibc

/// Bytes that go into a file.
enum Output {
  /// Takes the place of a file, whose mode stays, or makes one; what is there and is no file, such as a device or a pipe, is
  /// written to.
  static func write(_ bytes: [UInt8], to path: String) throws(InputError) {
    let target = try Target(path)
    // As /dev/stdout, where that may be a file that has something before this already.
    if target.isStandardOutput { return Console.print(bytes: bytes) }
    guard target.isSpecial else {
      let file = try NewFile(target.path, mode: target.found.map { $0.st_mode & 0o777 }, mayReplace: true)
      try file.write(bytes)
      return try file.finish()
    }
    let descriptor = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("cannot write \(path)") }
    defer { close(descriptor) }
    if let error = write(bytes, to: descriptor) { throw failure("cannot write \(path)", error) }
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

/// What a path names that is to be written.
struct Target {
  /// Behind symbolic links: they stay as they are, and what they lead to is written.
  let path: String
  /// `nil` if nothing is there yet.
  let found: stat?

  init(_ path: String) throws(InputError) {
    var found = stat()
    if stat(path, &found) == 0 {
      self.found = found
    } else {
      guard errno == ENOENT else { throw Output.failure("cannot write \(path)") }
      self.found = nil
    }
    var end = path
    // The system has followed them, so they come to an end.
    while let link = try? FileManager.default.destinationOfSymbolicLink(atPath: end) {
      end = link.hasPrefix("/") ? link : "\(Self.folder(of: end))/\(link)"
    }
    self.path = end
  }

  /// Something is there that is no file, and that no file may take the place of.
  var isSpecial: Bool { found.map { $0.st_mode & S_IFMT != S_IFREG } ?? false }

  var isStandardOutput: Bool {
    var output = stat()
    guard let found, fstat(STDOUT_FILENO, &output) == 0 else { return false }
    return (found.st_dev, found.st_ino) == (output.st_dev, output.st_ino)
  }

  static func folder(of path: String) -> String {
    path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
  }
}
