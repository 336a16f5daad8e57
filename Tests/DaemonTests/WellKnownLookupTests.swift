import Hypercore
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import HyphaDaemonCore

/// Asking an address which hypha it has.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct WellKnownLookupTests {
  /// Answers every connection with the same bytes; those that go on, with one byte after the other.
  private final class Answerer: Sendable {
    private final class Handler: ChannelInboundHandler {
      typealias InboundIn = ByteBuffer
      typealias OutboundOut = ByteBuffer
      private let answer: ByteBuffer
      private let goesOn: Bool
      private var trickle: RepeatedTask?

      init(_ answer: ByteBuffer, goesOn: Bool) {
        self.answer = answer
        self.goesOn = goesOn
      }

      func channelRead(context: ChannelHandlerContext, data _: NIOAny) {
        context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
        guard goesOn else { return context.close(promise: nil) }
        let (context, interval) = (
          NIOLoopBound(context, eventLoop: context.eventLoop), TimeAmount.milliseconds(20)
        )
        trickle = context.value.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in
          context.value.writeAndFlush(NIOAny(ByteBuffer(string: "x")), promise: nil)
        }
      }

      func channelInactive(context _: ChannelHandlerContext) { trickle?.cancel() }
    }

    private let channel: any Channel
    let port: Int

    init(_ answer: String, goesOn: Bool = false) async throws {
      let bytes = ByteBuffer(string: answer)
      channel = try await ServerBootstrap(group: Edge.group)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(Handler(bytes, goesOn: goesOn))
          }
        }
        .bind(host: "127.0.0.1", port: 0).get()
      port = try #require(channel.localAddress?.port)
    }

    func stop() async throws { try await channel.close() }
  }

  private let lookup = WellKnownLookup(ReplicationConnector(group: Edge.group))

  private func key(at port: Int) async throws(LookupError) -> PublicKey {
    try await lookup.key(of: HyphaAddress("http://127.0.0.1:\(port)"))
  }

  /// What looking up comes to when the server answers with these bytes.
  private func answer(_ bytes: String) async throws -> Result<PublicKey, LookupError> {
    let server = try await Answerer(bytes)
    let result: Result<PublicKey, LookupError>
    do throws(LookupError) { result = .success(try await key(at: server.port)) } catch {
      result = .failure(error)
    }
    try await server.stop()
    return result
  }

  @Test func readsAddresses() throws {
    for (text, url, asked) in [
      ("example.org", "wss://example.org", "https://example.org/.well-known/dat"),
      ("Example.ORG:8443", "wss://example.org:8443", "https://example.org:8443/.well-known/dat"),
      ("https://example.org/", "wss://example.org", "https://example.org/.well-known/dat"),
      ("wss://example.org", "wss://example.org", "https://example.org/.well-known/dat"),
      ("http://127.0.0.1:8081", "ws://127.0.0.1:8081", "http://127.0.0.1:8081/.well-known/dat"),
      ("ws://localhost", "ws://localhost", "http://localhost/.well-known/dat"),
      ("https://[::1]:9", "wss://[::1]:9", "https://[::1]:9/.well-known/dat"),
    ] {
      let address = try HyphaAddress(text)
      #expect(address.url.description == url && address.description == asked)
    }
    #expect(try HyphaAddress("https://Example.org:8443").domain == "example.org")
    for (text, reason) in [
      ("", "no host"), ("http://example.org", "write https://"), ("ws://example.org", "write wss://"),
      ("ftp://example.org", "example.org or https"), ("https://example.org/replicate/x", "path"),
      ("https://example.org/replicate/" + String(repeating: "a", count: 64), "leave it out"),
      ("dat://" + String(repeating: "a", count: 64), "hyphalink"), ("exa mple.org", "space"),
      ("user@example.org", "@"), ("https://example.org:0", "port"), ("https://example.org?x", "query"),
    ] {
      let error = #expect(throws: LookupError.self) { try HyphaAddress(text) }
      #expect(
        error?.code == .badAddress && error?.context.contains(reason) == true,
        "\(text): \(error?.context ?? "")")
    }
  }

  @Test func findsWhatANodeServes() async throws {
    let edge = try await Edge()
    let missing = await #expect(throws: LookupError.self) { try await key(at: edge.port) }
    #expect(missing?.code == .notFound && missing?.context.contains("127.0.0.1:\(edge.port)") == true)
    // That there is none is not remembered; what there is, for as long as it says.
    edge.node.state.withLock { $0.dat = WellKnownDat(key: Edge.key, ttl: 60) }
    let address = try HyphaAddress("ws://127.0.0.1:\(edge.port)")
    let now = ContinuousClock.now
    #expect(try await lookup.key(of: address, now: now) == Edge.key)
    let other = try #require(PublicKey(hex: String(repeating: "cd", count: 32)))
    edge.node.state.withLock { $0.dat = WellKnownDat(key: other, ttl: 0) }
    #expect(try await lookup.key(of: address, now: now + .seconds(59)) == Edge.key)
    #expect(try await lookup.key(of: address, now: now + .seconds(60)) == other)
    edge.node.state.withLock { $0.dat = nil }
    await #expect(throws: LookupError.self) { try await lookup.key(of: address, now: now + .seconds(60)) }
    await edge.server.stop()
    let gone = await #expect(throws: LookupError.self) { try await key(at: edge.port) }
    #expect(gone?.code == .unreachable)
  }

  @Test(arguments: [
    ("dat://KEY\nTTL=60\n", 60), ("dat://KEY/\r\nTTL=60\r\n", 60), ("KEY", 3600), ("KEY\n", 3600),
    ("dat://KEY\n\n  TTL=0", 0), ("dat://KEY\nTTL=", 3600),
    ("dat://KEY\nTTL=99999999999999999999", UInt32.max),
  ])
  func readsFiles(text: String, ttl: UInt32) throws {
    let hex = Edge.key.hex
    for key in [hex, hex.uppercased()] {
      #expect(
        WellKnownDat(file: Array(text.replacing("KEY", with: key).utf8))
          == WellKnownDat(key: Edge.key, ttl: ttl))
    }
  }

  @Test(arguments: [
    "", "\n", "dat://", "dat://example.org", "dat://KEYa", "dat:KEY", "KEY\nTTL=-1", "KEY\nTTL=1.5",
    "KEY\nTTL=x",
    "KEY\nttl=1", "KEY\nTTL=1\nmore", "<html>", "TTL=60\ndat://KEY", "dat://KEY//", "\u{FEFF}KEY",
    "KEY\nTTL=٣",
  ])
  func refusesFiles(text: String) {
    #expect(WellKnownDat(file: Array(text.replacing("KEY", with: Edge.key.hex).utf8)) == nil)
    #expect(WellKnownDat(file: [0xFF, 0xFE]) == nil)
  }

  @Test(arguments: ["HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", "HTTP/1.1 200 OK\r\nX: ", ""])
  func isNotHeldUpByASlowAnswer(start: String) async throws {
    let server = try await Answerer(start, goesOn: true)
    // What never begins as HTTP does is told before the time is over, however busy the machine is.
    let patience = start.isEmpty ? TimeAmount.seconds(10) : .milliseconds(300)
    let hasty = WellKnownLookup(ReplicationConnector(group: Edge.group), patience: patience)
    let error = await #expect(throws: LookupError.self) {
      _ = try await hasty.key(of: HyphaAddress("http://127.0.0.1:\(server.port)"))
    }
    #expect(error?.context.contains(start.isEmpty ? "does not speak HTTP" : "no answer in time") == true)
    try await server.stop()
  }

  @Test func saysThatAHostIsNotFound() async throws {
    let error = await #expect(throws: LookupError.self) {
      _ = try await lookup.key(of: HyphaAddress("no-such-host.invalid"))
    }
    #expect(error?.code == .unreachable && error?.context.contains("not found") == true)
  }

  @Test func saysWhatIsWrongWithAnAnswer() async throws {
    let link = "dat://\(Edge.key.hex)\n"
    let good = try await answer("HTTP/1.1 200 OK\r\nContent-Length: \(link.utf8.count)\r\n\r\n\(link)")
    #expect(try good.get() == Edge.key)
    // As long as the connection lasts: HTTP/1.0.
    #expect(try await answer("HTTP/1.0 200 OK\r\n\r\n\(link)").get() == Edge.key)
    let long = String(repeating: "x", count: 5000)
    for (bytes, code, reason) in [
      ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<html/>", .badAnswer, "not with a hyphalink"),
      ("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n\(long)", .badAnswer, "over 4096 bytes"),
      ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", .notFound, "no hypha"),
      ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", .badAnswer, "elsewhere"),
      ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", .badAnswer, "503"),
      ("SSH-2.0-OpenSSH\r\n", .badAnswer, "does not speak HTTP"), ("", .unreachable, "closed"),
      ("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\ndat://", .unreachable, "closed"),
      ("HTTP/1.1 200 OK\r\nX: \(String(repeating: "y", count: 20_000))\r\n\r\n", .badAnswer, "HTTP"),
    ] as [(String, LookupError.Code, String)] {
      switch try await answer(bytes) {
      case .success: Issue.record("“\(bytes.prefix(60))” was taken")
      case .failure(let error):
        #expect(error.code == code && error.context.contains(reason), "“\(bytes.prefix(60))”: \(error)")
      }
    }
  }
}
