import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// A certificate from an ACME server, Debian's pebble, by Debian's certbot and the shipped hook, as docs/tls.md has it; all
/// of it on this machine.
@Suite("A certificate by certbot", .fewAtOnce, .timeLimit(.minutes(15))) struct ACMETests {
  private let folder: TemporaryFolder
  private static let domain = "hypha.test"

  init() throws {
    folder = try TemporaryFolder()
  }

  private static let hook = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "packaging/certbot/certbot-deploy").path

  /// The authority, and a name server that knows every domain to be here.
  private struct Authority {
    let pebble: Running
    let names: Running
    /// Of its own address.
    let certificate: TestCertificate
    let port: Int
    let management: Int

    /// - Parameter http: where it looks for challenges, in the place of port 80.
    init(_ folder: TemporaryFolder, http: Int) async throws {
      let ports = try freePorts(4)
      (port, management) = (ports[0], ports[1])
      certificate = try await TestCertificate(folder, "authority", for: ["localhost", "127.0.0.1"])
      let config = try folder.write(
        "pebble.json",
        """
        {"pebble": {"listenAddress": "127.0.0.1:\(port)", "managementListenAddress": "127.0.0.1:\(management)",
          "certificate": "\(certificate.certificate)", "privateKey": "\(certificate.key)", "httpPort": \(http),
          "tlsPort": 1, "ocspResponderURL": "", "externalAccountBindingRequired": false}}
        """.utf8)
      names = try Running(
        "/usr/bin/pebble-challtestsrv",
        [
          "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", "127.0.0.1:\(ports[2])", "-http01", "",
          "-https01", "", "-tlsalpn01", "", "-management", "127.0.0.1:\(ports[3])",
        ])
      // Authorities wait and refuse at random, to try their clients; that only takes time here.
      pebble = try Running(
        "/usr/bin/pebble", ["-config", config, "-dnsserver", "127.0.0.1:\(ports[2])"],
        environment: ["PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"])
      let (certificate, port) = (certificate.certificate, port)
      let (pebble, names) = (pebble, names)
      try await eventually("pebble does not answer: \(pebble.stdout) \(pebble.stderr) \(names.stderr)") {
        try? await WebAnswer.get("/dir", port: port, trusting: certificate)
      }
    }

    /// What its certificates are to be trusted by.
    func root(_ folder: TemporaryFolder) async throws -> String {
      let answer = try await WebAnswer.get("/roots/0", port: management, trusting: certificate.certificate)
      return try folder.write("root.pem", answer.body.utf8)
    }
  }

  private func certbot(_ authority: Authority, _ arguments: [String], reload: String) async throws -> Ended {
    let ended = try await Running(
      "/usr/bin/certbot",
      arguments + [
        "--non-interactive", "--config-dir", "\(folder.path)/certbot", "--work-dir",
        "\(folder.path)/certbot-work",
        "--logs-dir", "\(folder.path)/certbot-logs",
      ],
      environment: [
        "REQUESTS_CA_BUNDLE": authority.certificate.certificate, "HYPHA_TLS_FOLDER": "\(folder.path)/tls",
        "HYPHA_TLS_GROUP": "\(getegid())", "HYPHA_TLS_RELOAD": reload,
      ]
    ).end(within: 120)
    guard ended.status == 0 else {
      throw HarnessError(
        "certbot: \(ended.text) \(ended.stderr) \(String(decoding: authority.pebble.stdout, as: UTF8.self).suffix(2000))"
      )
    }
    return ended
  }

  private func serial(_ port: Int, _ root: String) async throws -> String {
    let shown = try await TestCertificate.openssl(
      [
        "s_client", "-connect", "127.0.0.1:\(port)", "-servername", Self.domain, "-CAfile", root,
        "-verify_return_error", "-verify_hostname", Self.domain,
      ])
    let certificate = try folder.write("shown.pem", shown.stdout)
    return try await TestCertificate.openssl(["x509", "-in", certificate, "-noout", "-serial"]).text
  }

  @Test func fromTheFirstCertificateToARenewal() async throws {
    let https = try freePorts(1)[0]
    let acme = "\(folder.path)/acme"
    try #require(mkdir(acme, 0o755) == 0)
    // Before there is a certificate, plain HTTP is all there is.
    let first = try TestNode(settings: "\n[https]\nacme_folder = \"\(acme)\"\n")
    try await first.start()
    let authority = try await Authority(folder, http: first.port)
    _ = try await certbot(
      authority,
      [
        "certonly", "--server", "https://127.0.0.1:\(authority.port)/dir", "--webroot", "--webroot-path",
        acme,
        "--domain", Self.domain, "--agree-tos", "--register-unsafely-without-email", "--deploy-hook",
        Self.hook,
      ], reload: "true")
    let log = String(decoding: authority.pebble.stdout, as: UTF8.self)
    #expect(log.contains("http://\(Self.domain):\(first.port)/.well-known/acme-challenge/"), "\(log)")
    let (certificate, key) = ("\(folder.path)/tls/fullchain.pem", "\(folder.path)/tls/privkey.pem")
    for (path, mode) in [("\(folder.path)/tls", 0o750), (certificate, 0o640), (key, 0o640)]
      as [(String, mode_t)]
    {
      var status = stat()
      #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == mode)
    }
    try await first.stop()

    let node = try TestNode(
      settings: """

        [https]
        address = "127.0.0.1:\(https)"
        certificate = "\(certificate)"
        key = "\(key)"
        acme_folder = "\(acme)"

        """, port: first.port)
    try await node.start()
    #expect(!node.log.contains("ends soon") && !node.log.contains("every user"))
    let root = try await authority.root(folder)
    let page = try await WebAnswer.get("/", port: https, trusting: root, host: Self.domain)
    #expect(page.status == "200")
    #expect(try await WebAnswer.get("/", port: node.port).status == "308")
    #expect(
      try await node.ctl("setup-code", "--json").text.contains("https://\(Self.domain):\(https)/#setup="))
    let serial = try await serial(https, root)

    // Another node stays connected while the certificate is renewed: challenges still come by plain HTTP.
    #expect(
      try await node.ctl("init", "--domain", Self.domain, "--generate-passphrase-to", "\(folder.path)/w")
        .status == 0)
    let link = try node.client().call(NodeStatus.self, Nothing()).hyphalink
    let reader = try TestNode()
    reader.environment["SSL_CERT_FILE"] = .some(root)
    try await reader.start()
    #expect(try await reader.ctl("init", "--hyphalink", link ?? "").status == 0)
    _ = try await reader.ctl("connect", "ws://127.0.0.1:\(node.port)")
    let peer = try await eventually { try node.client().call(PeersList.self, Nothing()).peers.first }
    let pid = try #require(node.daemon?.pid)
    _ = try await certbot(
      authority, ["renew", "--force-renewal", "--no-random-sleep-on-renew"], reload: "kill -HUP \(pid)")
    let renewed = try await eventually("the old certificate is still shown; the node wrote: \(node.log)") {
      let now = try await self.serial(https, root)
      return now == serial ? nil : now
    }
    #expect(renewed != serial)
    #expect(try node.client().call(PeersList.self, Nothing()).peers.map(\.id) == [peer.id])
  }
}
