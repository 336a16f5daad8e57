import Glibc
import Hypercore
import HyphaControlAPI
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import HyphaDaemonCore

/// A node that sends back what it gets, and does as it is told.
final class EchoNode: EdgeDelegate {
  static let setupCode = "right-code"

  struct State {
    var dat: WellKnownDat?
    var posts: PublicPosts?
    var health = Health(ready: true, text: "ready")
    var admission = Admission.accept
    var requests: [ReplicationRequest] = []
    var transports: [ReplicationTransport] = []
    var closed: [CloseReason] = []
    var rejected: [String] = []
    /// Leave connections alone: neither start nor close them.
    var idle = false
    /// Called before a connection is taken over.
    var beforeAttach: (@Sendable () async -> Void)?
  }

  let state = Mutex(State())
  private let loop: any EventLoop

  init(_ group: any EventLoopGroup) {
    loop = group.next()
  }

  func publicPosts() async -> PublicPosts? { state.withLock { $0.posts } }
  func wellKnownDat() async -> WellKnownDat? { state.withLock { $0.dat } }
  func reject(_ kind: String, from address: String) { state.withLock { $0.rejected.append(kind) } }
  func health() async -> Health { state.withLock { $0.health } }

  func admit(_ request: ReplicationRequest) async -> Admission {
    state.withLock { state in
      state.requests.append(request)
      if case .signUp = request.target, request.setupCode?.text != Self.setupCode {
        return .refuse(status: 403, reason: "That is not the setup code.")
      }
      return state.admission
    }
  }

  func attach(_ transport: ReplicationTransport) async {
    await state.withLock { $0.beforeAttach }?()
    let idle = state.withLock { state in
      state.transports.append(transport)
      return state.idle
    }
    // An outgoing one is the test's own.
    guard !idle, transport.direction == .incoming else { return }
    transport.start(on: loop) { [self] event in
      switch event {
      case .bytes(let buffers): for buffer in buffers { transport.send(buffer) }
      case .writable: break
      case .closed(let reason): state.withLock { $0.closed.append(reason) }
      }
    }
  }

  var requests: [ReplicationRequest] { state.withLock { $0.requests } }
  var transports: [ReplicationTransport] { state.withLock { $0.transports } }
  var closed: [CloseReason] { state.withLock { $0.closed } }
}

/// Gathers what a transport gives.
final class Sink: Sendable {
  private struct State {
    var bytes: [UInt8] = []
    var closed: CloseReason?
    var writable = 0
  }

  private let state = Mutex(State())

  init(_ transport: ReplicationTransport, on loop: any EventLoop) {
    transport.start(on: loop) { [self] event in
      state.withLock { state in
        switch event {
        case .bytes(let buffers):
          for buffer in buffers { state.bytes.append(contentsOf: buffer.readableBytesView) }
        case .writable: state.writable += 1
        case .closed(let reason): state.closed = reason
        }
      }
    }
  }

  var bytes: [UInt8] { state.withLock { $0.bytes } }
  var count: Int { state.withLock { $0.bytes.count } }
  var closed: CloseReason? { state.withLock { $0.closed } }
  var writable: Int { state.withLock { $0.writable } }
}

/// A server with an ``EchoNode``, and what a client needs.
final class Edge: Sendable {
  static let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
  static let key = Bytes32(hex: String(repeating: "ab", count: 32)) ?? .zero

  let node: EchoNode
  let server: EdgeServer
  let limiter: ConnectionLimiter
  let port: Int

  init(port: Int = 0, tcp: Bool = false, connections: Int = 100, web: WebFiles? = nil) async throws {
    node = EchoNode(Self.group)
    limiter = ConnectionLimiter(total: connections, perAddress: 100)
    let place = EdgeServer.Place.address(ListenAddress(host: "127.0.0.1", port: port))
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    server =
      tcp
      ? try await EdgeServer.tcp(
        at: place, group: Self.group, limiter: limiter, delegate: node, logger: logger)
      : try await EdgeServer.http(
        at: place, group: Self.group, limiter: limiter, delegate: node, web: web, logger: logger)
    self.port = try #require(server.address?.port)
  }

  var loop: any EventLoop { Self.group.next() }

  func url(_ path: String = "") throws -> ReplicationURL {
    try ReplicationURL("ws://127.0.0.1:\(port)\(path)")
  }

  func connect(_ path: String = "") async throws -> ReplicationTransport {
    try await ReplicationConnector(group: Self.group).connect(to: try url(path))
  }
}

/// A socket that a test writes any bytes to; it waits for up to half a minute for an answer.
final class RawClient {
  private let socket: Int32
  /// What came and was not read yet. A slice, from which many small frames can be taken fast.
  private(set) var waiting: ArraySlice<UInt8> = []
  /// The other side takes nothing any more.
  private(set) var isEnded = false
  /// Called once, after what is sent next.
  var afterSending: (() -> Void)?

  init(host: String = "127.0.0.1", port: Int) throws {
    socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { throw HarnessError("no address: \(host)") }
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    // Who does not read must not hold a test up for ever.
    var patience = timeval(tv_sec: Int(Sanitizer.seconds(20)), tv_usec: 0)
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    guard connected == 0 else { throw HarnessError("connect: \(String(cString: strerror(errno)))") }
  }

  deinit {
    close(socket)
  }

  func send(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else {
        isEnded = true
        return
      }
      rest = rest.dropFirst(count)
    }
    afterSending?()
    afterSending = nil
  }

  func send(_ text: String) {
    send(Array(text.utf8))
  }

  /// Never blocks a thread: the server's tasks need it.
  ///
  /// - Returns: false at the end of the stream.
  private func fill() async throws -> Bool {
    var bytes = [UInt8](repeating: 0, count: 65536)
    // Not by the clock: where tests wait for a processor, so does this.
    for _ in 0..<Int(Sanitizer.seconds(30) / 0.002) {
      let count = recv(socket, &bytes, bytes.count, Int32(MSG_DONTWAIT))
      if count > 0 { waiting += bytes[..<count] }
      if count >= 0 || errno != EAGAIN { return count > 0 }
      try await Task.sleep(for: .milliseconds(2))
    }
    throw HarnessError("nothing came for half a minute")
  }

  func read(_ count: Int) async throws -> [UInt8] {
    while waiting.count < count { guard try await fill() else { throw HarnessError("the connection ended") } }
    defer { waiting.removeFirst(count) }
    return Array(waiting.prefix(count))
  }

  /// Everything up to the end of the stream.
  func readToEnd() async throws -> [UInt8] {
    while try await fill() {}
    return Array(waiting)
  }

  /// A header of HTTP, up to its empty line.
  func readHeader() async throws -> String {
    while true {
      let text = String(decoding: waiting, as: UTF8.self)
      if let end = text.firstRange(of: "\r\n\r\n") {
        waiting.removeFirst(text[..<end.upperBound].utf8.count)
        return String(text[..<end.lowerBound])
      }
      guard try await fill() else { throw HarnessError("the connection ended: \(text)") }
    }
  }

  /// Upgrades to WebSocket with a fixed key.
  func upgrade(_ path: String, headers: String = "") async throws -> String {
    send(
      "GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\(headers)"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    return try await readHeader()
  }

  /// Sends a frame; its first byte is FIN, reserved bits and opcode.
  func frame(_ first: UInt8, _ payload: [UInt8], masked: Bool = true, size: UInt64? = nil) {
    send(Self.frame(first, payload, masked: masked, size: size))
  }

  /// The bytes of a frame.
  static func frame(
    _ first: UInt8, _ payload: [UInt8], masked: Bool = true, size: UInt64? = nil
  ) -> [UInt8] {
    let size = size ?? UInt64(payload.count)
    let flag: UInt8 = masked ? 0x80 : 0
    var bytes: [UInt8] = [first]
    if size < 126 {
      bytes.append(flag | UInt8(size))
    } else if size < 65536 {
      bytes += [flag | 126, UInt8(size >> 8), UInt8(size & 255)]
    } else {
      bytes.append(flag | 127)
      bytes += (0..<8).map { UInt8(truncatingIfNeeded: size >> (56 - 8 * $0)) }
    }
    guard masked else { return bytes + payload }
    let mask: [UInt8] = [0x12, 0x34, 0x56, 0x78]
    bytes += mask
    let start = bytes.count
    bytes += payload
    // In place: with ThreadSanitizer, a closure for each byte of large frames took minutes.
    bytes.withUnsafeMutableBytes { bytes in
      mask.withUnsafeBytes { mask in
        for place in payload.indices { bytes[start + place] ^= mask[place & 3] }
      }
    }
    return bytes
  }

  /// Reads a server's frame: first byte and payload.
  func readFrame() async throws -> (UInt8, [UInt8]) {
    let head = try await read(2)
    var size = Int(head[1])
    if size == 126 { size = try await read(2).reduce(0) { $0 << 8 | Int($1) } }
    if head[1] == 127 { size = try await read(8).reduce(0) { $0 << 8 | Int($1) } }
    return (head[0], try await read(size))
  }

  /// Reads up to a close frame, and gives its code and text.
  func readClose() async throws -> (Int, String) {
    while true {
      let (first, payload) = try await readFrame()
      guard first == 0x88 else { continue }
      guard payload.count >= 2 else { return (1005, "") }
      return (Int(payload[0]) << 8 | Int(payload[1]), String(decoding: payload[2...], as: UTF8.self))
    }
  }
}
