import HyphaControlAPI
import Logging
import NIOCore
import Synchronization

/// One caller's connection: reads lines, has them answered, and sends events.
struct ControlConnection<Service: ControlService>: Sendable {
  typealias Outbound = NIOAsyncChannelOutboundWriter<ByteBuffer>

  let service: Service
  let logger: Logger
  /// The caller is root or the daemon's own user.
  var isOwner = false

  /// Returns when the connection is closed, and nothing of it runs any longer.
  func serve(_ connection: NIOAsyncChannel<ByteBuffer, ByteBuffer>) async {
    do {
      try await connection.executeThenClose { inbound, outbound in
        var subscriptions = Subscriptions()
        let timer = LineTimer(channel: connection.channel)
        defer { timer.stop() }
        do {
          try await read(inbound, outbound, &subscriptions, timer)
        } catch {
          subscriptions.cancelAll()
          throw error
        }
        await subscriptions.end()
      }
    } catch {
      logger.trace("control socket: a connection ended: \(error)")
    }
  }

  /// Until the caller closes its sending side, and every request that it made is answered.
  private func read(
    _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>, _ outbound: Outbound,
    _ subscriptions: inout Subscriptions, _ timer: LineTimer
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      var lines = LineBuffer()
      var inFlight = 0
      for try await chunk in inbound {
        lines.append(chunk.readableBytesView)
        do {
          while let line = try lines.next() {
            // From here on it may be this side that holds up the next.
            timer.stop()
            guard line.contains(where: { $0 != 0x20 && $0 != 0x0D && $0 != 0x09 }) else { continue }
            guard let request = try await accept(line, outbound) else { continue }
            if try await subscriptions.handle(request, outbound, service) { continue }
            // Answers that are done but not collected count too: what matters is the bound.
            if inFlight == ControlLimits.requestsInFlight {
              try await group.next()
              inFlight -= 1
            }
            inFlight += 1
            group.addTask { try await answer(request, outbound) }
          }
        } catch is LineBuffer.TooLong {
          MetricsNames.countRejected("controlLine")
          let error = ControlError(
            .invalidRequest, "a line has at most \(ControlLimits.lineBytes) bytes; the connection is closed")
          try await outbound.write(ByteBuffer(line: ControlCodec.response(id: nil, error: error)))
          return
        }
        timer.update(hasPartialLine: lines.hasPartialLine)
      }
      timer.stop()
      if lines.hasPartialLine {
        let error = ControlError(.parseError, "the last line has no newline at its end")
        try await outbound.write(ByteBuffer(line: ControlCodec.response(id: nil, error: error)))
      }
      try await group.waitForAll()
    }
  }

  private func accept(_ line: [UInt8], _ outbound: Outbound) async throws -> ControlRequest? {
    do {
      return try ControlRequest(line: line)
    } catch {
      try await outbound.write(ByteBuffer(line: ControlCodec.response(id: error.id, error: error.error)))
      return nil
    }
  }

  private func answer(_ request: ControlRequest, _ outbound: Outbound) async throws {
    let line: [UInt8]
    do throws(ControlError) {
      guard let method = controlMethods.first(where: { $0.name == request.method }) else {
        throw unknownMethod(request.method)
      }
      guard isOwner || !method.isOwnerOnly else {
        throw ControlError(
          .ownerOnly,
          "\(method.name) gives out the node's secrets, so only root and the daemon's own user may call it: sudo hyphactl …"
        )
      }
      line = try await call(method, request)
    } catch {
      if error.code == .internalError { logger.error("control socket: \(request.method): \(error.message)") }
      line = ControlCodec.response(id: request.id, error: error)
    }
    if request.id != nil { try await outbound.write(ByteBuffer(line: line)) }
  }

  private func call<M: ControlMethod>(
    _: M.Type, _ request: ControlRequest
  ) async throws(ControlError) -> [UInt8] {
    let result = try await M.call(try request.params(as: M.Params.self), on: service)
    return try request.id.map { (id) throws(ControlError) in try ControlCodec.response(id: id, result: result)
    } ?? []
  }
}

/// The error for a method that does not exist, with the name that was probably meant.
func unknownMethod(_ name: String) -> ControlError {
  let shown = name.unicodeScalars.count > 64 ? String(name.prefix(64)) + "…" : name
  let nearest = controlMethods.map { $0.name }
    .map { (name: $0, distance: editDistance(Array($0.utf8), Array(shown.utf8))) }
    .min { $0.distance < $1.distance }
  guard let nearest, nearest.distance <= max(2, shown.utf8.count / 3) else {
    return ControlError(.methodNotFound, "there is no method “\(shown)”; rpc.discover lists them")
  }
  return ControlError(
    .methodNotFound, "there is no method “\(shown)”; did you mean \(nearest.name)?", suggestion: nearest.name)
}

/// Levenshtein's distance: how many bytes to add, remove or change.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var row = Array(0...b.count)
  for (i, x) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(above + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
      diagonal = above
    }
  }
  return row[b.count]
}

/// Closes a connection whose caller begins a line and does not finish it in time.
private final class LineTimer: Sendable {
  private let channel: any Channel
  private let scheduled: Mutex<Scheduled<Void>?> = .init(nil)

  init(channel: any Channel) {
    self.channel = channel
  }

  /// The time goes on from when the line began, however often this is called.
  func update(hasPartialLine: Bool) {
    scheduled.withLock { scheduled in
      if !hasPartialLine {
        scheduled?.cancel()
        scheduled = nil
      }
      guard hasPartialLine, scheduled == nil else { return }
      scheduled = channel.eventLoop.scheduleTask(in: .seconds(ControlLimits.partialLineSeconds)) {
        [channel] in
        MetricsNames.countRejected("controlLine")
        let error = ControlError(
          .invalidRequest,
          "a line was not finished within \(ControlLimits.partialLineSeconds) seconds; the connection is closed"
        )
        channel.writeAndFlush(ByteBuffer(line: ControlCodec.response(id: nil, error: error)), promise: nil)
        channel.close(promise: nil)
      }
    }
  }

  func stop() {
    update(hasPartialLine: false)
  }
}
