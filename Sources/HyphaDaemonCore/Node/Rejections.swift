import HyphaControlAPI

/// What was not taken of late, by whose it was and what it was; as much as people want to look at. Who has many addresses, as each
/// household has of IPv6, does not push others out with them.
struct Rejections {
  private struct Place: Hashable {
    var address: String
    var kind: String
  }

  private struct Count {
    var count: UInt64
    var last: Timestamp
  }

  private var counts: [Place: Count] = [:]

  mutating func count(_ kind: String, of address: String, at time: Timestamp) {
    let place = Place(address: IPAddress(address)?.householdName ?? address, kind: kind)
    if counts[place] == nil, counts.count >= ControlLimits.rejections {
      let oldest = counts.min { $0.value.last.milliseconds < $1.value.last.milliseconds }
      if let oldest { counts[oldest.key] = nil }
    }
    counts[place] = Count(count: (counts[place]?.count ?? 0) + 1, last: time)
  }

  /// The latest first.
  var infos: [RejectedInfo] {
    counts.map { RejectedInfo(address: $0.address, kind: $0.kind, count: $1.count, last: $1.last) }
      .sorted { ($1.last.milliseconds, $0.address, $0.kind) < ($0.last.milliseconds, $1.address, $1.kind) }
  }
}
