import FoundationEssentials
import Glibc
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix

@testable import Hypercore
@testable import HyphaControlAPI
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
        "HEAD /feed.json HTTP/1.1\r\nHost: a\r\n\r\nGET /feed.json HTTP/1.1\r\nHost: example.org:8443\r\n\r\n",
        "GET /feed.atom HTTP/1.1\r\nHost: [::1]\r\nIf-None-Match: \"a\", W/\"b\"\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "GET /feed.atom HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
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

private let somePosts = PublicPosts(
  key: someKey,
  posts: [.init(id: "01", text: "a <b> & \"c\"", created: Timestamp(milliseconds: 1), device: "d")],
  changed: Timestamp(milliseconds: 5))

/// A node that is there, and sends back what it is sent.
private struct Echo: EdgeDelegate {
  let loop: any EventLoop

  func wellKnownDat() async -> WellKnownDat? { WellKnownDat(key: someKey, ttl: 1) }
  func publicPosts() async -> PublicPosts? { somePosts }
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

/// Closes once the input has ended, after what the node is asked for has had its time.
private final class EndOfInput: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    context.fireUserInboundEventTriggered(event)
    guard event as? ChannelEvent == .inputClosed else { return }
    context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(1)) { context.close(promise: nil) }
  }
}

/// The daemon's own handlers on a socket, which is given the bytes and then closed. What comes back is whole answers.
private func fuzzHTTP(_ bytes: [UInt8]) {
  guard bytes.count <= 32 << 10 else { return }
  var ends: [Int32] = [0, 0]
  guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { fatalError("no socket") }
  let size = bytes.withUnsafeBytes { write(ends[1], $0.baseAddress, $0.count) }
  guard size == bytes.count || bytes.isEmpty else { fatalError("the socket is full") }
  // What comes back is read until the server is done: it closes on the end of what it is sent.
  shutdown(ends[1], Int32(SHUT_WR))
  let bootstrap = ClientBootstrap(group: group).channelOption(.allowRemoteHalfClosure, value: true)
  let channel = try? bootstrap.channelInitializer { channel in
    channel.eventLoop.makeCompletedFuture {
      try channel.pipeline.syncOperations.addHandler(EndOfInput())
      try edge.prepare(channel)
    }
  }.withConnectedSocket(ends[0]).wait()
  var answers: [UInt8] = []
  var piece = [UInt8](repeating: 0, count: 4096)
  while case let count = read(ends[1], &piece, piece.count), count > 0 { answers += piece.prefix(count) }
  try? channel?.closeFuture.wait()
  close(ends[1])
  checkAnswers(answers[...])
}

private func checkAnswers(_ answers: ArraySlice<UInt8>) {
  var rest = answers
  while !rest.isEmpty {
    let head = HeadOfAnswer(&rest)
    if head.status == 101 {
      let (_, violation) = events(Array(rest), masked: false, pieces: max(rest.count, 1))
      return expect(violation == nil, "what follows an upgrade is frames")
    }
    guard head.hasBody else { continue }
    let sizes = head.fields["content-length"] ?? []
    guard sizes.count == 1, let size = Int(sizes[0]) else { fatalError("not so: an answer has one size") }
    // To HEAD, there is the head alone.
    if rest.isEmpty || rest.starts(with: HeadOfAnswer.version) { continue }
    expect(rest.count >= size, "an answer has the size that it says: \(rest.count) of \(size)")
    checkFeed(Array(rest.prefix(size)), head.fields["content-type"]?.first ?? "")
    rest = rest.dropFirst(size)
  }
}

/// Whatever `Host` the links are made of, it adds nothing but text.
private func checkFeed(_ body: [UInt8], _ type: String) {
  if type.hasPrefix("application/feed+json") {
    expect((try? JSONDecoder().decode(JSONValue.self, from: Data(body))) != nil, "a JSON feed is JSON")
  } else if type.hasPrefix("application/atom+xml") {
    expect(usualMarks.contains(marks(body)), "a feed has the markup that it always has")
  }
}

private func marks(_ body: some Sequence<UInt8>) -> [UInt8] { body.filter { "<>&\"'".utf8.contains($0) } }

/// Of a feed without links, and of one with them.
private let usualMarks = [HTTPHeaders(), ["Host": "a"]].map { headers in
  marks(
    PostFeeds.answer(PostFeeds.atomPath, somePosts, headers, now: somePosts.changed).body.readableBytesView)
}

private struct HeadOfAnswer {
  static let version = Array("HTTP/1.1 ".utf8)

  var status = 0
  /// By name in small letters.
  var fields: [String: [String]] = [:]

  var hasBody: Bool { status >= 200 && status != 204 && status != 304 }

  /// Takes it from the front of what came.
  init(_ rest: inout ArraySlice<UInt8>) {
    expect(
      rest.starts(with: Self.version),
      "an answer is HTTP/1.1: \(String(decoding: rest.prefix(80), as: UTF8.self))")
    var lines: [String] = []
    while let end = rest.firstIndex(of: 10) {
      let line = rest[..<end]
      rest = rest[(end + 1)...]
      expect(line.last == 13, "a line ends with CR LF")
      expect(line.dropLast().allSatisfy { $0 >= 32 && $0 != 127 }, "a line has no control characters")
      if line.count == 1 { break }
      lines.append(String(decoding: line.dropLast(), as: UTF8.self))
    }
    let start = lines[0].dropFirst(Self.version.count)
    guard let status = Int(start.prefix(3)), (100..<600).contains(status), start.dropFirst(3).first == " "
    else {
      fatalError("not so: an answer has a status: \(lines[0])")
    }
    self.status = status
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else {
        fatalError("not so: a field has a name: \(line)")
      }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      fields[line[..<colon].lowercased(), default: []].append(String(value))
    }
  }
}
