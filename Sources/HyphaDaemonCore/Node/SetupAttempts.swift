/// Slows down who guesses setup codes: for each address by itself, so that one who guesses keeps nobody else out, and all
/// together, so that many addresses do not help. At ``perSecond`` a code of 50 bits takes some 18 million years on average.
struct SetupAttempts {
  /// Wrong attempts of an address before its next has to wait, and seconds until it has one more.
  static let perAddress = 10.0
  static let secondsPerAttempt = 30.0
  /// Wrong attempts of all together before the next has to wait, and how many more they have each second.
  static let total = 100.0
  static let perSecond = 1.0
  /// Addresses that are remembered.
  static let addresses = 1024

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

  /// All addresses of one household are one.
  private static func place(_ address: String) -> [UInt8] {
    IPAddress(address)?.household ?? Array(address.utf8)
  }

  /// - Parameter now: seconds on a clock that only goes forward.
  /// - Returns: whether an attempt may be looked at.
  mutating func isAllowed(_ address: String, now: Double) -> Bool {
    let address = Self.place(address)
    all.refill(now, rate: Self.perSecond, limit: Self.total)
    each[address]?.refill(now, rate: 1 / Self.secondsPerAttempt, limit: Self.perAddress)
    return all.left >= 1 && each[address].map { $0.left >= 1 } ?? true
  }

  /// Notes that an attempt, which was allowed, was wrong.
  mutating func failed(_ address: String, now: Double) {
    let address = Self.place(address)
    all.left -= 1
    if each[address] == nil, each.count >= Self.addresses {
      let oldest = each.min { $0.value.asOf < $1.value.asOf }
      if let oldest { each[oldest.key] = nil }
    }
    each[address, default: Allowance(left: Self.perAddress, asOf: now)].left -= 1
  }
}
