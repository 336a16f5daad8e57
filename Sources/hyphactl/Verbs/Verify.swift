import ArgumentParser
import HyphaControlAPI

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check every block, hash and signature that the node holds.",
    discussion: """
      The node goes on serving meanwhile. Says which blocks, tree nodes and signatures of which feed are damaged. Exit \
      status: 0 all is well, 1 something is damaged.
      """)

  @OptionGroup var shared: SharedOptions

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try Self.check(daemon)
      if shared.json { try Console.printJSON(result) } else { Self.show(result) }
      if !result.isClean { throw SharedOptions.Status.refused }
    }
  }

  /// Has the daemon check all that it holds.
  static func check(_ daemon: ControlClient) throws(ControlFailure) -> NodeVerify.Result {
    let progress = Progress("verify")
    defer { progress.end() }
    var result = try daemon.call(NodeVerify.self, .init(waitSeconds: 0.2))
    progress.show(result.checked, of: result.total)
    while !result.done {
      result = try daemon.call(NodeVerify.self, .init(id: result.id, waitSeconds: 0.5))
      progress.show(result.checked, of: result.total)
    }
    return result
  }

  static func show(_ result: NodeVerify.Result) {
    for feed in result.feeds {
      let missing = feed.length - min(feed.heldBlocks, feed.length)
      Console.print(
        "\(feed.damaged == 0 ? "ok     " : "DAMAGED")  \(feed.key)\(feed.writable ? "  (this device)" : "")  "
          + "\(feed.checkedBlocks) blocks, \(feed.checkedNodes) tree nodes, \(feed.checkedSignatures) signatures"
          + (missing > 0 ? ", \(missing) blocks are not here" : ""))
      guard feed.damaged > 0 else { continue }
      Console.print("         in \(feed.folder)")
      show("blocks", feed.damagedBlocks)
      show("tree nodes", feed.damagedNodes)
      show("signatures", feed.damagedSignatures)
    }
    if !result.isClean {
      Console.note(
        """
        “hyphactl repair” mends tree nodes from what is around them, and fetches blocks and signatures anew from nodes that are \
        connected (“hyphactl peers”). What no other node has is in a backup, if there is one: “hyphactl restore” on a new \
        node. Damage that comes again is a failing disk or memory.
        """)
    }
  }

  private static func show(_ name: String, _ ranges: [NumberRange]) {
    guard !ranges.isEmpty else { return }
    let texts = ranges.map { $0.first == $0.last ? "\($0.first)" : "\($0.first)-\($0.last)" }
    Console.print("         \(name): \(texts.joined(separator: ", "))")
  }
}

extension NodeVerify.Result {
  /// Nothing is damaged.
  var isClean: Bool { feeds.allSatisfy { $0.damaged == 0 } }
}
