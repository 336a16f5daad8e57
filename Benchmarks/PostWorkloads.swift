import Hypercore
import Hyperdb
import Hypha
import HyphaDaemonCore

/// Posts of several devices, merged.
extension Workload {
  private static let devices = 4

  static let posts = [
    Workload(name: "first 50 of 1,000,000 posts by 4 devices", goal: .atMost(5)) { folder, scale in
      let hyphas = try devices(in: folder)
      let count = max(1000, Int(1_000_000 * scale))
      for number in 0..<count {
        // Devices' clocks differ.
        let device = number % devices
        _ = try hyphas[device].post(
          "what a short post says, number \(number)", device: "device \(device)",
          now: 1_700_000_000_000 + Int64(number) * 1000 + Int64(device) * 7_000,
          random: (0..<10).map { UInt8(truncatingIfNeeded: number >> $0) })
      }
      let reader = hyphas[0]
      let rate = try rate(atLeast: 2) {
        guard try reader.posts(limit: 50).posts.count == 50 else { throw BenchError("posts are missing") }
      }
      return Measurement(1000 / rate, .milliseconds)
    }
  ]

  /// One hypha as each of its devices sees it, all of them with the same feeds.
  private static func devices(in folder: String) throws -> [Hypha<FileStorage>] {
    let feeds = try (0..<devices).map { try Feed.create(in: "\(folder)/feed-\($0)") }
    let hyphas = try feeds.map { own in
      try Hypha(source: feeds[0], local: own) { (key) throws(HyperdbError) in
        guard let feed = feeds.first(where: { $0.key == key }) else {
          throw HyperdbError(.unopened, "there is no feed \(key.hex)")
        }
        return feed
      }
    }
    for feed in feeds.dropFirst() { try hyphas[0].database.authorize(feed.key) }
    return hyphas
  }
}
