import Glibc

/// What a backup is written to: a file that only its owner can read, as it has secrets, or standard output.
struct BackupFile {
  /// `nil` for standard output.
  private let file: NewFile?

  /// - Parameter path: `-` for standard output.
  init(_ path: String, mayReplace: Bool) throws(InputError) {
    guard path != "-" else {
      file = nil
      return
    }
    let target = try Target(path)
    guard !target.isSpecial else {
      throw InputError(
        "\(path) is no regular file, and stays as it is: give another name, or “-” for standard output")
    }
    guard mayReplace || target.found == nil else { throw NewFile.isThere(path, orElse: ", or --force") }
    file = try NewFile(target.path, mode: 0o600, mayReplace: mayReplace)
  }

  func write(_ bytes: [UInt8]) throws(InputError) {
    if let file { return try file.write(bytes) }
    if let error = Output.write(bytes, to: STDOUT_FILENO) {
      throw Output.failure("cannot write standard output", error)
    }
  }

  /// Makes a file durable, and gives it its name.
  func finish() throws(InputError) { try file?.finish() }
}
