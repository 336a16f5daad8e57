import Glibc
public import Hypercore

/// Why a state folder cannot be used.
public struct StateFolderError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// Another process has it.
    case locked
    /// A newer version of this program wrote it.
    case newer
    /// Others may read it, or it is no folder, or its version file is damaged.
    case unsuitable
    /// The system refused.
    case storage(StorageError.Code)
  }

  public var code: Code
  /// What is wrong, where, and what to do next.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  init(_ error: StorageError) {
    self.init(.storage(error.code), error.context)
  }

  public var description: String { context }
}

/// The folder that holds everything a node keeps: mode 0700, used by one process at a time.
///
/// The lock is held until this object goes away or the process ends, however it ends.
public final class StateFolder: Sendable {
  /// What this program writes into the file `version`. Raised when older programs could not read the folder.
  public static let version = 1

  public let path: String
  private let lock: FileDescriptor

  /// Makes the folder (not those above it) if it is not there, locks it and checks its version.
  public init(_ path: String) throws(StateFolderError) {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    self.path = path
    do throws(StorageError) { try Self.makeFolder(path) } catch { throw StateFolderError(error) }
    try Self.checkPrivate(path)
    do throws(StorageError) { lock = try Self.open(lockFile: "\(path)/lock") } catch {
      throw StateFolderError(error)
    }
    try Self.take(lock, path)
    try Self.checkVersion(path)
  }

  /// Path of a file or folder inside.
  public func path(of name: String) -> String {
    "\(path)/\(name)"
  }

  /// Makes a folder inside, with those above it, durable. `name` may have several parts.
  ///
  /// - Returns: its path.
  @discardableResult
  public func makeFolder(_ name: String) throws(StorageError) -> String {
    var folder = path
    for part in name.split(separator: "/") {
      folder += "/\(part)"
      try Self.makeFolder(folder)
    }
    return folder
  }

  /// Makes durable which files a folder inside has. Call it once new files were made.
  public func sync(folder name: String = "") throws(StorageError) {
    do throws(SystemError) {
      try AtomicFile.sync(folder: name.isEmpty ? path : "\(path)/\(name)")
    } catch {
      throw error.storageError
    }
  }

  /// Gives a file or folder inside another name, durably. Nothing may have that name.
  public func move(_ name: String, to newName: String) throws(StorageError) {
    let (old, new) = (path(of: name), path(of: newName))
    do throws(SystemError) {
      guard rename(old, new) == 0 else { throw SystemError("rename \(old) to \(new)") }
      try AtomicFile.syncFolder(of: new)
      try AtomicFile.syncFolder(of: old)
    } catch {
      throw error.storageError
    }
  }

  private static func makeFolder(_ path: String) throws(StorageError) {
    do throws(SystemError) {
      if mkdir(path, 0o700) == 0 {
        try AtomicFile.syncFolder(of: path)
      } else if errno != EEXIST {
        throw SystemError("make folder \(path)")
      }
    } catch {
      throw error.storageError
    }
  }

  private static func open(lockFile path: String) throws(StorageError) -> FileDescriptor {
    do throws(SystemError) {
      return try FileDescriptor(path, O_RDWR | O_CREAT | O_NOFOLLOW)
    } catch {
      throw error.storageError
    }
  }

  private static func checkPrivate(_ path: String) throws(StateFolderError) {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw StateFolderError(SystemError("look at \(path)").storageError)
    }
    guard status.st_uid == geteuid() else {
      throw StateFolderError(
        .unsuitable,
        "The state folder \(path) belongs to user \(status.st_uid), and this process runs as user \(geteuid()): run it "
          + "as the folder's owner, or give all of it to this one with chown -R \(geteuid()) \(path)")
    }
    guard status.st_mode & 0o077 == 0 else {
      throw StateFolderError(
        .unsuitable,
        "Others than its owner may use the state folder \(path), which holds secrets: chmod 700 \(path)")
    }
  }

  private static func take(_ lock: borrowing FileDescriptor, _ path: String) throws(StateFolderError) {
    let file = "\(path)/lock"
    do throws(SystemError) {
      try retried("lock \(file)") { flock(lock.number, LOCK_EX | LOCK_NB) }
      // Only for the message below; the lock itself is the kernel's.
      try retried("write \(file)") { ftruncate(lock.number, 0) }
      try lock.write(Array("\(getpid())\n".utf8), "write \(file)")
    } catch {
      guard error.number == EWOULDBLOCK else { throw StateFolderError(error.storageError) }
      let text = (try? lock.read(upTo: 16, "")) ?? []
      let digits = String(decoding: text.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
      let owner = Int32(digits).map { "process \($0)" } ?? "another process"
      throw StateFolderError(
        .locked,
        "The state folder \(path) is in use by \(owner): stop that one first, or choose another folder.")
    }
  }

  private static func checkVersion(_ path: String) throws(StateFolderError) {
    let file = "\(path)/version"
    let bytes: [UInt8]
    do throws(StorageError) {
      guard let found = try AtomicFile.read(file) else {
        return try AtomicFile.replace(file, with: Array("\(version)\n".utf8))
      }
      bytes = found
    } catch {
      throw StateFolderError(error)
    }
    let text = String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    guard let found = Int(text), found > 0 else {
      throw StateFolderError(
        .unsuitable,
        "\(file) has no version number: is \(path) the right folder? If so, restore it from a backup.")
    }
    guard found <= version else {
      throw StateFolderError(
        .newer,
        "The state folder \(path) has version \(found); this program knows up to \(version): install a newer "
          + "hyphad.")
    }
  }
}
