import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket

/// Answers the requests of one HTTP connection that are not upgraded, one after the other.
final class HTTPEdgeHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let edge: HTTPEdge
  private let bound: RequestBound
  private var head: HTTPRequestHead?
  private var bodyBytes = 0
  /// How to answer the request to upgrade that comes next.
  private var refusal: HTTPAnswer?
  private var deadline: Scheduled<Void>?
  private var closing = false
  private var waiting = Waiting.forRequest
  /// What of the answer's body is not written yet.
  private var rest = ByteBuffer()
  /// What is being read has a request's end in it.
  private var hasReadEnd = false

  /// What the connection waits for.
  private enum Waiting {
    /// Who has had an answer may be silent; a browser is for most of the time.
    case forNothing
    /// The first request, or the rest of one that was begun.
    case forRequest
    case forNode
    /// Who asked, to take the answer; so many bytes of it were not taken when this was last looked at.
    case forClient(String, untaken: Int)
  }

  init(_ edge: HTTPEdge, _ bound: RequestBound) {
    self.edge = edge
    self.bound = bound
  }

  func handlerAdded(context: ChannelHandlerContext) {
    armDeadline(context)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    deadline?.cancel()
  }

  func channelInactive(context: ChannelHandlerContext) {
    deadline?.cancel()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case let error as UpgradeRefusal:
      refusal = .text(HTTPResponseStatus(statusCode: error.status), error.reason)
    case is NIOWebSocketUpgradeError:
      refusal = .text(.badRequest, "This is no valid request for a WebSocket.")
    case is HTTPParserError, is RequestBound.Exceeded:
      // The rest of a request that was cut off is none.
      if !closing { edge.reject("badRequest", context.channel) }
      context.close(promise: nil)
    case let error as NIOSSLError where error != .uncleanShutdown:
      edge.reject("badTLS", context.channel)
      context.close(promise: nil)
    default:
      context.close(promise: nil)
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !closing else { return }
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
      waiting = .forRequest
      bodyBytes = 0
    case .body(let bytes):
      bodyBytes += bytes.readableBytes
      guard bodyBytes > EdgeLimits.bodyBytes, let head else { return }
      closing = true
      let origin = edge.policy.origin(context.channel, isTLS: edge.isTLS, head.headers)
      write(.text(.payloadTooLarge, "The request is too large."), to: head, from: origin, context)
    case .end:
      bound.requestTaken()
      hasReadEnd = true
      guard let head else { return }
      self.head = nil
      waiting = .forNode
      answer(head, context)
    }
  }

  /// What has come without a request's end is the beginning of one, even if it is too little to be told of.
  func channelReadComplete(context: ChannelHandlerContext) {
    if case .forNothing = waiting, !hasReadEnd { waiting = .forRequest }
    hasReadEnd = false
    context.fireChannelReadComplete()
  }

  private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    let rules = edge.policy.current
    let origin = edge.policy.origin(context.channel, isTLS: edge.isTLS, head.headers)
    if let response = immediate(head, rules, origin, context.channel) {
      return write(response, to: head, from: origin, context)
    }
    let delegate = edge.delegate
    let route = Self.path(head.uri)
    let headers = head.headers
    let token = ACMEFolder.token(route)
    context.eventLoop.makeFutureWithTask {
      if let token { return await Self.challenge(token, in: rules.acmeFolder) }
      return await Self.response(route, headers, delegate)
    }.assumeIsolated()
      .whenSuccess { [self] response in write(response, to: head, from: origin, context) }
  }

  /// The answers that neither node nor disk need be asked for.
  private func immediate(
    _ head: HTTPRequestHead, _ rules: EdgePolicy.Rules, _ origin: ClientOrigin, _ channel: any Channel
  ) -> HTTPAnswer? {
    if let refusal {
      self.refusal = nil
      return refusal
    }
    guard head.version == .http1_1 || head.version == .http1_0 else {
      return .text(.httpVersionNotSupported, "Only HTTP/1.1 is spoken here.")
    }
    guard head.version == .http1_0 || head.headers["Host"].count == 1 else {
      return .text(.badRequest, "The request has no Host.")
    }
    guard head.uri.utf8.count <= EdgeLimits.pathBytes else {
      return .text(.uriTooLong, "The path is too long.")
    }
    if origin.isForwarded, !edge.limiter.assign(channel, to: origin.address) {
      closing = true
      edge.delegate.reject("tooMany", from: origin.name)
      return .text(.tooManyRequests, HTTPEdge.tooMany)
    }
    let path = Self.path(head.uri)
    let upgrades = HTTPEdge.target(head.uri) != nil
    let isChallenge = !rules.acmeFolder.isEmpty && ACMEFolder.token(path) != nil
    if !isChallenge, let answer = rules.redirect(head, path: path, origin) { return answer }
    guard Self.routes.contains(path) || upgrades || isChallenge || edge.web?.has(path) == true else {
      return .text(.notFound, "There is nothing here.")
    }
    guard head.method == .GET || head.method == .HEAD else {
      var response = HTTPAnswer.text(.methodNotAllowed, "Only GET and HEAD are allowed here.")
      response.headers.add(name: "Allow", value: "GET, HEAD")
      return response
    }
    if isChallenge { return nil }
    if let file = edge.web?.answer(path, head.headers) { return file }
    guard upgrades else { return nil }
    var response = HTTPAnswer.text(.upgradeRequired, "This is for other nodes, over WebSocket.")
    response.headers.add(name: "Upgrade", value: "websocket")
    return response
  }

  private static let routes: Set<String> = [
    "/", "/healthz", "/.well-known/dat", PostFeeds.jsonPath, PostFeeds.atomPath,
  ]

  private static func path(_ uri: String) -> String {
    String(uri.prefix { $0 != "?" })
  }

  private static func challenge(_ token: String, in folder: String) async -> HTTPAnswer {
    guard let bytes = await ACMEFolder.read(token, in: folder) else {
      return .text(.notFound, "There is no such challenge.")
    }
    return HTTPAnswer(
      status: .ok, headers: ["Content-Type": "application/octet-stream"], body: ByteBuffer(bytes: bytes))
  }

  private static func response(
    _ path: String, _ headers: HTTPHeaders, _ delegate: any EdgeDelegate
  ) async -> HTTPAnswer {
    switch path {
    case "/.well-known/dat":
      var response: HTTPAnswer
      if let dat = await delegate.wellKnownDat() {
        // DEP-0005.
        response = .text(.ok, "dat://\(dat.key.hex)\nTTL=\(dat.ttl)")
      } else {
        response = .text(.notFound, "This node holds no hypha yet.")
      }
      response.headers.add(name: "Access-Control-Allow-Origin", value: "*")
      return response
    case PostFeeds.jsonPath, PostFeeds.atomPath:
      var response = HTTPAnswer.text(.notFound, "This node holds no hypha yet.")
      if let posts = await delegate.publicPosts() {
        response = PostFeeds.answer(path, posts, headers, now: Node.now())
      }
      response.headers.add(name: "Access-Control-Allow-Origin", value: "*")
      return response
    case "/healthz":
      let health = await delegate.health()
      return .text(health.ready ? .ok : .serviceUnavailable, health.text)
    default:
      return HTTPAnswer(
        status: .ok, headers: ["Content-Type": "text/html; charset=utf-8"], body: ByteBuffer(string: page))
    }
  }

  /// Where the web client is not installed.
  private static let page = """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Hypha</title>
    </head>
    <body>
    <h1>A hypha lives here</h1>
    <p>This is an always-on node, without a web client. Its hyphalink is at
    <a href="/.well-known/dat">/.well-known/dat</a>.</p>
    </body>
    </html>

    """

  /// The next request comes once the client has taken the answer: however many are sent at once, one answer waits.
  private func write(
    _ answer: HTTPAnswer, to request: HTTPRequestHead, from origin: ClientOrigin,
    _ context: ChannelHandlerContext
  ) {
    guard context.channel.isActive else { return }
    MetricsNames.countAnswer(answer.status.code)
    // NIO takes what follows the last two for another protocol, and parses none of it.
    if !request.isKeepAlive || request.method == .CONNECT || request.headers.contains(name: "Upgrade") {
      closing = true
    }
    rest = request.method == .HEAD ? ByteBuffer() : answer.body
    let head = wrapOutboundOut(.head(answer.head(close: closing, isSecure: origin.isSecure)))
    if rest.readableBytes > 0 {
      context.write(head, promise: nil)
      writePiece(context)
    } else {
      goOn(after: context.writeAndFlush(head), context)
    }
    waiting = .forClient(origin.name, untaken: untaken(context.channel))
    armDeadline(context)
  }

  private func writePiece(_ context: ChannelHandlerContext) {
    guard let piece = rest.readSlice(length: min(rest.readableBytes, EdgeLimits.pieceBytes)) else { return }
    goOn(after: context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(piece)))), context)
  }

  /// With the rest of the answer or, after it, the next request.
  private func goOn(after written: EventLoopFuture<Void>, _ context: ChannelHandlerContext) {
    // In a turn of its own: thousands of requests that are there already would else be answered one within the other.
    written.assumeIsolated().whenComplete { [self] _ in
      context.eventLoop.assumeIsolated().execute { [self] in
        guard context.channel.isActive else { return }
        if rest.readableBytes > 0 { writePiece(context) } else { finish(context) }
      }
    }
  }

  /// The client has taken its answer.
  private func finish(_ context: ChannelHandlerContext) {
    waiting = .forNothing
    armDeadline(context)
    // The next request may be answered within this call, and be the one to close after.
    let isLast = closing
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    if isLast { context.close(promise: nil) }
  }

  /// Bytes of the answer that the system has not taken yet, since the client does not.
  private func untaken(_ channel: any Channel) -> Int {
    rest.readableBytes + ((try? channel.syncOptions?.getOption(ChannelOptions.bufferedWritableBytes)) ?? 0)
  }

  /// From now on the client has a limited time for its next request, or to take more of the answer.
  private func armDeadline(_ context: ChannelHandlerContext) {
    deadline?.cancel()
    let channel = context.channel
    deadline = context.eventLoop.assumeIsolated().scheduleTask(in: .seconds(EdgeLimits.requestSeconds)) {
      [self] in
      switch waiting {
      case .forClient(let name, let before):
        let untaken = untaken(channel)
        if before - untaken >= EdgeLimits.answerBytes {
          waiting = .forClient(name, untaken: untaken)
          return armDeadline(context)
        }
        edge.delegate.reject("stalled", from: name)
      case .forRequest: edge.reject("noRequest", channel)
      case .forNothing, .forNode: break
      }
      closing = true
      channel.close(promise: nil)
    }
  }
}
