import HyphaControlAPI

/// Where this node's own web side is, as far as it can know itself.
struct WebPlaces: Sendable {
  /// The port of plain HTTP.
  var httpPort: Int?
  /// The port of HTTPS, and its certificate; `nil` where the node has none, and a proxy may have.
  var https: (port: Int, certificates: CertificateStore)?

  /// The address for people, without a slash at its end.
  ///
  /// - Parameter domain: where the node is to be reached, as far as that is said.
  func site(domain: String?) -> String {
    // Without TLS, the page runs on this machine only.
    let elsewhere = domain.flatMap { $0 == "localhost" || $0.hasPrefix("127.") ? nil : $0 }
    guard let https else {
      let port = httpPort.map { $0 == 80 ? "" : ":\($0)" } ?? ""
      return elsewhere.map { "https://\($0)" } ?? "http://localhost\(port)"
    }
    let host = elsewhere ?? https.certificates.names.first { !$0.hasPrefix("*") } ?? "localhost"
    return "https://\(host)\(https.port == 443 ? "" : ":\(https.port)")"
  }
}
