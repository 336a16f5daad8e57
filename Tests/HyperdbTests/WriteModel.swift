import Hypercore

/// What a database means, said without a trie: all writes with their clocks, of which those of a key count that no
/// other write of that key has seen.
struct WriteModel {
  struct Position: Hashable, CustomStringConvertible {
    var feed: PublicKey
    var seq: UInt64

    var description: String { "\(feed.hex.prefix(4)):\(seq)" }
  }

  struct Write {
    var at: Position
    var key: String
    /// `nil` for a deletion.
    var value: [UInt8]?
    /// Blocks seen of each feed, its own included.
    var clock: [PublicKey: UInt64]

    func hasSeen(_ other: Position) -> Bool { clock[other.feed] ?? 0 > other.seq }
  }

  var writes: [String: [Write]] = [:]

  mutating func add(_ write: Write) {
    writes[write.key, default: []].append(write)
  }

  /// The writes that count, of those among the first blocks of each feed.
  ///
  /// - Returns: none where all of them are deletions, unless these are asked for.
  func winners(
    _ key: String, within lengths: [PublicKey: UInt64], deletions: Bool = false
  ) -> [Write] {
    let known = (writes[key] ?? []).filter { $0.at.seq < lengths[$0.at.feed] ?? 0 }
    let winners = known.filter { write in !known.contains { $0.at != write.at && $0.hasSeen(write.at) } }
    return deletions || winners.contains { $0.value != nil } ? winners : []
  }

  /// All that a state of the database with these newest entries goes back to.
  static func lengths(_ clocks: [[PublicKey: UInt64]]) -> [PublicKey: UInt64] {
    clocks.reduce(into: [:]) { $0.merge($1) { max($0, $1) } }
  }

  /// What a key was set to, step by step, newest first.
  func history(_ key: String, within lengths: [PublicKey: UInt64]) -> [Set<Position>] {
    var steps: [Set<Position>] = []
    var lengths = lengths
    while case let winners = winners(key, within: lengths, deletions: true), !winners.isEmpty {
      steps.append(Set(winners.map(\.at)))
      lengths = Self.lengths(
        winners.map { winner in
          var clock = winner.clock
          clock[winner.at.feed] = winner.at.seq
          return clock
        })
    }
    return steps
  }
}
