import NIOCore
import NIOPosix
import NIOSSL

/// Errors of the network in plain words.
enum NetworkError {
  static func text(_ error: any Error) -> String {
    switch error {
    case let error as IOError:
      return SystemError.message(error.errnoCode)
    case let error as NIOConnectionError:
      if let failure = error.connectionErrors.first { return text(failure.error) }
      if let failure = error.dnsAError ?? error.dnsAAAAError {
        return "the name \(error.host) was not found (\(text(failure)))"
      }
      return "no address of \(error.host) answered"
    case let error as SocketAddressError:
      if case .unknown = error { return "no such host" }
      return "\(error)"
    case let error as ChannelError:
      switch error {
      case .connectTimeout: return "no answer in time"
      case .eof, .ioOnClosedChannel, .alreadyClosed, .inputClosed, .outputClosed:
        return "the connection was closed"
      default: return "\(error)"
      }
    case let error as NIOSSLError:
      switch error {
      case .handshakeFailed(let reason): return "the TLS handshake failed: \(text(reason))"
      case .uncleanShutdown: return "TLS ended without a goodbye"
      case .unableToValidateCertificate: return "its TLS certificate is not valid for its name"
      default: return "TLS: \(error)"
      }
    case let error as BoringSSLError:
      if case .sslError(let stack) = error {
        let text = "\(stack)"
        return text.contains("CERTIFICATE_VERIFY_FAILED") ? "its TLS certificate is not trusted here" : text
      }
      return "\(error)"
    case is NIOSSLExtraError:
      return "its TLS certificate is not valid for its name"
    case let error as CloseReason:
      return error.text
    default:
      return "\(error)"
    }
  }
}

extension CloseReason: Error {}
