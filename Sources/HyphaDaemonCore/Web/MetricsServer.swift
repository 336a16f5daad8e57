public import NIOCore
import NIOHTTP1
import NIOPosix

/// Serves `/metrics`, on an address of its own that the web does not see.
public final class MetricsServer: Sendable {
  private let channel: any Channel

  private init(_ channel: any Channel) {
    self.channel = channel
  }

  /// - Parameter text: makes the answer.
  public static func start(
    at address: ListenAddress, group: any EventLoopGroup, text: @escaping @Sendable () async -> String
  ) async throws(EdgeServerError) -> MetricsServer {
    let limiter = ConnectionLimiter(
      total: EdgeLimits.metricsConnections, perAddress: EdgeLimits.metricsConnections)
    let bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .receivingRequests()
      .childChannelInitializer { channel in
        guard limiter.admit(channel) else { return channel.close() }
        return channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(RequestBound())
          try channel.pipeline.syncOperations.configureHTTPServerPipeline(
            withPipeliningAssistance: true, withErrorHandling: true, withOutboundHeaderValidation: true,
            withEncoderConfiguration: .init(), withDecoderLimitConfiguration: HTTPEdge.decoderLimits)
          try channel.pipeline.syncOperations.addHandler(MetricsHandler(text))
        }
      }
    do {
      return MetricsServer(try await bootstrap.bind(host: address.host, port: address.port).get())
    } catch {
      throw EdgeServerError(
        context: "Cannot serve metrics on \(address): \(NetworkError.text(error)).")
    }
  }

  public func stop() async {
    try? await channel.close()
  }
}

private final class MetricsHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let text: @Sendable () async -> String
  private var head: HTTPRequestHead?
  private var deadline: Scheduled<Void>?
  private var hasRequest = false

  init(_ text: @escaping @Sendable () async -> String) {
    self.text = text
  }

  /// A connection is for one request, which has to come in time.
  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    deadline = context.eventLoop.scheduleTask(in: .seconds(EdgeLimits.requestSeconds)) {
      channel.close(promise: nil)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    deadline?.cancel()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): self.head = head
    case .body: break
    case .end:
      guard let head, !hasRequest else { return }
      hasRequest = true
      self.head = nil
      guard head.uri == "/metrics", head.method == .GET || head.method == .HEAD else {
        return write(.text(.notFound, "Metrics are at /metrics."), to: head, context)
      }
      let text = text
      context.eventLoop.makeFutureWithTask {
        HTTPAnswer(
          status: .ok, headers: ["Content-Type": "text/plain; version=0.0.4; charset=utf-8"],
          body: ByteBuffer(string: await text()))
      }.assumeIsolated().whenSuccess { [self] answer in write(answer, to: head, context) }
    }
  }

  private func write(_ answer: HTTPAnswer, to request: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard context.channel.isActive else { return }
    context.write(wrapOutboundOut(.head(answer.head(close: true))), promise: nil)
    if request.method != .HEAD {
      context.write(wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil))).assumeIsolated().whenComplete { _ in
      context.close(promise: nil)
    }
  }
}
