import Hypercore

/// The feeds of a database as one writer numbers them in its clocks and tries, and the database's own numbers for
/// them.
///
/// Source: hyperdb 3.5.0 `index.js`, `Writer`'s encode and decode maps.
final class FeedList {
  /// The entry that names the feeds.
  let seq: UInt64
  let keys: [PublicKey]
  /// The database's number of each.
  let writers: [Int]
  /// The place of each writer of the database in the list; -1 where it is not in it.
  let positions: [Int]

  /// - Parameter writers: as many numbers as there are keys.
  init(seq: UInt64, keys: [PublicKey], writers: [Int]) {
    self.seq = seq
    self.keys = keys
    self.writers = writers
    var positions = [Int](repeating: -1, count: (writers.max() ?? -1) + 1)
    for (position, writer) in writers.enumerated() where positions[writer] < 0 {
      positions[writer] = position
    }
    self.positions = positions
  }

  func contains(_ writer: Int) -> Bool {
    writer < positions.count && positions[writer] >= 0
  }
}
