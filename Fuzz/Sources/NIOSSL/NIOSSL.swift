// Stands in for swift-nio-ssl, whose BoringSSL takes minutes to compile and is not what is fuzzed here: what the daemon
// calls of it, without doing anything.
public import NIOCore

public struct NoTLS: Error {}

public struct TLSConfiguration {
  public enum Version { case tlsv12 }
  public enum TrustRoots { case file(String) }
  public enum CertificateSource { case certificate(NIOSSLCertificate) }
  public enum PrivateKeySource { case privateKey(NIOSSLPrivateKey) }

  public var minimumTLSVersion = Version.tlsv12
  public var applicationProtocols: [String] = []
  public var cipherSuites = ""
  public var trustRoots: TrustRoots?
  public var shutdownTimeout = TimeAmount.seconds(5)

  public static func makeClientConfiguration() -> TLSConfiguration { TLSConfiguration() }

  public static func makeServerConfiguration(
    certificateChain: [CertificateSource], privateKey: PrivateKeySource
  ) -> TLSConfiguration { TLSConfiguration() }
}

public final class NIOSSLContext: Sendable {
  public init(configuration: TLSConfiguration) throws { throw NoTLS() }
}

public struct NIOSSLCertificate {
  public struct Name {
    public enum Kind { case dnsName, other }
    public var nameType: Kind
    public var contents: [UInt8]
  }

  public var notValidAfter: Int { 0 }
  public static func fromPEMBytes(_ bytes: [UInt8]) throws -> [NIOSSLCertificate] { throw NoTLS() }
  public func _subjectAlternativeNames() -> [Name] { [] }
}

public struct NIOSSLPrivateKey {
  public enum Format { case pem }
  public init(bytes: [UInt8], format: Format) throws { throw NoTLS() }
}

public enum NIOSSLError: Error, Equatable {
  case handshakeFailed(BoringSSLError)
  case uncleanShutdown
  case unableToValidateCertificate
  case other
}

public enum BoringSSLError: Error, Equatable {
  case sslError([String])
  case other
}

public struct NIOSSLExtraError: Error {}

public final class NIOSSLClientHandler: ChannelInboundHandler {
  public typealias InboundIn = ByteBuffer
  public init(context: NIOSSLContext, serverHostname: String?) throws { throw NoTLS() }
}

public final class NIOSSLServerHandler: ChannelInboundHandler {
  public typealias InboundIn = ByteBuffer
  public init(context: NIOSSLContext) {}
}
