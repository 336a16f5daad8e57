import Glibc
import Logging
import NIOCore

extension Daemon {
  static func name(_ server: EdgeServer) -> String? {
    server.address.map { "\($0)\(server.isTLS ? " with TLS" : "")" }
  }

  /// The certificate for HTTPS; `nil` where there is no HTTPS.
  func certificates(_ inherited: InheritedSockets) throws -> CertificateStore? {
    let settings = configuration.https
    guard settings.address != nil || !inherited.https.isEmpty else {
      if !settings.certificate.isEmpty {
        logger.warning(
          "There is a certificate but no HTTPS: set address in [https], or enable hyphad-https.socket")
      }
      return nil
    }
    guard !settings.certificate.isEmpty else {
      throw InheritedSocketError(
        context:
          "systemd hands over a socket “https”, but [https] has no certificate: set certificate and key, or "
          + "“systemctl disable --now hyphad-https.socket”.")
    }
    let store = try CertificateStore(
      settings, credentials: getenv("CREDENTIALS_DIRECTORY").map { String(cString: $0) }, logger: logger)
    let domain = configuration.node.domain
    if !domain.isEmpty, !store.isFor(domain) {
      logger.warning(
        "The certificate is not for the domain in [node]: browsers will refuse it there",
        metadata: ["domain": "\(domain)", "certificate": "\(store.names.joined(separator: " "))"])
    }
    return store
  }

  /// Has the log say it each day when the certificate ends soon.
  static func remind(_ certificates: CertificateStore) -> Task<Void, any Error> {
    Task {
      while true {
        try await Task.sleep(for: .seconds(86_400))
        certificates.warn()
      }
    }
  }

  /// Opens what HTTP and HTTPS are served on: sockets that systemd hands over, or else the addresses of the settings.
  func serveWeb(
    _ inherited: InheritedSockets, _ certificates: CertificateStore?, _ node: Node, _ files: WebFiles?,
    _ policy: EdgePolicy, _ limiter: ConnectionLimiter, _ loops: any EventLoopGroup
  ) async throws -> ([EdgeServer], WebPlaces) {
    func serve(
      _ descriptors: [Int32], _ address: ListenAddress?, _ certificates: CertificateStore?
    ) async throws -> [EdgeServer] {
      var places = descriptors.map { EdgeServer.Place.inherited(descriptor: $0) }
      if places.isEmpty, let address { places = [.address(address)] }
      var servers: [EdgeServer] = []
      for place in places {
        servers.append(
          try await EdgeServer.http(
            at: place, group: loops, limiter: limiter, delegate: node, web: files, policy: policy,
            certificates: certificates, logger: logger))
      }
      return servers
    }
    var places = WebPlaces()
    var encrypted: [EdgeServer] = []
    if let certificates {
      encrypted = try await serve(inherited.https, configuration.https.address, certificates)
      if let port = encrypted.first?.address?.port {
        places.https = (port, certificates)
        policy.redirect(toPort: port)
      }
    }
    let plain = try await serve(inherited.http, configuration.http.address, nil)
    places.httpPort = plain.first?.address?.port
    return (plain + encrypted, places)
  }
}
