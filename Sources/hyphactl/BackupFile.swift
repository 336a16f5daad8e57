import Glibc

/// A file with secrets that takes shape under another name, mode 0600, and gets its own once it is whole.
final class BackupFile {
  private let path: String
  private let temporary: String
  private let mayReplace: Bool
  private let descriptor: Int32
  private var isDone = false

  /// - Parameter path: `-` for standard output.
  init(_ path: String, mayReplace: Bool) throws(InputError) {
    self.path = path
    self.mayReplace = mayReplace
    temporary = "\(path).\(getpid()).new"
    guard path != "-" else {
      descriptor = STDOUT_FILENO
      return
    }
    if !mayReplace, access(path, F_OK) == 0 {
      throw InputError("\(path) is there already, and stays as it is: give another name, or --force")
    }
    descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw Output.failure("cannot make \(temporary)") }
  }

  deinit {
    guard descriptor != STDOUT_FILENO else { return }
    close(descriptor)
    if !isDone { unlink(temporary) }
  }

  func write(_ bytes: [UInt8]) throws(InputError) {
    if let error = Output.write(bytes, to: descriptor) {
      throw Output.failure("cannot write \(path == "-" ? "standard output" : temporary)", error)
    }
  }

  /// Makes it durable, and gives it its name.
  func finish() throws(InputError) {
    guard path != "-" else { return }
    guard fchmod(descriptor, 0o600) == 0, fsync(descriptor) == 0 else {
      throw Output.failure("cannot write \(temporary)")
    }
    if mayReplace {
      guard rename(temporary, path) == 0 else { throw Output.failure("cannot make \(path)") }
    } else if link(temporary, path) == 0 {
      unlink(temporary)
    } else {
      // Some file systems have no links.
      guard errno != EEXIST, access(path, F_OK) != 0, rename(temporary, path) == 0 else {
        throw InputError("\(path) is there already, and stays as it is: give another name, or --force")
      }
    }
    isDone = true
    let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let opened = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if opened >= 0 {
      fsync(opened)
      close(opened)
    }
  }
}
