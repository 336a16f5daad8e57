import NIOCore
import NIOHTTP1
import NIOWebSocket

/// Answers the requests of one HTTP connection that are not upgraded, one after the other.
final class HTTPEdgeHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let delegate: any EdgeDelegate
  private var head: HTTPRequestHead?
  private var bodyBytes = 0
  /// How to answer the request to upgrade that comes next.
  private var refusal: Response?
  private var deadline: Scheduled<Void>?
  private var closing = false

  init(_ delegate: any EdgeDelegate) {
    self.delegate = delegate
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
    default:
      context.close(promise: nil)
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !closing else { return }
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
      bodyBytes = 0
    case .body(let bytes):
      bodyBytes += bytes.readableBytes
      guard bodyBytes > EdgeLimits.bodyBytes, let head else { return }
      closing = true
      write(.text(.payloadTooLarge, "The request is too large."), to: head, context)
    case .end:
      guard let head else { return }
      self.head = nil
      answer(head, context)
    }
  }

  private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    if let response = immediate(head) {
      return write(response, to: head, context)
    }
    let delegate = delegate
    let route = Self.path(head.uri)
    context.eventLoop.makeFutureWithTask { await Self.response(route, delegate) }.assumeIsolated()
      .whenSuccess { [self] response in write(response, to: head, context) }
  }

  /// The answers that the node need not be asked for.
  private func immediate(_ head: HTTPRequestHead) -> Response? {
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
    let path = Self.path(head.uri)
    let upgrades = HTTPEdge.target(head.uri) != nil
    guard Self.routes.contains(path) || upgrades else { return .text(.notFound, "There is nothing here.") }
    guard head.method == .GET || head.method == .HEAD else {
      var response = Response.text(.methodNotAllowed, "Only GET and HEAD are allowed here.")
      response.headers.add(name: "Allow", value: "GET, HEAD")
      return response
    }
    guard upgrades else { return nil }
    var response = Response.text(.upgradeRequired, "This is for other nodes, over WebSocket.")
    response.headers.add(name: "Upgrade", value: "websocket")
    return response
  }

  private static let routes: Set<String> = ["/", "/healthz", "/.well-known/dat"]

  private static func path(_ uri: String) -> String {
    String(uri.prefix { $0 != "?" })
  }

  private static func response(_ path: String, _ delegate: any EdgeDelegate) async -> Response {
    switch path {
    case "/.well-known/dat":
      var response: Response
      if let dat = await delegate.wellKnownDat() {
        // DEP-0005.
        response = .text(.ok, "dat://\(dat.key.hex)\nTTL=\(dat.ttl)")
      } else {
        response = .text(.notFound, "This node holds no hypha yet.")
      }
      response.headers.add(name: "Access-Control-Allow-Origin", value: "*")
      return response
    case "/healthz":
      let health = await delegate.health()
      return .text(health.ready ? .ok : .serviceUnavailable, health.text)
    default:
      return Response(status: .ok, headers: ["Content-Type": "text/html; charset=utf-8"], body: page)
    }
  }

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
    <p>This is an always-on node. Its hyphalink is at <a href="/.well-known/dat">/.well-known/dat</a>.</p>
    </body>
    </html>

    """

  private func write(_ response: Response, to request: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard context.channel.isActive else { return }
    var head = HTTPResponseHead(version: .http1_1, status: response.status, headers: response.headers)
    head.headers.add(name: "Content-Length", value: "\(response.body.utf8.count)")
    head.headers.add(name: "Cache-Control", value: "no-store")
    head.headers.add(name: "X-Content-Type-Options", value: "nosniff")
    head.headers.add(name: "Referrer-Policy", value: "no-referrer")
    head.headers.add(name: "X-Frame-Options", value: "DENY")
    head.headers.add(
      name: "Content-Security-Policy",
      value: "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    if !request.isKeepAlive { closing = true }
    head.headers.add(name: "Connection", value: closing ? "close" : "keep-alive")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if request.method != .HEAD {
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: response.body)))), promise: nil)
    }
    let close = closing
    context.writeAndFlush(wrapOutboundOut(.end(nil))).assumeIsolated().whenComplete { [self] _ in
      if close { context.close(promise: nil) } else { armDeadline(context) }
    }
  }

  /// From now on the client has a limited time for its next request.
  private func armDeadline(_ context: ChannelHandlerContext) {
    deadline?.cancel()
    let channel = context.channel
    deadline = context.eventLoop.scheduleTask(in: .seconds(EdgeLimits.requestSeconds)) {
      channel.close(promise: nil)
    }
  }

  /// What is answered; headers that every answer has are added later.
  private struct Response: Sendable {
    var status: HTTPResponseStatus
    var headers: HTTPHeaders
    var body: String

    /// One line.
    static func text(_ status: HTTPResponseStatus, _ text: String) -> Response {
      Response(status: status, headers: ["Content-Type": "text/plain; charset=utf-8"], body: text + "\n")
    }
  }
}
