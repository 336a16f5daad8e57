/// Metrics as Prometheus reads them.
///
/// Source: Prometheus's text exposition format 0.0.4.
struct MetricsText {
  enum Kind: String {
    case counter
    case gauge
    case histogram
  }

  private(set) var text = ""
  private var last: String?

  /// - Parameter labels: each as ``label(_:_:)`` makes them. All values of one name come one after the other.
  mutating func add(_ kind: Kind, _ name: String, _ value: Double, labels: [String] = []) {
    begin(kind, name)
    line(name, labels, value)
  }

  mutating func add(_ name: String, _ distribution: Distribution.State, labels: [String]) {
    begin(.histogram, name)
    for (bound, count) in zip(Distribution.bounds, distribution.counts) {
      line(name + "_bucket", labels + [Self.label("le", Self.number(bound))], Double(count))
    }
    line(name + "_bucket", labels + [Self.label("le", "+Inf")], Double(distribution.count))
    line(name + "_sum", labels, distribution.sum)
    line(name + "_count", labels, Double(distribution.count))
  }

  /// `name="value"`.
  static func label(_ name: String, _ value: String) -> String {
    var escaped = ""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return "\(name)=\"\(escaped)\""
  }

  private mutating func begin(_ kind: Kind, _ name: String) {
    guard last != name else { return }
    last = name
    if let meaning = MetricsNames.meanings[name] { text += "# HELP \(name) \(meaning)\n" }
    text += "# TYPE \(name) \(kind.rawValue)\n"
  }

  private mutating func line(_ name: String, _ labels: [String], _ value: Double) {
    text += name + (labels.isEmpty ? "" : "{\(labels.joined(separator: ","))}") + " \(Self.number(value))\n"
  }

  /// Whole numbers without a point.
  private static func number(_ value: Double) -> String {
    Int64(exactly: value).map { "\($0)" } ?? "\(value)"
  }
}
