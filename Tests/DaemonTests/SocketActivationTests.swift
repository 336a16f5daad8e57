import Glibc
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// Sockets that systemd hands over, by its own program for trying that.
@Suite("Socket activation", .fewAtOnce, .timeLimit(.minutes(15))) struct SocketActivationTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
  }

  private func start(_ listen: [String], names: String, settings: String = "", options: [String] = []) throws
    -> Running
  {
    let config = try folder.write(
      "hyphad.toml",
      """
      [node]
      state_folder = "\(folder.path)/state"
      [control]
      socket = "\(folder.path)/not-this"
      [http]
      address = "127.0.0.1:1"
      \(settings)
      """.utf8)
    // Of the environment it passes on what it is told to.
    let sanitizers = ["ASAN_OPTIONS", "TSAN_OPTIONS"].compactMap { (name: String) in
      getenv(name).map { "--setenv=\(name)=\(String(cString: $0))" }
    }
    return try Running(
      "/usr/bin/systemd-socket-activate",
      sanitizers + options + listen.flatMap { ["--listen", $0] } + ["--fdname=\(names)"]
        + [try Programs.path("hyphad"), "--config", config])
  }

  @Test func servesOnWhatItIsHanded() async throws {
    let certificate = try await TestCertificate(folder, "own")
    let ports = try freePorts(3)
    let control = "\(folder.path)/control.sock"
    let daemon = try start(
      ["127.0.0.1:\(ports[0])", "127.0.0.1:\(ports[1])", "127.0.0.1:\(ports[2])", control],
      names: "http:https:http:control",
      settings: "[https]\ncertificate = \"\(certificate.certificate)\"\nkey = \"\(certificate.key)\"\n")
    let code = try await eventually("no answer; it wrote: \(daemon.stderr)") {
      try? ControlClient(path: control).call(SetupCodeShow.self, .init())
    }
    #expect(code.link.text.hasPrefix("https://localhost:\(ports[1])/#setup="), "\(code.link.text)")
    let page = try await WebAnswer.get("/", port: ports[1], trusting: certificate.certificate)
    #expect(page.status == "200")
    for port in [ports[0], ports[2]] {
      #expect(try await WebAnswer.get("/", port: port).header("Location") == "https://localhost:\(ports[1])/")
    }
    daemon.send(SIGTERM)
    #expect(try await daemon.end().status == 0)
    // It belongs to systemd.
    #expect(access(control, F_OK) == 0)
    #expect(access("\(folder.path)/not-this", F_OK) != 0)
  }

  @Test func setupLinkHasThePortThatIsServed() async throws {
    let port = try freePorts(1)[0]
    let control = "\(folder.path)/control.sock"
    let daemon = try start(["127.0.0.1:\(port)", control], names: "http:control")
    let code = try await eventually("no answer; it wrote: \(daemon.stderr)") {
      try? ControlClient(path: control).call(SetupCodeShow.self, .init())
    }
    #expect(code.link.text.hasPrefix("http://localhost:\(port)/#setup="))

    let any = try TestNode(settings: "", port: 0)
    try await any.start()
    let served = try #require(any.log.firstMatch(of: /Serving on 127\.0\.0\.1:([0-9]+)/)?.1)
    #expect(served != "0")
    let shown = try await any.ctl("setup-code", "--json")
    #expect(shown.text.contains("http://localhost:\(served)/#setup="))
  }

  @Test func saysWhatIsWrongWithASocket() async throws {
    let port = try freePorts(1)[0]
    let unix = "\(folder.path)/socket"
    for (listen, names, options, expected) in [
      (
        ["127.0.0.1:\(port)"], "web", [],
        "“web” that systemd hands over (descriptor 3) has a name that says nothing"
      ),
      (["127.0.0.1:\(port)"], "control", [], "is no Unix socket: set ListenStream= to a path"),
      (["127.0.0.1:\(port)"], "https", [], "[https] has no certificate"),
      ([unix], "http", [], "is no TCP socket: set ListenStream= to a port"),
      (["127.0.0.1:\(port)"], "http", ["--datagram"], "is no stream: use ListenStream="),
      ([unix, "\(unix)2"], "control:control", [], "is there twice"),
    ] as [([String], String, [String], String)] {
      unlink(unix)
      unlink("\(unix)2")
      let daemon = try start(listen, names: names, options: options)
      let ended = try await eventually("it did not end; it wrote: \(daemon.stderr)") {
        // The first connection, or datagram, starts it.
        Self.knock(listen[0], isDatagram: !options.isEmpty)
        return daemon.poll()
      }
      #expect(ended.status == EX_CONFIG)
      #expect(ended.stderr.contains(expected), "\(ended.stderr)")
    }
  }

  private static func knock(_ place: String, isDatagram: Bool) {
    if place.hasPrefix("/") {
      _ = try? ControlClient(path: place)
      return
    }
    guard let port = place.split(separator: ":").last.flatMap({ Int($0) }) else { return }
    if isDatagram {
      let socket = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
      defer { close(socket) }
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = in_port_t(port).bigEndian
      address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
      _ = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(socket, "x", 1, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    } else {
      _ = try? RawClient(port: port)
    }
  }
}
