import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// `hyphactl doctor`, on nodes that have something.
@Suite("What is wrong with a set-up", .fewAtOnce, .timeLimit(.minutes(15))) struct DoctorTests {
  private func examine(_ node: TestNode) async throws -> (status: Int32, checks: [String: NodeDoctor.Check]) {
    let ended = try await node.ctl("doctor", "--json")
    let result = try JSONDecoder().decode(NodeDoctor.Result.self, from: Data(ended.stdout))
    return (ended.status, Dictionary(uniqueKeysWithValues: result.checks.map { ($0.name, $0) }))
  }

  private func origin(_ node: TestNode, domain: String = "localhost") throws {
    let client = try node.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(NodeInitialise.self, .init(domain: domain, passphrase: passphrase))
  }

  @Test func namesWhatIsMissingOnANewNode() async throws {
    let node = try TestNode()
    try await node.start()
    let (status, checks) = try await examine(node)
    #expect(status == 1)
    #expect(checks["daemon"]?.state == .good)
    #expect(checks["hypha"]?.state == .problem && checks["hypha"]?.advice?.contains("hyphactl init") == true)
    #expect(checks["disk"]?.state == .good && checks["secrets"]?.state == .good)
    // These tests run without an installed web client.
    #expect(checks["page"]?.state == .problem)
    #expect(checks["web"]?.state == .good, "\(String(describing: checks["web"]))")
    #expect(checks["clock"] != nil)
    let shown = try await node.ctl("doctor")
    #expect(shown.status == 1 && shown.text.contains("problem   hypha"), "\(shown.text)")
    #expect(shown.text.contains("→ Make one with “hyphactl init”"))
    try await node.stop()
  }

  @Test func seesWhoElseHasTheHypha() async throws {
    let (origin, server) = (try TestNode(), try TestNode())
    try await origin.start()
    try await server.start()
    try self.origin(origin)
    #expect(try await examine(origin).checks["peers"]?.state == .warning)
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30))
    let checks = try await examine(origin).checks
    #expect(checks["peers"]?.state == .good && checks["hypha"]?.state == .good, "\(checks)")
    try await server.stop()
    let peers = try await eventually {
      let check = try await examine(origin).checks["peers"]
      return check?.state == .problem ? check : nil
    }
    #expect(
      peers.text.contains(server.url) && peers.advice?.contains("hyphactl disconnect \(server.url)") == true)
    try await origin.stop()
  }

  @Test func asksTheDomain() async throws {
    let node = try TestNode()
    try await node.start()
    try origin(node, domain: "nothing.invalid")
    let check = try #require(try await examine(node).checks["domain"])
    #expect(check.state == .problem && check.text.contains("nothing.invalid"), "\(check)")
    #expect(check.advice?.contains("port 443") == true)
    try await node.stop()
  }

  @Test func findsSecretsThatOthersMayRead() async throws {
    let node = try TestNode()
    try await node.start()
    try origin(node)
    #expect(try await examine(node).checks["secrets"]?.state == .good)
    let file = "\(node.statePath)/secrets/writer"
    chmod(file, 0o644)
    let check = try #require(try await examine(node).checks["secrets"])
    #expect(check.state == .problem && check.text.contains(file), "\(check)")
    try await node.stop()
  }

  @Test(arguments: [(60, NodeDoctor.Check.State.good), (5, .warning), (-1, .problem)])
  func looksAtTheCertificate(days: Int, state: NodeDoctor.Check.State) async throws {
    let folder = try TemporaryFolder()
    let (port, scraped) = (try freePorts(1)[0], try freePorts(1)[0])
    let certificate = try await TestCertificate(folder, "own", for: ["example.org"], days: days)
    let node = try TestNode(
      settings: certificate.settings(port: port) + "[metrics]\naddress = \"127.0.0.1:\(scraped)\"\n")
    try await node.start()
    let check = try #require(try await examine(node).checks["certificate"])
    #expect(check.state == state, "\(check)")
    try origin(node, domain: "example.com")
    let other = try #require(try await examine(node).checks["certificate"])
    #expect(
      other.state == .problem && other.text.contains("for example.org, not for example.com"), "\(other)")
    #expect(try await metrics(scraped)["hypha_certificate_expires_seconds"].map { $0 > 1e9 } == true)
    try await node.stop()
  }

  @Test func saysWhatToDoWithoutADaemon() async throws {
    let node = try TestNode()
    let ended = try await node.ctl("doctor")
    #expect(ended.status == 2)
    #expect(
      ended.text.contains("problem   daemon") && ended.text.contains("journalctl --unit hyphad"),
      "\(ended.text)")
  }
}
