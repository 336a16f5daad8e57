public import Logging
import Synchronization

/// The least that is logged, by all of the process; it may change while that runs.
public final class LogThreshold: Sendable {
  private let current: Mutex<Logger.Level>

  init(_ level: Logger.Level) {
    current = Mutex(level)
  }

  public var level: Logger.Level {
    get { current.withLock { $0 } }
    set { current.withLock { $0 = newValue } }
  }

  /// Makes the journal, or else standard error, the log of the whole process. Call it once, before anything is logged.
  public static func bootstrap(level: Logger.Level) -> LogThreshold {
    let threshold = LogThreshold(level)
    if JournalLog.isConnected {
      LoggingSystem.bootstrap { JournalLog(label: $0, threshold: threshold) }
    } else {
      LoggingSystem.bootstrap { StandardErrorLog(label: $0, threshold: threshold) }
    }
    return threshold
  }
}
