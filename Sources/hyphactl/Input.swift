import ArgumentParser
import Glibc

/// Bytes that come from a file or from standard input.
enum Input {
  /// Reads a file, or standard input for `-`.
  ///
  /// - Parameter limit: most bytes it may have.
  static func read(_ path: String, limit: Int) throws(InputError) -> [UInt8] {
    let name = path == "-" ? "standard input" : path
    let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw InputError("cannot read \(name): \(String(cString: strerror(errno)))")
    }
    defer { if descriptor != STDIN_FILENO { close(descriptor) } }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw InputError("cannot read \(name): \(String(cString: strerror(errno)))")
      }
      if count == 0 { return bytes }
      bytes.append(contentsOf: buffer[..<count])
      guard bytes.count <= limit else { throw InputError("\(name) is too long: at most \(limit) bytes fit") }
    }
  }

  /// The text that bytes are, without the newline that ends a file's last line.
  static func text(_ bytes: [UInt8], from name: String) throws(InputError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw InputError("\(name) is not UTF-8: byte \(firstInvalid(bytes) + 1) is wrong")
    }
    return text.last == "\n" ? String(text.dropLast()) : text
  }

  /// A secret from a file: its first line.
  static func secret(_ path: String) throws(InputError) -> String {
    let name = path == "-" ? "standard input" : path
    let text = try text(read(path, limit: 4096), from: name)
    guard let line = text.split(separator: "\n").first else { throw InputError("\(name) is empty") }
    return String(line)
  }

  /// How many bytes, from the first, are whole characters.
  private static func firstInvalid(_ bytes: [UInt8]) -> Int {
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    var offset = 0
    while case .scalarValue(let scalar) = decoder.decode(&iterator) { offset += UTF8.width(scalar) }
    return offset
  }
}

/// Why input cannot be used.
struct InputError: Error {
  var reason: String

  init(_ reason: String) {
    self.reason = reason
  }

  /// Tells of it, and gives the status to end with.
  var exit: ExitCode {
    Console.complain(reason)
    return SharedOptions.Status.badInput
  }
}
