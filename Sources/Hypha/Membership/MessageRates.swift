/// How many messages are taken: of each sender, whatever connections it makes, and of all together.
///
/// A sender's first few count for it alone, so that many who flood a node do not keep a device from being heard.
struct MessageRates {
  private struct Sender {
    var messages = TokenBucket(atOnce: HyphaLimits.messagesAtOnce, interval: HyphaLimits.messageInterval)
    var first = TokenBucket(atOnce: HyphaLimits.firstMessages, interval: HyphaLimits.firstMessageInterval)
    var latest: Int64
  }

  private var all = TokenBucket(atOnce: HyphaLimits.messagesAtOnce, interval: HyphaLimits.messageInterval)
  private var senders: [String: Sender] = [:]

  /// - Parameters:
  ///   - sender: as far as a stranger cannot choose that.
  ///   - now: milliseconds since 1970.
  /// - Returns: whether one more message of it may be taken.
  mutating func take(_ sender: String, now: Int64) -> Bool {
    if senders[sender] == nil, senders.count >= HyphaLimits.messageSenders {
      let oldest = senders.min { $0.value.latest < $1.value.latest }
      if let oldest { senders[oldest.key] = nil }
    }
    var known = senders[sender] ?? Sender(latest: now)
    defer { senders[sender] = known }
    known.latest = now
    guard known.messages.take(now: now) else { return false }
    return known.first.take(now: now) || all.take(now: now)
  }
}

/// Lets so many through at once, and then one each interval.
private struct TokenBucket {
  private let limit: Int64
  private let interval: Int64
  /// Milliseconds' worth.
  private var left: Int64
  private var last: Int64?

  init(atOnce: Int64, interval: Int64) {
    self.interval = interval
    limit = atOnce * interval
    left = limit
  }

  mutating func take(now: Int64) -> Bool {
    if let last { left = min(limit, left + max(0, min(now - last, limit))) }
    last = now
    guard left >= interval else { return false }
    left -= interval
    return true
  }
}
