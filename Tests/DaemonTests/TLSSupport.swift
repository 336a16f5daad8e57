import Glibc
import NIOCore
import NIOSSL
import Testing

@testable import HyphaDaemonCore

/// A certificate that signs itself, and its key.
struct TestCertificate {
  let certificate: String
  let key: String

  /// - Parameters:
  ///   - name: of the files.
  ///   - domains: what it is for, the first also in its subject.
  ///   - days: until it ends; less than 0: it has ended.
  init(_ folder: TemporaryFolder, _ name: String, for domains: [String] = ["localhost"], days: Int = 60)
    async throws
  {
    certificate = "\(folder.path)/\(name).pem"
    key = "\(folder.path)/\(name).key"
    let names = domains.map { IPAddress($0) == nil ? "DNS:\($0)" : "IP:\($0)" }.joined(separator: ",")
    let extensions = try folder.write("\(name).ext", "subjectAltName=\(names)\n".utf8)
    try await Self.openssl([
      "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
      "/CN=\(domains[0])", "-keyout", key, "-out", "\(certificate).request",
    ])
    try await Self.openssl([
      "x509", "-req", "-in", "\(certificate).request", "-signkey", key, "-days", "\(days)", "-extfile",
      extensions, "-out", certificate,
    ])
  }

  @discardableResult
  static func openssl(_ arguments: [String], input: String = "") async throws -> Ended {
    let ended = try await Running("/usr/bin/openssl", arguments, input: Array(input.utf8)).end()
    guard ended.status == 0 else { throw HarnessError("openssl \(arguments): \(ended.stderr)") }
    return ended
  }

  /// Lines of a configuration file that serve it.
  func settings(port: Int) -> String {
    """

    [https]
    address = "127.0.0.1:\(port)"
    certificate = "\(certificate)"
    key = "\(key)"

    """
  }

  /// Trusts this certificate alone.
  func client() throws -> NIOSSLContext {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.trustRoots = .file(certificate)
    return try NIOSSLContext(configuration: configuration)
  }

  /// Connects as another node with it.
  func connector() throws -> ReplicationConnector {
    ReplicationConnector(group: Edge.group, tls: try client())
  }
}

/// What comes back for one request, over TLS or not.
struct WebAnswer {
  var head: String
  var body: String

  var status: String { String(head.dropFirst("HTTP/1.1 ".count).prefix(3)) }

  /// Of the first header with a name.
  func header(_ name: String) -> String? {
    head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("\(name.lowercased()): ") }
      .map { String($0.dropFirst(name.count + 2)) }
  }

  /// - Parameter trusting: the certificate to trust; `nil`: without TLS.
  static func get(
    _ path: String, port: Int, trusting: String? = nil, host: String = "localhost", headers: String = ""
  ) async throws -> WebAnswer {
    let request = "GET \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\(headers)\r\n"
    let text: String
    if let trusting {
      let ended = try await TestCertificate.openssl(
        [
          "s_client", "-connect", "127.0.0.1:\(port)", "-servername", host, "-CAfile", trusting,
          "-verify_return_error", "-verify_hostname", host, "-quiet",
        ], input: request)
      text = String(decoding: ended.stdout, as: UTF8.self)
    } else {
      let client = try RawClient(port: port)
      client.send(request)
      text = String(decoding: try await client.readToEnd(), as: UTF8.self)
    }
    guard let end = text.firstRange(of: "\r\n\r\n") else { throw HarnessError("no answer: \(text)") }
    return WebAnswer(head: String(text[..<end.lowerBound]), body: String(text[end.upperBound...]))
  }
}
