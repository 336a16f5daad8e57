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
    let past = Timestamp.now.milliseconds - milliseconds
    let seconds = (abs(past) + 500) / 1000
    let amount =
      switch seconds {
      case 0..<120: Console.count(Int(seconds), "second")
      case 120..<7200: Console.count(Int((seconds + 30) / 60), "minute")
      case 7200..<172_800: Console.count(Int((seconds + 1800) / 3600), "hour")
      default: Console.count(Int((seconds + 43_200) / 86_400), "day")
      }
    return past < 0 ? "in \(amount)" : "\(amount) ago"
  }
}
