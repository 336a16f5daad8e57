import Glibc

/// A file that takes shape without a name, and gets its own once it is whole: nobody sees half of it, and of one that is broken
/// off nothing is left.
///
/// Where a file system has no files without a name, it has one beside its own meanwhile.
final class NewFile {
  private let path: String
  private let temporary: String
  private let mayReplace: Bool
  private let descriptor: Int32
  /// It has its temporary name.
  private var isNamed: Bool

  /// - Parameters:
  ///   - path: no symbolic link.
  ///   - mode: if not given, what new files have.
  init(_ path: String, mode: mode_t?, mayReplace: Bool) throws(InputError) {
    self.path = path
    self.mayReplace = mayReplace
    temporary = "\(path).\(getpid()).new"
    // O_TMPFILE, which Glibc shows to GNU programs only.
    let unnamed = 0o20_000_000 | O_DIRECTORY
    let initial: mode_t = mode == nil ? 0o666 : 0o600
    var file = open(Target.folder(of: path), O_WRONLY | unnamed | O_CLOEXEC, initial)
    // By way of /proc it gets its name.
    isNamed = file < 0 || access(Self.place(of: file), F_OK) != 0
    if isNamed {
      if file >= 0 { close(file) }
      file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, initial)
    }
    descriptor = file
    guard file >= 0 else { throw Output.failure("cannot make \(path)") }
    if let mode, fchmod(file, mode) != 0 { throw Output.failure("cannot make \(path)") }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    if descriptor >= 0, isNamed { unlink(temporary) }
  }

  func write(_ bytes: [UInt8]) throws(InputError) {
    if let error = Output.write(bytes, to: descriptor) { throw Output.failure("cannot write \(path)", error) }
  }

  /// Makes it durable, and gives it its name.
  func finish() throws(InputError) {
    guard fsync(descriptor) == 0 else { throw Output.failure("cannot write \(path)") }
    if !link(as: path) {
      // The name is taken; or the file system has no links, and may have renaming.
      guard mayReplace || errno != EEXIST && access(path, F_OK) != 0 else { throw Self.isThere(path) }
      // Only what has a name can take the place of another.
      if !isNamed { isNamed = link(as: temporary) }
      guard isNamed, rename(temporary, path) == 0 else { throw Output.failure("cannot make \(path)") }
      isNamed = false
    }
    let folder = open(Target.folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  static func isThere(_ path: String, orElse: String = "") -> InputError {
    InputError("\(path) is there already, and stays as it is: give another name\(orElse)")
  }

  private func link(as name: String) -> Bool {
    let source = isNamed ? temporary : Self.place(of: descriptor)
    return linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0
  }

  private static func place(of descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }
}
