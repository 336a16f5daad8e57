import NIOCore
import Synchronization

/// Counts the connections from outside, all together and by address, and turns away those above the limits.
public final class ConnectionLimiter: Sendable {
  private struct State {
    var channels: [ObjectIdentifier: any Channel] = [:]
    var perAddress: [String: Int] = [:]
    var refused: UInt64 = 0
  }

  private let total: Int
  private let perAddress: Int
  private let state = Mutex(State())

  public init(total: Int, perAddress: Int) {
    self.total = total
    self.perAddress = perAddress
  }

  /// Connections now.
  public var count: Int { state.withLock { $0.channels.count } }

  /// Connections turned away so far.
  public var refused: UInt64 { state.withLock { $0.refused } }

  /// - Returns: false if the connection is one too many. Counted until it closes.
  func admit(_ channel: any Channel) -> Bool {
    let address = Self.group(channel.remoteAddress)
    let id = ObjectIdentifier(channel)
    let admitted = state.withLock { state in
      guard state.channels.count < total,
        address.map({ state.perAddress[$0, default: 0] < perAddress }) ?? true
      else {
        state.refused += 1
        return false
      }
      state.channels[id] = channel
      if let address { state.perAddress[address, default: 0] += 1 }
      return true
    }
    guard admitted else {
      MetricsNames.countRefused()
      return false
    }
    channel.closeFuture.whenComplete { _ in
      self.state.withLock { state in
        state.channels[id] = nil
        guard let address, let count = state.perAddress[address] else { return }
        state.perAddress[address] = count > 1 ? count - 1 : nil
      }
    }
    return true
  }

  /// Closes what is still open.
  func closeAll() {
    for channel in state.withLock({ Array($0.channels.values) }) { channel.close(promise: nil) }
  }

  /// What counts as one address: an IPv4 address, or the 64 bits of an IPv6 address that one household has.
  /// `nil` for this machine itself, where a proxy may be.
  private static func group(_ address: SocketAddress?) -> String? {
    guard let address, let text = address.ipAddress else { return nil }
    switch address {
    case .v4:
      return text.hasPrefix("127.") ? nil : text
    case .v6(let v6):
      let bytes = withUnsafeBytes(of: v6.address.sin6_addr) { Array($0) }
      // ::ffff:a.b.c.d, an IPv4 address on a socket for both.
      if bytes[..<10].allSatisfy({ $0 == 0 }), bytes[10] == 0xFF, bytes[11] == 0xFF {
        return bytes[12] == 127 ? nil : bytes[12...].map(String.init).joined(separator: ".")
      }
      if bytes[..<15].allSatisfy({ $0 == 0 }), bytes[15] == 1 { return nil }
      return bytes[..<8].map(String.init).joined(separator: ".") + "/64"
    case .unixDomainSocket:
      return nil
    }
  }
}

/// Bounds on what one client of the web side may take.
public enum EdgeLimits {
  /// Bytes of a request's or an answer's header, all fields together.
  static let headerBytes = 16 << 10
  static let headerFields = 64
  /// Bytes of a request's path.
  static let pathBytes = 512
  /// Bytes of a request's body; none is used.
  static let bodyBytes = 16 << 10
  /// Seconds for a whole request, from the connection or the last answer on.
  static let requestSeconds: Int64 = 30
  /// Files of the web client, and bytes of all of them with their compressed copies.
  static let webFiles = 256
  static let webBytes = 16 << 20
  /// Posts in a feed for feed readers, bytes of their texts, and characters of an entry's title.
  static let feedPosts = 50
  static let feedBytes = 512 << 10
  static let feedTitleScalars = 80
  /// Seconds for comparing all that another node serves; bytes of the list of files there, and characters that are shown of
  /// what it wrote.
  static let auditSeconds: Int64 = 120
  static let manifestBytes = 256 << 10
  static let auditTextScalars = 400
  /// Connections that fetch metrics, at one time.
  static let metricsConnections = 8
  /// Connections that wait to be taken.
  static let backlog: Int32 = 128
  /// Seconds that open connections have to end by themselves at a stop.
  static let stopSeconds: Int64 = 3
}
