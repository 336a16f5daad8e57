import FoundationEssentials
import Glibc
import HyphaControlAPI
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Testing

@testable import HyphaDaemonCore

@Suite("HTTPS by the node itself", .fewAtOnce, .timeLimit(.minutes(15))) struct TLSTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
  }

  private func node(
    _ certificate: TestCertificate, more: String = "", http: String = "",
    environment: [String: String?] = [:]
  ) async throws -> (TestNode, port: Int) {
    let port = try freePorts(1)[0]
    let node = try TestNode(settings: certificate.settings(port: port) + more)
    try node.configure(http: http)
    node.environment = environment
    try await node.start()
    return (node, port)
  }

  @Test func servesOverTLSAndSendsOthersThere() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let (node, port) = try await node(certificate)
    #expect(node.log.contains("127.0.0.1:\(port) with TLS"))
    let page = try await WebAnswer.get("/", port: port, trusting: certificate.certificate)
    #expect(page.status == "200" && page.body.contains("<h1>"))
    #expect(page.header("Strict-Transport-Security") == "max-age=31536000")

    let plain = try await WebAnswer.get("/feed.json?a=b", port: node.port)
    #expect(plain.status == "308")
    #expect(plain.header("Location") == "https://localhost:\(port)/feed.json?a=b")
    #expect(plain.header("Strict-Transport-Security") == nil)
    for (host, place) in [
      ("Example.org:8080", "example.org"), ("[::1]:80", "[::1]"), ("192.0.2.1", "192.0.2.1"),
    ] {
      let answer = try await WebAnswer.get("/", port: node.port, host: host)
      #expect(answer.header("Location") == "https://\(place):\(port)/")
    }
    for host in [
      "", "a b", "example.org/", "evil@example.org", "example.org:80x", "[::1", "[x]", "a..b", "é",
    ] {
      let answer = try await WebAnswer.get("/", port: node.port, host: host)
      #expect(answer.status == "400" && answer.header("Location") == nil, "\(host): \(answer.head)")
    }
    #expect(try await WebAnswer.get("http://evil.example/", port: node.port).status == "400")
    #expect(try await WebAnswer.get("/healthz", port: node.port).status == "503")
  }

  @Test func takesModernTLSOnly() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let (node, port) = try await node(certificate)
    func client(_ arguments: String...) async throws -> Ended {
      try await Running(
        "/usr/bin/openssl",
        ["s_client", "-connect", "127.0.0.1:\(port)", "-CAfile", certificate.certificate] + arguments
      ).end()
    }
    let newest = try await client("-alpn", "h2,http/1.1")
    #expect(newest.status == 0 && newest.text.contains("New, TLSv1.3"), "\(newest.text)")
    #expect(newest.text.contains("ALPN protocol: http/1.1"))
    let older = try await client("-tls1_2")
    #expect(older.status == 0 && older.text.contains("New, TLSv1.2"))
    for old in ["-tls1_1", "-tls1"] {
      let refused = try await client(old, "-cipher", "ALL:@SECLEVEL=0")
      #expect(refused.status != 0 && refused.stderr.contains("alert protocol version"), "\(refused.stderr)")
    }
    // Nothing without forward secrecy or authenticated encryption.
    for cipher in ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256"] {
      #expect(try await client("-tls1_2", "-cipher", "\(cipher):@SECLEVEL=0").status != 0)
    }
    #expect(try await client("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256").status == 0)
    #expect(node.log.contains("Serving"))
  }

  @Test func replicatesOverTLS() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let (server, port) = try await node(certificate)
    let laptop = try TestNode()
    laptop.environment["SSL_CERT_FILE"] = .some(certificate.certificate)
    try await laptop.start()
    let made = try await laptop.ctl(
      "init", "--domain", "localhost", "--generate-passphrase-to", "\(folder.path)/words")
    try #require(made.status == 0, "\(made.stderr)")
    let code = try await server.ctl("setup-code").stdout
    let connected = try await laptop.ctl(
      "connect", "wss://localhost:\(port)", "--setup-code-file", "-", input: code)
    try #require(connected.status == 0, "\(connected.stderr)")
    #expect(try await laptop.ctl("post", "over TLS").status == 0)
    #expect(try await laptop.ctl("wait", "--synced").status == 0)
    #expect(try await server.ctl("posts").text.contains("over TLS"))
    // Without TLS, other nodes are let in from this machine only.
    #expect(try await RawClient(port: server.port).upgrade("/hypha").hasPrefix("HTTP/1.1 101"))

    // Who does not trust the certificate is told so.
    let stranger = try TestNode()
    try await stranger.start()
    let refused = try await stranger.ctl("sign-in", "https://localhost:\(port)", input: Array("x".utf8))
    #expect(refused.status != 0)
  }

  @Test("A hypha that its domain has is not begun anew with its passphrase, but joined")
  func domainHasTheHypha() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let (server, port) = try await node(certificate)
    // To it, who asks the domain gets.
    let library = try await Preloaded(
      """
      #include <netinet/in.h>
      #include <stdlib.h>
      #include <string.h>
      #include <sys/socket.h>
      #include <sys/syscall.h>
      #include <unistd.h>
      int connect(int socket, const struct sockaddr *address, socklen_t length) {
        struct sockaddr_in6 other;
        memcpy(&other, address, length < sizeof other ? length : sizeof other);
        // The port is at the same place for both kinds of addresses.
        if ((other.sin6_family == AF_INET || other.sin6_family == AF_INET6) && other.sin6_port == htons(443)) {
          other.sin6_port = htons(atoi(getenv("HYPHA_TEST_PORT")));
          address = (struct sockaddr *)&other;
        }
        return syscall(SYS_connect, socket, address, length);
      }
      """)
    func fresh() async throws -> TestNode {
      let node = try TestNode()
      node.environment = [
        "SSL_CERT_FILE": certificate.certificate, "LD_PRELOAD": library.path, "HYPHA_TEST_PORT": "\(port)",
      ]
      try await node.start()
      return node
    }
    func make(_ node: TestNode, _ arguments: [String] = ["--passphrase-file", "-"]) async throws -> Ended {
      try await node.startCtl(["init", "--domain", "localhost"] + arguments, input: HyphactlTests.passphrase)
        .end()
    }
    let laptop = try await fresh()
    // Nobody's yet, the domain has none.
    let made = try await make(laptop)
    #expect(made.status == 0 && !made.stderr.contains("could not be asked"), "\(made.stderr)")
    let code = try await server.ctl("setup-code").stdout
    let connected = try await laptop.ctl(
      "connect", "wss://localhost:\(port)", "--setup-code-file", "-", input: code)
    try #require(connected.status == 0, "\(connected.stderr)")
    #expect(try await laptop.ctl("post", "first").status == 0)
    #expect(try await laptop.ctl("wait", "--synced").status == 0)

    let again = try await fresh()
    let refused = try await make(again)
    #expect(refused.status == 1 && refused.stdout.isEmpty, "\(refused)")
    #expect(
      refused.stderr.contains(made.text) && refused.stderr.contains("sign-in localhost"), "\(refused.stderr)")
    #expect(try again.status().role == .uninitialised && again.folder.read("state/secrets/writer").isEmpty)
    // A hypha of another passphrase is another one.
    let other = try await make(again, ["--generate-passphrase-to", "\(folder.path)/words"])
    #expect(other.status == 0 && other.text != made.text, "\(other.stderr)")
    let third = try await fresh()
    let words = try await third.ctl(
      "init", "--domain", "localhost", "--passphrase-file", "\(folder.path)/words")
    #expect(words.status == 0 && words.text == other.text, "\(words.stderr)")
  }

  @Test func setupLinkLeadsToTheCertificatesName() async throws {
    let certificate = try await TestCertificate(folder, "own", for: ["*.example.org", "hypha.example.org"])
    let (node, port) = try await node(certificate)
    #expect(
      try await node.ctl("setup-code", "--json").text.contains("https://hypha.example.org:\(port)/#setup="))
    let other = try await node.ctl("setup-code", "other.example", "--json")
    #expect(other.text.contains("https://other.example:\(port)/#setup="))
  }

  @Test func saysWhatIsWrongWithACertificate() async throws {
    let good = try await TestCertificate(folder, "good")
    let other = try await TestCertificate(folder, "other")
    let text = try folder.write("text.pem", "no certificate".utf8)
    let locked = "\(folder.path)/locked.key"
    try await TestCertificate.openssl([
      "ec", "-in", good.key, "-aes256", "-passout", "pass:x", "-out", locked,
    ])
    for (certificate, key, expected) in [
      (good.certificate, other.key, "is not the one of the certificate"),
      (text, good.key, "\(text) holds no certificate in PEM form"),
      (good.key, good.key, "holds no certificate in PEM form"),
      (good.certificate, good.certificate, "holds no private key in PEM form"),
      (good.certificate, locked, "holds no private key in PEM form without a passphrase"),
      ("\(folder.path)/none.pem", good.key, "There is no file \(folder.path)/none.pem"),
      (folder.path, good.key, "The certificate in [https] cannot be read"),
      ("hypha-certificate", good.key, "the name of a credential, but this process was handed none"),
    ] {
      let node = try TestNode(
        settings: """

          [https]
          address = "127.0.0.1:0"
          certificate = "\(certificate)"
          key = "\(key)"

          """)
      node.environment["CREDENTIALS_DIRECTORY"] = .some(nil)
      let ended = try await node.startInVain()
      #expect(ended.status == EX_CONFIG)
      #expect(ended.stderr.contains(expected), "\(ended.stderr)")
    }
  }

  @Test func goesOnWithACertificateThatHasEnded() async throws {
    let ended = try await TestCertificate(folder, "ended", days: -1)
    let (node, port) = try await node(ended)
    #expect(node.log.contains("The certificate has ended"))
    // The way to a new one stays open.
    _ = try RawClient(port: port)
    let page = try await WebAnswer.get("/.well-known/acme-challenge/x", port: node.port)
    #expect(page.status == "404")
    #expect(try await WebAnswer.get("/healthz", port: node.port).status == "503")
  }

  @Test func warnsOfAnEndThatIsNearAndOfAnOpenKey() async throws {
    let soon = try await TestCertificate(folder, "soon", days: 13)
    try #require(chmod(soon.key, 0o644) == 0)
    let (near, _) = try await node(soon)
    #expect(near.log.contains("The certificate ends soon") && near.log.contains("days=12"), "\(near.log)")
    #expect(near.log.contains("can be read by every user"))
    let later = try await TestCertificate(folder, "later", days: 20)
    try #require(chmod(later.key, 0o640) == 0)
    let (far, _) = try await node(later)
    #expect(!far.log.contains("ends soon") && !far.log.contains("every user"), "\(far.log)")
  }

  @Test func takesCredentials() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let port = try freePorts(1)[0]
    let node = try TestNode(
      settings: """

        [https]
        address = "127.0.0.1:\(port)"
        certificate = "own.pem"
        key = "own.key"

        """)
    node.environment["CREDENTIALS_DIRECTORY"] = .some(folder.path)
    try await node.start()
    #expect(try await WebAnswer.get("/", port: port, trusting: certificate.certificate).status == "200")
  }

  /// New connections get the new certificate, open ones go on, and a bad one is not taken.
  @Test func newCertificateIsTakenWithoutALostConnection() async throws {
    let first = try await TestCertificate(folder, "first")
    let second = try await TestCertificate(folder, "second")
    let ended = try await TestCertificate(folder, "ended", days: -1)
    let lines = Lines()
    let logger = Logger(label: "test") { _ in lines }
    func settings(_ certificate: String, _ key: String) -> Configuration.HTTPS {
      var settings = Configuration.HTTPS()
      (settings.certificate, settings.key) = (certificate, key)
      return settings
    }
    let store = try CertificateStore(settings(first.certificate, first.key), credentials: nil, logger: logger)
    let node = EchoNode(Edge.group)
    let server = try await EdgeServer.http(
      at: .address(ListenAddress(host: "127.0.0.1", port: 0)), group: Edge.group,
      limiter: ConnectionLimiter(total: 8, perAddress: 8), delegate: node, certificates: store, logger: logger
    )
    let port = try #require(server.address?.port)
    let url = try ReplicationURL("wss://localhost:\(port)")
    let transport = try await first.connector().connect(to: url)
    let sink = Sink(transport, on: Edge.group.next())
    func echoes(_ count: Int) async throws {
      transport.send([UInt8](repeating: 7, count: 1000))
      try await eventually("no echo") { sink.count == count * 1000 ? true : nil }
    }
    try await echoes(1)
    #expect(node.transports.first?.kind == .wss)

    let before = store.expires
    for bad in [
      settings(second.certificate, first.key), settings(ended.certificate, ended.key),
      settings("\(folder.path)/none", first.key),
    ] {
      #expect(!store.reload(bad))
      #expect(lines.all.last?.contains("The certificate of before is still used") == true)
    }
    #expect(store.expires == before)
    try await first.connector().connect(to: url).close(CloseReason(.normal, "Done."))

    #expect(store.reload(settings(second.certificate, second.key)))
    try await echoes(2)
    try await second.connector().connect(to: url).close(CloseReason(.normal, "Done."))
    await #expect(throws: ConnectError.self) { try await first.connector().connect(to: url) }
    try await echoes(3)
    #expect(sink.closed == nil)
    await server.stop()
  }

  @Test func challengesAreServedAndNothingElse() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let root = "\(folder.path)/acme"
    let place = "\(root)/.well-known/acme-challenge"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    func write(_ path: String, _ text: String) throws {
      try Data(text.utf8).write(to: URL(filePath: path))
    }
    try write("\(place)/token_-1", "token_-1.thumbprint")
    try write("\(place)/large", String(repeating: "x", count: EdgeLimits.acmeFileBytes + 1))
    try write("\(place)/with.dot", "x")
    try write("\(folder.path)/secret", "secret")
    try #require(symlink("\(folder.path)/secret", "\(place)/link") == 0)
    try #require(mkdir("\(place)/folder", 0o755) == 0)
    try #require(mkfifo("\(place)/pipe", 0o644) == 0)
    // As many as there are processors, which here stand for a large machine's.
    let (node, port) = try await node(
      certificate, more: "acme_folder = \"\(root)\"\n",
      environment: ["NIO_SINGLETON_BLOCKING_POOL_THREAD_COUNT": "64"])
    let path = "/.well-known/acme-challenge"
    let found = try await WebAnswer.get("\(path)/token_-1", port: node.port)
    #expect(found.status == "200" && found.body == "token_-1.thumbprint")
    #expect(found.header("Content-Type") == "application/octet-stream")
    let pid = try #require(node.daemon).pid
    #expect(try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").count < 32)
    let encrypted = try await WebAnswer.get("\(path)/token_-1", port: port, trusting: certificate.certificate)
    #expect(encrypted.body == "token_-1.thumbprint")
    for name in ["none", "large", "link", "folder", "pipe", String(repeating: "a", count: 128)] {
      #expect(try await WebAnswer.get("\(path)/\(name)", port: node.port).status == "404", "\(name)")
    }
    // What can be no token is like any other path: elsewhere, over TLS, and not there either.
    for name in [
      "", "with.dot", "..%2fsecret", "../../../secret", "a/b", "é", String(repeating: "a", count: 129),
    ] {
      #expect(
        try await WebAnswer.get("\(path)/\(name)", port: node.port).status == (name == "é" ? "400" : "308"),
        "\(name)")
    }
    for name in ["with.dot", "../../../secret"] {
      let answer = try await WebAnswer.get("\(path)/\(name)", port: port, trusting: certificate.certificate)
      #expect(answer.status == "404")
    }
    // A folder in between that leads elsewhere.
    try FileManager.default.moveItem(atPath: "\(root)/.well-known", toPath: "\(folder.path)/elsewhere")
    try #require(symlink("\(folder.path)/elsewhere", "\(root)/.well-known") == 0)
    #expect(try await WebAnswer.get("\(path)/token_-1", port: node.port).status == "404")
  }
}

extension TLSTests {
  @Test("Who gives way over TLS is gone at once, and of an answer that nobody takes little is encrypted")
  func givesWay() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let web = try WebFolder.large()
    let (node, port) = try await node(
      certificate, more: "[replication]\nmax_connections = 32\n", http: "web_folder = \"\(web.path)\"")
    let page = try await WebAnswer.get("/", port: port, trusting: certificate.certificate)
    #expect(page.body.utf8.count == 12 << 20)
    let pid = try #require(node.daemon).pid
    func descriptors() throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
    }
    let before = try (use: ProcessUse(pid), descriptors: descriptors())
    var channels: [any Channel] = []
    for _ in 0..<160 {
      channels.append(try await unreading(port, certificate, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }
    try await eventually(within: 1, "those that gave way are still there") {
      try descriptors() <= before.descriptors + 32 + 4 ? true : nil
    }
    let after = try ProcessUse(pid)
    print("32 unread answers over TLS: \(after.peakKilobytes - before.use.kilobytes) KiB")
    #expect(after.peakKilobytes < before.use.kilobytes + Sanitizer.kilobytes(32 << 10))
    for channel in channels { channel.close(promise: nil) }
    try await node.stop()
  }

  @Test("What is sent over TLS after an upgrade that is refused, while the node says goodbye, is not kept")
  func goodbye() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let (node, port) = try await node(certificate)
    let pid = try #require(node.daemon).pid
    let before = try ProcessUse(pid)
    let sent = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask {
          let channel = try await unreading(
            port, certificate, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
          let bytes = ByteBuffer(repeating: 0, count: 64 << 10)
          var sent = 0
          while (try? await channel.writeAndFlush(bytes)) != nil { sent += bytes.readableBytes }
          return sent
        }
      }
      return try await group.reduce(0, +)
    }
    let after = try ProcessUse(pid)
    print("of \(sent >> 10) KiB during a goodbye \(after.peakKilobytes - before.kilobytes) KiB are kept")
    #expect(after.peakKilobytes < before.kilobytes + Sanitizer.kilobytes(12 << 10))
    try await node.stop()
  }

  /// A client that reads nothing from its request on, not even the node's goodbye.
  private func unreading(
    _ port: Int, _ certificate: TestCertificate, _ request: String
  ) async throws -> any Channel {
    let tls = try certificate.client()
    return try await ClientBootstrap(group: Edge.group).channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        let handler = try NIOSSLClientHandler(context: tls, serverHostname: "localhost")
        try channel.pipeline.syncOperations.addHandlers([Deaf(), handler])
      }
    }.connect(host: "127.0.0.1", port: port).flatMap { channel in
      channel.writeAndFlush(ByteBuffer(string: request)).flatMapThrowing {
        try channel.pipeline.syncOperations.handler(type: Deaf.self).isDeaf = true
        try channel.syncOptions?.setOption(.autoRead, value: false)
        return channel
      }
    }.get()
  }
}

/// Drops what comes, if it is to.
private final class Deaf: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  var isDeaf = false

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if !isDeaf { context.fireChannelRead(data) }
  }
}

/// Keeps what is logged.
struct Lines: LogHandler {
  private final class Kept: Sendable {
    let lines = Mutex<[String]>([])
  }

  private let kept = Kept()
  var logLevel = Logger.Level.trace
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  var all: [String] { kept.lines.withLock { $0 } }

  func log(event: LogEvent) {
    kept.lines.withLock { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
  }
}
