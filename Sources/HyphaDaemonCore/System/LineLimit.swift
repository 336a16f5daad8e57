import Logging
import NIOCore
import Synchronization

/// Bounds how often a line is logged that strangers can bring about: a log that they fill hides what else there is to see.
final class LineLimit: Sendable {
  /// Lines in a minute.
  static let perMinute = 20

  private struct State {
    var minute: NIODeadline?
    var lines = 0
    var leftOut = 0
  }

  private let state = Mutex(State())

  /// Logs a line, unless there were too many; with it, how many were left out since the last.
  func notice(_ logger: Logger, _ message: Logger.Message, _ metadata: Logger.Metadata) {
    guard let leftOut = take() else { return }
    var metadata = metadata
    if leftOut > 0 { metadata["leftOut"] = "\(leftOut)" }
    logger.notice(message, metadata: metadata)
  }

  /// - Returns: how many lines were left out before this one; `nil` where it is left out, too.
  func take(now: NIODeadline = .now()) -> Int? {
    state.withLock { state in
      if state.minute.map({ now - $0 >= .minutes(1) }) ?? true {
        state.minute = now
        state.lines = 0
      }
      guard state.lines < Self.perMinute else {
        state.leftOut += 1
        return nil
      }
      state.lines += 1
      defer { state.leftOut = 0 }
      return state.leftOut
    }
  }
}
