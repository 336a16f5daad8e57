import FoundationEssentials
import HyphaControlAPI
import NIOCore
import NIOHTTP1
import NIOPosix
import Testing

@testable import HyphaDaemonCore

/// `hyphactl audit`: what a domain serves, against what is installed.
@Suite("Audit of a domain's web client", .fewAtOnce, .timeLimit(.minutes(15))) struct AuditTests {
  private let installed: WebFolder
  private let damaged: WebFolder

  init() throws {
    installed = try WebFilesTests.folder()
    damaged = try WebFilesTests.folder()
  }

  private static func node(_ folder: WebFolder) async throws -> TestNode {
    let node = try TestNode(settings: "web_folder = \"\(folder.path)\"")
    try await node.start()
    return node
  }

  @Test func needsAWebClientOfItsOwn() async throws {
    let served = try await Self.node(installed)
    // A node whose files are not as they were built goes on without them, and says which file it is.
    try damaged.write("assets/ab/page.js", "contents of assets/ab/evil.js")
    let without = try await Self.node(damaged)
    #expect(without.log.contains("\(damaged.path)/assets/ab/page.js is not the file that was built"))
    let client = try RawClient(port: without.port)
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    #expect(try await client.readHeader().hasPrefix("HTTP/1.1 200"))
    #expect(String(decoding: try await client.readToEnd(), as: UTF8.self).contains("without a web client"))
    let nothing = try await without.ctl("audit", "http://127.0.0.1:\(served.port)")
    #expect(nothing.status == 1 && nothing.stderr.contains("no web client here"))
    let plain = try await served.ctl("audit", "http://127.0.0.1:\(without.port)")
    #expect(plain.status == 1 && plain.text.contains("/integrity.json  is not there"))
    #expect(plain.text.contains("/assets/ab/page.js  is not there (404)"))
    let same = try await served.ctl("audit", "http://127.0.0.1:\(served.port)")
    #expect(same.status == 0 && same.stdout.isEmpty && same.stderr.contains("1.2.3 unaltered"))
  }

  @Test func showsNothingThatATerminalObeys() async throws {
    let web = try WebFiles(folder: installed.path)
    let hostile = """
      {"format":1,"version":"1\\u001b[2J","files":{"/\\u001b[31m":{"file":"x","type":"","size":-1,"sha256":"","encodings":{}}}}
      """
    let server = try await LyingServer(web) {
      if $0 == "/integrity.json" { $1.body = ByteBuffer(string: hostile) }
    }
    let node = try await Self.node(installed)
    let ended = try await node.ctl("audit", "http://127.0.0.1:\(server.port)")
    #expect(ended.status == 1 && ended.text.contains("/\u{fffd}[31m  is served"))
    #expect(
      ended.text.contains("version 1\u{fffd}[2J is served") && !(ended.text + ended.stderr).contains("\u{1b}")
    )
    try await server.stop()
  }

  @Test func findsLies() async throws {
    let web = try WebFiles(folder: installed.path)
    func found(
      _ lie: @escaping @Sendable (String, inout HTTPAnswer) -> Void
    ) async throws -> [String: String] {
      let server = try await LyingServer(web, lie)
      let address = try HyphaAddress("http://127.0.0.1:\(server.port)")
      let result = try await WebClientAudit(
        installed: web, address: address, connector: ReplicationConnector(group: Edge.group)
      ).run()
      try await server.stop()
      return Dictionary(uniqueKeysWithValues: result.differences.map { ($0.path, $0.problem) })
    }
    let script = "/assets/ab/page.js"
    #expect(try await found { _, _ in } == [:])
    // Nothing in the list of files gives these away.
    #expect(
      try await found {
        if $0 == script { $1.body = ByteBuffer(repeating: 0x20, count: $1.body.readableBytes) }
      }
        == [script: "differs (br)"])
    #expect(try await found { if $0 == "/" { $1.body = ByteBuffer(string: "<script>") } } == ["/": "differs"])
    #expect(
      try await found {
        if $0 == "/" { $1.body = ByteBuffer(repeating: 0x20, count: 8 << 20) }
      }["/"]?.hasPrefix("differs") == true)
    #expect(
      try await found {
        guard $0 == script else { return }
        $1 = HTTPAnswer(status: .found, headers: ["Location": "/evil"], body: ByteBuffer())
      } == [script: "is not there (302)"])
    // Every header that protects, also one beside the right one.
    for (name, value) in [
      ("Content-Security-Policy", "script-src 'unsafe-inline'"), ("X-Frame-Options", "ALLOWALL"),
      ("X-Content-Type-Options", ""), ("Referrer-Policy", "unsafe-url"), ("Permissions-Policy", "camera=*"),
      ("Cross-Origin-Opener-Policy", "unsafe-none"), ("Content-Type", "text/plain"),
    ] {
      for adds in [false, true] {
        let problem = try await found {
          guard $0 == "/" else { return }
          if adds {
            // The edge's own comes behind where there is one already.
            for (name, value) in web.headers(of: "/") { $1.headers.replaceOrAdd(name: name, value: value) }
            $1.headers.add(name: name, value: value)
          } else {
            $1.headers.replaceOrAdd(name: name, value: value)
          }
        }["/"]
        #expect(problem?.hasPrefix("comes without the header \(name): ") == true, "\(name): \(problem ?? "")")
      }
    }
    let cookie = try await found {
      if $0 == script { $1.headers.add(name: "Set-Cookie", value: String(repeating: "x", count: 1000)) }
    }
    #expect(
      cookie[script] == "comes with a header too many, Set-Cookie: \(String(repeating: "x", count: 400))…")
    #expect(
      try await found {
        if $0 == "/" { $1.headers.add(name: "Refresh", value: "0; url=https://example.com") }
      }["/"]?.contains("Refresh") == true)
    // Spaces, a proxy's own headers, and how long something is kept are no difference.
    let policy = WebFiles.pageHeaders["Content-Security-Policy"].joined()
    #expect(
      try await found {
        if $0 == "/" {
          $1.headers.replaceOrAdd(name: "Content-Security-Policy", value: policy.replacing(" ", with: "  "))
        }
        $1.headers.add(name: "Strict-Transport-Security", value: "max-age=1")
        $1.headers.replaceOrAdd(name: "Cache-Control", value: "no-store")
      } == [:])
    for broken in [
      "", "{}", "[", String(repeating: "[", count: 100_000), String(repeating: " ", count: 1 << 20),
    ] {
      let differences = try await found {
        if $0 == "/integrity.json" { $1.body = ByteBuffer(string: broken) }
      }
      #expect(differences == ["/integrity.json": "is not there"])
    }
  }

  @Test func isNotHeldUp() async throws {
    let web = try WebFiles(folder: installed.path)
    let server = try await LyingServer(web) { path, answer in
      if path == "/" { answer.status = .continue }
    }
    let address = try HyphaAddress("http://127.0.0.1:\(server.port)")
    let audit = WebClientAudit(
      installed: web, address: address, connector: ReplicationConnector(group: Edge.group),
      patience: .seconds(6))
    let error = await #expect(throws: LookupError.self) { _ = try await audit.run() }
    #expect(error?.context.contains("not all files came") == true, "\(error?.context ?? "")")
    try await server.stop()
  }
}

/// Serves a web client, but for what it lies about. An answer with status 100 never comes.
private final class LyingServer: Sendable {
  typealias Lie = @Sendable (String, inout HTTPAnswer) -> Void

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let web: WebFiles
    private let lie: Lie

    init(_ web: WebFiles, _ lie: @escaping Lie) {
      self.web = web
      self.lie = lie
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard case .head(let request) = unwrapInboundIn(data) else { return }
      var answer = web.answer(request.uri, request.headers) ?? .text(.notFound, "no")
      lie(request.uri, &answer)
      guard answer.status != .continue else { return }
      context.write(wrapOutboundOut(.head(answer.head(close: true))), promise: nil)
      context.write(wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
      let channel = context.channel
      context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
    }
  }

  private let channel: any Channel
  let port: Int

  init(_ web: WebFiles, _ lie: @escaping Lie) async throws {
    channel = try await ServerBootstrap(group: Edge.group)
      .childChannelInitializer { channel in
        channel.pipeline.configureHTTPServerPipeline().flatMapThrowing {
          try channel.pipeline.syncOperations.addHandler(Handler(web, lie))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = try #require(channel.localAddress?.port)
  }

  func stop() async throws { try await channel.close() }
}
