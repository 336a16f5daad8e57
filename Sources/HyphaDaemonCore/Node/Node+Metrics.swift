import CoreMetrics
import Hypercore
import Hypha
import HyphaControlAPI

/// What the node measures of itself.
extension Node {
  /// How it stands now, for Prometheus; what was counted and timed is in the registry.
  public func writeMetrics(to registry: MetricsRegistry) -> String {
    var text = MetricsText()
    if let status = try? info() {
      text.add(
        .gauge, "hypha_info", 1,
        labels: [
          MetricsText.label("version", status.version), MetricsText.label("role", status.role.rawValue),
        ])
      text.add(.gauge, "hypha_ready", status.ready ? 1 : 0)
      text.add(.gauge, "hypha_can_post", status.canPost ? 1 : 0)
      write(status.feeds, to: &text)
      text.add(.gauge, "hypha_peers", Double(status.peers))
      text.add(.gauge, "hypha_sealed_messages", Double(status.sealedMessages))
      text.add(.gauge, "hypha_state_bytes", Double(status.diskBytes))
    }
    if let membership {
      let pending = membership.requests(now: Self.now().milliseconds).filter { $0.state == .pending }
      text.add(.gauge, "hypha_requests_pending", Double(pending.count))
      for (reason, count) in membership.drops.counts.sorted(by: { $0.key < $1.key }) {
        text.add(
          .counter, "hypha_messages_dropped_total", Double(count),
          labels: [MetricsText.label("reason", reason)])
      }
    }
    let storage = storageInfo
    if let free = storage.freeBytes { text.add(.gauge, "hypha_disk_free_bytes", Double(free)) }
    text.add(.gauge, "hypha_disk_reserve_bytes", Double(storage.reserveBytes))
    text.add(.gauge, "hypha_takes_blocks", storage.state == .enough ? 1 : 0)
    if let expires = web.https?.certificates.expires {
      text.add(.gauge, "hypha_certificate_expires_seconds", Double(expires.milliseconds) / 1000)
    }
    text.add(.gauge, "process_start_time_seconds", Double(started.milliseconds) / 1000)
    ProcessFigures.write(to: &text)
    registry.write(to: &text)
    return text.text
  }

  private func write(_ feeds: [FeedInfo], to text: inout MetricsText) {
    text.add(.gauge, "hypha_feeds", Double(feeds.count))
    text.add(.gauge, "hypha_feeds_forked", Double(feeds.count { $0.forkedAt != nil }))
    let values: [(String, (FeedInfo) -> Double)] = [
      ("hypha_feed_blocks", { Double($0.length) }), ("hypha_feed_held_blocks", { Double($0.heldBlocks) }),
      ("hypha_feed_bytes", { Double($0.byteLength) }),
      ("hypha_feed_fully_held_by", { Double($0.fullyHeldBy) }),
    ]
    for (name, value) in values {
      for feed in feeds { text.add(.gauge, name, value(feed), labels: [MetricsText.label("feed", feed.key)]) }
    }
  }

  /// Notes that a change was made here, to be measured until another node has it.
  func noteUnsynced() {
    if unsyncedSince == nil, !connections.isEmpty { unsyncedSince = monotonic }
  }

  /// Measures, once another node has all that was made here.
  func noteSynced() {
    guard let since = unsyncedSince, let key = hypha?.database.local?.key, replicator.isHeldElsewhere(key)
    else {
      return
    }
    unsyncedSince = nil
    Timer(label: MetricsNames.sync).recordMilliseconds(monotonic - since)
  }
}
