/// Where every 64th block begins in the `data` file, as far as it was asked for: a table of fixed size in
/// which a newer entry takes the place of an older one.
struct RegionOffsets {
  /// Blocks in a region, as many as one page of the tree file has leaves.
  static let blocks: UInt64 = 64
  /// Places in the table: a million blocks' worth, 256 KiB.
  private static let places: UInt64 = 16384

  private var entries: [(region: UInt64, offset: UInt64)] = []

  subscript(_ region: UInt64) -> UInt64? {
    get {
      if region == 0 { return 0 }
      guard !entries.isEmpty else { return nil }
      let entry = entries[Int(region % Self.places)]
      return entry.region == region ? entry.offset : nil
    }
    set {
      guard let newValue, region > 0 else { return }
      if entries.isEmpty { entries = Array(repeating: (0, 0), count: Int(Self.places)) }
      entries[Int(region % Self.places)] = (region, newValue)
    }
  }
}
