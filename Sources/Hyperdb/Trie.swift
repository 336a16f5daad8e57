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
  static let values: UInt8 = 5

  /// A pointer, and for which value at which position it stands.
  struct Item {
    var position: Int
    var value: UInt8
    var pointer: Pointer
  }

  let encoded: [UInt8]
  /// The writers by the numbers that this trie has for them, which are its own writer's.
  private let writers: [Int]

  /// Encodes pointers, which are in order of position and value.
  init(_ items: [Item], _ feeds: FeedList) {
    writers = feeds.writers
    var bytes: [UInt8] = []
    bytes.reserveCapacity(6 * items.count)
    var start = 0
    while start < items.count {
      let position = items[start].position
      var end = start
      var bits: UInt64 = 0
      while end < items.count, items[end].position == position {
        bits |= 1 << UInt64(items[end].value)
        end += 1
      }
      Varint.append(UInt64(position), to: &bytes)
      Varint.append(bits, to: &bytes)
      for place in start..<end {
        let item = items[place]
        let more: UInt64 = place + 1 < end && items[place + 1].value == item.value ? 1 : 0
        Varint.append(UInt64(feeds.positions[item.pointer.writer]) * 2 + more, to: &bytes)
        Varint.append(item.pointer.seq, to: &bytes)
      }
      start = end
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
    var cursor = Cursor(self)
    while let position = cursor.nextBucket() {
      guard position > last, position < pathCount else { return nil }
      last = position
      while let item = cursor.nextItem() {
        guard isValid(item.pointer) else { return nil }
      }
    }
    guard cursor.isComplete else { return nil }
  }

  /// The pointers at the first position from this one on that has any.
  func firstBucket(from position: Int) -> (position: Int, items: [Item])? {
    var cursor = Cursor(self)
    guard let found = cursor.bucket(from: position) else { return nil }
    var items: [Item] = []
    while let item = cursor.nextItem() { items.append(item) }
    return (found, items)
  }

  /// The first position from this one on that has pointers.
  func firstPosition(from position: Int) -> Int? {
    var cursor = Cursor(self)
    return cursor.bucket(from: position)
  }

  /// The pointers at a position for one value, in order: the first, and the others.
  func pointers(at position: Int, value: UInt8) -> (first: Pointer, others: [Pointer])? {
    var cursor = Cursor(self)
    guard cursor.bucket(from: position) == position else { return nil }
    var first: Pointer?
    var others: [Pointer] = []
    while let item = cursor.nextItem() {
      if item.value > value { break }
      if item.value < value { continue }
      if first == nil { first = item.pointer } else { others.append(item.pointer) }
    }
    return first.map { ($0, others) }
  }

  func hasPointers(at position: Int, value: UInt8) -> Bool {
    pointers(at: position, value: value) != nil
  }

  /// Reads a trie from its beginning to its end.
  struct Cursor {
    private let bytes: [UInt8]
    private let writers: [Int]
    /// Bytes read.
    private var place = 0
    private var position = -1
    /// The values of the bucket that have not been read.
    private var bits: UInt64 = 0
    private var isBroken = false

    init(_ trie: Trie) {
      bytes = trie.encoded
      writers = trie.writers
    }

    /// Everything was read, and made sense.
    var isComplete: Bool { !isBroken && place == bytes.count }

    /// Passes over the rest of a bucket, and goes into the next.
    ///
    /// - Returns: its position, or `nil` at the end.
    mutating func nextBucket() -> Int? {
      while bits != 0 {
        guard let writer = varint(), varint() != nil else {
          fail()
          break
        }
        if writer & 1 == 0 { bits &= bits - 1 }
      }
      guard !isBroken, place < bytes.count else { return nil }
      guard let position = varint(), let bits = varint(), position < 1 << 20,
        bits < 1 << UInt64(Trie.values)
      else {
        fail()
        return nil
      }
      self.position = Int(position)
      self.bits = bits
      return self.position
    }

    /// Goes into the first bucket at a position or behind it, which is that of the call before where that is not
    /// passed.
    mutating func bucket(from position: Int) -> Int? {
      if self.position >= position { return self.position == .max ? nil : self.position }
      while let found = nextBucket() {
        if found >= position { return found }
      }
      self.position = .max
      return nil
    }

    /// The next pointer of the bucket, or `nil` after the last.
    mutating func nextItem() -> Item? {
      guard bits != 0 else { return nil }
      let value = UInt8(bits.trailingZeroBitCount)
      guard let writer = varint(), let seq = varint(), writer >> 1 < UInt64(writers.count) else {
        fail()
        return nil
      }
      if writer & 1 == 0 { bits &= bits - 1 }
      return Item(
        position: position, value: value, pointer: Pointer(writer: writers[Int(writer >> 1)], seq: seq))
    }

    private mutating func fail() {
      isBroken = true
      bits = 0
    }

    /// As ``Varint/read(_:)``, but quicker here, where most of a look-up's time is spent.
    @inline(__always)
    private mutating func varint() -> UInt64? {
      var value: UInt64 = 0
      var shift: UInt64 = 0
      while place < bytes.count, shift < 64 {
        let byte = bytes[place]
        place += 1
        if shift == 63, byte > 1 { return nil }
        value |= UInt64(byte & 127) << shift
        if byte < 128 { return value }
        shift += 7
      }
      return nil
    }
  }
}
