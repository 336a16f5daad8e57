import Hypercore

extension NodeFiles {
  static let forks = "hypha/forks"

  /// Keeps evidence in the place of what is there about the same feed, durably.
  func write(_ evidence: ForkEvidence) throws(NodeError) {
    do throws(StorageError) { try folder.makeFolder(Self.forks) } catch { throw NodeError(error) }
    try replace("\(Self.forks)/\(Crypto.discoveryKey(evidence.key).hex)", evidence.encoded)
  }

  /// - Throws: `.damaged` where a file proves nothing, so that a feed that was frozen does not count again unnoticed.
  func readForks() throws(NodeError) -> [ForkEvidence] {
    var found: [ForkEvidence] = []
    for name in try names(in: Self.forks) {
      let path = folder.path(of: "\(Self.forks)/\(name)")
      // What a stop left of a file that was being replaced.
      guard DiscoveryKey(hex: name) != nil else { continue }
      let bytes: [UInt8]?
      do throws(StorageError) { bytes = try AtomicFile.read(path) } catch { throw NodeError(error) }
      guard let bytes else { continue }
      guard let evidence = ForkEvidence(decoding: bytes), Crypto.discoveryKey(evidence.key).hex == name else {
        throw NodeError(
          .damaged,
          "\(path) is damaged: it keeps a feed frozen that was signed in two versions. Restore it from a backup of the folder; without "
            + "it, move it away, and the feed counts again until the two versions meet again. Nothing was changed."
        )
      }
      found.append(evidence)
    }
    return found
  }
}
