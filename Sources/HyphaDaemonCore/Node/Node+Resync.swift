import Hypercore

/// For a node that cannot open what is on its disk: at its next start, where its owner asked for it by a file
/// `resync` in the state folder, it mends what it can, sets aside what it cannot even open, and fetches all that anew.
extension Node {
  /// - Returns: what the node is from now on.
  func resync(_ record: NodeRecord) throws(NodeError) -> NodeRecord {
    guard files.isResyncWanted else { return record }
    logger.notice("Looking for damage, because of the file resync in the state folder")
    var record = record
    var progress = StartProgress()
    for folder in try files.feedFolders() {
      guard let key = try files.key(of: folder, record) else {
        logger.error("A feed was set aside: its key cannot be read", metadata: ["folder": "\(folder)"])
        try files.setAside(folder)
        continue
      }
      let isOwn = folder == (record.role == .origin ? NodeFiles.source : NodeFiles.local)
      if isOwn, record.role == .origin || record.writer != nil {
        // Said first: a writer that finds its feed empty would else begin it anew, in the place of what it has signed.
        record.noteLoss()
        try files.write(record)
        try mendOrSetAside(folder, key, isOwn: true, &progress)
      } else {
        try mendOrSetAside(folder, key, isOwn: false, &progress)
      }
    }
    try files.endResync()
    return record
  }

  private func mendOrSetAside(
    _ folder: String, _ key: PublicKey, isOwn: Bool, _ progress: inout StartProgress
  ) throws(NodeError) {
    let storage = try files.feedFiles(folder)
    do throws(FeedError) {
      let feed: Feed<FileStorage>
      if isOwn {
        let writer: KeyPair
        do throws(NodeError) { writer = try files.readWriter() } catch {
          throw FeedError(.wrongKey, error.context)
        }
        feed = try Feed(files: storage, keyPair: writer, storeSecretKey: false)
      } else {
        feed = try Feed(files: storage, key: key)
      }
      let check = FeedCheck(feed)
      try check.run {
        progress.step {
          let (checked, total) = check.progress
          return "Looking for damage: \(checked) of \(total) in \(folder)"
        }
        return false
      }
      guard !check.damage.isNone else { return }
      let repair = try feed.repair(check.damage)
      logger.notice(
        "A damaged feed was mended",
        metadata: [
          "feed": "\(key.hex)", "droppedBlocks": "\(repair.droppedBlocks)",
          "rebuiltNodes": "\(repair.rebuiltNodes)",
        ])
    } catch {
      guard error.isDamage else { throw NodeError(opening: error) }
      logger.error(
        "A feed that cannot be opened was set aside, and is fetched anew",
        metadata: ["feed": "\(key.hex)", "folder": "\(folder)", "reason": "\(error.context)"])
      try files.setAside(folder)
    }
  }
}
