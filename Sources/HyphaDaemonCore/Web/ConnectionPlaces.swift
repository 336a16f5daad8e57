/// Which connections have the places that there are, and which gives way where a new one comes and none is left.
///
/// A connection is silent until it has come to what it is for (``keep(_:)``). The oldest silent one gives way; but not to
/// somebody who then has more places than the one whose it was. Where few are silent, the household that has most gives up
/// its oldest, if it still has as many as the newcomer then: a handshake costs nothing, and must not buy a place for ever.
struct ConnectionPlaces {
  /// Names a connection; a newer one has a higher number.
  typealias Number = UInt64

  private struct Place {
    /// Whom it is counted for; `nil`: for nobody.
    var household: [UInt8]?
    /// The larger network that it is counted for as well.
    var network: [UInt8]?
    var isKept = false

    init(_ address: IPAddress?) {
      // On this machine itself a proxy may be that is not known as one.
      guard let address, !address.isLoopback else { return }
      household = address.household
      network = address.network
    }
  }

  /// Connections in all.
  var total: Int
  /// Of one household.
  var perAddress: Int
  private var places: [Number: Place] = [:]
  /// Oldest first.
  private var silent: [Number] = []
  /// Oldest first.
  private var households: [[UInt8]: [Number]] = [:]
  private var networks: [[UInt8]: Int] = [:]
  private var next: Number = 0

  init(total: Int, perAddress: Int) {
    self.total = total
    self.perAddress = perAddress
  }

  /// Gives a place to a new connection, if it may have one.
  ///
  /// - Returns: its number, `nil` if it is one too many; and those that have lost theirs.
  mutating func admit(_ address: IPAddress?) -> (number: Number?, instead: [Number]) {
    let place = Place(address)
    guard isAllowed(place) else { return (nil, []) }
    var instead: [Number] = []
    // More than one only after the limit was lowered.
    while places.count >= total {
      guard let number = toGiveWay(to: place) else { return (nil, instead) }
      remove(number)
      instead.append(number)
    }
    let number = next
    next += 1
    places[number] = place
    silent.append(number)
    count(number, place)
    return (number, instead)
  }

  mutating func remove(_ number: Number) {
    guard let place = places.removeValue(forKey: number) else { return }
    if !place.isKept { removeSilent(number) }
    uncount(number, place)
  }

  /// It has come to what it is for.
  mutating func keep(_ number: Number) {
    guard places[number]?.isKept == false else { return }
    places[number]?.isKept = true
    removeSilent(number)
  }

  /// Counts it for another address from now on.
  ///
  /// - Returns: false if that has too many already; then it is counted as before.
  mutating func assign(_ number: Number, to address: IPAddress?) -> Bool {
    guard let before = places[number] else { return true }
    var place = Place(address)
    place.isKept = before.isKept
    guard place.household != before.household else { return true }
    guard isAllowed(place) else { return false }
    uncount(number, before)
    places[number] = place
    count(number, place)
    return true
  }

  private func isAllowed(_ place: Place) -> Bool {
    if let household = place.household, count(of: household) >= perAddress { return false }
    guard let network = place.network else { return true }
    return networks[network, default: 0] < perAddress * EdgeLimits.networkAddresses
  }

  private func toGiveWay(to newcomer: Place) -> Number? {
    let count = newcomer.household.map { self.count(of: $0) + 1 } ?? 1
    if silent.count < total / EdgeLimits.silentShare, let number = ofLargest(above: count) { return number }
    let oldest = silent.first { number in
      guard let household = places[number]?.household else { return true }
      return self.count(of: household) >= count
    }
    return oldest ?? ofLargest(above: count)
  }

  /// The oldest, silent before others, of the household that has most.
  private func ofLargest(above count: Int) -> Number? {
    let most = households.values.max { ($0.count, $1[0]) < ($1.count, $0[0]) }
    guard let most, most.count > count else { return nil }
    return most.first { places[$0]?.isKept == false } ?? most.first
  }

  private func count(of household: [UInt8]) -> Int { households[household]?.count ?? 0 }

  private mutating func removeSilent(_ number: Number) {
    if let index = silent.firstIndex(of: number) { silent.remove(at: index) }
  }

  private mutating func count(_ number: Number, _ place: Place) {
    if let household = place.household { households[household, default: []].append(number) }
    if let network = place.network { networks[network, default: 0] += 1 }
  }

  private mutating func uncount(_ number: Number, _ place: Place) {
    if let household = place.household {
      households[household]?.removeAll { $0 == number }
      if households[household]?.isEmpty == true { households[household] = nil }
    }
    if let network = place.network, let count = networks[network] {
      networks[network] = count > 1 ? count - 1 : nil
    }
  }
}
