/// Addresses from which somebody lately said to have blocks, and did not send them. Who comes again from there, or is there already,
/// is not believed before the first block has come, so that coming again and again holds up nothing.
struct Doubts {
  /// Addresses that are remembered.
  static let addresses = 256
  /// Seconds for which they are.
  static let seconds = 600.0

  private var since: [[UInt8]: Double] = [:]

  /// - Parameter now: seconds on a clock that only goes forward.
  /// - Returns: whether it was not among them.
  mutating func add(_ address: String, now: Double) -> Bool {
    let isNew = !contains(address, now: now)
    let place = IPAddress.household(of: address)
    if since[place] == nil, since.count >= Self.addresses {
      let oldest = since.min { $0.value < $1.value }
      if let oldest { since[oldest.key] = nil }
    }
    since[place] = now
    return isNew
  }

  func contains(_ address: String, now: Double) -> Bool {
    since[IPAddress.household(of: address)].map { now < $0 + Self.seconds } ?? false
  }
}
