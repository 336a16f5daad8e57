import Glibc
import HyphaControlAPI
import Logging
import NIOCore
import NIOPosix

@testable import Hypercore
@testable import HyphaDaemonCore

/// HTTP and WebSocket, from strangers.
let edgeTargets = [
  Target(
    name: "websocket",
    seeds: {
      [
        [0x80, 0x82, 3, 0x81, 1, 0x78], [1, 0x82, 0x83, 1, 2, 3, 4, 5, 6, 7],
        [1, 0x89, 0x80, 0, 0, 0, 0, 0x88, 0x82, 0, 0, 0, 0, 3, 0xE8],
        [3, 0x02, 0xFE, 0, 3, 1, 1, 1, 1, 0, 0, 0, 0x80, 0x80, 0, 0, 0, 0],
      ]
    }, run: fuzzWebSocket),
  Target(
    name: "http",
    seeds: {
      [
        "GET /.well-known/dat HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /posts.json HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        upgrade("/hypha") + "\u{2}\u{1}", upgrade("/sign-up/\(someKey.hex)"),
      ].map { Array($0.utf8) } + [
        Array(upgrade("/hypha").utf8) + [0x82, 0x83, 1, 2, 3, 4, 5, 6, 7, 0x88, 0x80, 0, 0, 0, 0]
      ]
    }, run: fuzzHTTP),
]

private func upgrade(_ path: String) -> String {
  "GET \(path) HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
}

// MARK: - WebSocket

/// What frames said, one after the other: binary payloads joined, since where a piece ends does not matter.
private func events(_ bytes: [UInt8], masked: Bool, pieces: Int) -> (
  [WebSocketParser.Event], WebSocketViolation?
) {
  var parser = WebSocketParser(masked: masked)
  var found: [WebSocketParser.Event] = []
  do throws(WebSocketViolation) {
    for start in stride(from: 0, to: bytes.count, by: pieces) {
      var input = ByteBuffer(bytes: bytes[start..<min(start + pieces, bytes.count)])
      while let event = try parser.next(&input) {
        if case .bytes(let more) = event, case .bytes(var before)? = found.last {
          before.writeImmutableBuffer(more)
          found[found.count - 1] = .bytes(before)
        } else {
          found.append(event)
        }
      }
      expect(input.readableBytes == 0, "the parser takes all that it is given")
    }
    return (found, nil)
  } catch {
    return (found, error)
  }
}

private func fuzzWebSocket(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let choice = input.byte()
  let masked = choice & 0x80 == 0
  let stream = input.rest()
  let whole = events(stream, masked: masked, pieces: max(stream.count, 1))
  let cut = events(stream, masked: masked, pieces: Int(choice & 0x3F) + 1)
  expect(whole.0 == cut.0 && whole.1 == cut.1, "a stream in pieces is the same as in one")
  let size = whole.0.reduce(0) { count, event in
    if case .bytes(let bytes) = event { return count + bytes.readableBytes }
    return count
  }
  expect(size <= stream.count, "no bytes come out that did not go in")
  // A frame as this side sends it is read as it was meant.
  let mask: UInt32? = masked ? 0x0102_0304 &* UInt32(choice) : nil
  let frame = WebSocketFrame.whole(
    WebSocketFrame.binary, ByteBuffer(bytes: stream), mask: mask, allocator: ByteBufferAllocator())
  let again = events(Array(frame.readableBytesView), masked: masked, pieces: 3)
  let expected: [WebSocketParser.Event] = stream.isEmpty ? [] : [.bytes(ByteBuffer(bytes: stream))]
  expect(again.1 == nil && again.0 == expected, "a frame is read as it was written")
}

// MARK: - HTTP

/// A node that is there, and sends back what it is sent.
private struct Echo: EdgeDelegate {
  let loop: any EventLoop

  func wellKnownDat() async -> WellKnownDat? { WellKnownDat(key: someKey, ttl: 1) }
  func publicPosts() async -> PublicPosts? {
    PublicPosts(
      key: someKey,
      posts: [.init(id: "01", text: "a <b> & \"c\"", created: Timestamp(milliseconds: 1), device: "d")],
      changed: Timestamp(milliseconds: 5))
  }
  func reject(_ kind: String, from address: String) {}
  func health() async -> Health { Health(ready: true, text: "Ready.") }
  func admit(_ request: ReplicationRequest) async -> Admission {
    if case .replicate = request.target { return .refuse(status: 404, reason: "No such feed.") }
    return .accept
  }
  func attach(_ transport: ReplicationTransport) async {
    transport.start(on: loop) { event in
      if case .bytes(let buffers) = event { for buffer in buffers { transport.send(buffer) } }
    }
  }
}

private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
private let edge = HTTPEdge(
  delegate: Echo(loop: group.next()), web: nil, policy: EdgePolicy(),
  limiter: ConnectionLimiter(total: 64, perAddress: 64), isTLS: false,
  logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })

/// The daemon's own handlers on a socket, which is given the bytes and then closed.
private func fuzzHTTP(_ bytes: [UInt8]) {
  guard bytes.count <= 32 << 10 else { return }
  var ends: [Int32] = [0, 0]
  guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { fatalError("no socket") }
  let size = bytes.withUnsafeBytes { write(ends[1], $0.baseAddress, $0.count) }
  guard size == bytes.count || bytes.isEmpty else { fatalError("the socket is full") }
  // What comes back is read until the server is done: it closes on the end of what it is sent.
  shutdown(ends[1], Int32(SHUT_WR))
  let channel = try? ClientBootstrap(group: group).channelInitializer { channel in
    channel.eventLoop.makeCompletedFuture { try edge.prepare(channel) }
  }.withConnectedSocket(ends[0]).wait()
  var answer = [UInt8](repeating: 0, count: 4096)
  while read(ends[1], &answer, answer.count) > 0 {}
  try? channel?.closeFuture.wait()
  close(ends[1])
}
