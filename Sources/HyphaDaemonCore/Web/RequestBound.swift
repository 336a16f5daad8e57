import NIOCore
import NIOHTTP1
import NIOPosix

/// Lets no more bytes through to NIO's decoder than a request may have, since that keeps whatever it does not parse: what follows
/// a request to upgrade, or one after which it was told that the connection ends.
final class RequestBound: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  struct Exceeded: Error {}

  private var bytes = 0
  private var isOver = false

  /// What comes from now on belongs to the next one.
  func requestTaken() {
    bytes = 0
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isOver else { return }
    bytes += unwrapInboundIn(data).readableBytes
    guard bytes <= EdgeLimits.requestBytes else {
      isOver = true
      return context.fireErrorCaught(Exceeded())
    }
    context.fireChannelRead(data)
  }

  /// TLS goes on reading until the other side has said goodbye, too.
  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    isOver = true
    context.close(mode: mode, promise: promise)
  }
}

/// Leaves the first few protocols that the first request asks for, as a node asks for one: NIO looks at each from within its look
/// at the one before, and thousands would take more than the stack has.
final class FewUpgrades: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .head(var head) = unwrapInboundIn(data) else { return context.fireChannelRead(data) }
    let asked = head.headers[canonicalForm: "Upgrade"]
    if asked.count > EdgeLimits.headerItems {
      head.headers.replaceOrAdd(
        name: "Upgrade", value: asked.prefix(EdgeLimits.headerItems).joined(separator: ","))
    }
    context.fireChannelRead(wrapInboundOut(.head(head)))
    // NIO upgrades none but the first.
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }
}

extension ServerBootstrap {
  /// Its connections read little at once, until they carry replication.
  func receivingRequests() -> ServerBootstrap {
    childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(
        .recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(
          minimum: 1024, initial: 2048, maximum: EdgeLimits.receiveBytes))
  }
}

extension ChannelPipeline.SynchronousOperations {
  /// Without the handler of a type, if there is one.
  func remove<Handler: RemovableChannelHandler>(_ type: Handler.Type) {
    if let context = try? context(handlerType: type) { removeHandler(context: context, promise: nil) }
  }
}
