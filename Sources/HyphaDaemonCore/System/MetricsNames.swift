import CoreMetrics

/// What is measured, by the names that Prometheus sees.
enum MetricsNames {
  static let rejected = "hypha_rejected_input_total"
  static let refused = "hypha_connections_refused_total"
  static let requests = "hypha_http_requests_total"
  static let commit = "hypha_commit_seconds"
  static let sync = "hypha_sync_seconds"

  /// For each name that is written: what its values say.
  static let meanings: [String: String] = [
    rejected: "What was not taken, and mostly ended a connection, by kind.",
    refused: "Connections that were turned away because there were too many.",
    requests: "Answers to HTTP requests, by status.",
    commit: "Seconds from a change that was asked for, such as a post, until it was on disk.",
    sync: "Seconds from a change on this node until another connected node held it.",
    "hypha_info": "The version that runs, and what the node is.",
    "hypha_ready": "1 if the node does its work.",
    "hypha_can_post": "1 if this node may post.",
    "hypha_feeds": "Feeds of the hypha's writers.",
    "hypha_feeds_forked": "Feeds that their owner signed in two versions.",
    "hypha_feed_blocks": "Blocks in a feed, as far as is known here.",
    "hypha_feed_held_blocks": "Blocks of a feed that are here.",
    "hypha_feed_bytes": "Bytes in a feed's blocks.",
    "hypha_feed_fully_held_by": "Connected nodes that hold all of a feed.",
    "hypha_peers": "Nodes that are connected.",
    "hypha_requests_pending": "Devices that ask to be let in.",
    "hypha_sealed_messages": "Messages kept for devices that are not connected.",
    "hypha_messages_dropped_total": "Devices' messages that were not taken, by reason.",
    "hypha_state_bytes": "Bytes that the state folder takes up.",
    "hypha_disk_free_bytes": "Bytes free on the disk of the state folder.",
    "hypha_disk_reserve_bytes": "Bytes that are to stay free.",
    "hypha_takes_blocks": "0 if the disk is full or the quota reached, so that nothing is fetched.",
    "hypha_certificate_expires_seconds": "When the certificate for HTTPS ends, in seconds since 1970.",
    "process_start_time_seconds": "When the process started, in seconds since 1970.",
    "process_resident_memory_bytes": "Bytes of memory in use.",
    "process_cpu_seconds_total": "Seconds of processor time used.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "Most file descriptors that may be open.",
  ]

  static func countRejected(_ kind: String) {
    Counter(label: rejected, dimensions: [("kind", kind)]).increment()
  }

  static func countAnswer(_ status: UInt) {
    Counter(label: requests, dimensions: [("status", "\(status)")]).increment()
  }

  static func countRefused() {
    Counter(label: refused).increment()
  }
}
