import Hypercore
import NIOCore
import NIOEmbedded
import Testing

@testable import HyphaDaemonCore

/// Peers that take little or nothing of what is sent to them; time is the test's.
@Suite struct SlowReaderTests {
  /// Between a connection and a socket that takes only as much as a test says.
  private final class Dam: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer

    private var context: ChannelHandlerContext?

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }
    func flush(context: ChannelHandlerContext) {}
    func open() { context?.flush() }
  }

  private struct Place {
    let channel = EmbeddedChannel()
    let dam = Dam()
    let transport: ReplicationTransport
    let sink: Sink

    init(_ kind: ReplicationTransport.Kind) throws {
      transport = ReplicationTransport(
        channel: channel, direction: .incoming, kind: kind, target: .hypha, remoteAddress: "192.0.2.1")
      try channel.pipeline.syncOperations.addHandler(dam)
      if kind == .tcp {
        try channel.pipeline.syncOperations.addHandler(TCPHandler(transport))
      } else {
        try channel.pipeline.syncOperations.addHandler(WebSocketHandler(.server, transport: transport))
      }
      try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 1)).wait()
      sink = Sink(transport, on: channel.embeddedEventLoop)
    }

    func pass(seconds: Int64) { channel.embeddedEventLoop.advanceTime(by: .seconds(seconds)) }
  }

  private static let kinds = [ReplicationTransport.Kind.tcp, .ws]

  @Test("A connection from which nothing leaves is given up", arguments: kinds)
  func stalled(_ kind: ReplicationTransport.Kind) throws {
    let place = try Place(kind)
    place.transport.send([1, 2, 3])
    place.pass(seconds: ReplicationLimits.stallSeconds)
    #expect(place.sink.closed == nil)
    // More to be sent is no sign that anything leaves.
    place.transport.send([4])
    place.pass(seconds: ReplicationLimits.stallSeconds)
    #expect(place.sink.closed?.code == .stalled && !place.channel.isActive)
  }

  @Test("One from which a little leaves goes on", arguments: kinds)
  func slow(_ kind: ReplicationTransport.Kind) throws {
    let place = try Place(kind)
    for _ in 0..<10 {
      place.transport.send([UInt8](repeating: 1, count: 40_000))
      place.pass(seconds: ReplicationLimits.stallSeconds / 2)
      place.transport.send([2])
      place.dam.open()
      place.pass(seconds: ReplicationLimits.stallSeconds / 2)
    }
    #expect(place.sink.closed == nil && place.channel.isActive)
  }

  @Test("An end waits for who takes nothing only so long", arguments: kinds)
  func lingering(_ kind: ReplicationTransport.Kind) throws {
    let place = try Place(kind)
    place.transport.send([1, 2, 3])
    place.transport.close(CloseReason(.normal, "That is all."))
    place.pass(seconds: ReplicationLimits.lingerSeconds - 1)
    #expect(place.channel.isActive)
    place.pass(seconds: 1)
    #expect(!place.channel.isActive)
  }
}
