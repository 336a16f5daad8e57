import Glibc
import Logging

/// Logs one line an event to standard error, where that is not the journal: `time level label: message key=value …`.
struct StandardErrorLog: LogHandler {
  private let threshold: LogThreshold
  private let label: String
  private let descriptor: Int32
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?

  /// - Parameter descriptor: where to; another one only in tests.
  init(label: String, threshold: LogThreshold, descriptor: Int32 = STDERR_FILENO) {
    self.label = label
    self.threshold = threshold
    self.descriptor = descriptor
  }

  var logLevel: Logger.Level {
    get { threshold.level }
    set { threshold.level = newValue }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let values = Self.values(of: event, metadata, metadataProvider)
    Self.write(
      "\(Self.time()) \(event.level.rawValue) \(label): \(Self.text(event.message, values))", to: descriptor)
  }

  /// What an event says besides its message, by name.
  static func values(
    of event: LogEvent, _ metadata: Logger.Metadata, _ provider: Logger.MetadataProvider?
  ) -> [(key: String, value: String)] {
    var all = metadata
    if let provided = provider?.get() { all.merge(provided) { $1 } }
    if let own = event.metadata { all.merge(own) { $1 } }
    if let error = event.error { all["error"] = "\(error)" }
    return all.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
  }

  /// `message key=value …`
  static func text(_ message: Logger.Message, _ values: [(key: String, value: String)]) -> String {
    values.reduce("\(message)") { line, entry in
      let needsQuotes = entry.value.contains { $0.isWhitespace || $0 == "\"" }
      return line + (needsQuotes ? " \(entry.key)=\"\(entry.value)\"" : " \(entry.key)=\(entry.value)")
    }
  }

  /// One `write` a line, so that lines of several threads stay whole. What peers sent may be in it: anything
  /// that could begin a new line or steer a terminal becomes a question mark.
  static func write(_ line: String, to descriptor: Int32) {
    var bytes = Array(printable(line).utf8)
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

  static func printable(_ line: String) -> String {
    line.unicodeScalars.lazy.map(Self.printable).map(Character.init).map(String.init).joined()
  }

  private static func printable(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .format: "?"
    default: scalar
    }
  }

  /// As in `sd-daemon.h`.
  static func priority(_ level: Logger.Level) -> Int {
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
