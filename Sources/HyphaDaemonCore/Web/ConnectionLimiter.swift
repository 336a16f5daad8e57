import NIOCore
import NIOSSL
import Synchronization

/// Counts the connections from outside, all together and by address, and turns away those above the limits.
///
/// Where there are as many as there may be in all, one gives way to a new one, if ``ConnectionPlaces`` finds one.
public final class ConnectionLimiter: Sendable {
  private struct State {
    var places: ConnectionPlaces
    var channels: [ConnectionPlaces.Number: any Channel] = [:]
    var numbers: [ObjectIdentifier: ConnectionPlaces.Number] = [:]
    var refused: UInt64 = 0
  }

  private let state: Mutex<State>

  public init(total: Int, perAddress: Int) {
    state = Mutex(State(places: ConnectionPlaces(total: total, perAddress: perAddress)))
  }

  /// Other limits, for connections that come from now on.
  func change(total: Int, perAddress: Int) {
    state.withLock {
      $0.places.total = total
      $0.places.perAddress = perAddress
    }
  }

  /// Connections now.
  public var count: Int { state.withLock { $0.channels.count } }

  /// Connections turned away so far.
  public var refused: UInt64 { state.withLock { $0.refused } }

  /// - Parameter isProxy: many clients share this address, and are counted one by one with ``assign(_:to:)``.
  /// - Returns: false if the connection is one too many. Counted until it closes.
  func admit(_ channel: any Channel, isProxy: Bool = false) -> Bool {
    let address = isProxy ? nil : IPAddress(channel.remoteAddress)
    let id = ObjectIdentifier(channel)
    let (isAdmitted, closed) = state.withLock { state in
      let admission = state.places.admit(address)
      let closed = admission.instead.compactMap { state.channels.removeValue(forKey: $0) }
      for channel in closed { state.numbers[ObjectIdentifier(channel)] = nil }
      state.refused += UInt64(closed.count)
      if let number = admission.number {
        state.channels[number] = channel
        state.numbers[id] = number
      } else {
        state.refused += 1
      }
      return (admission.number != nil, closed)
    }
    for channel in closed {
      MetricsNames.countRefused()
      channel.cutOff()
    }
    guard isAdmitted else {
      MetricsNames.countRefused()
      return false
    }
    channel.closeFuture.whenComplete { _ in
      self.state.withLock { state in
        guard let number = state.numbers.removeValue(forKey: id) else { return }
        state.channels[number] = nil
        state.places.remove(number)
      }
    }
    return true
  }

  /// It has come to what it is for, replication.
  func keep(_ channel: any Channel) {
    state.withLock { state in
      if let number = state.numbers[ObjectIdentifier(channel)] { state.places.keep(number) }
    }
  }

  /// From now on a proxy's connection is counted for the client that its latest request came from.
  ///
  /// - Returns: false if that client has too many already; then it is counted as before.
  func assign(_ channel: any Channel, to address: IPAddress?) -> Bool {
    let isAssigned = state.withLock { state in
      guard let number = state.numbers[ObjectIdentifier(channel)] else { return true }
      guard state.places.assign(number, to: address) else {
        state.refused += 1
        return false
      }
      return true
    }
    if !isAssigned { MetricsNames.countRefused() }
    return isAssigned
  }

  /// Closes what is still open.
  func closeAll() {
    for channel in state.withLock({ Array($0.channels.values) }) { channel.close(promise: nil) }
  }
}

extension Channel {
  /// Closes it at once, since it is not counted any more: TLS says goodbye, and does not wait for the other side's.
  fileprivate func cutOff() {
    eventLoop.execute {
      self.close(promise: nil)
      let tls = try? self.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
      tls?.close(promise: nil)
    }
  }
}
