/// Results of one run, as a table and as JSON.
struct Report {
  private var results: [(workload: Workload, measurement: Measurement)] = []
  /// A goal was missed.
  private(set) var missed = false

  mutating func add(_ workload: Workload, _ measurement: Measurement) {
    results.append((workload, measurement))
    if goal(workload).map({ !$0.isReached(measurement.value) }) == true { missed = true }
  }

  /// A goal as a number.
  private struct Target {
    let value: Double
    let isMost: Bool

    func isReached(_ value: Double) -> Bool {
      isMost ? value <= self.value : value >= self.value
    }
  }

  private func goal(_ workload: Workload) -> Target? {
    switch workload.goal {
    case .none: nil
    case .atLeast(let value): Target(value: value, isMost: false)
    case .atMost(let value): Target(value: value, isMost: true)
    case .ofLimit(let part): limit(workload).map { Target(value: part * $0.value, isMost: false) }
    }
  }

  private func limit(_ workload: Workload) -> Measurement? {
    results.first { $0.workload.name == workload.limit }?.measurement
  }

  static let heading = line("workload", "measured", "goal", "memory", "limit of this machine")

  /// The line for what was added last.
  var lastLine: String {
    guard let (workload, measurement) = results.last else { return "" }
    let unit = measurement.unit.rawValue
    let goal = goal(workload).map {
      "\($0.isMost ? "<=" : ">=") \(Self.number($0.value)) \($0.isReached(measurement.value) ? "ok" : "MISSED")"
    }
    let limit = limit(workload).map {
      "\(Self.number($0.value)) \($0.unit.rawValue), \(workload.limit?.dropFirst(7) ?? "")"
    }
    return Self.line(
      workload.name, "\(Self.number(measurement.value)) \(unit)", goal ?? "",
      "\(Self.number(measurement.memory)) MB", limit ?? "")
  }

  private static func line(_ columns: String...) -> String {
    let widths = [66, 17, 22, 10]
    var line = ""
    for (column, width) in zip(columns, widths) {
      line += column + String(repeating: " ", count: max(1, width - column.count))
    }
    return line + columns[columns.count - 1]
  }

  /// Rounded, with commas between thousands.
  private static func number(_ value: Double) -> String {
    if value < 10 { return String(Double(Int(value * 100)) / 100) }
    var digits = String(Int(value.rounded()))[...]
    var groups: [Substring] = []
    while digits.count > 3 {
      groups.insert(digits.suffix(3), at: 0)
      digits = digits.dropLast(3)
    }
    return ([digits] + groups).joined(separator: ",")
  }

  /// `version`, and `workloads`: each with `name`, `value`, `unit`, `memoryMB`; where there are, `limit`,
  /// `goal`, `goalReached`, `reference`.
  var json: String {
    let objects = results.map { workload, measurement in
      var fields = [
        #""name":"\#(workload.name)""#, #""value":\#(measurement.value)"#,
        #""unit":"\#(measurement.unit.rawValue)""#, #""memoryMB":\#(measurement.memory)"#,
      ]
      if let limit = limit(workload) { fields.append(#""limit":\#(limit.value)"#) }
      if let goal = goal(workload) {
        fields.append(#""goal":\#(goal.value),"goalReached":\#(goal.isReached(measurement.value))"#)
      }
      if let reference = workload.reference { fields.append(#""reference":\#(reference)"#) }
      return "{\(fields.joined(separator: ","))}"
    }
    return "{\"version\":1,\"workloads\":[\n\(objects.joined(separator: ",\n"))\n]}\n"
  }
}
