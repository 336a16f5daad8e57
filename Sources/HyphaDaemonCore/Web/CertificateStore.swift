import Glibc
import Hypercore
public import HyphaControlAPI
public import Logging
import NIOSSL
import Synchronization

/// A certificate or its key cannot be used.
public struct CertificateError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong, where, and what to do next.
  public var context: String

  public var description: String { context }
}

/// The certificate that the node shows, and its key; read anew when it is told to.
///
/// A new one is for connections that are made from then on. Those that are open go on.
public final class CertificateStore: Sendable {
  /// Days before the end at which the log begins to say so.
  static let warningDays: Int64 = 14
  private static let day: Int64 = 86_400_000

  private struct Loaded {
    var context: NIOSSLContext
    var names: [String]
    var expires: Timestamp
  }

  private let credentials: String?
  private let logger: Logger
  private let loaded: Mutex<Loaded>

  /// Reads certificate and key.
  ///
  /// - Parameters:
  ///   - settings: files, or names of credentials.
  ///   - credentials: the folder that systemd puts credentials in, if it handed over any.
  public init(
    _ settings: Configuration.HTTPS, credentials: String?, logger: Logger
  ) throws(CertificateError) {
    let loaded = try Self.load(settings, credentials, logger)
    self.credentials = credentials
    self.logger = logger
    self.loaded = Mutex(loaded)
    warn()
  }

  /// For the next connection.
  var context: NIOSSLContext { loaded.withLock { $0.context } }

  /// Domains that the certificate is for.
  public var names: [String] { loaded.withLock { $0.names } }

  /// When the certificate ends.
  public var expires: Timestamp { loaded.withLock { $0.expires } }

  /// Reads certificate and key anew. If they cannot be used, the log says why, and the ones from before stay.
  ///
  /// - Returns: whether what the files hold is now used.
  @discardableResult
  public func reload(_ settings: Configuration.HTTPS) -> Bool {
    do throws(CertificateError) {
      let new = try Self.load(settings, credentials, logger)
      guard new.expires > Node.now() else {
        throw CertificateError(
          context: "The certificate in \(settings.certificate) ended on \(new.expires): renew it.")
      }
      loaded.withLock { $0 = new }
    } catch {
      logger.error("The certificate of before is still used", metadata: ["reason": "\(error)"])
      return false
    }
    logger.notice(
      "A certificate was loaded",
      metadata: ["names": "\(names.joined(separator: " "))", "expires": "\(expires)"])
    warn()
    return true
  }

  /// Says in the log that the certificate ends soon, or has ended; to be called once a day.
  public func warn() {
    let expires = expires
    let left = expires.milliseconds - Node.now().milliseconds
    if left <= 0 {
      // Served all the same: what renews it may need this node to answer.
      logger.error(
        "The certificate has ended, and browsers refuse it: renew it, and then “systemctl reload hyphad”",
        metadata: ["expired": "\(expires)"])
    } else if left <= Self.warningDays * Self.day {
      logger.warning(
        "The certificate ends soon: see why it was not renewed, for example with “certbot renew --dry-run”",
        metadata: ["expires": "\(expires)", "days": "\(left / Self.day)"])
    }
  }

  /// Whether the certificate is for a domain, also by a name that begins with `*.`.
  public func isFor(_ domain: String) -> Bool {
    let parent = domain.firstIndex(of: ".").map { "*" + domain[$0...] }
    return names.contains { $0 == domain.lowercased() || $0 == parent?.lowercased() }
  }

  // MARK: - Loading

  private static func load(
    _ settings: Configuration.HTTPS, _ credentials: String?, _ logger: Logger
  ) throws(CertificateError) -> Loaded {
    let certificatePath = try path("certificate", settings.certificate, credentials)
    let keyPath = try path("key", settings.key, credentials)
    let text = try read("certificate", certificatePath)
    guard let chain = try? NIOSSLCertificate.fromPEMBytes(text), let own = chain.first else {
      throw CertificateError(
        context:
          "\(certificatePath) holds no certificate in PEM form (“-----BEGIN CERTIFICATE-----”): set certificate "
          + "in [https] to the file with the whole chain, which certbot calls fullchain.pem.")
    }
    var secret = try read("key", keyPath)
    defer { secret.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    guard let key = try? NIOSSLPrivateKey(bytes: secret, format: .pem) else {
      throw CertificateError(
        context:
          "\(keyPath) holds no private key in PEM form without a passphrase (“-----BEGIN PRIVATE KEY-----”): set "
          + "key in [https] to the certificate's key, which certbot calls privkey.pem.")
    }
    if isReadableByOthers(keyPath) {
      logger.warning(
        "The key of the certificate can be read by every user of this machine: make it its owner's and group's only",
        metadata: ["file": "\(keyPath)", "do": "chmod o-rwx \(keyPath)"])
    }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    configuration.minimumTLSVersion = .tlsv12
    // TLS 1.3 has its own; for 1.2 those with forward secrecy and authenticated encryption.
    configuration.cipherSuites = "ECDHE+AESGCM:ECDHE+CHACHA20"
    configuration.applicationProtocols = ["http/1.1"]
    configuration.shutdownTimeout = .milliseconds(EdgeLimits.goodbyeMilliseconds)
    guard let context = try? NIOSSLContext(configuration: configuration) else {
      throw CertificateError(
        context:
          "The key in \(keyPath) is not the one of the certificate in \(certificatePath): set certificate and key "
          + "in [https] to files that were made together.")
    }
    return Loaded(
      context: context, names: names(of: own),
      expires: Timestamp(milliseconds: Int64(own.notValidAfter) * 1000))
  }

  private static func path(
    _ setting: String, _ value: String, _ credentials: String?
  ) throws(CertificateError) -> String {
    if value.hasPrefix("/") { return value }
    guard let credentials else {
      throw CertificateError(
        context:
          "\(setting) in [https] is “\(value)”, the name of a credential, but this process was handed none "
          + "($CREDENTIALS_DIRECTORY is not set): put “LoadCredential=\(value):FILE” in “systemctl edit hyphad”, or "
          + "give a path that begins with /.")
    }
    return "\(credentials)/\(value)"
  }

  private static func read(_ setting: String, _ path: String) throws(CertificateError) -> [UInt8] {
    let bytes: [UInt8]?
    do throws(StorageError) { bytes = try AtomicFile.read(path, limit: EdgeLimits.certificateBytes) } catch {
      throw CertificateError(
        context:
          "The \(setting) in [https] cannot be read: \(error.context). The daemon's user, hypha, must be able to: "
          + "see docs/tls.md for where to put it.")
    }
    guard let bytes else {
      throw CertificateError(
        context: "There is no file \(path), which \(setting) in [https] names: correct the setting, or get a "
          + "certificate first; docs/tls.md says how.")
    }
    return bytes
  }

  private static func isReadableByOthers(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & 0o007 != 0
  }

  private static func names(of certificate: NIOSSLCertificate) -> [String] {
    certificate._subjectAlternativeNames().compactMap { name in
      guard name.nameType == .dnsName else { return nil }
      return name.contents.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }.lowercased()
    }
  }
}
