/// Addresses from which somebody lately said to have blocks, and did not send them. Who comes again from there is not believed
/// before the first block has come, so that coming again and again holds up nothing.
struct Doubts {
  /// Addresses that are remembered.
  static let addresses = 256
  /// Seconds for which they are.
  static let seconds = 600.0

  private var since: [[UInt8]: Double] = [:]

  /// All addresses of one household are one.
  private static func place(_ address: String) -> [UInt8] {
    IPAddress(address)?.household ?? Array(address.utf8)
  }

  /// - Parameter now: seconds on a clock that only goes forward.
  mutating func add(_ address: String, now: Double) {
    let place = Self.place(address)
    if since[place] == nil, since.count >= Self.addresses {
      let oldest = since.min { $0.value < $1.value }
      if let oldest { since[oldest.key] = nil }
    }
    since[place] = now
  }

  func contains(_ address: String, now: Double) -> Bool {
    since[Self.place(address)].map { now < $0 + Self.seconds } ?? false
  }
}
