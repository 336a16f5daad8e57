import Glibc

/// A socket that systemd hands over cannot be used.
public struct InheritedSocketError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Which socket, what is wrong with it, and what to change.
  public var context: String

  public var description: String { context }
}

/// The listening sockets that systemd handed over, by what they are for: `FileDescriptorName=` of their units says it.
struct InheritedSockets {
  /// For HTTP and WebSocket.
  var http: [Int32] = []
  /// For the same over TLS.
  var https: [Int32] = []
  /// For `hyphactl`.
  var control: Int32?

  /// Takes them, and looks whether each is what its name says.
  init(_ sockets: [ServiceManager.InheritedSocket]) throws(InheritedSocketError) {
    for socket in sockets {
      switch socket.name {
      case "http":
        try Self.check(socket, isUnix: false)
        http.append(socket.descriptor)
      case "https":
        try Self.check(socket, isUnix: false)
        https.append(socket.descriptor)
      case "control":
        try Self.check(socket, isUnix: true)
        guard control == nil else { throw Self.wrong(socket, "is there twice: leave one ListenStream=") }
        control = socket.descriptor
      default:
        throw Self.wrong(
          socket, "has a name that says nothing: set FileDescriptorName= to http, https or control")
      }
    }
  }

  private static func check(
    _ socket: ServiceManager.InheritedSocket, isUnix: Bool
  ) throws(InheritedSocketError) {
    guard let type = option(SO_TYPE, socket) else { throw wrong(socket, "is no socket") }
    guard type == Int32(SOCK_STREAM.rawValue) else { throw wrong(socket, "is no stream: use ListenStream=") }
    guard option(SO_ACCEPTCONN, socket) == 1 else {
      throw wrong(socket, "does not listen: use ListenStream=, and Accept=no")
    }
    let family = option(SO_DOMAIN, socket)
    guard isUnix ? family == AF_UNIX : family == AF_INET || family == AF_INET6 else {
      throw wrong(
        socket,
        isUnix
          ? "is no Unix socket: set ListenStream= to a path"
          : "is no TCP socket: set ListenStream= to a port, or an address and a port")
    }
  }

  private static func option(_ name: Int32, _ socket: ServiceManager.InheritedSocket) -> Int32? {
    var value: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(socket.descriptor, SOL_SOCKET, name, &value, &size) == 0 ? value : nil
  }

  private static func wrong(
    _ socket: ServiceManager.InheritedSocket, _ text: String
  ) -> InheritedSocketError {
    InheritedSocketError(
      context:
        "The socket “\(socket.name)” that systemd hands over (descriptor \(socket.descriptor)) \(text) in its "
        + ".socket unit; “systemctl list-sockets” shows which there are.")
  }
}
