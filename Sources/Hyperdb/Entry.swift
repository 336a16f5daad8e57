public import Hypercore

/// One entry of a database: a key and what it was set to.
public struct Entry: Equatable, Sendable {
  public var key: [UInt8]
  /// `nil` for a deletion, and for the entry that authorises a writer, which sets the empty key to nothing.
  public var value: [UInt8]?
  public var isDeleted: Bool
  /// The feed that it is in.
  public var feed: PublicKey
  /// Its block there.
  public var seq: UInt64
  /// How many blocks of each feed its writer had seen, this one included, in the order of
  /// ``Hyperdb/writerKeys``; a feed beyond the end was not known.
  public var clock: [UInt64]

  /// The key as text; what is not UTF-8 is replaced.
  public var keyText: String { String(decoding: key, as: UTF8.self) }

  /// Of values that stand beside each other, the one to show where only one can be: the same on every node. That is the
  /// one whose writer had seen most, and of several such the one in the feed with the highest key; no deletion.
  public static func winner(of entries: [Entry]) -> Entry? {
    var winner: Entry?
    for entry in entries where !entry.isDeleted {
      guard let best = winner else {
        winner = entry
        continue
      }
      let (mine, theirs) = (best.seen, entry.seen)
      if theirs > mine || theirs == mine && best.feed.bytes.lexicographicallyPrecedes(entry.feed.bytes) {
        winner = entry
      }
    }
    return winner
  }

  /// Blocks of all feeds together; a writer can say what it likes.
  private var seen: UInt64 { clock.reduce(0) { $0.addingReportingOverflow($1).overflow ? .max : $0 + $1 } }
}

/// An entry as it stands in a block.
///
/// Source: hyperdb 3.5.0 `schema.proto`, messages `Entry` and `InflatedEntry`.
struct StoredEntry: Equatable {
  var key: [UInt8] = []
  var value: [UInt8]?
  var isDeleted = false
  var trie: [UInt8] = []
  var clock: [UInt64] = []
  /// The block of the entry that last named the feeds.
  var inflate: UInt64 = 0
  /// The feeds of the database, in the order that tries and clocks number them; in entries that name them.
  var feeds: [PublicKey] = []

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(
      key.count + (value?.count ?? 0) + trie.count + 8 * clock.count + 40 * feeds.count + 64)
    func append(_ field: UInt64, _ value: [UInt8]) {
      Varint.append(field << 3 | 2, to: &bytes)
      Varint.append(UInt64(value.count), to: &bytes)
      bytes.append(contentsOf: value)
    }
    func append(_ field: UInt64, _ value: UInt64) {
      Varint.append(field << 3, to: &bytes)
      Varint.append(value, to: &bytes)
    }
    append(1, key)
    if let value { append(2, value) }
    if isDeleted { append(3, 1) }
    append(4, trie)
    for count in clock { append(5, count) }
    append(6, inflate)
    for feed in feeds { append(7, [10, 32] + feed.bytes) }
    return bytes
  }

  /// - Returns: `nil` for bytes that are no entry, or over ``HyperdbLimits``.
  init?(decoding block: [UInt8]) {
    var reader = ByteReader(block[...])
    var hasKey = false
    var hasTrie = false
    while !reader.isAtEnd {
      guard let tag = reader.varint() else { return nil }
      switch tag & 7 {
      case 0:
        guard let number = reader.varint() else { return nil }
        switch tag >> 3 {
        case 3: isDeleted = number != 0
        case 5:
          guard clock.count < HyperdbLimits.writers else { return nil }
          clock.append(number)
        case 6: inflate = number
        default: continue
        }
      case 2:
        guard let count = reader.varint(), count <= UInt64(reader.rest.count),
          let bytes = reader.bytes(Int(count))
        else { return nil }
        switch tag >> 3 {
        case 1:
          guard bytes.count <= HyperdbLimits.keyBytes else { return nil }
          key = Array(bytes)
          hasKey = true
        case 2: value = Array(bytes)
        case 4:
          guard bytes.count <= HyperdbLimits.trieBytes else { return nil }
          trie = Array(bytes)
          hasTrie = true
        case 7:
          guard feeds.count < HyperdbLimits.writers, let feed = Self.feedKey(bytes) else { return nil }
          feeds.append(feed)
        default: continue
        }
      case 1, 5:
        guard reader.bytes(tag & 7 == 1 ? 8 : 4) != nil else { return nil }
      default: return nil
      }
    }
    guard hasKey, hasTrie, key.count(where: { $0 == UInt8(ascii: "/") }) < HyperdbLimits.keyComponents else {
      return nil
    }
  }

  /// The value alone, of a block that can be decoded.
  static func value(in block: [UInt8]) -> [UInt8]? {
    var reader = ByteReader(block[...])
    var value: ArraySlice<UInt8>?
    while let tag = reader.varint() {
      switch tag & 7 {
      case 0: _ = reader.varint()
      case 2:
        guard let count = reader.varint(), let bytes = reader.bytes(Int(clamping: count)) else { return nil }
        if tag >> 3 == 2 { value = bytes }
      default: _ = reader.bytes(tag & 7 == 1 ? 8 : 4)
      }
    }
    return value.map { Array($0) }
  }

  init(key: [UInt8], value: [UInt8]?, isDeleted: Bool) {
    self.key = key
    self.value = value
    self.isDeleted = isDeleted
  }

  /// A nested message with the key as its field 1.
  private static func feedKey(_ bytes: ArraySlice<UInt8>) -> PublicKey? {
    var reader = ByteReader(bytes)
    var key: PublicKey?
    while !reader.isAtEnd {
      guard let tag = reader.varint(), tag & 7 == 2, let count = reader.varint(),
        count <= UInt64(reader.rest.count), let value = reader.bytes(Int(count))
      else { return nil }
      if tag >> 3 == 1 { key = PublicKey(value) }
    }
    return key
  }
}
