import NIOCore
import Synchronization

/// Counts the connections from outside, all together and by address, and turns away those above the limits.
///
/// Where there are as many as there may be in all, a new one takes the place of the oldest that has not come to anything yet
/// (``keep(_:)``): who holds connections open and says nothing keeps nobody out. Of those that are kept, none is closed.
public final class ConnectionLimiter: Sendable {
  private struct Counted {
    var channel: any Channel
    /// Whom it is counted for; `nil`: for nobody.
    var household: [UInt8]?
    /// Its place in the order in which they came.
    var number: UInt64
    var isKept = false
  }

  private struct State {
    var total: Int
    /// Of one address.
    var limit: Int
    var channels: [ObjectIdentifier: Counted] = [:]
    var perAddress: [[UInt8]: Int] = [:]
    var refused: UInt64 = 0
    var admitted: UInt64 = 0

    /// Makes room for one more.
    ///
    /// - Returns: whose place it is; `nil` where there is none.
    mutating func replaceOldest() -> (any Channel)? {
      let waiting = channels.filter { !$0.value.isKept }
      guard let oldest = waiting.min(by: { $0.value.number < $1.value.number }) else { return nil }
      channels[oldest.key] = nil
      release(oldest.value.household)
      refused += 1
      return oldest.value.channel
    }

    mutating func release(_ household: [UInt8]?) {
      guard let household, let count = perAddress[household] else { return }
      perAddress[household] = count > 1 ? count - 1 : nil
    }
  }

  private let state: Mutex<State>

  public init(total: Int, perAddress: Int) {
    state = Mutex(State(total: total, limit: perAddress))
  }

  /// Other limits, for connections that come from now on.
  func change(total: Int, perAddress: Int) {
    state.withLock {
      $0.total = total
      $0.limit = perAddress
    }
  }

  /// Connections now.
  public var count: Int { state.withLock { $0.channels.count } }

  /// Connections turned away so far.
  public var refused: UInt64 { state.withLock { $0.refused } }

  /// - Parameter isProxy: many clients share this address, and are counted one by one with ``assign(_:to:)``.
  /// - Returns: false if the connection is one too many. Counted until it closes.
  func admit(_ channel: any Channel, isProxy: Bool = false) -> Bool {
    let address = isProxy ? nil : Self.household(IPAddress(channel.remoteAddress))
    let id = ObjectIdentifier(channel)
    let (admitted, replaced) = state.withLock { state -> (Bool, (any Channel)?) in
      var replaced: (any Channel)?
      let isOneTooMany = address.map { state.perAddress[$0, default: 0] >= state.limit } ?? false
      if !isOneTooMany, state.channels.count >= state.total { replaced = state.replaceOldest() }
      guard !isOneTooMany, state.channels.count < state.total else {
        state.refused += 1
        return (false, replaced)
      }
      state.admitted += 1
      state.channels[id] = Counted(channel: channel, household: address, number: state.admitted)
      if let address { state.perAddress[address, default: 0] += 1 }
      return (true, replaced)
    }
    if let replaced {
      MetricsNames.countRefused()
      replaced.close(promise: nil)
    }
    guard admitted else {
      MetricsNames.countRefused()
      return false
    }
    channel.closeFuture.whenComplete { _ in
      self.state.withLock { state in
        state.release(state.channels.removeValue(forKey: id)?.household)
      }
    }
    return true
  }

  /// It has come to what it is for, replication, and none takes its place any more.
  func keep(_ channel: any Channel) {
    state.withLock { $0.channels[ObjectIdentifier(channel)]?.isKept = true }
  }

  /// From now on a proxy's connection is counted for the client that its latest request came from.
  ///
  /// - Returns: false if that client has too many already; then it is counted as before.
  func assign(_ channel: any Channel, to address: IPAddress?) -> Bool {
    let household = Self.household(address)
    let id = ObjectIdentifier(channel)
    let assigned = state.withLock { state in
      guard let counted = state.channels[id], counted.household != household else { return true }
      guard household.map({ state.perAddress[$0, default: 0] < state.limit }) ?? true else {
        state.refused += 1
        return false
      }
      state.release(counted.household)
      state.channels[id]?.household = household
      if let household { state.perAddress[household, default: 0] += 1 }
      return true
    }
    if !assigned { MetricsNames.countRefused() }
    return assigned
  }

  /// Closes what is still open.
  func closeAll() {
    for channel in state.withLock({ $0.channels.values.map(\.channel) }) { channel.close(promise: nil) }
  }

  /// `nil` for this machine itself, where a proxy may be that is not known as one.
  private static func household(_ address: IPAddress?) -> [UInt8]? {
    guard let address, !address.isLoopback else { return nil }
    return address.household
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
  /// Addresses in a proxy's header that are looked at, from the right.
  static let forwardedHops = 16
  /// Bytes of a challenge's name, and of what its file holds: RFC 8555 has 43 and some 90.
  static let acmeTokenBytes = 128
  static let acmeFileBytes = 4096
  /// Bytes of the file with the certificate's chain, and of its key's.
  static let certificateBytes = 256 << 10
  /// Connections that wait to be taken: a second's worth of a flood, so that a good peer's first packet is not dropped.
  static let backlog: Int32 = 1024
  /// Seconds that open connections have to end by themselves at a stop.
  static let stopSeconds: Int64 = 3
}
