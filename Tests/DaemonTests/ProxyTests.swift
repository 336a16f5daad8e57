import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// The shipped settings for proxies, in front of a node, with Debian's own programs.
@Suite("Behind a proxy", .fewAtOnce, .timeLimit(.minutes(15))) struct ProxyTests {
  private let folder: TemporaryFolder
  private let web: WebFolder

  init() throws {
    folder = try TemporaryFolder()
    web = try WebFilesTests.folder()
  }

  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  /// What `scripts/setup test` unpacked, or what is installed.
  private static func program(_ path: String) throws -> String {
    let places = ["\(root)/.build/servers/\(path)", "/\(path)"]
    guard let found = places.first(where: { access($0, X_OK) == 0 }) else {
      throw HarnessError("there is no \(path): run “scripts/setup test”")
    }
    return found
  }

  /// A shipped file with other words in some places, each of which must be there.
  private static func shipped(_ name: String, _ changes: [(String, String)]) throws -> String {
    var text = String(
      decoding: try Data(contentsOf: URL(filePath: "\(root)/packaging/proxy/\(name)")), as: UTF8.self)
    for (old, new) in changes {
      guard text.contains(old) else { throw HarnessError("\(name) has no “\(old)”") }
      text = text.replacing(old, with: new)
    }
    return text
  }

  /// The node as the shipped files say it is to be set, and a certificate for the proxy.
  private func node() async throws -> TestNode {
    let node = try TestNode(
      settings: "web_folder = \"\(web.path)\"\ntrusted_proxies = [\"127.0.0.1\", \"::1\"]\n")
    try await node.start()
    return node
  }

  /// Everything that a proxy is to pass on.
  private func check(
    _ node: TestNode, _ certificate: TestCertificate, http: Int, https: Int, _ proxy: Running
  ) async throws {
    _ = try await eventually("the proxy does not answer; it wrote: \(proxy.stderr)") {
      if let ended = proxy.poll() { throw HarnessError("the proxy ended: \(ended.stderr)") }
      return try? await WebAnswer.get("/healthz", port: https, trusting: certificate.certificate)
    }
    let page = try await WebAnswer.get("/", port: https, trusting: certificate.certificate)
    #expect(page.status == "200" && page.body.contains("contents of index.html"))
    #expect(page.header("Strict-Transport-Security") == "max-age=31536000")
    let plain = try await WebAnswer.get("/feed.json", port: http)
    #expect(plain.status == "308" && plain.header("Location")?.hasPrefix("https://localhost") == true)

    // Another node claims it, and replicates.
    let laptop = try TestNode(settings: "web_folder = \"\(web.path)\"")
    laptop.environment["SSL_CERT_FILE"] = .some(certificate.certificate)
    try await laptop.start()
    let audited = try await laptop.ctl("audit", "https://localhost:\(https)")
    #expect(audited.status == 0, "\(audited.text)\(audited.stderr)")
    let made = try await laptop.ctl(
      "init", "--domain", "localhost", "--generate-passphrase-to", "\(folder.path)/words")
    try #require(made.status == 0, "\(made.stderr)")
    let code = try await node.ctl("setup-code").stdout
    let connected = try await laptop.ctl(
      "connect", "wss://localhost:\(https)", "--setup-code-file", "-", input: code)
    try #require(connected.status == 0, "\(connected.stderr)")
    let text = String(repeating: "through a proxy ", count: 60)
    #expect(try await laptop.ctl("post", text).status == 0)
    #expect(try await laptop.ctl("wait", "--synced").status == 0)
    #expect(try await node.ctl("posts").text.contains(text))

    // Who connects is known, whatever they say of themselves.
    let stranger = try Running(
      "/usr/bin/openssl",
      [
        "s_client", "-connect", "127.0.0.1:\(https)", "-servername", "localhost", "-bind", "127.0.0.77:0",
        "-quiet",
      ],
      input: Array(
        ("GET /hypha HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
          + "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=7.7.7.7\r\nX-Forwarded-Proto: http\r\n\r\n").utf8))
    try await eventually("not connected; openssl got \(String(decoding: stranger.stdout, as: UTF8.self))") {
      try node.client().call(PeersList.self, Nothing()).peers.contains { $0.address == "127.0.0.77" }
        ? true : nil
    }
    #expect(try node.client().call(PeersList.self, Nothing()).peers.count == 2)
    withExtendedLifetime((stranger, proxy)) {}
  }

  @Test func nginx() async throws {
    let node = try await node()
    let certificate = try await TestCertificate(folder, "own")
    let ports = try freePorts(2)
    let site = try folder.write(
      "site.conf",
      Self.shipped(
        "nginx.conf",
        [
          ("listen 80;", "listen 127.0.0.1:\(ports[0]);"), ("listen [::]:80;", ""),
          ("listen 443 ssl;", "listen 127.0.0.1:\(ports[1]) ssl;"), ("listen [::]:443 ssl;", ""),
          ("/etc/letsencrypt/live/example.org/fullchain.pem", certificate.certificate),
          ("/etc/letsencrypt/live/example.org/privkey.pem", certificate.key), ("example.org", "localhost"),
          ("127.0.0.1:8080", "127.0.0.1:\(node.port)"),
        ]
      ).utf8)
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map { "\($0)_temp_path \(folder.path)/\($0);" }.joined(separator: " ")
    let user = geteuid() == 0 ? "user root;" : ""
    let config = try folder.write(
      "nginx.conf",
      """
      daemon off; worker_processes 1; pid \(folder.path)/nginx.pid; error_log stderr; \(user)
      events {}
      http { access_log off; \(temporary) include \(site); }
      """.utf8)
    let nginx = try Running(
      Self.program("usr/sbin/nginx"), ["-p", folder.path, "-e", "stderr", "-c", config])
    try await check(node, certificate, http: ports[0], https: ports[1], nginx)
    nginx.send(SIGTERM)
    _ = try await nginx.end()
  }

  @Test func caddy() async throws {
    let node = try await node()
    let certificate = try await TestCertificate(folder, "own")
    let ports = try freePorts(2)
    let site = try Self.shipped(
      "Caddyfile",
      [
        (
          "\nexample.org {\n",
          "\nlocalhost {\n\ttls \(certificate.certificate) \(certificate.key)\n\tbind 127.0.0.1\n"
        ),
        ("127.0.0.1:8080", "127.0.0.1:\(node.port)"),
      ])
    let config = try folder.write(
      "Caddyfile",
      """
      {
      	admin off
      	http_port \(ports[0])
      	https_port \(ports[1])
      	skip_install_trust
      }
      \(site)
      """.utf8)
    let caddy = try Running(
      Self.program("usr/bin/caddy"), ["run", "--config", config, "--adapter", "caddyfile"],
      environment: ["HOME": folder.path, "XDG_DATA_HOME": folder.path, "XDG_CONFIG_HOME": folder.path])
    try await check(node, certificate, http: ports[0], https: ports[1], caddy)
    caddy.send(SIGTERM)
    _ = try await caddy.end()
  }
}
