import Hypercore

/// Evidence that a feed's owner signed two versions of it, as it is kept.
struct ForkEvidence {
  let key: PublicKey
  let fork: Fork
  /// Blocks that both versions have in common, as far as this node could tell; they count.
  let common: UInt64

  init(key: PublicKey, fork: Fork, common: UInt64) {
    self.key = key
    self.fork = fork
    self.common = common
  }

  /// The key (32 bytes), the blocks in common (8 bytes, most significant first), ``Hypercore/Fork/encode()``.
  var encoded: [UInt8] {
    key.bytes + (0..<8).map { UInt8(truncatingIfNeeded: common >> (56 - 8 * UInt64($0))) } + fork.encode()
  }

  /// - Returns: `nil` for anything that proves nothing: both signatures are verified.
  init?(decoding bytes: [UInt8]) {
    guard bytes.count > 40, let key = PublicKey(bytes.prefix(32)),
      let fork = Fork(decoding: Array(bytes.dropFirst(40)), key: key)
    else { return nil }
    self.key = key
    self.fork = fork
    common = bytes[32..<40].reduce(0) { $0 << 8 | UInt64($1) }
  }
}

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
