import Glibc
public import Hypercore

/// Small files that are read and replaced as a whole.
public enum AtomicFile {
  /// Bytes that a file read here may have.
  public static let sizeLimit = 1 << 20

  /// Replaces a file, or makes it: afterwards, also after a crash, it has either all of the old or all of the
  /// new contents; when this returns, the new ones are durable.
  ///
  /// System calls: `open(path.new, O_CREAT|O_TRUNC)`, `fchmod`, `pwrite`, `fsync`, `rename`, then `fsync` of the
  /// folder; with `erasing`, then `pwrite` of zeros and `fsync` of the old file.
  ///
  /// - Parameter erasing: overwrite the old contents, which are secret.
  public static func replace(
    _ path: String, with bytes: [UInt8], mode: UInt32 = 0o600, erasing: Bool = false
  ) throws(StorageError) {
    let temporary = path + ".new"
    do throws(SystemError) {
      if erasing { try Self.erase(temporary) }
      let old = erasing ? try FileToErase(path) : nil
      do throws(SystemError) {
        let file = try FileDescriptor(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: mode)
        // The mode given to open is narrowed by the umask, and not used for a file that is there already.
        try retried("set the mode of \(temporary)") { fchmod(file.number, mode) }
        try file.write(bytes, "write \(temporary)")
        guard fsync(file.number) == 0 else { throw SystemError("sync \(temporary)") }
      } catch {
        unlink(temporary)
        throw error
      }
      guard rename(temporary, path) == 0 else { throw SystemError("rename \(temporary) to \(path)") }
      try syncFolder(of: path)
      try old?.erase()
    } catch {
      throw error.storageError
    }
  }

  /// - Parameter limit: bytes that the file may have.
  /// - Returns: `nil` if there is no such file.
  public static func read(_ path: String, limit: Int = sizeLimit) throws(StorageError) -> [UInt8]? {
    do throws(SystemError) {
      let file = try FileDescriptor(path, O_RDONLY)
      let size = try file.size("size of \(path)")
      guard size <= UInt64(limit) else { throw SystemError(EFBIG, "read \(path)") }
      return try file.read(upTo: Int(size), "read \(path)")
    } catch {
      if error.number == ENOENT { return nil }
      throw error.storageError
    }
  }

  /// Removes a file durably; fine if there is none.
  ///
  /// - Parameter erasing: overwrite the contents, which are secret, and those of a replacement that was not finished.
  public static func remove(_ path: String, erasing: Bool = false) throws(StorageError) {
    do throws(SystemError) {
      if erasing {
        try erase(path + ".new")
        try erase(path)
      } else {
        try removeName(path)
      }
    } catch {
      throw error.storageError
    }
  }

  private static func removeName(_ path: String) throws(SystemError) {
    guard unlink(path) == 0 || errno == ENOENT else { throw SystemError("remove \(path)") }
    try syncFolder(of: path)
  }

  private static func erase(_ path: String) throws(SystemError) {
    guard let file = try FileToErase(path) else { return }
    try removeName(path)
    try file.erase()
  }

  /// A file that is overwritten with zeros once it has no name any more: nobody ever finds it half erased.
  ///
  /// File systems that copy on write, and disks that move their blocks, may keep the old bytes all the same.
  private struct FileToErase: ~Copyable {
    private let path: String
    private let file: FileDescriptor

    /// - Returns: `nil` if there is no such file.
    init?(_ path: String) throws(SystemError) {
      self.path = path
      do throws(SystemError) { file = try FileDescriptor(path, O_WRONLY | O_NOFOLLOW) } catch {
        if error.number == ENOENT { return nil }
        throw error
      }
    }

    consuming func erase() throws(SystemError) {
      let size = try file.size("size of \(path)")
      try file.write([UInt8](repeating: 0, count: Int(min(size, UInt64(sizeLimit)))), "overwrite \(path)")
      guard fsync(file.number) == 0 else { throw SystemError("sync \(path)") }
    }
  }

  /// Makes the entries of a folder durable: which files it has, under which names.
  static func sync(folder: String) throws(SystemError) {
    let descriptor = try FileDescriptor(folder, O_RDONLY | O_DIRECTORY)
    guard fsync(descriptor.number) == 0 else { throw SystemError("sync folder \(folder)") }
  }

  static func syncFolder(of path: String) throws(SystemError) {
    try sync(folder: folder(of: path))
  }

  /// The folder that a path's last part is in.
  static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
