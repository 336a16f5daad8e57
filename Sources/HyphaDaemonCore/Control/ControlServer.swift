import Glibc
public import HyphaControlAPI
public import Logging
public import NIOCore
import NIOPosix
import Synchronization

/// Serves the control API on a Unix socket.
///
/// One task a connection; requests of one connection run side by side and are answered as they finish. A connection
/// whose answers are not read stops being read from, so what waits is bounded.
public final class ControlServer<Service: ControlService>: Sendable {
  typealias Connection = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  private struct Connections {
    var open: [ObjectIdentifier: any Channel] = [:]
    var isStopping = false
  }

  private let service: Service
  private let rule: CallerRule
  private let logger: Logger
  private let listener: NIOAsyncChannel<Connection, Never>
  private let untaken: UntakenConnections
  /// Of a socket that this server made, and so removes.
  private let path: String?
  private let connections = Mutex(Connections())
  private let accepting = Mutex<Task<Void, Never>?>(nil)

  private init(
    service: Service, rule: CallerRule, logger: Logger, listener: NIOAsyncChannel<Connection, Never>,
    untaken: UntakenConnections, path: String?
  ) {
    self.untaken = untaken
    self.service = service
    self.rule = rule
    self.logger = logger
    self.listener = listener
    self.path = path
  }

  /// Makes the socket at `path`, mode 0660 and of group `hypha` if there is one, and serves it.
  public static func start(
    path: String, service: Service, eventLoops: any EventLoopGroup, logger: Logger
  ) async throws -> ControlServer {
    let rule = CallerRule.ofThisSystem()
    let descriptor = try ControlSocket.make(path: path, group: rule.group)
    return try await start(
      descriptor: descriptor, path: path, service: service, rule: rule, eventLoops: eventLoops, logger: logger
    )
  }

  /// Serves a Unix socket that was opened by another, such as systemd; the descriptor is owned from now on.
  public static func start(
    descriptor: CInt, service: Service, eventLoops: any EventLoopGroup, logger: Logger
  ) async throws -> ControlServer {
    try await start(
      descriptor: descriptor, path: nil, service: service, rule: .ofThisSystem(), eventLoops: eventLoops,
      logger: logger)
  }

  static func start(
    descriptor: CInt, path: String?, service: Service, rule: CallerRule, eventLoops: any EventLoopGroup,
    logger: Logger
  ) async throws -> ControlServer {
    let untaken = UntakenConnections()
    let listener = try await ServerBootstrap(group: eventLoops)
      .serverChannelOption(.backlog, value: 64)
      // A caller may close its sending side, as `socat` does at the end of its input, and still wait for answers.
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .bind(descriptor) { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = try Connection(
            wrappingChannelSynchronously: channel,
            configuration: .init(
              backPressureStrategy: .init(lowWatermark: 1, highWatermark: 4),
              isOutboundHalfClosureEnabled: false))
          untaken.note(connection)
          return connection
        }
      }
    let server = ControlServer(
      service: service, rule: rule, logger: logger, listener: listener, untaken: untaken, path: path)
    server.accepting.withLock { $0 = Task { await server.accept() } }
    return server
  }

  /// Takes no more requests, lets those in flight finish for some seconds, and closes everything.
  public func stop(grace: Duration = .seconds(5)) async {
    let open = connections.withLock { state in
      state.isStopping = true
      return Array(state.open.values)
    }
    if let path { unlink(path) }
    listener.channel.close(promise: nil)
    // As if each caller had closed its sending side.
    for channel in open { channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
    let deadline = Task {
      try await Task.sleep(for: grace)
      for channel in self.connections.withLock({ Array($0.open.values) }) { channel.close(promise: nil) }
    }
    await accepting.withLock { $0 }?.value
    deadline.cancel()
  }

  private func accept() async {
    do {
      try await listener.executeThenClose { incoming in
        await withDiscardingTaskGroup { group in
          do {
            for try await connection in incoming {
              group.addTask { await self.welcome(connection) }
            }
          } catch {
            self.logger.error("control socket: no more connections are taken: \(error)")
          }
        }
      }
    } catch {
      logger.debug("control socket: closed: \(error)")
    }
    await untaken.close()
  }

  /// Serves one connection, if it may call and there is room for it.
  private func welcome(_ connection: Connection) async {
    untaken.forget(connection)
    let channel = connection.channel
    let credentials = await credentials(of: channel)
    let refusal = refusal(of: credentials)
    let isRoom = connections.withLock { state in
      guard refusal == nil, !state.isStopping, state.open.count < ControlLimits.connections else {
        return false
      }
      state.open[ObjectIdentifier(channel)] = channel
      return true
    }
    guard isRoom else {
      let error =
        refusal ?? ControlError(.limitReached, "too many connections to the control socket; try again later")
      await turnAway(connection, error)
      return
    }
    let serving = Task {
      await ControlConnection(
        service: service, logger: logger,
        isOwner: credentials.map { rule.isOwner(Caller(uid: $0.uid, groups: [])) } ?? false
      ).serve(connection)
    }
    channel.closeFuture.whenComplete { _ in serving.cancel() }
    await serving.value
    connections.withLock { _ = $0.open.removeValue(forKey: ObjectIdentifier(channel)) }
  }

  private func credentials(of channel: any Channel) async -> PeerCredentials? {
    guard let provider = channel as? any SocketOptionProvider else { return nil }
    return try? await provider.unsafeGetSocketOption(
      level: .socket, name: NIOBSDSocket.Option(rawValue: PeerCredentials.option)
    ).get()
  }

  private func refusal(of credentials: PeerCredentials?) -> ControlError? {
    guard let credentials else { return ControlError(.notPermitted, "the caller is not known") }
    let caller = Caller(uid: credentials.uid, gid: credentials.gid)
    if rule.permits(caller) { return nil }
    logger.warning("control socket: refused user \(credentials.uid) (process \(credentials.pid))")
    return ControlError(
      .notPermitted,
      "user \(credentials.uid) may not use this node: run as root, or join group \(CallerRule.groupName) "
        + "(sudo adduser USER \(CallerRule.groupName)) and log in again")
  }

  private func turnAway(_ connection: Connection, _ error: ControlError) async {
    try? await connection.executeThenClose { _, outbound in
      try await outbound.write(ByteBuffer(line: ControlCodec.response(id: nil, error: error)))
    }
  }
}

/// Connections that were accepted and that nobody serves yet. They are closed where the server stops before: one that is dropped
/// instead ends the process.
private final class UntakenConnections: Sendable {
  typealias Connection = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  private struct State {
    var connections: [ObjectIdentifier: Connection] = [:]
    var isClosed = false
  }

  private let state = Mutex(State())

  func note(_ connection: Connection) {
    let isClosed = state.withLock { state in
      if !state.isClosed { state.connections[ObjectIdentifier(connection.channel)] = connection }
      return state.isClosed
    }
    if isClosed { Task { await Self.close(connection) } }
  }

  func forget(_ connection: Connection) {
    state.withLock { _ = $0.connections.removeValue(forKey: ObjectIdentifier(connection.channel)) }
  }

  func close() async {
    let connections = state.withLock { state in
      state.isClosed = true
      defer { state.connections = [:] }
      return Array(state.connections.values)
    }
    for connection in connections { await Self.close(connection) }
  }

  private static func close(_ connection: Connection) async {
    try? await connection.executeThenClose { _, _ in }
  }
}

extension ByteBuffer {
  /// The line and its newline.
  init(line: [UInt8]) {
    self.init()
    reserveCapacity(line.count + 1)
    writeBytes(line)
    writeInteger(UInt8(ascii: "\n"))
  }
}
