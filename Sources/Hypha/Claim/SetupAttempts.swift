/// Slows down who guesses setup codes: for each place by itself, so that one who guesses keeps nobody else out, and all
/// together, so that many places do not help. At ``perSecond`` a code of 50 bits takes some 18 million years on average.
struct SetupAttempts {
  /// Wrong attempts from a place before its next has to wait, and seconds until it has one more.
  static let perPlace = 10.0
  static let secondsPerAttempt = 30.0
  /// Wrong attempts of all together before the next has to wait, and how many more they have each second.
  static let total = 100.0
  static let perSecond = 1.0
  /// Places that are remembered.
  static let places = 1024

  private struct Allowance {
    var left: Double
    var asOf: Double

    mutating func refill(_ now: Double, rate: Double, limit: Double) {
      left = min(limit, left + (now - asOf) * rate)
      asOf = now
    }
  }

  private var all = Allowance(left: total, asOf: 0)
  private var each: [[UInt8]: Allowance] = [:]

  /// - Parameters:
  ///   - place: where it comes from.
  ///   - now: seconds on a clock that only goes forward.
  /// - Returns: whether an attempt may be looked at.
  mutating func isAllowed(_ place: [UInt8], now: Double) -> Bool {
    all.refill(now, rate: Self.perSecond, limit: Self.total)
    each[place]?.refill(now, rate: 1 / Self.secondsPerAttempt, limit: Self.perPlace)
    return all.left >= 1 && each[place].map { $0.left >= 1 } ?? true
  }

  /// Notes that an attempt, which was allowed, was wrong.
  mutating func failed(_ place: [UInt8], now: Double) {
    all.left -= 1
    if each[place] == nil, each.count >= Self.places {
      let oldest = each.min { $0.value.asOf < $1.value.asOf }
      if let oldest { each[oldest.key] = nil }
    }
    each[place, default: Allowance(left: Self.perPlace, asOf: now)].left -= 1
  }
}
