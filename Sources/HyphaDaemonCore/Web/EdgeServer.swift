import FoundationEssentials
import HyphaControlAPI
public import Logging
public import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
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
  /// It serves over TLS.
  public let isTLS: Bool

  private init(_ channel: any Channel, _ limiter: ConnectionLimiter, isTLS: Bool) {
    self.channel = channel
    self.limiter = limiter
    self.isTLS = isTLS
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
  ///   - policy: shared by all servers of a node, too.
  ///   - certificates: serve over TLS, each connection with the certificate of its time.
  public static func http(
    at place: Place, group: any EventLoopGroup, limiter: ConnectionLimiter, delegate: any EdgeDelegate,
    web: WebFiles? = nil, policy: EdgePolicy = EdgePolicy(), certificates: CertificateStore? = nil,
    logger: Logger
  ) async throws(EdgeServerError) -> EdgeServer {
    let edge = HTTPEdge(
      delegate: delegate, web: web, policy: policy, limiter: limiter, isTLS: certificates != nil,
      logger: logger)
    let isTLS = certificates != nil
    return try await start(place, group, limiter, policy, delegate, isTLS: isTLS) { channel in
      if let certificates {
        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: certificates.context))
      }
      try edge.prepare(channel)
    }
  }

  /// Takes replication over TCP.
  public static func tcp(
    at place: Place, group: any EventLoopGroup, limiter: ConnectionLimiter, delegate: any EdgeDelegate,
    logger: Logger
  ) async throws(EdgeServerError) -> EdgeServer {
    try await start(place, group, limiter, EdgePolicy(), delegate) { channel in
      try Network.receiveMuch(channel)
      let request = ReplicationRequest(
        target: .hypha, kind: .tcp,
        remoteAddress: IPAddress(channel.remoteAddress).map { "\($0)" } ?? "local")
      let transport = ReplicationTransport(
        channel: channel, direction: .incoming, kind: .tcp, target: .hypha,
        remoteAddress: request.remoteAddress, limiter: limiter)
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
    _ place: Place, _ group: any EventLoopGroup, _ limiter: ConnectionLimiter, _ policy: EdgePolicy,
    _ delegate: any EdgeDelegate, isTLS: Bool = false,
    _ prepare: @escaping @Sendable (any Channel) throws -> Void
  ) async throws(EdgeServerError) -> EdgeServer {
    let bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: EdgeLimits.backlog)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.socketOption(.so_keepalive), value: 1)
      .receivingRequests()
      .childChannelInitializer { channel in
        let isProxy = policy.isTrustedProxy(channel.remoteAddress)
        guard limiter.admit(channel, isProxy: isProxy) else {
          let address = IPAddress(channel.remoteAddress)
          if let address { delegate.reject("tooMany", from: "\(address)") }
          return channel.close()
        }
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
        return EdgeServer(
          try await bootstrap.bind(host: address.host, port: address.port).get(), limiter, isTLS: isTLS)
      case .inherited(let descriptor):
        return EdgeServer(
          try await bootstrap.withBoundSocket(descriptor).get(), limiter, isTLS: isTLS)
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
struct HTTPEdge: Sendable {
  static let tooMany = "There are too many connections from your address: close some, or try again later."

  let delegate: any EdgeDelegate
  /// The web client; without, a plain page stands in its place.
  let web: WebFiles?
  let policy: EdgePolicy
  let limiter: ConnectionLimiter
  /// The connection is one over TLS.
  let isTLS: Bool
  let logger: Logger
  let refusedLines = LineLimit()

  func prepare(_ channel: any Channel) throws {
    let bound = RequestBound()
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(bound)
    try pipeline.configureHTTPServerPipeline(
      withPipeliningAssistance: true,
      withServerUpgrade: (
        upgraders: [StreamServerUpgrader(self)],
        completionHandler: { context in
          // Else the connection's deadline would go on, and what comes would be counted as a request.
          context.pipeline.syncOperations.remove(HTTPEdgeHandler.self)
          context.pipeline.syncOperations.remove(RequestBound.self)
        }
      ),
      withErrorHandling: true, withOutboundHeaderValidation: true, withEncoderConfiguration: .init(),
      withDecoderLimitConfiguration: Self.decoderLimits)
    try pipeline.addHandler(
      FewUpgrades(), position: .after(pipeline.handler(type: HTTPServerPipelineHandler.self)))
    try pipeline.addHandler(HTTPEdgeHandler(self, bound))
  }

  /// What a request's header may have.
  static var decoderLimits: NIOHTTPDecoderLimitConfiguration {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = EdgeLimits.headerBytes
    limits.maxHeaderListSize = EdgeLimits.headerBytes
    limits.maxHeaderFieldCount = EdgeLimits.headerFields
    return limits
  }

  /// What a request's path asks for, if it is one to upgrade.
  static func target(_ uri: String) -> ReplicationTarget? {
    uri.isEmpty || uri == "/" || uri.utf8.count > EdgeLimits.pathBytes
      ? nil : ReplicationURL.target(path: uri)
  }

  /// What another node is told that may not connect, whatever it wants; `nil`: it may.
  fileprivate func refusal(_ channel: any Channel, _ origin: ClientOrigin) -> UpgradeRefusal? {
    // On the machine itself nobody listens in: other nodes on it, which have no certificate to check, connect so.
    if policy.current.httpsPort != nil, !origin.isSecure, !origin.isLoopback {
      return UpgradeRefusal(status: 403, reason: "This node is reached over TLS only: use wss://.")
    }
    if origin.isForwarded, !limiter.assign(channel, to: origin.address) {
      delegate.reject("tooMany", from: origin.name)
      return UpgradeRefusal(status: 429, reason: Self.tooMany)
    }
    return nil
  }

  /// Tells of somebody who was cut off before it was known who sends through a proxy.
  func reject(_ kind: String, _ channel: any Channel) {
    guard let address = IPAddress(channel.remoteAddress) else { return }
    delegate.reject(kind, from: "\(address)")
  }

  fileprivate var kind: ReplicationTransport.Kind { isTLS ? .wss : .ws }

  fileprivate func transport(
    _ channel: any Channel, _ target: ReplicationTarget, _ origin: ClientOrigin
  ) -> ReplicationTransport {
    ReplicationTransport(
      channel: channel, direction: .incoming, kind: kind, target: target, remoteAddress: origin.name,
      limiter: limiter)
  }
}

/// A request to upgrade was turned down: tells the HTTP handler how to answer.
struct UpgradeRefusal: Error {
  var status: Int
  var reason: String
}

/// The check and the headers of a WebSocket upgrade are NIO's; what comes after it is ours.
private struct StreamServerUpgrader: HTTPServerProtocolUpgrader, Sendable {
  private let edge: HTTPEdge
  private let webSocket: NIOWebSocketServerUpgrader

  init(_ edge: HTTPEdge) {
    self.edge = edge
    webSocket = NIOWebSocketServerUpgrader(
      shouldUpgrade: { channel, head in
        guard let target = HTTPEdge.target(head.uri) else {
          return channel.eventLoop.makeFailedFuture(
            UpgradeRefusal(status: 404, reason: "There is nothing here."))
        }
        let origin = edge.policy.origin(channel, isTLS: edge.isTLS, head.headers)
        if let refusal = edge.refusal(channel, origin) {
          return channel.eventLoop.makeFailedFuture(refusal)
        }
        // Asked once the setup code has come.
        if case .signUp = target { return channel.eventLoop.makeSucceededFuture(HTTPHeaders()) }
        let request = ReplicationRequest(target: target, kind: edge.kind, remoteAddress: origin.name)
        return channel.eventLoop.makeFutureWithTask {
          switch await edge.delegate.admit(request) {
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
    // NIO's handler waits for the end of the body with closures that hold each other: were the connection to end before,
    // they and the whole pipeline would stay in memory for ever.
    guard upgradeRequest.headers["Transfer-Encoding"].isEmpty,
      upgradeRequest.headers["Content-Length"].allSatisfy({ $0 == "0" })
    else {
      return channel.eventLoop.makeFailedFuture(
        UpgradeRefusal(status: 400, reason: "A request for a WebSocket has no body."))
    }
    return webSocket.buildUpgradeResponse(
      channel: channel, upgradeRequest: upgradeRequest, initialResponseHeaders: initialResponseHeaders)
  }

  func upgrade(context: ChannelHandlerContext, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Void> {
    let channel = context.channel
    return context.eventLoop.makeCompletedFuture {
      try Network.receiveMuch(channel)
      let target = HTTPEdge.target(upgradeRequest.uri) ?? .hypha
      let origin = edge.policy.origin(channel, isTLS: edge.isTLS, upgradeRequest.headers)
      if case .signUp = target {
        try SignUpSession.begin(channel, target, origin, edge)
        return
      }
      let transport = edge.transport(channel, target, origin)
      try channel.pipeline.syncOperations.addHandler(WebSocketHandler(.server, transport: transport))
      let delegate = edge.delegate
      Task { await delegate.attach(transport) }
    }
  }
}

/// The beginning of a sign-up: the setup code in a text frame, and the answer.
private enum SignUpSession {
  static func begin(
    _ channel: any Channel, _ target: ReplicationTarget, _ origin: ClientOrigin, _ edge: HTTPEdge
  ) throws {
    var session: WebSocketHandler?
    let handler = WebSocketHandler(.server) { result in
      defer { session = nil }
      guard let handler = session else { return }
      let text: ByteBuffer
      switch result {
      case .success(let first): text = first
      case .failure(let reason):
        switch reason.code {
        case .timeout: edge.delegate.reject("noRequest", from: origin.name)
        case .badFrame: edge.delegate.reject("badFrame", from: origin.name)
        case .normal, .goingAway, .protocolError, .refused, .tooLarge, .stalled, .lost: break
        }
        return
      }
      guard let request = try? JSONDecoder().decode(SignUp.Request.self, from: Data(text.readableBytesView))
      else {
        edge.delegate.reject("badRequest", from: origin.name)
        return handler.refuse(CloseReason(.refused, "The first frame is not {\"setupCode\":\"…\"}."))
      }
      decide(channel, target, request.setupCode, handler, origin, edge)
    }
    session = handler
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  private static func decide(
    _ channel: any Channel, _ target: ReplicationTarget, _ code: Secret, _ handler: WebSocketHandler,
    _ origin: ClientOrigin, _ edge: HTTPEdge
  ) {
    let request = ReplicationRequest(
      target: target, setupCode: code, kind: edge.kind, remoteAddress: origin.name)
    let delegate = edge.delegate
    channel.eventLoop.makeFutureWithTask { await delegate.admit(request) }.assumeIsolated().whenSuccess {
      admission in
      switch admission {
      case .refuse(_, let reason):
        edge.refusedLines.notice(
          edge.logger, "Sign-up refused", ["peer": "\(request.remoteAddress)", "reason": "\(reason)"])
        handler.refuse(CloseReason(.refused, reason))
      case .accept:
        handler.send(text: ByteBuffer(string: "{\"accepted\":true}"))
        let transport = edge.transport(channel, target, origin)
        handler.open(transport)
        Task { await delegate.attach(transport) }
      }
    }
  }
}
