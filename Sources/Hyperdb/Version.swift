import Hypercore

/// A state of a database: its newest entries, those that no other had seen.
///
/// As bytes it is, for each of them, the feed's key and the block as a varint. Source: hyperdb 3.5.0 `index.js`,
/// `version`.
public struct Version: Equatable, Sendable {
  struct Head: Equatable {
    var feed: PublicKey
    var seq: UInt64
  }

  let heads: [Head]

  init(_ heads: [Head]) {
    self.heads = heads
  }

  /// - Returns: `nil` for bytes that are no version, or of more writers than a database can have.
  public init?(_ bytes: [UInt8]) {
    var reader = ByteReader(bytes[...])
    var heads: [Head] = []
    while !reader.isAtEnd {
      guard heads.count < HyperdbLimits.writers, let key = reader.bytes(32), let feed = PublicKey(key),
        let seq = reader.varint()
      else { return nil }
      heads.append(Head(feed: feed, seq: seq))
    }
    self.heads = heads
  }

  public var bytes: [UInt8] {
    var bytes: [UInt8] = []
    for head in heads {
      bytes += head.feed.bytes
      Varint.append(head.seq, to: &bytes)
    }
    return bytes
  }
}
