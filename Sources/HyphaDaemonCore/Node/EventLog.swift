import HyphaControlAPI

/// What happened on the node, numbered, for whoever follows it.
///
/// The newest events are kept for those who come back; a follower that is too slow is dropped.
struct EventLog {
  private var nextID: UInt64 = 1
  private var kept: [ControlEvent] = []
  private var followers: [UInt64: AsyncStream<ControlEvent>.Continuation] = [:]
  private var nextFollower: UInt64 = 0

  /// Numbers an event and hands it to every follower.
  mutating func record(_ kind: ControlEvent.Kind, at time: Timestamp, _ fill: (inout ControlEvent) -> Void) {
    var event = ControlEvent(id: nextID, time: time, kind: kind)
    fill(&event)
    nextID += 1
    kept.append(event)
    if kept.count > ControlLimits.keptEvents { kept.removeFirst(kept.count - ControlLimits.keptEvents) }
    for (number, follower) in followers {
      if case .enqueued = follower.yield(event) { continue }
      follower.finish()
      followers[number] = nil
    }
  }

  /// The events after `id` that are still kept, and all that follow; with `nil` only the latter.
  mutating func follow(after id: UInt64?) -> AsyncStream<ControlEvent> {
    let (stream, continuation) = AsyncStream.makeStream(
      of: ControlEvent.self, bufferingPolicy: .bufferingOldest(ControlLimits.queuedEvents))
    if let id {
      for event in kept where event.id > id { continuation.yield(event) }
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
