import FoundationEssentials
import HyphaControlAPI
public import Logging
public import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket

/// Listens for other nodes and for browsers: HTTP with WebSocket, or plain TCP.
public final class EdgeServer: Sendable {
  /// Where to listen.
  public enum Place: Sendable {
    case address(ListenAddress)
    /// A listening socket that systemd opened; owned by the server from then on.
    case inherited(descriptor: Int32)
  }

  private let channel: any Channel
  private let limiter: ConnectionLimiter

  private init(_ channel: any Channel, _ limiter: ConnectionLimiter) {
    self.channel = channel
    self.limiter = limiter
  }

  /// Where it listens, with the port that the system chose.
  public var address: ListenAddress? {
    guard let address = channel.localAddress, let host = address.ipAddress, let port = address.port else {
      return nil
    }
    return ListenAddress(host: host, port: port)
  }

  /// Serves HTTP and WebSocket.
  ///
  /// - Parameters:
  ///   - limiter: shared by all servers of a node.
  ///   - web: the web client's files, if they are there.
  public static func http(
    at place: Place, group: any EventLoopGroup, limiter: ConnectionLimiter, delegate: any EdgeDelegate,
    web: WebFiles? = nil, logger: Logger
  ) async throws(EdgeServerError) -> EdgeServer {
    try await start(place, group, limiter) { channel in
      try HTTPEdge.prepare(channel, delegate: delegate, web: web, logger: logger)
    }
  }

  /// Takes replication over TCP.
  public static func tcp(
    at place: Place, group: any EventLoopGroup, limiter: ConnectionLimiter, delegate: any EdgeDelegate,
    logger: Logger
  ) async throws(EdgeServerError) -> EdgeServer {
    try await start(place, group, limiter) { channel in
      let request = ReplicationRequest(
        target: .hypha, kind: .tcp, remoteAddress: HTTPEdge.remoteAddress(channel))
      let transport = ReplicationTransport(
        channel: channel, direction: .incoming, kind: .tcp, target: .hypha,
        remoteAddress: request.remoteAddress)
      try channel.pipeline.syncOperations.addHandler(TCPHandler(transport))
      Task {
        switch await delegate.admit(request) {
        case .accept:
          await delegate.attach(transport)
        case .refuse(_, let reason):
          logger.info(
            "Connection refused", metadata: ["peer": "\(request.remoteAddress)", "reason": "\(reason)"])
          transport.close(CloseReason(.refused, reason))
        }
      }
    }
  }

  /// Stops listening at once; open connections have ``EdgeLimits/stopSeconds`` to end, which their owner asks
  /// them to, and are then cut off.
  public func stop() async {
    try? await channel.close()
    let deadline = ContinuousClock.now.advanced(by: .seconds(EdgeLimits.stopSeconds))
    while limiter.count > 0, ContinuousClock.now < deadline {
      do { try await Task.sleep(for: .milliseconds(20)) } catch { break }
    }
    limiter.closeAll()
  }

  private static func start(
    _ place: Place, _ group: any EventLoopGroup, _ limiter: ConnectionLimiter,
    _ prepare: @escaping @Sendable (any Channel) throws -> Void
  ) async throws(EdgeServerError) -> EdgeServer {
    let bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: EdgeLimits.backlog)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.socketOption(.so_keepalive), value: 1)
      .childChannelOption(.recvAllocator, value: Network.receiveAllocator)
      .childChannelInitializer { channel in
        guard limiter.admit(channel) else { return channel.close() }
        return channel.eventLoop.makeCompletedFuture {
          if channel.remoteAddress?.ipAddress != nil {
            try channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
          }
          try prepare(channel)
        }
      }
    do {
      switch place {
      case .address(let address):
        return EdgeServer(try await bootstrap.bind(host: address.host, port: address.port).get(), limiter)
      case .inherited(let descriptor):
        return EdgeServer(try await bootstrap.withBoundSocket(descriptor).get(), limiter)
      }
    } catch {
      let name =
        switch place {
        case .address(let address): "\(address)"
        case .inherited(let descriptor): "the inherited socket \(descriptor)"
        }
      throw EdgeServerError(context: "Cannot listen on \(name): \(NetworkError.text(error)).")
    }
  }
}

/// The server cannot listen.
public struct EdgeServerError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Where, and why.
  public var context: String

  public var description: String { context }
}

/// One HTTP connection, up to its upgrade.
enum HTTPEdge {
  static func prepare(
    _ channel: any Channel, delegate: any EdgeDelegate, web: WebFiles?, logger: Logger
  ) throws {
    let handler = HTTPEdgeHandler(delegate, web: web)
    try channel.pipeline.syncOperations.configureHTTPServerPipeline(
      withPipeliningAssistance: true,
      withServerUpgrade: (
        upgraders: [StreamServerUpgrader(delegate, logger)],
        completionHandler: { context in
          // Without it the connection's deadline would go on; there always is one.
          guard let handler = try? context.pipeline.syncOperations.context(handlerType: HTTPEdgeHandler.self)
          else {
            return
          }
          context.pipeline.syncOperations.removeHandler(context: handler, promise: nil)
        }
      ),
      withErrorHandling: true, withOutboundHeaderValidation: true, withEncoderConfiguration: .init(),
      withDecoderLimitConfiguration: decoderLimits)
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  /// What a request's header may have.
  static var decoderLimits: NIOHTTPDecoderLimitConfiguration {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = EdgeLimits.headerBytes
    limits.maxHeaderListSize = EdgeLimits.headerBytes
    limits.maxHeaderFieldCount = EdgeLimits.headerFields
    return limits
  }

  /// Host of the other end; `local` for a Unix socket.
  static func remoteAddress(_ channel: any Channel) -> String {
    channel.remoteAddress?.ipAddress ?? "local"
  }

  /// What a request's path asks for, if it is one to upgrade.
  static func target(_ uri: String) -> ReplicationTarget? {
    uri.isEmpty || uri == "/" || uri.utf8.count > EdgeLimits.pathBytes
      ? nil : ReplicationURL.target(path: uri)
  }
}

/// A request to upgrade was turned down: tells the HTTP handler how to answer.
struct UpgradeRefusal: Error {
  var status: Int
  var reason: String
}

/// The check and the headers of a WebSocket upgrade are NIO's; what comes after it is ours.
private struct StreamServerUpgrader: HTTPServerProtocolUpgrader, Sendable {
  private let delegate: any EdgeDelegate
  private let logger: Logger
  private let webSocket: NIOWebSocketServerUpgrader

  init(_ delegate: any EdgeDelegate, _ logger: Logger) {
    self.delegate = delegate
    self.logger = logger
    webSocket = NIOWebSocketServerUpgrader(
      shouldUpgrade: { channel, head in
        guard let target = HTTPEdge.target(head.uri) else {
          return channel.eventLoop.makeFailedFuture(
            UpgradeRefusal(status: 404, reason: "There is nothing here."))
        }
        // Asked once the setup code has come.
        if case .signUp = target { return channel.eventLoop.makeSucceededFuture(HTTPHeaders()) }
        let request = ReplicationRequest(
          target: target, kind: .ws, remoteAddress: HTTPEdge.remoteAddress(channel))
        return channel.eventLoop.makeFutureWithTask {
          switch await delegate.admit(request) {
          case .accept: return HTTPHeaders()
          case .refuse(let status, let reason): throw UpgradeRefusal(status: status, reason: reason)
          }
        }
      }, upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
  }

  var supportedProtocol: String { webSocket.supportedProtocol }
  var requiredUpgradeHeaders: [String] { webSocket.requiredUpgradeHeaders }

  func buildUpgradeResponse(
    channel: any Channel, upgradeRequest: HTTPRequestHead, initialResponseHeaders: HTTPHeaders
  ) -> EventLoopFuture<HTTPHeaders> {
    guard upgradeRequest.method == .GET else {
      return channel.eventLoop.makeFailedFuture(
        UpgradeRefusal(status: 405, reason: "Only GET is allowed here."))
    }
    return webSocket.buildUpgradeResponse(
      channel: channel, upgradeRequest: upgradeRequest, initialResponseHeaders: initialResponseHeaders)
  }

  func upgrade(context: ChannelHandlerContext, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Void> {
    let channel = context.channel
    return context.eventLoop.makeCompletedFuture {
      let target = HTTPEdge.target(upgradeRequest.uri) ?? .hypha
      if case .signUp = target {
        try SignUpSession.begin(channel, target, delegate, logger)
        return
      }
      let transport = HTTPEdge.transport(channel, target)
      try channel.pipeline.syncOperations.addHandler(WebSocketHandler(.server, transport: transport))
      let delegate = delegate
      Task { await delegate.attach(transport) }
    }
  }
}

extension HTTPEdge {
  fileprivate static func transport(_ channel: any Channel, _ target: ReplicationTarget)
    -> ReplicationTransport
  {
    ReplicationTransport(
      channel: channel, direction: .incoming, kind: .ws, target: target, remoteAddress: remoteAddress(channel)
    )
  }
}

/// The beginning of a sign-up: the setup code in a text frame, and the answer.
private enum SignUpSession {
  static func begin(
    _ channel: any Channel, _ target: ReplicationTarget, _ delegate: any EdgeDelegate, _ logger: Logger
  ) throws {
    var session: WebSocketHandler?
    let handler = WebSocketHandler(.server) { result in
      defer { session = nil }
      guard let handler = session, case .success(let text) = result else { return }
      guard let request = try? JSONDecoder().decode(SignUp.Request.self, from: Data(text.readableBytesView))
      else {
        return handler.refuse(CloseReason(.refused, "The first frame is not {\"setupCode\":\"…\"}."))
      }
      decide(channel, target, request.setupCode, handler, delegate, logger)
    }
    session = handler
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  private static func decide(
    _ channel: any Channel, _ target: ReplicationTarget, _ code: Secret, _ handler: WebSocketHandler,
    _ delegate: any EdgeDelegate, _ logger: Logger
  ) {
    let request = ReplicationRequest(
      target: target, setupCode: code, kind: .ws, remoteAddress: HTTPEdge.remoteAddress(channel))
    channel.eventLoop.makeFutureWithTask { await delegate.admit(request) }.assumeIsolated().whenSuccess {
      admission in
      switch admission {
      case .refuse(_, let reason):
        logger.notice(
          "Sign-up refused", metadata: ["peer": "\(request.remoteAddress)", "reason": "\(reason)"])
        handler.refuse(CloseReason(.refused, reason))
      case .accept:
        handler.send(text: ByteBuffer(string: "{\"accepted\":true}"))
        let transport = HTTPEdge.transport(channel, target)
        handler.open(transport)
        Task { await delegate.attach(transport) }
      }
    }
  }
}
