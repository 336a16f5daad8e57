import Hypercore

/// Evidence of feeds that were signed in two versions, among the files that a page keeps: `forks/KEY` for each.
enum ForkFiles {
  private static let folder = "forks/"

  /// - Throws: `damaged` where a file proves nothing, so that a feed that was frozen does not count again unnoticed.
  static func read(_ files: [String: [UInt8]]) throws(WebError) -> [ForkEvidence] {
    var found: [ForkEvidence] = []
    for (name, bytes) in files where name.utf8.starts(with: folder.utf8) {
      guard let evidence = ForkEvidence(decoding: bytes), name == folder + evidence.key.hex else {
        throw WebError(
          "damaged",
          "what shows that a feed was signed in two versions is damaged here (\(name)). Remove this site’s data in the browser’s "
            + "settings, and sign in anew")
      }
      found.append(evidence)
    }
    return found
  }

  /// Has evidence kept in the place of what is there about the same feed.
  static func write(_ evidence: ForkEvidence, to journal: Journal) {
    let (name, bytes) = (folder + evidence.key.hex, evidence.encoded)
    journal.resize(name, to: UInt64(bytes.count))
    bytes.withUnsafeBytes { journal.write(name, $0, at: 0) }
  }
}
