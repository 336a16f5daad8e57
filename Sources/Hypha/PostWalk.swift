import Hypercore
import Hyperdb

/// Goes back through the feeds of all writers from their ends, and merges their posts by id, newest first.
///
/// A writer's posts have ever higher ids, so its feed is in order; what was put again later, as an edit is, is met
/// where it was first put. A writer that keeps to no order is passed over where it leaves it: who reads on behind the last id
/// of a page always gets lower ones, and comes to an end.
struct PostWalk<Storage: RandomAccessStorage> {
  private struct Cursor {
    let feed: PublicKey
    /// The block behind those still to be looked at.
    var end: UInt64
    /// The newest post before that.
    var found: PostID?
  }

  private let hypha: Hypha<Storage>
  private var cursors: [Cursor] = []
  /// All that follow are lower.
  private var last: PostID?

  /// - Parameter before: only posts with lower ids.
  init(_ hypha: Hypha<Storage>, before: PostID?) throws(HyphaError) {
    self.hypha = hypha
    last = before
    for (feed, length) in try hypha.lengths() {
      var cursor = Cursor(feed: feed, end: length)
      if let before { cursor.end = try end(of: cursor, before) }
      try advance(&cursor)
      cursors.append(cursor)
    }
  }

  /// The next lower id.
  mutating func next() throws(HyphaError) -> PostID? {
    while let id = try step() {
      // Two writers put the same one without knowing of each other, or one keeps to no order.
      if let last, id >= last { continue }
      last = id
      return id
    }
    return nil
  }

  private mutating func step() throws(HyphaError) -> PostID? {
    var newest: Int?
    for (place, cursor) in cursors.enumerated() {
      guard let found = cursor.found else { continue }
      if let best = newest, let other = cursors[best].found, other >= found { continue }
      newest = place
    }
    guard let newest, let id = cursors[newest].found else { return nil }
    try advance(&cursors[newest])
    return id
  }

  private func advance(_ cursor: inout Cursor) throws(HyphaError) {
    let newest = try hypha.newestPost(before: cursor.end, of: cursor.feed)
    cursor.end = newest?.seq ?? 1
    cursor.found = newest?.id
  }

  /// The block behind the newest post with an id below `bound`, found by bisection.
  private func end(of cursor: Cursor, _ bound: PostID) throws(HyphaError) -> UInt64 {
    var (low, high) = (UInt64(1), cursor.end)
    while low < high {
      let middle = low + (high - low) / 2
      let newest = try hypha.newestPost(before: middle + 1, downTo: low, of: cursor.feed)
      if let newest, newest.id >= bound { high = newest.seq } else { low = middle + 1 }
    }
    return high
  }
}
