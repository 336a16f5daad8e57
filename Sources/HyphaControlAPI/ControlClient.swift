import Glibc

/// Why a call had no result.
public struct ControlFailure: Error, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// The daemon answered with an error.
    case refused(ControlError)
    /// Nothing listens at the socket's path.
    case noDaemon
    /// The socket's file does not let this user in.
    case notPermitted
    /// The daemon closed the connection, or it broke.
    case closed
    /// No answer in time.
    case timedOut
    /// What came back is not this protocol.
    case badAnswer
  }

  public var code: Code
  /// What happened, and what to do next.
  public var context: String

  public var description: String { context }
}

/// A caller of the control API over its Unix socket. Calls block; plain POSIX, so that a small program needs no more.
///
/// One thread at a time: not `Sendable`.
public final class ControlClient {
  /// What the daemon sent unasked.
  public enum Notification: Equatable, Sendable {
    case event(ControlNotification.EventParams)
    case ended(ControlNotification.EndedParams)
  }

  private let path: String
  private let socket: CInt
  private var lines = LineBuffer()
  private var lastID: Int64 = 0
  /// Came in while a call waited for its answer.
  private var notifications: [Notification] = []

  /// Connects.
  /// - Parameter path: of the socket, at most 107 bytes.
  public init(path: String) throws(ControlFailure) {
    self.path = path
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0), !bytes.isEmpty
    else {
      throw ControlFailure(
        code: .noDaemon,
        context:
          "the socket's path must have 1 to \(MemoryLayout.size(ofValue: address.sun_path) - 1) bytes: \(path)"
      )
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    socket = Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    guard socket >= 0 else {
      throw ControlFailure(code: .noDaemon, context: "no socket: \(Self.reason(errno))")
    }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else {
      let problem = errno
      switch problem {
      case ENOENT, ENOTDIR:
        throw ControlFailure(
          code: .noDaemon,
          context: "no daemon: there is no socket at \(path). Is hyphad running? (systemctl status hyphad)")
      case ECONNREFUSED:
        throw ControlFailure(
          code: .noDaemon,
          context: "no daemon: nothing listens at \(path). Is hyphad running? (systemctl status hyphad)")
      case EACCES, EPERM:
        throw ControlFailure(
          code: .notPermitted,
          context: "no permission for \(path): run as root, or join group hypha and log in again "
            + "(sudo adduser $USER hypha)")
      default:
        throw ControlFailure(code: .noDaemon, context: "cannot connect to \(path): \(Self.reason(problem))")
      }
    }
  }

  deinit {
    close(socket)
  }

  /// Calls a method and waits for its result.
  /// - Parameter timeoutSeconds: longest wait; as long as it takes if `nil`.
  public func call<M: ControlMethod>(
    _: M.Type, _ params: M.Params, timeoutSeconds: Double? = nil
  ) throws(ControlFailure) -> M.Result {
    lastID += 1
    let id = CallID.number(lastID)
    let request: [UInt8]
    do {
      request = try ControlCodec.request(id: id, method: M.name, params: params)
    } catch {
      throw ControlFailure(code: .refused(error), context: error.message)
    }
    guard request.count <= ControlLimits.lineBytes else {
      throw ControlFailure(
        code: .refused(ControlError(.invalidRequest, "the request is too long")),
        context: "the request is \(request.count) bytes long; a line has at most \(ControlLimits.lineBytes)")
    }
    let broken = send(request + [UInt8(ascii: "\n")])
    let deadline = timeoutSeconds.map { Self.now() + $0 }
    while true {
      // A daemon that refuses the caller says why before it closes, so read even if the request could not be sent.
      guard let line = try nextLine(deadline: deadline) else {
        throw ControlFailure(
          code: .closed,
          context: "the daemon closed the connection" + (broken.map { ": \(Self.reason($0))" } ?? ""))
      }
      let message = try read(line)
      if let error = message.error, message.id == id || message.id == nil {
        throw ControlFailure(code: .refused(error), context: error.message)
      }
      if message.id == id {
        do {
          return try ServerLine.result(of: line, as: M.Result.self)
        } catch {
          throw Self.badAnswer("the result of \(M.name) does not fit")
        }
      }
      try keep(message, line)
    }
  }

  /// Waits for the next notification.
  /// - Returns: `nil` once the daemon has closed the connection.
  public func nextNotification(timeoutSeconds: Double? = nil) throws(ControlFailure) -> Notification? {
    let deadline = timeoutSeconds.map { Self.now() + $0 }
    while notifications.isEmpty {
      guard let line = try nextLine(deadline: deadline) else { return nil }
      let message = try read(line)
      if let error = message.error, message.id == nil {
        throw ControlFailure(code: .refused(error), context: error.message)
      }
      try keep(message, line)
    }
    return notifications.removeFirst()
  }

  private func keep(_ message: ServerLine, _ line: [UInt8]) throws(ControlFailure) {
    do {
      switch message.method {
      case ControlNotification.event:
        notifications.append(
          .event(try ServerLine.params(of: line, as: ControlNotification.EventParams.self)))
      case ControlNotification.ended:
        notifications.append(
          .ended(try ServerLine.params(of: line, as: ControlNotification.EndedParams.self)))
      default: break
      }
    } catch {
      throw Self.badAnswer("a notification does not fit")
    }
    guard notifications.count <= ControlLimits.queuedEvents else {
      throw Self.badAnswer("more than \(ControlLimits.queuedEvents) notifications wait")
    }
  }

  private func read(_ line: [UInt8]) throws(ControlFailure) -> ServerLine {
    do {
      return try ServerLine.read(line)
    } catch {
      throw Self.badAnswer("a line is not JSON-RPC")
    }
  }

  private static func badAnswer(_ what: String) -> ControlFailure {
    ControlFailure(
      code: .badAnswer,
      context: "\(what): is this hyphad's control socket, and of this program's version? (hyphactl version)")
  }

  /// - Returns: the error's number if it could not be sent whole.
  private func send(_ bytes: [UInt8]) -> CInt? {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
      }
      if count >= 0 {
        sent += count
      } else if errno != EINTR {
        return errno
      }
    }
    return nil
  }

  private func nextLine(deadline: Double?) throws(ControlFailure) -> [UInt8]? {
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      do {
        while let line = try lines.next() {
          if !line.isEmpty { return line }
        }
      } catch {
        throw Self.badAnswer("a line is longer than \(ControlLimits.lineBytes) bytes")
      }
      if let deadline {
        var watched = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        let left = deadline - Self.now()
        let milliseconds = CInt(min(max(0, left * 1000).rounded(.up), Double(CInt.max)))
        let ready = poll(&watched, 1, milliseconds)
        if ready == 0 || (ready < 0 && errno == EINTR && left <= 0) {
          throw ControlFailure(
            code: .timedOut,
            context:
              "hyphad does not answer on \(path). Does it start still, or hang? (systemctl status hyphad)")
        }
        if ready < 0 { continue }
      }
      let count = chunk.withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
      if count > 0 {
        lines.append(chunk[..<count])
      } else if count == 0 || errno == ECONNRESET {
        return nil
      } else if errno != EINTR {
        throw ControlFailure(code: .closed, context: "the connection broke: \(Self.reason(errno))")
      }
    }
  }

  /// Seconds that only grow.
  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  private static func reason(_ number: CInt) -> String {
    String(cString: strerror(number))
  }
}
