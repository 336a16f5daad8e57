import CSodium
import Hypercore

/// A key as the trie sees it: for each component 32 values of two bits from a hash, and at the end a value that
/// only keys have.
///
/// Source: hyperdb 3.5.0 `lib/hash.js`, `lib/normalize.js`.
struct KeyPath: Equatable {
  /// The value behind a key's last component.
  static let terminator: UInt8 = 4
  private static let valuesPerComponent = 32

  /// SipHash-2-4 under a key of zeros, of each component.
  private var hashes: [UInt64]
  /// The last value, where it is not part of a component: the terminator.
  private(set) var isTerminated: Bool
  /// Number of values, without the terminator; less than whole components for the start of a path.
  private var valueCount: Int

  /// - Parameter terminated: a key's own path; without, that of all keys below it.
  init(_ key: ArraySlice<UInt8>, terminated: Bool) {
    var hashes: [UInt64] = []
    Self.forEachComponent(of: key) { hashes.append(Self.hash($0)) }
    self.hashes = hashes
    isTerminated = terminated
    valueCount = hashes.count * Self.valuesPerComponent
  }

  var count: Int { valueCount + (isTerminated ? 1 : 0) }

  subscript(_ position: Int) -> UInt8 {
    if position == valueCount { return Self.terminator }
    // 32 values, of two bits each, are one hash.
    return UInt8(truncatingIfNeeded: hashes[position >> 5] >> UInt64(2 * (position & 31))) & 3
  }

  /// The first position from `start` on where another path may have another value: all before it are the same in both.
  func firstDifference(_ other: KeyPath, from start: Int) -> Int {
    let end = min(valueCount, other.valueCount)
    var position = start
    while position < end {
      let difference = (hashes[position >> 5] ^ other.hashes[position >> 5]) >> UInt64(2 * (position & 31))
      if difference != 0 { return min(position + difference.trailingZeroBitCount / 2, end) }
      position = (position | 31) + 1
    }
    return max(start, end)
  }

  /// Which path an iteration comes to first, by their first values: below 0 for this one, above for the other, 0
  /// where they are the same, or one is the other's start. The end of a path comes before what goes on.
  func order(_ other: KeyPath, first count: Int = .max) -> Int {
    func rank(_ value: UInt8) -> Int { value == Self.terminator ? -1 : Int(value) }
    for position in 0..<min(count, self.count, other.count) where self[position] != other[position] {
      return rank(self[position]) - rank(other[position])
    }
    return 0
  }

  /// The first values.
  func prefix(_ count: Int) -> KeyPath {
    var path = self
    path.isTerminated = isTerminated && count > valueCount
    path.valueCount = min(count, valueCount)
    return path
  }

  /// The path that is the same before `position`, and has `value` there as its last.
  func diverted(at position: Int, to value: UInt8) -> KeyPath {
    var path = self
    path.isTerminated = value == Self.terminator
    path.valueCount = min(position, valueCount)
    if value == Self.terminator { return path }
    let (component, place) = position.quotientAndRemainder(dividingBy: Self.valuesPerComponent)
    while path.hashes.count <= component { path.hashes.append(0) }
    let shift = UInt64(2 * place)
    path.hashes[component] = path.hashes[component] & ~(3 << shift) | UInt64(value) << shift
    path.valueCount = position + 1
    return path
  }

  /// What is between slashes, but for one at either end.
  private static func forEachComponent(of key: ArraySlice<UInt8>, _ body: (ArraySlice<UInt8>) -> Void) {
    let slash = UInt8(ascii: "/")
    guard key.contains(where: { $0 != slash }) || key.count > 1 else { return }
    var key = key
    if key.first == slash { key.removeFirst() }
    if key.last == slash { key.removeLast() }
    var start = key.startIndex
    for place in key.indices where key[place] == slash {
      body(key[start..<place])
      start = place + 1
    }
    body(key[start...])
  }

  private static func hash(_ component: ArraySlice<UInt8>) -> UInt64 {
    var output: UInt64 = 0
    withUnsafeMutableBytes(of: &output) { output in
      withUnsafeBytes(of: (UInt64(0), UInt64(0))) { key in
        component.withUnsafeBufferPointer { bytes in
          _ = crypto_shorthash(
            output.octets, UnsafeRawBufferPointer(bytes).octets, UInt64(bytes.count), key.octets)
        }
      }
    }
    return UInt64(littleEndian: output)
  }
}
