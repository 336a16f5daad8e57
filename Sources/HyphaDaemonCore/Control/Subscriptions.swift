import HyphaControlAPI
import NIOCore

/// The event subscriptions of one connection.
struct Subscriptions: ~Copyable {
  private var tasks: [Int: Task<Void, any Error>] = [:]
  private var last = 0

  /// Answers a request that is about subscriptions.
  /// - Returns: `false` for any other.
  mutating func handle(
    _ request: ControlRequest, _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>,
    _ service: some ControlService
  ) async throws -> Bool {
    switch request.method {
    case EventsSubscribe.name:
      // Without an answer nobody could tell the subscription's number.
      guard let id = request.id else { return true }
      do throws(ControlError) {
        let params = try request.params(as: EventsSubscribe.Params.self)
        guard tasks.count < ControlLimits.subscriptions else {
          throw ControlError(
            .limitReached, "a connection has at most \(ControlLimits.subscriptions) subscriptions")
        }
        last += 1
        let number = last
        let events = await service.events(after: params.after)
        let response = try ControlCodec.response(id: id, result: EventsSubscribe.Result(subscription: number))
        tasks[number] = Task {
          // The answer comes before the first event.
          try await outbound.write(ByteBuffer(line: response))
          try await Self.send(events, kinds: params.kinds.map(Set.init), number, outbound)
        }
      } catch {
        try await outbound.write(ByteBuffer(line: ControlCodec.response(id: id, error: error)))
      }
      return true
    case EventsUnsubscribe.name:
      let line: [UInt8]
      do throws(ControlError) {
        let number = try request.params(as: EventsUnsubscribe.Params.self).subscription
        guard let task = tasks.removeValue(forKey: number) else {
          throw ControlError(.notFound, "there is no subscription \(number)", field: "subscription")
        }
        task.cancel()
        // So that nothing of it follows the answer.
        _ = await task.result
        line =
          try request.id.map { (id) throws(ControlError) in
            try ControlCodec.response(id: id, result: Nothing())
          } ?? []
      } catch {
        line = ControlCodec.response(id: request.id, error: error)
      }
      if request.id != nil { try await outbound.write(ByteBuffer(line: line)) }
      return true
    default:
      return false
    }
  }

  /// Ends all.
  func cancelAll() {
    for task in tasks.values { task.cancel() }
  }

  /// Ends all, and waits until nothing more is sent.
  func end() async {
    cancelAll()
    for task in tasks.values { _ = await task.result }
  }

  /// A reader that is too slow makes the stream end: its buffer is bounded, and so is the channel's.
  private static func send(
    _ events: AsyncStream<ControlEvent>, kinds: Set<ControlEvent.Kind>?, _ number: Int,
    _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
  ) async throws {
    for await event in events where kinds?.contains(event.kind) ?? true {
      let params = ControlNotification.EventParams(subscription: number, event: event)
      let line = try ControlCodec.notification(method: ControlNotification.event, params: params)
      try await outbound.write(ByteBuffer(line: line))
    }
    guard !Task.isCancelled else { return }
    let params = ControlNotification.EndedParams(
      subscription: number,
      reason:
        "events were not read fast enough, or the daemon stops; subscribe again after the last event's id")
    let line = try ControlCodec.notification(method: ControlNotification.ended, params: params)
    try await outbound.write(ByteBuffer(line: line))
  }
}
