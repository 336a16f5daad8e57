public import Hypercore
import NIOConcurrencyHelpers
public import NIOCore

/// What a connection is for; on the web, its path.
public enum ReplicationTarget: Hashable, Sendable {
  /// The hypha that the serving node holds: `/hypha`.
  case hypha
  /// One feed by its key: `/replicate/<key>`.
  case replicate(PublicKey)
  /// An uninitialised node is to take this hypha: `/sign-up/<key>`.
  case signUp(PublicKey)
}

/// Why a connection ended, or is to end.
public struct CloseReason: Equatable, Sendable, CustomStringConvertible {
  /// For a program. On WebSocket, each has a close code of RFC 6455, section 7.4.1.
  public enum Code: Equatable, Sendable {
    /// Nothing left to do.
    case normal
    /// The node stops.
    case goingAway
    /// A peer broke the rules of the replication protocol; or this end, says the peer.
    case protocolError
    /// The peer broke the rules of WebSocket, or sent a frame above its limit.
    case badFrame
    /// Refused: not allowed here.
    case refused
    /// A message or frame above its limit.
    case tooLarge
    /// Nothing moved for too long.
    case timeout
    /// The peer does not take what is sent to it.
    case stalled
    /// The network connection broke; never sent.
    case lost
  }

  public var code: Code
  /// One plain sentence; sent to the peer, so without secrets and local paths.
  public var text: String

  public init(_ code: Code, _ text: String) {
    self.code = code
    self.text = text
  }

  public var description: String { text }
}

/// A connection to another node as a stream of bytes, in order both ways, with backpressure both ways.
///
/// Usable from any thread. Bytes come in only after ``start(on:_:)``; until then, and whenever
/// ``ReplicationLimits/inboundBytes`` wait to be taken, the socket is not read.
public final class ReplicationTransport: Sendable {
  /// Who opened the connection.
  public enum Direction: String, Sendable {
    case incoming
    case outgoing
  }

  /// What the bytes travel in.
  public enum Kind: String, Sendable {
    /// WebSocket without TLS: loopback, or behind a proxy that ends TLS.
    case ws
    /// WebSocket within TLS.
    case wss
    /// Plain TCP, so the replication protocol encrypts.
    case tcp
  }

  /// What happens on a connection; given one after the other on the loop that was given to ``start(on:_:)``.
  public enum Event: Sendable {
    /// All bytes that have arrived since the last event, in order. They count as taken when the handler returns.
    case bytes([ByteBuffer])
    /// ``isWritable`` was false and is true again.
    case writable
    /// Last event. Bytes that came before were given before.
    case closed(CloseReason)
  }

  public let direction: Direction
  public let kind: Kind
  public let target: ReplicationTarget
  /// Host of the other end, without its port; for limits on a rate.
  public let remoteAddress: String
  /// Where to, if outgoing.
  public let url: ReplicationURL?

  /// The replication protocol is to encrypt, because nothing below it does (DEP-0010).
  public var encryptsProtocol: Bool { kind == .tcp }

  private let channel: any Channel
  /// Where it is counted, if it came from outside.
  private let limiter: ConnectionLimiter?
  /// NIO's lock, which ThreadSanitizer sees, unlike a `Mutex`: that the two loops take turns with buffers depends on it.
  private let state = NIOLockedValueBox(State())

  private struct State {
    var loop: (any EventLoop)?
    var handler: (@Sendable (Event) -> Void)?
    var inbound: [ByteBuffer] = []
    /// Bytes that came in and that the handler has not returned from.
    var inboundBytes = 0
    var deliveryScheduled = false
    var becameWritable = false
    var closed: CloseReason?
    var closedDelivered = false
    var readHeld = false
    var outbound: [ByteBuffer] = []
    /// Bytes given to ``send(_:)`` that the system has not taken.
    var outboundBytes = 0
    var flushScheduled = false
    var full = false
    /// Bytes given to the channel.
    var given: UInt64 = 0
    /// It is looked after whether they leave.
    var isWatched = false
    /// How many of them had left at the last look; `nil` where none waited since.
    var leftBefore: Int64?
    /// This side asked for the end; nothing more is sent.
    var closing = false
    var received: UInt64 = 0
    var sent: UInt64 = 0
  }

  /// - Parameter channel: its last handler takes ``ReplicationOutbound`` and gives to ``deliver(_:)``.
  init(
    channel: any Channel, direction: Direction, kind: Kind, target: ReplicationTarget, remoteAddress: String,
    url: ReplicationURL? = nil, limiter: ConnectionLimiter? = nil
  ) {
    self.channel = channel
    self.limiter = limiter
    self.direction = direction
    self.kind = kind
    self.target = target
    self.remoteAddress = remoteAddress
    self.url = url
  }

  /// Begins to give events. Call it once.
  ///
  /// - Parameters:
  ///   - loop: runs `handler`, also what arrived before this call.
  ///   - handler: must be done with the bytes of an event when it returns; meanwhile no other event comes.
  public func start(on loop: any EventLoop, _ handler: @escaping @Sendable (Event) -> Void) {
    state.withLockedValue { state in
      precondition(state.handler == nil, "a transport is started once")
      state.loop = loop
      state.handler = handler
      scheduleDelivery(&state)
    }
  }

  /// Sends bytes after all that were sent before; small ones are joined, and all that is sent from one turn of
  /// the node's loop travels together. Ignored after ``close(_:)`` and after the end.
  ///
  /// Stop sending while ``isWritable`` is false. A connection with more than ``ReplicationLimits/outboundBytes``
  /// waiting is closed.
  public func send(_ bytes: ByteBuffer) {
    let size = bytes.readableBytes
    guard size > 0 else { return }
    let overflow = state.withLockedValue { state -> Bool in
      guard !state.closing, state.closed == nil else { return false }
      guard state.outboundBytes <= ReplicationLimits.outboundBytes - size else { return true }
      state.outboundBytes += size
      if state.outboundBytes >= ReplicationLimits.highWaterBytes { state.full = true }
      if let last = state.outbound.last, last.readableBytes + size <= ReplicationLimits.coalescedBytes {
        Self.join(bytes, to: &state.outbound)
      } else {
        state.outbound.append(bytes)
      }
      scheduleFlush(&state)
      return false
    }
    if overflow {
      close(CloseReason(.stalled, "Too many bytes wait to be sent: the other node does not take them."))
    }
  }

  /// Sends bytes: see ``send(_:)-(ByteBuffer)``.
  public func send(_ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    send(ByteBuffer(bytes: bytes))
  }

  /// Bytes given to ``send(_:)-(ByteBuffer)`` that the system has not taken.
  public var bufferedBytes: Int { state.withLockedValue { $0.outboundBytes } }

  /// There is room to send: false from ``ReplicationLimits/highWaterBytes`` on, until half of it has left, and for good
  /// after ``close(_:)`` and after the end, so that nothing is read from disk only to be thrown away.
  public var isWritable: Bool { state.withLockedValue { !$0.full && !$0.closing && $0.closed == nil } }

  /// Bytes of the stream that came in, and that the system took, so far.
  public var counts: (received: UInt64, sent: UInt64) { state.withLockedValue { ($0.received, $0.sent) } }

  /// The other end has proved to be a node: its connection does not give way to new ones any more.
  public func keep() {
    limiter?.keep(channel)
  }

  /// Ends the connection once what was sent before has left; the handler then gets `.closed`. More calls do nothing.
  public func close(_ reason: CloseReason) {
    let first = state.withLockedValue { state -> Bool in
      guard !state.closing, state.closed == nil else { return false }
      state.closing = true
      return true
    }
    guard first else { return }
    channel.eventLoop.execute { [channel] in
      self.flush()
      channel.writeAndFlush(ReplicationOutbound.close(reason), promise: nil)
    }
  }

  /// Ends the connection at once: what was sent before may not leave.
  func abort() {
    channel.close(promise: nil)
  }

  /// Returns once the connection is closed, with the reason.
  func untilClosed() async -> CloseReason {
    try? await channel.closeFuture.get()
    return state.withLockedValue { $0.closed } ?? CloseReason(.lost, "The connection ended.")
  }

  // MARK: For the channel's handler, on the channel's loop

  func deliver(_ bytes: ByteBuffer) {
    guard bytes.readableBytes > 0 else { return }
    state.withLockedValue { state in
      guard state.closed == nil else { return }
      if bytes.readableBytes >= max(ReplicationLimits.pieceBytes, bytes.storageCapacity / 2) {
        state.inbound.append(bytes)
      } else {
        // Copied: a byte would hold all of the buffer that it was read into, and count as one.
        Self.join(bytes, to: &state.inbound)
      }
      state.inboundBytes += bytes.readableBytes
      state.received += UInt64(bytes.readableBytes)
      scheduleDelivery(&state)
    }
  }

  /// - Returns: whether to read from the socket now; else the channel is asked to read once there is room.
  func mayRead() -> Bool {
    state.withLockedValue { state in
      state.readHeld = state.inboundBytes >= ReplicationLimits.inboundBytes
      return !state.readHeld
    }
  }

  /// The connection is at its end; the first reason stands.
  func ended(_ reason: CloseReason) {
    state.withLockedValue { state in
      guard state.closed == nil else { return }
      state.closed = reason
      state.outbound = []
      state.outboundBytes = 0
      scheduleDelivery(&state)
    }
  }

  // MARK: Moving bytes

  /// Adds a copy of bytes to the last buffer, or to a new one where that would get too large.
  private static func join(_ bytes: ByteBuffer, to buffers: inout [ByteBuffer]) {
    var last = ByteBuffer()
    // Taken out while it is changed, so that it is changed in place.
    let size = bytes.readableBytes
    if let before = buffers.last, before.readableBytes + size <= ReplicationLimits.coalescedBytes {
      last = buffers.removeLast()
    }
    last.writeImmutableBuffer(bytes)
    buffers.append(last)
  }

  private func scheduleDelivery(_ state: inout State) {
    guard !state.deliveryScheduled, let loop = state.loop else { return }
    guard !state.inbound.isEmpty || state.becameWritable || (state.closed != nil && !state.closedDelivered)
    else { return }
    state.deliveryScheduled = true
    loop.execute { self.giveEvents() }
  }

  /// On the node's loop.
  private func giveEvents() {
    let (handler, inbound, writable, closed) = state.withLockedValue { state in
      let events = (state.handler, state.inbound, state.becameWritable, state.closed)
      state.inbound = []
      state.becameWritable = false
      if state.closed != nil { state.closedDelivered = true }
      return events
    }
    guard let handler else { return }
    if !inbound.isEmpty { handler(.bytes(inbound)) }
    if writable && closed == nil { handler(.writable) }
    if let closed { handler(.closed(closed)) }
    let taken = inbound.reduce(0) { $0 + $1.readableBytes }
    let read = state.withLockedValue { state in
      state.inboundBytes -= taken
      state.deliveryScheduled = false
      scheduleDelivery(&state)
      // The handler may hold on to its node: not beyond the end.
      if state.closedDelivered { state.handler = nil }
      guard state.readHeld, state.inboundBytes < ReplicationLimits.inboundBytes else { return false }
      state.readHeld = false
      return true
    }
    if read { channel.read() }
  }

  private func scheduleFlush(_ state: inout State) {
    guard !state.flushScheduled else { return }
    state.flushScheduled = true
    channel.eventLoop.execute { self.flush() }
  }

  /// On the channel's loop.
  private func flush() {
    let outbound = state.withLockedValue { state in
      let outbound = state.outbound
      state.outbound = []
      state.flushScheduled = false
      state.given += UInt64(outbound.reduce(0) { $0 + $1.readableBytes })
      return outbound
    }
    guard !outbound.isEmpty else { return }
    let size = outbound.reduce(0) { $0 + $1.readableBytes }
    let promise = channel.eventLoop.makePromise(of: Void.self)
    promise.futureResult.whenSuccess {
      self.state.withLockedValue { state in
        guard state.closed == nil else { return }
        state.sent += UInt64(size)
        state.outboundBytes -= size
        if state.outboundBytes == 0 { state.leftBefore = nil }
        if state.full && state.outboundBytes <= ReplicationLimits.highWaterBytes / 2 {
          state.full = false
          state.becameWritable = true
          self.scheduleDelivery(&state)
        }
      }
    }
    channel.writeAndFlush(ReplicationOutbound.bytes(outbound), promise: promise)
    let watches = state.withLockedValue { state in
      guard !state.isWatched, state.outboundBytes > 0, state.closed == nil else { return false }
      state.isWatched = true
      return true
    }
    if watches { watchOutput() }
  }

  /// Looks now and then whether any of the bytes that wait have left, as long as some do. On the channel's loop.
  private func watchOutput() {
    channel.eventLoop.scheduleTask(in: .seconds(ReplicationLimits.stallSeconds)) {
      let buffered = (try? self.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
      let (goesOn, isStalled) = self.state.withLockedValue { state in
        let left = Int64(state.given) - Int64(buffered)
        let isStalled = state.leftBefore.map { left <= $0 } ?? false
        state.leftBefore = left
        state.isWatched = state.outboundBytes > 0 && state.closed == nil
        return (state.isWatched, isStalled)
      }
      guard goesOn else { return }
      guard isStalled else { return self.watchOutput() }
      self.ended(CloseReason(.stalled, "The other node takes nothing of what is sent to it."))
      self.channel.close(promise: nil)
    }
  }
}

/// What a transport gives to the last handler of its channel.
enum ReplicationOutbound: Sendable {
  /// Bytes of the stream, in order.
  case bytes([ByteBuffer])
  /// Say goodbye if the connection has a way to, then close it.
  case close(CloseReason)
}

/// Bounds on what one connection to another node may take.
public enum ReplicationLimits {
  /// Bytes that came in and wait for the node; above it the socket is not read.
  public static let inboundBytes = 1 << 20
  /// Bytes waiting to be sent above which ``ReplicationTransport/isWritable`` is false.
  public static let highWaterBytes = 2 << 20
  /// Bytes waiting to be sent above which a connection is given up.
  public static let outboundBytes = 64 << 20
  /// Pieces of the stream that are at least as large, and at least half of what they were read into, wait as they came; others
  /// are copied together.
  static let pieceBytes = 4 << 10
  /// Small pieces, sent or received, are joined up to this size.
  static let coalescedBytes = 32 << 10
  /// Answers to WebSocket pings that wait to be sent.
  static let waitingPongs = 16
  /// Payload of a WebSocket frame that is taken: the largest message of the protocol, and its header.
  static let frameBytes = (8 << 20) + 1024
  /// Payload of a WebSocket frame that is sent.
  static let sentFrameBytes = 4 << 20
  /// Seconds for the other end to answer a close frame.
  static let closeSeconds: Int64 = 2
  /// Seconds for what waits to be sent to leave, once the connection is to end.
  static let lingerSeconds: Int64 = 30
  /// Seconds between two looks whether any of what waits to be sent has left; where nothing has, the connection is given up. A
  /// peer that only keeps its connection alive would hold what waits for it for ever.
  static let stallSeconds: Int64 = 60
  /// Bytes of the text frame that asks to sign up, and of its answer.
  static let preambleBytes = 1024
  /// Seconds for a connection to be made and agreed on, TLS and upgrade included, and for the text frame
  /// of a sign-up.
  static let openingSeconds: Int64 = 15
  /// Bytes of `/.well-known/dat` that are read.
  static let wellKnownBytes = 4096
  /// Addresses whose hypha is remembered, and for how long at most, in seconds: 7 days.
  static let rememberedAddresses = 64
  static let rememberedSeconds: UInt32 = 604_800
}
