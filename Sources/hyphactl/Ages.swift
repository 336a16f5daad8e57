import Glibc
import HyphaControlAPI

extension Timestamp {
  static var now: Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }

  /// How long ago, or how far ahead, roughly: “5 minutes ago”, “in 6 days”.
  var age: String {
    let seconds = (Timestamp.now.milliseconds - milliseconds) / 1000
    let amount =
      switch abs(seconds) {
      case 0..<120: Console.count(Int(abs(seconds)), "second")
      case 120..<7200: Console.count(Int(abs(seconds) / 60), "minute")
      case 7200..<172_800: Console.count(Int(abs(seconds) / 3600), "hour")
      default: Console.count(Int(abs(seconds) / 86_400), "day")
      }
    return seconds < 0 ? "in \(amount)" : "\(amount) ago"
  }
}
