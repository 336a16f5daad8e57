import Glibc

/// Why the control socket cannot be served.
public struct ControlServerError: Error, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// Another process listens there.
    case inUse
    /// There is a file of another kind at the path.
    case notASocket
    /// A system call failed.
    case system(errno: Int32)
  }

  public var code: Code
  public var context: String

  public var description: String { context }
}

/// The listening Unix socket.
enum ControlSocket {
  /// Makes a socket at `path` that its owner and `group` can connect to, and nobody else, from its first moment.
  ///
  /// One that a dead process left is replaced.
  ///
  /// - Returns: the descriptor, bound but not listening.
  static func make(path: String, group: gid_t?) throws(ControlServerError) -> CInt {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.isEmpty, !bytes.contains(0)
    else {
      throw ControlServerError(
        code: .system(errno: ENAMETOOLONG),
        context: "the control socket's path must have 1 to 107 bytes: \(path)")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    try removeStale(path, address)

    let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw failure("cannot make a socket", path) }
    var isDone = false
    defer { if !isDone { close(descriptor) } }
    // Linux gives the file the mode that the socket has when it is bound, so there is no moment with another.
    guard fchmod(descriptor, 0o660) == 0 else {
      throw failure("cannot set the mode of the control socket", path)
    }
    guard withAddress(&address, { bind(descriptor, $0, $1) }) == 0 else {
      throw failure("cannot make the control socket (its folder must exist and be writable)", path)
    }
    // Only a process that is in the group may give it away: not one that a developer runs.
    if let group { _ = chown(path, uid_t.max, group) }
    guard chmod(path, 0o660) == 0 else { throw failure("cannot set the mode of the control socket", path) }
    isDone = true
    return descriptor
  }

  private static func removeStale(_ path: String, _ address: sockaddr_un) throws(ControlServerError) {
    var status = stat()
    guard lstat(path, &status) == 0 else {
      if errno == ENOENT { return }
      throw failure("cannot look at the control socket", path)
    }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw ControlServerError(
        code: .notASocket, context: "\(path) is in the way of the control socket: it is no socket; remove it")
    }
    let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw failure("cannot make a socket", path) }
    defer { close(descriptor) }
    var address = address
    if withAddress(&address, { connect(descriptor, $0, $1) }) == 0 {
      throw ControlServerError(code: .inUse, context: "another process already listens at \(path)")
    }
    guard unlink(path) == 0 || errno == ENOENT else {
      throw failure("cannot remove the control socket that was left", path)
    }
  }

  private static func withAddress(
    _ address: inout sockaddr_un, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt
  ) -> CInt {
    withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }

  private static func failure(_ what: String, _ path: String) -> ControlServerError {
    let number = errno
    return ControlServerError(
      code: .system(errno: number), context: "\(what): \(path): \(String(cString: strerror(number)))")
  }
}
