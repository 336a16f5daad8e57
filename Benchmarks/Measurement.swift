import Glibc

/// What one workload did.
struct Measurement {
  enum Unit: String {
    /// Operations a second.
    case perSecond = "/s"
    /// 10^6 bytes a second.
    case megabytes = "MB/s"
    case milliseconds = "ms"
    /// 10^6 bytes.
    case memory = "MB"
  }

  var value: Double
  var unit: Unit
  /// Most memory that the process held, in 10^6 bytes.
  var memory: Double

  init(_ value: Double, _ unit: Unit, memory: Double = Memory.peak()) {
    self.value = value
    self.unit = unit
    self.memory = memory
  }
}

/// What went wrong while measuring.
struct BenchError: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) {
    self.description = description
  }

  /// Adds the system's words for `errno`.
  init(system what: String) {
    description = "\(what): \(String(cString: strerror(errno)))"
  }
}

enum Memory {
  /// Most memory that this process has held so far, in 10^6 bytes: `VmHWM`, which unlike `getrusage` does not
  /// count what the parent held when it started this process.
  static func peak() -> Double {
    guard let file = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      guard text.hasPrefix("VmHWM:") else { continue }
      let kibibytes = text.drop { !$0.isNumber }.prefix { $0.isNumber }
      return (Double(kibibytes) ?? 0) * 1024 / 1_000_000
    }
    return 0
  }
}

/// Seconds that `body` takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let duration = try ContinuousClock().measure(body)
  let (seconds, attoseconds) = duration.components
  return Double(seconds) + Double(attoseconds) / 1e18
}

/// Calls `body` again and again until at least `atLeast` seconds are over.
///
/// - Returns: calls a second.
func rate(atLeast: Double, _ body: () throws -> Void) rethrows -> Double {
  var calls = 0
  var elapsed = 0.0
  var batch = 1
  while elapsed < atLeast {
    elapsed += try seconds { for _ in 0..<batch { try body() } }
    calls += batch
    // A look at the clock for each tenth of the time.
    batch = max(1, Int(Double(calls) / max(elapsed, 1e-9) * atLeast / 10))
  }
  return Double(calls) / elapsed
}
