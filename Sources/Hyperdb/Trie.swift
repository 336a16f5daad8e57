import Hypercore

/// Where an entry is: which writer's feed, and which block.
struct Pointer: Hashable {
  var writer: Int
  var seq: UInt64
}

/// An entry's trie: at each position of its path, pointers to the entries of keys that differ there, by their
/// value. Kept as encoded, since most lookups read one bucket of it.
///
/// Source: hyperdb 3.5.0 `lib/trie-encoding.js`.
struct Trie: Equatable {
  /// Values at a position: four of two bits, and the terminator.
  static let values = 5

  /// One position: pointers by value.
  struct Bucket {
    var position: Int
    var pointers: [[Pointer]]

    init(position: Int, isEmpty: Bool = false) {
      self.position = position
      pointers = isEmpty ? [] : Array(repeating: [], count: Trie.values)
    }
  }

  let encoded: [UInt8]
  /// The writers by the numbers that this trie has for them, which are its own writer's.
  private let writers: [Int]

  /// Encodes buckets, which are in order of their positions.
  init(_ buckets: [Bucket], _ feeds: FeedList) {
    writers = feeds.writers
    var bytes: [UInt8] = []
    for bucket in buckets {
      Varint.append(UInt64(bucket.position), to: &bytes)
      var bits: UInt64 = 0
      for (value, pointers) in bucket.pointers.enumerated() where !pointers.isEmpty {
        bits |= 1 << UInt64(value)
      }
      Varint.append(bits, to: &bytes)
      for pointers in bucket.pointers {
        for (place, pointer) in pointers.enumerated() {
          Varint.append(
            UInt64(feeds.positions[pointer.writer]) * 2 + (place < pointers.count - 1 ? 1 : 0), to: &bytes)
          Varint.append(pointer.seq, to: &bytes)
        }
      }
    }
    encoded = bytes
  }

  /// Takes over a trie as read, once all of it makes sense.
  ///
  /// - Parameters:
  ///   - pathCount: number of values in the entry's path; a trie has no position beyond.
  ///   - isValid: whether there can be such an entry, its writer numbered as in the database.
  /// - Returns: `nil` where it does not make sense.
  init?(decoding bytes: [UInt8], _ feeds: FeedList, pathCount: Int, isValid: (Pointer) -> Bool) {
    encoded = bytes
    writers = feeds.writers
    var last = -1
    var reader = ByteReader(bytes[...])
    while !reader.isAtEnd {
      guard let bucket = readBucket(&reader, skippingBelow: 0), bucket.position > last,
        bucket.position < pathCount,
        bucket.pointers.allSatisfy({ $0.allSatisfy(isValid) })
      else { return nil }
      last = bucket.position
    }
  }

  /// The first bucket at a position or behind it.
  func firstBucket(from position: Int) -> Bucket? {
    var reader = ByteReader(encoded[...])
    while !reader.isAtEnd, let bucket = readBucket(&reader, skippingBelow: position) {
      if bucket.position >= position { return bucket }
    }
    return nil
  }

  /// The pointers at a position for one value, in order; none where there is no such bucket.
  func pointers(at position: Int, value: UInt8) -> [Pointer] {
    var pointers: [Pointer] = []
    var reader = ByteReader(encoded[...])
    while let found = reader.varint(), found <= UInt64(position), let bits = reader.varint() {
      for candidate in 0..<Self.values where bits & (1 << UInt64(candidate)) != 0 {
        let isWanted = found == UInt64(position) && candidate == value
        while let writer = reader.varint(), let seq = reader.varint() {
          if isWanted { pointers.append(Pointer(writer: writers[Int(writer >> 1)], seq: seq)) }
          if writer & 1 == 0 { break }
        }
      }
    }
    return pointers
  }

  /// Finds buckets at ever higher positions without beginning anew each time.
  struct Cursor {
    private let trie: Trie
    private var reader: ByteReader
    /// The last bucket read; beyond all positions at the end.
    private var next = Bucket(position: -1, isEmpty: true)

    init(_ trie: Trie) {
      self.trie = trie
      reader = ByteReader(trie.encoded[...])
    }

    /// The bucket at a position, which is higher than that of the call before.
    mutating func bucket(at position: Int) -> Bucket? {
      while next.position < position {
        next =
          (reader.isAtEnd ? nil : trie.readBucket(&reader, skippingBelow: position))
          ?? Bucket(position: .max, isEmpty: true)
      }
      return next.position == position ? next : nil
    }
  }

  /// - Parameter skipped: at positions below this one, pointers are read over and not kept.
  private func readBucket(_ reader: inout ByteReader, skippingBelow skipped: Int) -> Bucket? {
    guard let position = reader.varint(), let bits = reader.varint(), position < 1 << 20,
      bits < 1 << UInt64(Self.values)
    else { return nil }
    let isKept = Int(position) >= skipped
    var bucket = Bucket(position: Int(position), isEmpty: !isKept)
    for value in 0..<Self.values where bits & (1 << UInt64(value)) != 0 {
      while true {
        guard let writer = reader.varint(), let seq = reader.varint(), writer >> 1 < UInt64(writers.count)
        else { return nil }
        if isKept { bucket.pointers[value].append(Pointer(writer: writers[Int(writer >> 1)], seq: seq)) }
        if writer & 1 == 0 { break }
      }
    }
    return bucket
  }
}
