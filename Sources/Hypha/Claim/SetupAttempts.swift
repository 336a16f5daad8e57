/// Slows down who guesses setup codes: for each place by itself, and those who have guessed wrong all together, so that many
/// places help little. The first attempt from a place is always looked at: whoever guesses keeps out nobody who has not. With a
/// thousand new places a second a code of 50 bits still takes some 18,000 years on average.
struct SetupAttempts {
  /// Wrong attempts from a place before its next has to wait, and seconds until it has one more.
  static let perPlace = 10.0
  static let secondsPerAttempt = 30.0
  /// Wrong attempts from all places together, but for the first from each, before the next has to wait, and how many more they have each second.
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
    guard var own = each[place] else { return true }
    own.refill(now, rate: 1 / Self.secondsPerAttempt, limit: Self.perPlace)
    each[place] = own
    return all.left >= 1 && own.left >= 1
  }

  /// Notes that an attempt, which was allowed, was wrong.
  mutating func failed(_ place: [UInt8], now: Double) {
    if each[place] != nil {
      all.left -= 1
    } else if each.count >= Self.places {
      let oldest = each.min { $0.value.asOf < $1.value.asOf }
      if let oldest { each[oldest.key] = nil }
    }
    each[place, default: Allowance(left: Self.perPlace, asOf: now)].left -= 1
  }
}
