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
  /// folder.
  public static func replace(_ path: String, with bytes: [UInt8], mode: UInt32 = 0o600) throws(StorageError) {
    let temporary = path + ".new"
    do throws(SystemError) {
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
    } catch {
      throw error.storageError
    }
  }

  /// - Returns: `nil` if there is no such file.
  public static func read(_ path: String) throws(StorageError) -> [UInt8]? {
    do throws(SystemError) {
      let file = try FileDescriptor(path, O_RDONLY)
      let size = try file.size("size of \(path)")
      guard size <= UInt64(sizeLimit) else { throw SystemError(EFBIG, "read \(path)") }
      return try file.read(upTo: Int(size), "read \(path)")
    } catch {
      if error.number == ENOENT { return nil }
      throw error.storageError
    }
  }

  /// Removes a file durably; fine if there is none.
  public static func remove(_ path: String) throws(StorageError) {
    do throws(SystemError) {
      guard unlink(path) == 0 || errno == ENOENT else { throw SystemError("remove \(path)") }
      try syncFolder(of: path)
    } catch {
      throw error.storageError
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
