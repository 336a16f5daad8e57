import NIOCore

/// The last handler of a WebSocket connection after its upgrade: a byte stream between the frames and a
/// ``ReplicationTransport``, after a text frame or two for a sign-up.
final class WebSocketHandler: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ReplicationOutbound
  typealias OutboundOut = ByteBuffer

  enum Role {
    case server
    case client
  }

  private enum State {
    /// Nothing but one text frame may come; `nil` for a connection that ended before.
    case preamble((Result<ByteBuffer, CloseReason>) -> Void)
    /// The text frame came, and the answer to it is not yet known; more bytes wait here.
    case deciding(ByteBuffer)
    case open(ReplicationTransport)
    /// Sent a close frame; waits for the other one.
    case closing
    case closed
  }

  private let role: Role
  private var parser: WebSocketParser
  private var state: State
  private var transport: ReplicationTransport?
  private var context: ChannelHandlerContext?
  private var reason: CloseReason?
  /// The peer broke the rules.
  private var isBroken = false
  /// Small pieces of the stream, until what arrived with them is read.
  private var pieces = ByteBuffer()
  /// Answers to pings that wait for the socket, and the last ping beyond them.
  private var waitingPongs = 0
  private var unansweredPing: ByteBuffer?
  /// For the text frame.
  private var deadline: Scheduled<Void>?

  init(_ role: Role, transport: ReplicationTransport) {
    self.role = role
    self.transport = transport
    parser = WebSocketParser(masked: role == .server)
    state = .open(transport)
  }

  /// - Parameter preamble: gets the text frame that comes first, or why there was none. Answer with
  ///   ``open(_:answer:)`` or ``refuse(_:)``.
  init(_ role: Role, preamble: @escaping (Result<ByteBuffer, CloseReason>) -> Void) {
    self.role = role
    parser = WebSocketParser(masked: role == .server)
    state = .preamble(preamble)
  }

  /// Sends a text frame before the stream begins.
  func send(text: ByteBuffer) {
    guard let context else { return }
    context.writeAndFlush(wrapOutboundOut(frame(WebSocketFrame.text, text, context)), promise: nil)
  }

  /// The stream begins.
  func open(_ transport: ReplicationTransport) {
    guard case .deciding(let waiting) = state, let context else {
      return transport.ended(reason ?? CloseReason(.lost, "The connection ended."))
    }
    self.transport = transport
    state = .open(transport)
    if waiting.readableBytes > 0 { receive(waiting, context) }
    context.read()
  }

  /// There will be no stream.
  func refuse(_ reason: CloseReason) {
    guard let context else { return }
    close(context, reason)
  }

  // MARK: ChannelHandler

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    guard case .preamble = state else { return }
    let patience = TimeAmount.seconds(ReplicationLimits.openingSeconds)
    deadline = context.eventLoop.assumeIsolated().scheduleTask(in: patience) { [weak self] in
      guard let self, case .preamble = state else { return }
      refuse(CloseReason(.timeout, "No text frame came in time."))
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    ended(CloseReason(.lost, "The connection ended."))
    deadline?.cancel()
    self.context = nil
  }

  func read(context: ChannelHandlerContext) {
    switch state {
    case .open(let transport) where !transport.mayRead(): return
    case .deciding: return
    default: context.read()
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    receive(unwrapInboundIn(data), context)
  }

  private func receive(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
    // Nothing that follows a violation can be told apart.
    guard !isBroken else { return }
    var input = bytes
    defer {
      deliverPieces()
      if waitingPongs > 0 { context.flush() }
    }
    do throws(WebSocketViolation) {
      while true {
        if case .deciding(var waiting) = state {
          waiting.writeBuffer(&input)
          state = .deciding(waiting)
          return
        }
        guard let event = try parser.next(&input) else { return }
        try handle(event, context)
      }
    } catch {
      isBroken = true
      close(context, CloseReason(.badFrame, error.text), code: error.code)
      // A goodbye would not be understood: the end of the stream follows at once. The other direction stays open for a
      // moment, since what is still to come would otherwise have the system throw away the reason, too.
      context.close(mode: .output, promise: nil)
    }
  }

  /// How small the fragments are is up to who sends them: each by itself would cost much more than its bytes.
  private func deliverPieces() {
    guard pieces.readableBytes > 0 else { return }
    transport?.deliver(pieces)
    pieces = ByteBuffer()
  }

  private func handle(_ event: WebSocketParser.Event, _ context: ChannelHandlerContext)
    throws(WebSocketViolation)
  {
    switch (event, state) {
    case (_, .closed), (.bytes, .closing), (.text, .closing), (.pong, _):
      break
    case (.bytes(var bytes), .open(let transport)):
      if bytes.readableBytes < ReplicationLimits.pieceBytes {
        pieces.writeBuffer(&bytes)
      } else {
        deliverPieces()
        transport.deliver(bytes)
      }
    case (.text(let text), .preamble(let take)):
      state = .deciding(ByteBuffer())
      take(.success(text))
    case (.ping(let payload), _):
      if case .closing = state { return }
      answer(ping: payload, context)
    case (.close(let code, let reason), _):
      let ended = Self.reason(code, reason)
      if case .closing = state {
        finish(context, self.reason ?? ended)
      } else {
        close(context, ended, code: Self.answer(to: code))
        finish(context, ended)
      }
    case (.bytes, _):
      throw WebSocketViolation(code: 1002, text: "Bytes before the sign-up was accepted.")
    case (.text, _):
      throw WebSocketViolation(code: 1003, text: "A text frame where only binary ones belong.")
    }
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    switch unwrapOutboundIn(data) {
    case .close(let reason):
      close(context, reason)
      promise?.succeed()
    case .bytes(let buffers):
      guard case .open = state else {
        promise?.fail(ChannelError.ioOnClosedChannel)
        return
      }
      write(buffers, context, promise)
    }
  }

  /// While some answers wait for the socket, later pings get one answer together, to the last of them (RFC 6455, section 5.5.3);
  /// and answers leave once all is read that came with the pings: pings without end neither fill the memory nor cost a system call each.
  private func answer(ping payload: ByteBuffer, _ context: ChannelHandlerContext) {
    guard waitingPongs < ReplicationLimits.waitingPongs else {
      unansweredPing = payload
      return
    }
    waitingPongs += 1
    let written = context.eventLoop.makePromise(of: Void.self)
    written.futureResult.assumeIsolated().whenComplete { [self] _ in
      waitingPongs -= 1
      guard let payload = unansweredPing, let context = self.context else { return }
      unansweredPing = nil
      answer(ping: payload, context)
      context.flush()
    }
    context.write(wrapOutboundOut(frame(WebSocketFrame.pong, payload, context)), promise: written)
  }

  /// Writes as few frames as their size allows. Payloads go out as they are, without a copy.
  private func write(
    _ buffers: [ByteBuffer], _ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?
  ) {
    var rest = buffers.reduce(0) { $0 + $1.readableBytes }
    // Reversed: taking from the end leaves each buffer with one owner, so a mask is put on in place.
    var waiting = Array(buffers.reversed())
    while rest > 0 {
      let size = min(rest, ReplicationLimits.sentFrameBytes)
      let mask = mask()
      let header = WebSocketFrame.header(
        WebSocketFrame.binary, size: size, mask: mask, allocator: context.channel.allocator)
      context.write(wrapOutboundOut(header), promise: nil)
      var offset = 0
      while offset < size, var buffer = waiting.popLast() {
        if buffer.readableBytes > size - offset, let part = buffer.readSlice(length: size - offset) {
          waiting.append(buffer)
          buffer = part
        }
        if let mask { WebSocketMask.apply(mask, to: &buffer, offset: offset) }
        offset += buffer.readableBytes
        rest -= buffer.readableBytes
        context.write(wrapOutboundOut(buffer), promise: rest == 0 ? promise : nil)
      }
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    ended(CloseReason(.lost, "The connection ended without a goodbye."))
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    ended(CloseReason(.lost, "The connection broke: \(NetworkError.text(error))"))
    context.close(promise: nil)
  }

  // MARK: Ends

  /// Sends a close frame, and gives the other side a moment to answer it.
  private func close(_ context: ChannelHandlerContext, _ reason: CloseReason, code: UInt16? = nil) {
    switch state {
    case .closing, .closed: return
    case .preamble, .deciding, .open: break
    }
    self.reason = reason
    var payload = context.channel.allocator.buffer(capacity: 125)
    payload.writeInteger(code ?? Self.code(reason.code))
    // A control frame has room for 123 bytes of text; cut between characters.
    var text = reason.text
    while text.utf8.count > 123 { text.removeLast() }
    payload.writeString(text)
    let channel = context.channel
    context.writeAndFlush(wrapOutboundOut(frame(WebSocketFrame.close, payload, context))).whenComplete { _ in
      channel.close(after: ReplicationLimits.closeSeconds)
    }
    channel.close(after: ReplicationLimits.lingerSeconds)
    let before = state
    state = .closing
    if case .preamble(let take) = before { take(.failure(reason)) }
    // The answer must be read, even where the stream waited for the node.
    context.read()
  }

  private func finish(_ context: ChannelHandlerContext, _ reason: CloseReason) {
    ended(reason)
    context.close(promise: nil)
  }

  private func ended(_ reason: CloseReason) {
    let reason = self.reason ?? reason
    deliverPieces()
    let before = state
    state = .closed
    if case .preamble(let take) = before { take(.failure(reason)) }
    self.reason = reason
    transport?.ended(reason)
    transport = nil
  }

  private func frame(_ opcode: UInt8, _ payload: ByteBuffer, _ context: ChannelHandlerContext) -> ByteBuffer {
    WebSocketFrame.whole(opcode, payload, mask: mask(), allocator: context.channel.allocator)
  }

  /// Unpredictable, as RFC 6455, section 10.3, wants it of a client.
  private func mask() -> UInt32? {
    role == .client ? UInt32.random(in: .min ... .max) : nil
  }

  /// The close code to answer with: the same one.
  private static func answer(to code: UInt16) -> UInt16 { code == 1005 ? 1000 : code }

  private static func code(_ code: CloseReason.Code) -> UInt16 {
    switch code {
    case .normal: 1000
    case .goingAway: 1001
    case .protocolError, .badFrame: 1002
    case .refused: 1008
    case .tooLarge: 1009
    case .timeout, .stalled, .lost: 1011
    }
  }

  private static func reason(_ code: UInt16, _ text: String) -> CloseReason {
    let kind: CloseReason.Code =
      switch code {
      case 1000, 1005: .normal
      case 1001: .goingAway
      case 1008: .refused
      case 1009: .tooLarge
      default: .protocolError
      }
    return CloseReason(kind, text.isEmpty ? "The other node closed the connection." : text)
  }
}

/// The last handler of a TCP connection: its bytes are the stream.
final class TCPHandler: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ReplicationOutbound
  typealias OutboundOut = ByteBuffer

  private let transport: ReplicationTransport
  private var reason: CloseReason?

  init(_ transport: ReplicationTransport) {
    self.transport = transport
  }

  func read(context: ChannelHandlerContext) {
    if transport.mayRead() { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    transport.deliver(unwrapInboundIn(data))
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    switch unwrapOutboundIn(data) {
    case .close(let reason):
      self.reason = reason
      let channel = context.channel
      context.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in channel.close(promise: nil) }
      channel.close(after: ReplicationLimits.lingerSeconds)
      promise?.succeed()
    case .bytes(let buffers):
      for buffer in buffers.dropLast() { context.write(wrapOutboundOut(buffer), promise: nil) }
      guard let last = buffers.last else {
        promise?.succeed()
        return
      }
      context.write(wrapOutboundOut(last), promise: promise)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    transport.ended(reason ?? CloseReason(.normal, "The other node closed the connection."))
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    transport.ended(reason ?? CloseReason(.lost, "The connection broke: \(NetworkError.text(error))"))
    context.close(promise: nil)
  }
}

extension Channel {
  /// Closes it in some seconds, also where the peer takes nothing of what waits any more.
  fileprivate func close(after seconds: Int64) {
    let end = eventLoop.scheduleTask(in: .seconds(seconds)) { self.close(promise: nil) }
    // The task would keep an ended connection in memory until then.
    closeFuture.whenComplete { _ in end.cancel() }
  }
}
