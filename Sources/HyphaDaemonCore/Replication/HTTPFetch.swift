import NIOCore
import NIOHTTP1
import NIOPosix

/// Asks a node's web address for one file at a time, over TLS where the address says so. It follows no redirect, and
/// decodes nothing.
struct HTTPFetch: Sendable {
  struct Answer: Sendable {
    var status: Int
    var headers: HTTPHeaders
    var body: [UInt8]
  }

  private let connector: ReplicationConnector
  /// For connecting, asking and the whole answer together, however slowly that comes.
  private let patience: TimeAmount

  /// - Parameter connector: its event loops and its TLS are used.
  init(_ connector: ReplicationConnector, patience: TimeAmount = .seconds(ReplicationLimits.openingSeconds)) {
    self.connector = connector
    self.patience = patience
  }

  /// - Parameters:
  ///   - limit: bytes that the answer may have.
  ///   - accept: kinds of contents.
  ///   - encoding: how they may be compressed.
  func get(
    _ path: String, of address: HyphaAddress, limit: Int, accept: String = "*/*",
    encoding: String = "identity"
  ) async throws(LookupError) -> Answer {
    var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path)
    head.headers.add(name: "Host", value: address.url.authority)
    head.headers.add(name: "Accept", value: accept)
    head.headers.add(name: "Accept-Encoding", value: encoding)
    head.headers.add(name: "Connection", value: "close")
    let name = address.address(of: path)
    let loop = connector.group.next()
    let promise = loop.makePromise(of: Answer.self)
    let timeout = loop.scheduleTask(in: patience) { [patience] in
      promise.fail(ChannelError.connectTimeout(patience))
    }
    let bootstrap = ClientBootstrap(group: loop).connectTimeout(patience)
      .channelInitializer { [connector, head] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if address.url.kind == .wss { try pipeline.addHandler(connector.tlsHandler(for: address.url)) }
          var limits = NIOHTTPDecoderLimitConfiguration()
          limits.maxHeaderFieldSize = EdgeLimits.headerBytes
          limits.maxHeaderListSize = EdgeLimits.headerBytes
          try pipeline.addHTTPClientHandlers(
            leftOverBytesStrategy: .dropBytes, enableOutboundHeaderValidation: true,
            encoderConfiguration: .init(), decoderLimitConfiguration: limits, withClientUpgrade: nil)
          try pipeline.addHandler(FetchHandler(name, head, limit, promise))
        }
      }
    bootstrap.connect(host: address.url.host, port: address.url.port).whenComplete { result in
      switch result {
      case .failure(let error): promise.fail(error)
      case .success(let channel): promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
      }
    }
    defer { timeout.cancel() }
    do {
      return try await promise.futureResult.get()
    } catch let error as LookupError {
      throw error
    } catch HTTPParserError.invalidEOFState {
      throw LookupError(.unreachable, "\(name): the connection was closed before the whole answer.")
    } catch is HTTPParserError {
      throw LookupError(.badAnswer, "\(name): what answers does not speak HTTP.")
    } catch {
      throw LookupError(.unreachable, "\(name): \(NetworkError.text(error))")
    }
  }
}

/// Sends the request and gathers the answer.
private final class FetchHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let name: String
  private let request: HTTPRequestHead
  private let limit: Int
  private let promise: EventLoopPromise<HTTPFetch.Answer>
  private var answer = HTTPFetch.Answer(status: 0, headers: [:], body: [])

  init(
    _ name: String, _ request: HTTPRequestHead, _ limit: Int, _ promise: EventLoopPromise<HTTPFetch.Answer>
  ) {
    self.name = name
    self.request = request
    self.limit = limit
    self.promise = promise
  }

  func channelActive(context: ChannelHandlerContext) {
    context.write(wrapOutboundOut(.head(request)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): (answer.status, answer.headers) = (Int(head.status.code), head.headers)
    case .body(let bytes):
      answer.body.append(contentsOf: bytes.readableBytesView)
      guard answer.body.count > limit else { return }
      promise.fail(LookupError(.badAnswer, "\(name) answered with over \(limit) bytes."))
    case .end: promise.succeed(answer)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    promise.fail(ChannelError.eof)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    promise.fail(error)
    context.close(promise: nil)
  }
}
