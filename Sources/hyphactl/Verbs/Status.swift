import ArgumentParser
import HyphaControlAPI

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what the node is and holds; exit status 0 says that it is ready.")

  @OptionGroup var shared: SharedOptions

  func run() throws {
    try shared.withDaemon { daemon in
      let status = try daemon.status()
      if shared.json { try Console.printJSON(status) } else { print(status) }
      if !status.ready { throw SharedOptions.Status.refused }
    }
  }

  private func print(_ status: NodeInfo) {
    func line(_ name: String, _ value: String) {
      Console.print(name + String(repeating: " ", count: 12 - name.utf8.count) + value)
    }
    line("role", Self.words(status.role))
    if let hyphalink = status.hyphalink { line("hyphalink", hyphalink) }
    if let domain = status.domain { line("domain", domain) }
    if let device = status.deviceName { line("device", device) }
    if let writer = status.writer {
      line(
        "writer",
        writer + Self.standing(status))
    }
    if let request = status.request { line("request", Self.words(request)) }
    if status.catchesUp == true {
      line(
        "writing",
        "not yet: this device's own feed has to be in sync with every node that it stays connected to first")
    }
    line("ready", status.ready ? "yes" : "no. \(status.notReady ?? "")")
    for feed in status.feeds {
      line(
        "feed",
        "\(feed.key.prefix(8))… \(feed.writable ? "(this device) " : "")\(feed.heldBlocks) of \(feed.length) blocks, "
          + "\(Self.size(feed.byteLength)), fully held by \(feed.fullyHeldBy) other \(feed.fullyHeldBy == 1 ? "node" : "nodes")"
          + Self.places(feed.fullyHeldAt ?? []))
      if let blocks = feed.forkedAt {
        line(
          "",
          "signed in two versions: only blocks before number \(blocks) count"
        )
      }
    }
    if status.sealedMessages > 0 {
      line("sealed", "\(Console.count(status.sealedMessages, "message")) kept for the hypha's devices")
    }
    line("peers", "\(status.peers)")
    line("disk", Self.size(status.diskBytes) + (status.storage.map { Self.words($0) } ?? ""))
  }

  private static func standing(_ status: NodeInfo) -> String {
    if status.canPost { return "" }
    if status.role == .revoked { return " (revoked)" }
    let isForked = status.feeds.contains { $0.key == status.writer && $0.forkedAt != nil }
    return isForked ? " (signed in two versions: may not write)" : " (not authorised)"
  }

  private static func places(_ addresses: [String]) -> String {
    addresses.isEmpty ? "" : ": " + Console.printable(addresses.joined(separator: ", "))
  }

  private static func words(_ role: NodeRole) -> String {
    switch role {
    case .uninitialised: "uninitialised"
    case .origin: "origin node"
    case .alwaysOn: "always-on node"
    case .authorised: "authorised node"
    case .reader: "reader"
    case .revoked: "revoked device: what it writes counts no longer"
    }
  }

  private static func words(_ storage: StorageInfo) -> String {
    switch storage.state {
    case .enough: storage.freeBytes.map { ", \(size($0)) free" } ?? ""
    case .low:
      ". The disk is full: nothing is posted or fetched until \(size(storage.reserveBytes)) are free"
    case .quotaReached:
      ". Other writers' feeds take up the \(size(storage.quotaBytes ?? 0)) that they may: no more of them is fetched"
    }
  }

  private static func words(_ request: OwnRequestInfo) -> String {
    switch request.state {
    case .pending: "pending until \(request.expires): \(Console.printable(request.words))"
    case .authorised: "authorised"
    case .denied: "denied. “hyphactl sign-in --again” asks again"
    case .expired: "expired without an answer. “hyphactl sign-in --again” asks again"
    }
  }

  /// Bytes in the unit that keeps the number short.
  static func size(_ bytes: UInt64) -> String {
    var value = bytes
    var rest: UInt64 = 0
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
      if value < 1024 { return unit == "bytes" ? "\(value) bytes" : "\(value).\(rest * 10 / 1024) \(unit)" }
      rest = value % 1024
      value /= 1024
    }
    return "\(value).\(rest * 10 / 1024) TiB"
  }
}
