import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@testable import HyphaDaemonCore

/// What arrives in very small pieces is handed on in large ones, which hold little more memory than they count.
@Suite struct SmallPiecesTests {
  private static let pieces = 10_000

  /// What the node gets at its next turn of what `send` brings.
  private func received(
    _ kind: ReplicationTransport.Kind, _ send: (EmbeddedChannel) throws -> Void
  ) throws -> [ByteBuffer] {
    let channel = EmbeddedChannel()
    let transport = ReplicationTransport(
      channel: channel, direction: .incoming, kind: kind, target: .hypha, remoteAddress: "192.0.2.1")
    try channel.pipeline.syncOperations.addHandler(
      kind == .tcp ? TCPHandler(transport) : WebSocketHandler(.server, transport: transport))
    try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 1)).wait()
    let received = Mutex<[[ByteBuffer]]>([])
    transport.start(on: channel.embeddedEventLoop) { event in
      if case .bytes(let buffers) = event { received.withLock { $0.append(buffers) } }
    }
    try send(channel)
    channel.embeddedEventLoop.run()
    let turns = received.withLock { $0 }
    #expect(turns.count == 1)
    return turns.first ?? []
  }

  private func check(_ buffers: [ByteBuffer]) {
    #expect(buffers.count == 1)
    #expect(buffers.first.map { Array($0.readableBytesView) } == (0..<Self.pieces).map { UInt8($0 & 255) })
    #expect(buffers.allSatisfy { $0.storageCapacity <= 2 * $0.readableBytes })
  }

  @Test("Bytes that are read one at a time")
  func reads() throws {
    check(
      try received(.tcp) { channel in
        for number in 0..<Self.pieces {
          var buffer = ByteBufferAllocator().buffer(capacity: 2048)
          buffer.writeInteger(UInt8(number & 255))
          try channel.writeInbound(buffer)
        }
      })
  }

  @Test("Fragments of one byte")
  func fragments() throws {
    check(
      try received(.ws) { channel in
        var buffer = ByteBuffer(bytes: [0x02, 0x80, 0, 0, 0, 0])
        for number in 0..<Self.pieces {
          buffer.writeBytes([0x00, 0x81, 0, 0, 0, 0, UInt8(number & 255)])
        }
        try channel.writeInbound(buffer)
      })
  }
}
