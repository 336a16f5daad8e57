/// Where blocks begin in the `data` file, region by region as far as it was asked for: a table of fixed size
/// in which a newer region takes the place of an older one.
struct RegionOffsets {
  /// Blocks in a region, as many as one page of the tree file has leaves.
  static let blocks: UInt64 = 64
  /// Places in the table: a million blocks' worth. The table takes 384 KiB, and 288 bytes more for each
  /// region with ``ends``: 5 MB where all are read.
  private static let places: UInt64 = 16384

  private struct Region {
    var number: UInt64 = 0
    /// Where its first block begins.
    var start: UInt64 = 0
    /// Where each of its blocks ends, from `start` on; empty where that was not asked for.
    var ends: [UInt32] = []
  }

  private var entries: [Region] = []

  /// Where a region's first block begins.
  subscript(_ region: UInt64) -> UInt64? {
    if region == 0 { return 0 }
    guard !entries.isEmpty else { return nil }
    let entry = entries[Int(region % Self.places)]
    return entry.number == region ? entry.start : nil
  }

  /// The bytes of a block, where its region's ends are known.
  func range(of index: UInt64) -> Range<UInt64>? {
    guard !entries.isEmpty else { return nil }
    let number = index / Self.blocks
    let entry = entries[Int(number % Self.places)]
    guard entry.number == number, !entry.ends.isEmpty else { return nil }
    let place = Int(index % Self.blocks)
    let start = place == 0 ? 0 : entry.ends[place - 1]
    return entry.start + UInt64(start)..<entry.start + UInt64(entry.ends[place])
  }

  /// Notes where a region begins, and where each of its blocks ends from there on, if that is known.
  mutating func note(_ region: UInt64, start: UInt64, ends: [UInt32] = []) {
    if entries.isEmpty { entries = Array(repeating: Region(), count: Int(Self.places)) }
    entries[Int(region % Self.places)] = Region(number: region, start: start, ends: ends)
  }
}
