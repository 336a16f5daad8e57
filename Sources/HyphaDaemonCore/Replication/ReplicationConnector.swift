import FoundationEssentials
import Glibc
public import HyphaControlAPI
public import NIOCore
import NIOHTTP1
import NIOPosix
public import NIOSSL
import NIOWebSocket
import Synchronization

/// Why a connection to another node could not be made.
public struct ConnectError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// No connection: name, network or TLS.
    case unreachable
    /// The other node answered, and does not want it; the number is HTTP's status, 0 where there is none.
    case refused(Int)
    /// What answers does not speak this protocol.
    case notANode
  }

  public var code: Code
  /// Which URL, what happened, and what to do where that is known.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  public var description: String { context }
}

/// Opens connections to other nodes.
public final class ReplicationConnector: Sendable {
  let group: any EventLoopGroup
  /// Made for the first URL that needs it: the system's list of authorities takes time and megabytes to read.
  private let tls: Mutex<NIOSSLContext?>

  /// - Parameter tls: tests give one that trusts their own certificate. The default trusts the system's
  ///   authorities, or those in the file that `SSL_CERT_FILE` names, checks the name, and takes TLS 1.2 and newer.
  public init(group: any EventLoopGroup, tls: NIOSSLContext? = nil) {
    self.group = group
    self.tls = Mutex(tls)
  }

  private func context() throws -> NIOSSLContext {
    try tls.withLock { tls in
      if let tls { return tls }
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.minimumTLSVersion = .tlsv12
      configuration.applicationProtocols = ["http/1.1"]
      configuration.shutdownTimeout = .milliseconds(EdgeLimits.goodbyeMilliseconds)
      // As for other programs with TLS; BoringSSL itself does not look at it.
      if let file = getenv("SSL_CERT_FILE"), file.pointee != 0 {
        configuration.trustRoots = .file(String(cString: file))
      }
      let made = try NIOSSLContext(configuration: configuration)
      tls = made
      return made
    }
  }

  /// Checks that the other end is the URL's host.
  func tlsHandler(for url: ReplicationURL) throws -> NIOSSLClientHandler {
    let isAddress = (try? SocketAddress(ipAddress: url.host, port: 0)) != nil
    return try NIOSSLClientHandler(context: context(), serverHostname: isAddress ? nil : url.host)
  }

  /// Connects, and returns once the byte stream begins.
  ///
  /// - Parameter setupCode: for a URL with ``ReplicationTarget/signUp(_:)``: sent in the first frame, and
  ///   accepted by the other node when this returns.
  public func connect(
    to url: ReplicationURL, setupCode: Secret? = nil
  ) async throws(ConnectError) -> ReplicationTransport {
    let loop = group.next()
    let promise = loop.makePromise(of: ReplicationTransport.self)
    let bootstrap = ClientBootstrap(group: loop)
      .connectTimeout(.seconds(ReplicationLimits.openingSeconds))
      .channelOption(.socketOption(.so_keepalive), value: 1)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelOption(.recvAllocator, value: Network.receiveAllocator)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try self.prepare(channel, url, setupCode, promise)
        }
      }
    do {
      let channel: any Channel
      do {
        channel = try await bootstrap.connect(host: url.host, port: url.port).get()
      } catch {
        promise.fail(error)
        throw error
      }
      let timeout = loop.scheduleTask(in: .seconds(ReplicationLimits.openingSeconds)) {
        promise.fail(ChannelError.connectTimeout(.seconds(ReplicationLimits.openingSeconds)))
        channel.close(promise: nil)
      }
      defer { timeout.cancel() }
      return try await promise.futureResult.get()
    } catch let error as ConnectError {
      throw error
    } catch {
      throw ConnectError(.unreachable, "\(url): \(NetworkError.text(error))")
    }
  }

  /// On the channel's loop.
  private func prepare(
    _ channel: any Channel, _ url: ReplicationURL, _ setupCode: Secret?,
    _ promise: EventLoopPromise<ReplicationTransport>
  ) throws {
    let pipeline = channel.pipeline.syncOperations
    if url.kind == .tcp {
      let transport = Self.transport(channel, url)
      try pipeline.addHandler(TCPHandler(transport))
      pipeline.connected { promise.succeed(transport) }
      return
    }
    if url.kind == .wss {
      try pipeline.addHandler(tlsHandler(for: url))
    }
    let request = UpgradeRequestHandler(url, promise)
    let upgrader = StreamClientUpgrader { context in
      context.pipeline.syncOperations.removeHandler(request, promise: nil)
      try Self.begin(context.channel, url, setupCode, promise)
    }
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = EdgeLimits.headerBytes
    limits.maxHeaderListSize = EdgeLimits.headerBytes
    try pipeline.addHTTPClientHandlers(
      leftOverBytesStrategy: .forwardBytes, enableOutboundHeaderValidation: true,
      encoderConfiguration: .init(),
      decoderLimitConfiguration: limits,
      withClientUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
    try pipeline.addHandler(request)
  }

  /// After the upgrade.
  private static func begin(
    _ channel: any Channel, _ url: ReplicationURL, _ setupCode: Secret?,
    _ promise: EventLoopPromise<ReplicationTransport>
  ) throws {
    let pipeline = channel.pipeline.syncOperations
    guard case .signUp = url.target else {
      let transport = transport(channel, url)
      try pipeline.addHandler(WebSocketHandler(.client, transport: transport))
      promise.succeed(transport)
      return
    }
    var opened: WebSocketHandler?
    let handler = WebSocketHandler(.client) { result in
      defer { opened = nil }
      switch result {
      case .failure(let reason):
        promise.fail(ConnectError(.refused(0), "\(url) refused: \(reason)"))
      case .success(let text):
        guard let answer = try? JSONDecoder().decode(SignUp.Answer.self, from: Data(text.readableBytesView)),
          answer.accepted
        else {
          opened?.refuse(CloseReason(.protocolError, "That was no answer to a sign-up."))
          promise.fail(ConnectError(.notANode, "\(url): what answers is no hypha node."))
          return
        }
        let transport = transport(channel, url)
        opened?.open(transport)
        promise.succeed(transport)
      }
    }
    opened = handler
    try pipeline.addHandler(handler)
    let text = try JSONEncoder().encode(SignUp.Request(setupCode: setupCode ?? Secret("")))
    handler.send(text: ByteBuffer(bytes: text))
  }

  private static func transport(_ channel: any Channel, _ url: ReplicationURL) -> ReplicationTransport {
    ReplicationTransport(
      channel: channel, direction: .outgoing, kind: url.kind, target: url.target,
      remoteAddress: channel.remoteAddress?.ipAddress ?? url.host, url: url)
  }
}

/// The text frames at the beginning of a sign-up.
enum SignUp {
  struct Request: Codable {
    var setupCode: Secret
  }

  struct Answer: Codable {
    var accepted: Bool
  }
}

/// Settings that all sockets share.
enum Network {
  static let receiveAllocator = AdaptiveRecvByteBufferAllocator(
    minimum: 2048, initial: 4096, maximum: 256 << 10)

  /// From now on it carries replication, of which the transport reads no more than it has room for.
  static func receiveMuch(_ channel: any Channel) throws {
    try channel.syncOptions?.setOption(.recvAllocator, value: receiveAllocator)
    // As many as NIO reads where nothing is said.
    try channel.syncOptions?.setOption(.maxMessagesPerRead, value: 4)
  }
}

extension ChannelPipeline.SynchronousOperations {
  /// Calls once the channel is connected.
  fileprivate func connected(_ body: @escaping () -> Void) {
    try? addHandler(WhenActive(body))
  }
}

/// Calls when the channel becomes active, and is then done.
private final class WhenActive: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = NIOAny
  private let body: () -> Void

  init(_ body: @escaping () -> Void) {
    self.body = body
  }

  func channelActive(context: ChannelHandlerContext) {
    body()
    context.fireChannelActive()
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }
}

/// The request's own part of a WebSocket upgrade is NIO's; what comes after it is ours.
private final class StreamClientUpgrader: NIOHTTPClientProtocolUpgrader {
  private let webSocket = NIOWebSocketClientUpgrader { channel, _ in
    channel.eventLoop.makeSucceededVoidFuture()
  }
  private let begin: (ChannelHandlerContext) throws -> Void

  init(_ begin: @escaping (ChannelHandlerContext) throws -> Void) {
    self.begin = begin
  }

  var supportedProtocol: String { webSocket.supportedProtocol }
  var requiredUpgradeHeaders: [String] { webSocket.requiredUpgradeHeaders }

  func addCustom(upgradeRequestHeaders: inout HTTPHeaders) {
    webSocket.addCustom(upgradeRequestHeaders: &upgradeRequestHeaders)
  }

  func shouldAllowUpgrade(upgradeResponse: HTTPResponseHead) -> Bool {
    webSocket.shouldAllowUpgrade(upgradeResponse: upgradeResponse)
  }

  func upgrade(context: ChannelHandlerContext, upgradeResponse: HTTPResponseHead) -> EventLoopFuture<Void> {
    context.eventLoop.makeCompletedFuture { try begin(context) }
  }
}

/// Sends the request to upgrade; sees the answer only if that was refused.
private final class UpgradeRequestHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let url: ReplicationURL
  private let promise: EventLoopPromise<ReplicationTransport>
  private var status: HTTPResponseStatus?
  private var reason: [UInt8] = []

  init(_ url: ReplicationURL, _ promise: EventLoopPromise<ReplicationTransport>) {
    self.url = url
    self.promise = promise
  }

  func channelActive(context: ChannelHandlerContext) {
    var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: url.path)
    head.headers.add(name: "Host", value: url.authority)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      status = head.status
    case .body(let bytes):
      reason.append(contentsOf: bytes.readableBytesView.prefix(200 - min(reason.count, 200)))
      if reason.count >= 200 { refused(context) }
    case .end:
      refused(context)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    promise.fail(ConnectError(.unreachable, "\(url): the connection was closed before an answer."))
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case is NIOHTTPClientUpgradeError, is HTTPParserError, is NIOWebSocketUpgradeError:
      promise.fail(ConnectError(.notANode, "\(url): what answers does not speak WebSocket."))
    default:
      promise.fail(ConnectError(.unreachable, "\(url): \(NetworkError.text(error))"))
    }
    context.close(promise: nil)
  }

  private func refused(_ context: ChannelHandlerContext) {
    let status = status ?? .internalServerError
    // What it wrote goes into a log and onto a terminal: one line of plain characters.
    let text = String(decoding: reason, as: UTF8.self).unicodeScalars
      .map { $0.value >= 0x20 && $0.value < 0x7F ? Character($0) : " " }
    let words = String(text).split(separator: " ").joined(separator: " ")
    let explained = words.isEmpty || words.contains("<") ? status.reasonPhrase : words
    promise.fail(ConnectError(.refused(Int(status.code)), "\(url) refused (\(status.code)): \(explained)"))
    context.close(promise: nil)
  }
}
