import Hypercore
import Hypha
public import HyphaControlAPI

/// Checking what is on disk, and mending it.
extension Node {
  /// A check of all feeds, a slice at a time.
  final class Verification {
    let id: String
    let feeds: [(check: FeedCheck<FileStorage>, folder: String)]
    var failure: NodeError?
    var isDone = false
    /// A check that nobody asks for is given up.
    var lastUse: Int64

    init(id: String, feeds: [(FeedCheck<FileStorage>, String)], now: Int64) {
      self.id = id
      self.feeds = feeds
      lastUse = now
    }
  }

  /// Milliseconds that the node is busy with a check at a time, and then is not.
  private static let sliceMilliseconds: Int64 = 20
  private static let pauseMilliseconds = 5

  public func verify(_ params: NodeVerify.Params) async throws(ControlError) -> NodeVerify.Result {
    guard record != nil, let hypha else { throw Self.notInitialised }
    if let id = params.id {
      guard check?.id == id else {
        throw ControlError(
          .notFound, "There is no such check: what the node holds changed meanwhile, or it was given up.",
          field: "id")
      }
    } else if check == nil || check?.isDone == true || check?.failure != nil {
      begin(try checks(hypha))
    }
    guard let check else { throw Self.notInitialised }
    let deadline = monotonic + Int64((params.waitSeconds ?? ControlLimits.verifyWaitSeconds) * 1000)
    while !check.isDone, check.failure == nil, self.check === check, monotonic < deadline, !Task.isCancelled {
      check.lastUse = monotonic
      try? await Task.sleep(for: .milliseconds(20))
    }
    check.lastUse = monotonic
    if let failure = check.failure { throw Self.controlError(failure) }
    guard self.check === check else {
      throw ControlError(
        .notFound, "What the node holds changed meanwhile: begin the check anew.", field: "id")
    }
    return result(check)
  }

  private func checks(
    _ hypha: Hypha<FileStorage>
  ) throws(ControlError) -> [(FeedCheck<FileStorage>, String)] {
    do throws(HyphaError) {
      var feeds = try hypha.feeds()
      if let local = hypha.database.local, !feeds.contains(where: { $0 === local }) { feeds.append(local) }
      return feeds.map { (FeedCheck($0), place(of: $0, hypha).folder) }
    } catch {
      throw Self.controlError(error)
    }
  }

  private func begin(_ feeds: [(FeedCheck<FileStorage>, String)]) {
    let check = Verification(id: Hex.encode(Self.random(8)), feeds: feeds, now: monotonic)
    self.check = check
    Task { await run(check) }
  }

  private func run(_ check: Verification) async {
    for (feed, _) in check.feeds {
      while !feed.isDone {
        guard self.check === check, !isStopping else { return }
        if monotonic > check.lastUse + ControlLimits.backupIdleSeconds * 1000 {
          self.check = nil
          return
        }
        let end = monotonic + Self.sliceMilliseconds
        do throws(FeedError) { try feed.run { monotonic >= end } } catch {
          check.failure = NodeError(opening: error)
          return
        }
        try? await Task.sleep(for: .milliseconds(Self.pauseMilliseconds))
      }
      if !feed.damage.isNone {
        logger.error(
          "A check found a damaged feed: “hyphactl verify” shows what, “hyphactl repair” mends it",
          metadata: ["feed": "\(feed.feed.key.hex)"])
      }
    }
    check.isDone = true
  }

  private func result(_ check: Verification) -> NodeVerify.Result {
    var (checked, total): (UInt64, UInt64) = (0, 0)
    for (feed, _) in check.feeds {
      let progress = feed.progress
      checked += progress.checked
      total += progress.total
    }
    return NodeVerify.Result(
      id: check.id, done: check.isDone, checked: checked, total: total,
      feeds: check.feeds.map { FeedCheckInfo($0.check, folder: files.folder.path(of: $0.folder)) })
  }

  // MARK: - Repair

  public func repair(_ params: NodeRepair.Params) async throws(ControlError) -> NodeRepair.Result {
    guard var record else { throw Self.notInitialised }
    guard let check, check.id == params.id, check.isDone else {
      throw ControlError(.notFound, "There is no such check that is done: begin one anew.", field: "id")
    }
    try checkRoom()
    guard flushNow(), self.check === check else {
      throw ControlError(.storageFailed, "The last changes could not be made durable.")
    }
    let damaged = check.feeds.map { $0.check }.filter { !$0.damage.isNone }
    guard !damaged.isEmpty else { return NodeRepair.Result(feeds: []) }
    var mended: [NodeRepair.Feed] = []
    do throws(NodeError) {
      // What it wrote is to be here again before it writes more.
      if record.catchesUp != true,
        damaged.contains(where: { $0.feed.isWritable && !$0.damage.blocks.isEmpty })
      {
        record.noteLoss()
        try files.write(record)
        self.record = record
      }
      for check in damaged { mended.append(try mend(check)) }
      try reopen(record)
    } catch {
      stopForGood(error)
      throw Self.controlError(error)
    }
    return NodeRepair.Result(feeds: mended)
  }

  private func mend(_ check: FeedCheck<FileStorage>) throws(NodeError) -> NodeRepair.Feed {
    let feed = check.feed
    let held = feed.heldBlocks
    let repair: Feed<FileStorage>.Repair
    do throws(FeedError) { repair = try feed.repair(check.damage) } catch { throw NodeError(opening: error) }
    logger.notice(
      "A damaged feed was mended",
      metadata: [
        "feed": "\(feed.key.hex)", "droppedBlocks": "\(repair.droppedBlocks)",
        "rebuiltNodes": "\(repair.rebuiltNodes)", "resigned": "\(repair.resigned)",
        "begunAnew": "\(repair.isBegunAnew)",
      ])
    return NodeRepair.Feed(
      key: feed.key.hex, droppedBlocks: repair.droppedBlocks, rebuiltNodes: repair.rebuiltNodes,
      resigned: repair.resigned, begunAnew: repair.isBegunAnew, heldBlocks: held)
  }
}

extension FeedCheckInfo {
  fileprivate init(_ check: FeedCheck<FileStorage>, folder: String) {
    let damage = check.damage
    self.init(
      key: check.feed.key.hex, writable: check.feed.isWritable, folder: folder, length: check.length,
      heldBlocks: check.feed.heldBlocks, checkedBlocks: check.checkedBlocks, checkedNodes: check.checkedNodes,
      checkedSignatures: check.checkedSignatures,
      damagedBlocks: damage.blocks.prefix(ControlLimits.damagePerFeed).map {
        NumberRange(first: $0.lowerBound, last: $0.upperBound - 1)
      },
      damagedNodes: Self.ranges(damage.nodes), damagedSignatures: Self.ranges(damage.signatures),
      damaged: damage.blockCount + UInt64(damage.nodes.count + damage.signatures.count))
  }

  private static func ranges(_ numbers: [UInt64]) -> [NumberRange] {
    var ranges: [NumberRange] = []
    for number in numbers.sorted() {
      if let last = ranges.last, last.last + 1 == number {
        ranges[ranges.count - 1].last = number
      } else if ranges.count < ControlLimits.damagePerFeed {
        ranges.append(NumberRange(first: number, last: number))
      }
    }
    return ranges
  }
}
