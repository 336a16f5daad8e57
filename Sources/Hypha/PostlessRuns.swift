import Hypercore

/// Runs of a feed's blocks that set no post: what else devices keep in their database. Blocks never change, so that each is looked
/// at once.
struct PostlessRuns {
  /// Blocks of a run below which it is gone through again: of what is kept, there is little for each post.
  static let shortest = 256

  /// In ascending order, and apart from each other.
  private var runs: [Range<UInt64>] = []

  /// The first block of the run that a block is in.
  func start(of index: UInt64) -> UInt64? {
    let place = place(of: index)
    return place < runs.count && runs[place].contains(index) ? runs[place].lowerBound : nil
  }

  /// Takes note of a run, which may have parts that are known.
  mutating func note(_ run: Range<UInt64>) {
    guard run.count >= Self.shortest else { return }
    // Those that it touches become one with it.
    let first = place(of: max(run.lowerBound, 1) - 1)
    var (end, whole) = (first, run)
    while end < runs.count, runs[end].lowerBound <= run.upperBound {
      whole = min(whole.lowerBound, runs[end].lowerBound)..<max(whole.upperBound, runs[end].upperBound)
      end += 1
    }
    runs.replaceSubrange(first..<end, with: CollectionOfOne(whole))
  }

  /// The first run that ends behind a block.
  private func place(of index: UInt64) -> Int {
    runs.firstPlace { $0.upperBound > index }
  }
}
