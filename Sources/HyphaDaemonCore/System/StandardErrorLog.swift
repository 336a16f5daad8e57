import Glibc
public import Logging

/// Logs one line an event to standard error: `level label: message key=value …`; with a time where no journal
/// adds one, and for the journal (`JOURNAL_STREAM`) with its `<n>` priority in front.
public struct StandardErrorLog: LogHandler {
  public var logLevel: Logger.Level
  public var metadata: Logger.Metadata = [:]
  public var metadataProvider: Logger.MetadataProvider?
  private let label: String
  private let journal: Bool
  private let descriptor: Int32

  /// - Parameters:
  ///   - journal: the journal reads it.
  ///   - descriptor: where to; another one only in tests.
  init(label: String, level: Logger.Level, journal: Bool, descriptor: Int32 = STDERR_FILENO) {
    self.label = label
    self.journal = journal
    self.descriptor = descriptor
    logLevel = level
  }

  /// Makes this the log of the whole process. Call it once, before anything is logged.
  public static func bootstrap(level: Logger.Level) {
    let journal = getenv("JOURNAL_STREAM") != nil
    LoggingSystem.bootstrap { StandardErrorLog(label: $0, level: level, journal: journal) }
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    var all = metadata
    if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
    if let own = event.metadata { all.merge(own) { $1 } }
    if let error = event.error { all["error"] = "\(error)" }
    var line = journal ? "<\(Self.priority(event.level))>" : "\(Self.time()) \(event.level.rawValue) "
    line += "\(label): \(event.message)"
    for (key, value) in all.sorted(by: { $0.key < $1.key }) {
      let text = "\(value)"
      line +=
        text.contains(where: { $0.isWhitespace || $0 == "\"" }) ? " \(key)=\"\(text)\"" : " \(key)=\(text)"
    }
    Self.write(line, to: descriptor)
  }

  /// One `write` a line, so that lines of several threads stay whole. What peers sent may be in it: anything
  /// that could begin a new line or steer a terminal becomes a question mark.
  private static func write(_ line: String, to descriptor: Int32) {
    var bytes = Array(
      line.unicodeScalars.lazy.map(Self.printable).map(Character.init).map(String.init).joined().utf8)
    bytes.append(UInt8(ascii: "\n"))
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if errno != EINTR {
        // Nobody reads the log; there is nowhere left to say so.
        return
      }
    }
  }

  private static func printable(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .format: "?"
    default: scalar
    }
  }

  /// As in `sd-daemon.h`.
  private static func priority(_ level: Logger.Level) -> Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }

  /// UTC, RFC 3339 with milliseconds.
  private static func time() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    func digits(_ number: Int, _ count: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    let date =
      "\(digits(Int(parts.tm_year) + 1900, 4))-\(digits(Int(parts.tm_mon) + 1, 2))-\(digits(Int(parts.tm_mday), 2))"
    let time =
      "\(digits(Int(parts.tm_hour), 2)):\(digits(Int(parts.tm_min), 2)):\(digits(Int(parts.tm_sec), 2))"
    return "\(date)T\(time).\(digits(now.tv_nsec / 1_000_000, 3))Z"
  }
}
