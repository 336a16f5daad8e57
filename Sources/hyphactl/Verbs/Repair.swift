import ArgumentParser
import Glibc
import HyphaControlAPI

struct Repair: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Mend what is damaged on disk, with the help of other nodes.",
    discussion: """
      Checks everything as “verify” does, works out what it can from what is intact, drops the rest, and waits until \
      nodes that are connected have given it back; then checks again. Exit status: 0 all is well, 1 something is \
      damaged or missing still.
      """)

  @OptionGroup var shared: SharedOptions

  @Option(
    help: ArgumentHelp("Wait at most so many seconds for what is fetched anew.", valueName: "seconds"))
  var timeout = 60.0

  private struct Output: Encodable {
    /// As the first check found it.
    var before: [FeedCheckInfo]
    var repaired: [NodeRepair.Feed]
    /// As the last check found it.
    var after: [FeedCheckInfo]
    /// Blocks that this node held, and that no connected node has given back.
    var missingBlocks: UInt64
  }

  func validate() throws {
    if !(timeout >= 0) { throw ValidationError("--timeout must be 0 seconds or more.") }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      let before = try Verify.check(daemon)
      if !shared.json { Verify.show(before) }
      guard !before.isClean else {
        if shared.json {
          return try Console.printJSON(
            Output(before: before.feeds, repaired: [], after: before.feeds, missingBlocks: 0))
        }
        return Console.note("Nothing is damaged.")
      }
      let repaired = try daemon.call(NodeRepair.self, .init(id: before.id)).feeds
      if !shared.json { tell(repaired) }
      let missing = try wait(daemon, repaired)
      let after = try Verify.check(daemon)
      if shared.json {
        try Console.printJSON(
          Output(
            before: before.feeds, repaired: repaired, after: after.feeds, missingBlocks: missing))
      } else if after.isClean, missing == 0 {
        Console.note("All is well again.")
      } else {
        if !after.isClean { Verify.show(after) }
        if missing > 0 {
          Console.complain(
            "\(missing) blocks are missing still: connect to a node that has them (“hyphactl connect”); they come by "
              + "themselves then")
        }
      }
      if !after.isClean || missing > 0 { throw SharedOptions.Status.refused }
    }
  }

  private func tell(_ feeds: [NodeRepair.Feed]) {
    for feed in feeds {
      Console.note(
        "feed \(feed.key.prefix(8))…: \(feed.rebuiltNodes) tree nodes worked out, \(feed.resigned) signatures made anew, "
          + "\(feed.droppedBlocks) blocks to fetch"
          + (feed.begunAnew ? "; nothing here proves any of it, so it begins anew" : ""))
    }
  }

  /// - Returns: how many blocks did not come back in time.
  private func wait(
    _ daemon: ControlClient, _ feeds: [NodeRepair.Feed]
  ) throws(ControlFailure) -> UInt64 {
    let deadline = Timestamp.now.milliseconds + Int64(min(timeout, 86_400) * 1000)
    let progress = Progress("fetch ")
    defer { progress.end() }
    let wanted = feeds.reduce(0) { $0 + $1.heldBlocks }
    while true {
      let known = try daemon.status().feeds
      let held = feeds.reduce(UInt64(0)) { sum, feed in
        sum + min(known.first { $0.key == feed.key }?.heldBlocks ?? 0, feed.heldBlocks)
      }
      if held >= wanted || Timestamp.now.milliseconds >= deadline { return wanted - held }
      progress.show(held, of: wanted)
      usleep(100_000)
    }
  }
}
