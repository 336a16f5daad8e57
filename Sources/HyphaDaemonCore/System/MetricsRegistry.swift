public import CoreMetrics
import Synchronization

/// Keeps what swift-metrics is told, for Prometheus to fetch as text.
///
/// A label is a metric's name and says its unit, dimensions are its labels. Both come from this program alone, so there are
/// only so many.
///
/// Source: Prometheus's text exposition format 0.0.4.
public final class MetricsRegistry: MetricsFactory {
  /// One metric with its labels.
  private struct Key: Hashable {
    var name: String
    var labels: [String]
  }

  private let counters = Mutex<[Key: Total]>([:])
  private let distributions = Mutex<[Key: Distribution]>([:])

  public init() {}

  /// Makes this what the whole process counts with. Call it once.
  public static func bootstrap() -> MetricsRegistry {
    let registry = MetricsRegistry()
    MetricsSystem.bootstrap(registry)
    return registry
  }

  public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    Self.find(Self.key(label, dimensions), in: counters) { Total() }
  }

  public func makeRecorder(
    label: String, dimensions: [(String, String)], aggregate: Bool
  ) -> any RecorderHandler {
    Self.find(Self.key(label, dimensions), in: distributions) { Distribution() }
  }

  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    Self.find(Self.key(label, dimensions), in: distributions) { Distribution() }
  }

  /// Handlers stay for the process's life.
  public func destroyCounter(_ handler: any CounterHandler) {}
  public func destroyRecorder(_ handler: any RecorderHandler) {}
  public func destroyTimer(_ handler: any TimerHandler) {}

  /// Everything that was counted or timed so far.
  func write(to text: inout MetricsText) {
    for (key, total) in counters.withLock({ $0 }).sorted(by: { Self.comes($0.key, before: $1.key) }) {
      text.add(.counter, key.name, Double(total.value.load(ordering: .relaxed)), labels: key.labels)
    }
    for (key, found) in distributions.withLock({ $0 }).sorted(by: { Self.comes($0.key, before: $1.key) }) {
      text.add(key.name, found.state.withLock { $0 }, labels: key.labels)
    }
  }

  private static func comes(_ one: Key, before other: Key) -> Bool {
    (one.name, one.labels.joined()) < (other.name, other.labels.joined())
  }

  private static func key(_ label: String, _ dimensions: [(String, String)]) -> Key {
    Key(name: label, labels: dimensions.map { MetricsText.label($0.0, $0.1) })
  }

  private static func find<Handler>(
    _ key: Key, in all: borrowing Mutex<[Key: Handler]>, make: () -> Handler
  ) -> Handler {
    all.withLock { all in
      if let handler = all[key] { return handler }
      let handler = make()
      all[key] = handler
      return handler
    }
  }
}

/// A number that only grows.
private final class Total: CounterHandler {
  let value = Atomic<Int64>(0)

  func increment(by amount: Int64) {
    value.wrappingAdd(amount, ordering: .relaxed)
  }

  func reset() {
    value.store(0, ordering: .relaxed)
  }
}

/// How many values there were up to each of some bounds: seconds, where it is a timer.
final class Distribution: TimerHandler, RecorderHandler {
  /// From what a disk takes to what a person waits.
  static let bounds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300]

  struct State {
    var counts = [UInt64](repeating: 0, count: Distribution.bounds.count)
    var count: UInt64 = 0
    var sum = 0.0
  }

  let state = Mutex(State())

  func recordNanoseconds(_ duration: Int64) {
    record(Double(duration) / 1e9)
  }

  func record(_ value: Int64) {
    record(Double(value))
  }

  func record(_ value: Double) {
    state.withLock { state in
      for place in Self.bounds.indices where value <= Self.bounds[place] { state.counts[place] += 1 }
      state.count += 1
      state.sum += value
    }
  }
}
