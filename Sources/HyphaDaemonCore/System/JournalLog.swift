import CSystemd
import Glibc
import Logging

/// Logs to systemd's journal: the message as a person reads it, and each of its values as a field, `HYPHA_PEER` for `peer`.
struct JournalLog: LogHandler {
  /// Bytes of a field's name that the journal takes.
  private static let nameBytes = 64

  private let threshold: LogThreshold
  private let label: String
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?

  init(label: String, threshold: LogThreshold) {
    self.label = label
    self.threshold = threshold
  }

  /// Whether standard error leads to the journal, as `JOURNAL_STREAM` says (systemd.exec(5)).
  static var isConnected: Bool {
    var status = stat()
    guard let text = getenv("JOURNAL_STREAM").map({ String(cString: $0) }), fstat(STDERR_FILENO, &status) == 0
    else { return false }
    return text == "\(status.st_dev):\(status.st_ino)"
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
    let values = StandardErrorLog.values(of: event, metadata, metadataProvider)
    let text = StandardErrorLog.text(event.message, values)
    var fields = [
      "MESSAGE=\(StandardErrorLog.printable(text))", "PRIORITY=\(StandardErrorLog.priority(event.level))",
      "SYSLOG_IDENTIFIER=\(label)",
    ]
    for (key, value) in values { if let name = Self.name(key) { fields.append("\(name)=\(value)") } }
    // A process that logs what is critical ends. The journal looks up whose fields it got when it takes them, and would not know the
    // unit of one that is gone; of standard error it knows that.
    if event.level == .critical || !Self.send(fields) {
      StandardErrorLog.write("<\(StandardErrorLog.priority(event.level))>\(text)", to: STDERR_FILENO)
    }
  }

  /// A field's name for a value's: `discoveryKey` is `HYPHA_DISCOVERY_KEY`.
  static func name(_ key: String) -> String? {
    var name = "HYPHA_"
    for byte in key.utf8 {
      switch byte {
      case 0x41...0x5A: name += "_" + String(UnicodeScalar(byte))
      case 0x61...0x7A: name += String(UnicodeScalar(byte - 0x20))
      case 0x30...0x39: name += String(UnicodeScalar(byte))
      default: name += "_"
      }
    }
    return name.utf8.count <= nameBytes ? name : nil
  }

  private static func send(_ fields: [String]) -> Bool {
    var bytes: [UInt8] = []
    var ranges: [Range<Int>] = []
    for field in fields {
      let start = bytes.count
      bytes.append(contentsOf: field.utf8)
      ranges.append(start..<bytes.count)
    }
    return bytes.withUnsafeMutableBytes { all in
      guard let base = all.baseAddress else { return false }
      let parts = ranges.map { iovec(iov_base: base + $0.lowerBound, iov_len: $0.count) }
      return sd_journal_sendv(parts, Int32(parts.count)) == 0
    }
  }
}
