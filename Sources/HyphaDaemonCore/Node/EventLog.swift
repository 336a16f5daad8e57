import HyphaControlAPI

/// What happened on the node, numbered, for whoever follows it.
///
/// The newest events are kept for those who come back, those of connections apart from the others: strangers choose how many there
/// are of them. A follower that is too slow is dropped.
struct EventLog {
  private var nextID: UInt64 = 1
  private var kept: [ControlEvent] = []
  private var keptOfConnections: [ControlEvent] = []
  private var followers: [UInt64: AsyncStream<ControlEvent>.Continuation] = [:]
  private var nextFollower: UInt64 = 0

  /// Numbers an event and hands it to every follower.
  mutating func record(_ kind: ControlEvent.Kind, at time: Timestamp, _ fill: (inout ControlEvent) -> Void) {
    var event = ControlEvent(id: nextID, time: time, kind: kind)
    fill(&event)
    nextID += 1
    switch kind {
    case .peerConnected, .peerDisconnected, .synced: Self.keep(event, in: &keptOfConnections)
    default: Self.keep(event, in: &kept)
    }
    for (number, follower) in followers {
      if case .enqueued = follower.yield(event) { continue }
      follower.finish()
      followers[number] = nil
    }
  }

  private static func keep(_ event: ControlEvent, in events: inout [ControlEvent]) {
    events.append(event)
    if events.count > ControlLimits.keptEvents { events.removeFirst() }
  }

  /// The events after `id` that are still kept, and all that follow; with `nil` only the latter.
  mutating func follow(after id: UInt64?) -> AsyncStream<ControlEvent> {
    let (stream, continuation) = AsyncStream.makeStream(
      of: ControlEvent.self, bufferingPolicy: .bufferingOldest(ControlLimits.queuedEvents))
    if let id {
      let events = (kept + keptOfConnections).filter { $0.id > id }.sorted { $0.id < $1.id }
      for event in events { continuation.yield(event) }
    }
    followers[nextFollower] = continuation
    nextFollower += 1
    return stream
  }

  /// Ends every stream.
  mutating func close() {
    for follower in followers.values { follower.finish() }
    followers = [:]
  }
}
