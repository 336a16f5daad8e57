import ArgumentParser
import Glibc

/// Bytes that come from a file or from standard input.
enum Input {
  private static let newline = UInt8(ascii: "\n")
  private static let carriageReturn = UInt8(ascii: "\r")

  /// Reads a file, or standard input for `-`.
  ///
  /// - Parameter limit: most bytes it may have.
  static func read(_ path: String, limit: Int) throws(InputError) -> [UInt8] {
    let bytes = try read(path, atMost: limit + 1)
    try check(bytes.count, limit: limit, of: name(path))
    return bytes
  }

  /// Reads text, without the newline that ends a file's last line.
  ///
  /// - Parameter limit: most bytes it may have then.
  static func text(_ path: String, limit: Int) throws(InputError) -> String {
    var bytes = try read(path, atMost: limit + 3)
    if bytes.last == newline {
      bytes.removeLast()
      if bytes.last == carriageReturn { bytes.removeLast() }
    }
    try check(bytes.count, limit: limit, of: name(path))
    return try decode(bytes, from: name(path))
  }

  /// Refuses what has too many bytes.
  static func check(_ count: Int, limit: Int, of name: String) throws(InputError) {
    guard count <= limit else { throw InputError("\(name) is too long: at most \(limit) bytes fit") }
  }

  /// A secret from a file: its first line, whichever system's newline it ends with.
  static func secret(_ path: String) throws(InputError) -> String {
    // Bytes, because "\r\n" is one Character, and not the newline that lines would be found by.
    for line in try read(path, limit: 4096).split(separator: newline) {
      let secret = line.last == carriageReturn ? line.dropLast() : line
      if !secret.isEmpty { return try decode(Array(secret), from: name(path)) }
    }
    throw InputError("\(name(path)) is empty")
  }

  private static func name(_ path: String) -> String { path == "-" ? "standard input" : path }

  private static func read(_ path: String, atMost limit: Int) throws(InputError) -> [UInt8] {
    let name = name(path)
    let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Output.failure("cannot read \(name)")
    }
    defer { if descriptor != STDIN_FILENO { close(descriptor) } }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while bytes.count < limit {
      let count = Glibc.read(descriptor, &buffer, min(buffer.count, limit - bytes.count))
      if count < 0 {
        if errno == EINTR { continue }
        throw Output.failure("cannot read \(name)")
      }
      if count == 0 { break }
      bytes.append(contentsOf: buffer[..<count])
    }
    return bytes
  }

  private static func decode(_ bytes: [UInt8], from name: String) throws(InputError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw InputError("\(name) is not UTF-8: byte \(firstInvalid(bytes) + 1) is wrong")
    }
    return text
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
