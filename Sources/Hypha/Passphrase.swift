import CSodium
public import Hypercore

/// A Diceware passphrase: words of the EFF's long list, each worth 12.92 bits. It is the only key to a hypha, and
/// lives in locked memory that is zeroed.
public struct Passphrase: ~Copyable {
  /// Words in lower case with one space between, as UTF-8.
  public let bytes: SecretBytes
  public let wordCount: Int

  /// Number of words on the list.
  public static var listLength: Int { WordList.words.count }

  /// Bits of entropy of a random passphrase of `words` words, rounded down: 8 words give 103.
  public static func entropy(words: Int) -> Int {
    // log2(7776) = 12.9248…
    words * 129_248 / 10_000
  }

  /// A new random one.
  ///
  /// - Precondition: `words` is in ``HyphaLimits/passphraseWords``.
  public init(randomWords words: Int = HyphaLimits.passphraseWords.lowerBound) {
    precondition(HyphaLimits.passphraseWords.contains(words))
    var chosen: [String] = []
    for _ in 0..<words {
      chosen.append(WordList.words[Int(randombytes_uniform(UInt32(WordList.words.count)))])
    }
    self.init(words: chosen)
  }

  /// One that a person typed: case, kinds of spaces and of hyphens do not matter.
  ///
  /// - Throws: `.badPassphrase` where there are too few or too many words, or one is not on the list; the error
  ///   names that word's place and, where one is near, the word that was perhaps meant.
  public init(typed text: String) throws(HyphaError) {
    let typed = Self.split(text)
    guard typed.count >= HyphaLimits.passphraseWords.lowerBound else {
      throw HyphaError(
        .badPassphrase,
        "the passphrase has \(typed.count) words; at least \(HyphaLimits.passphraseWords.lowerBound) are needed"
      )
    }
    guard typed.count <= HyphaLimits.passphraseWords.upperBound else {
      throw HyphaError(
        .badPassphrase, "the passphrase has over \(HyphaLimits.passphraseWords.upperBound) words")
    }
    for (place, word) in typed.enumerated() where !Self.isListed(word) {
      let hint = Self.nearest(to: word).map { "; did you mean “\($0)”?" } ?? ""
      throw HyphaError(.badPassphrase, "word \(place + 1) of the passphrase is not on the word list\(hint)")
    }
    self.init(words: typed)
  }

  private init(words: [String]) {
    let count = words.reduce(words.count - 1) { $0 + $1.utf8.count }
    bytes = SecretBytes(count: count) { (memory: UnsafeMutableRawBufferPointer) in
      var offset = 0
      for word in words {
        if offset > 0 {
          memory[offset] = UInt8(ascii: " ")
          offset += 1
        }
        for byte in word.utf8 {
          memory[offset] = byte
          offset += 1
        }
      }
    }
    wordCount = words.count
  }

  /// The words as text, to be shown to the person once.
  public func reveal() -> String {
    bytes.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  // MARK: - Words

  /// A typed word that is not on the list.
  public struct WrongWord: Equatable, Sendable {
    /// From 1 on.
    public var place: Int
    /// The word that was perhaps meant.
    public var hint: String?
  }

  /// What a person has typed so far: the number of words, and those that are not on the list.
  public static func check(typed text: String) -> (words: Int, wrong: [WrongWord]) {
    let words = split(text)
    var wrong: [WrongWord] = []
    for (place, word) in words.prefix(HyphaLimits.passphraseWords.upperBound).enumerated() {
      if !isListed(word) { wrong.append(WrongWord(place: place + 1, hint: nearest(to: word))) }
    }
    return (words.count, wrong)
  }

  /// The words of a typed text: lower case, plain hyphens.
  static func split(_ text: String) -> [String] {
    var words: [String] = []
    var word = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x09...0x0d, 0x20, 0x85, 0xa0, 0x1680, 0x2000...0x200b, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000,
        0xfeff:
        if !word.isEmpty { words.append(String(word)) }
        word = String.UnicodeScalarView()
      case 0x2010...0x2015, 0x2212, 0xff0d:
        word.append("-")
      case 0x41...0x5a:
        word.append(Unicode.Scalar(UInt8(scalar.value) + 32))
      case 0xff21...0xff3a:
        word.append(Unicode.Scalar(UInt8(scalar.value - 0xff21) + 0x61))
      case 0xff41...0xff5a:
        word.append(Unicode.Scalar(UInt8(scalar.value - 0xff41) + 0x61))
      default:
        word.append(scalar)
      }
    }
    if !word.isEmpty { words.append(String(word)) }
    return words
  }

  /// Whether a word is on the list, by halving it.
  static func isListed(_ word: String) -> Bool {
    let words = WordList.words
    let sought = Array(word.utf8)
    var range = 0..<words.count
    while !range.isEmpty {
      let middle = range.lowerBound + range.count / 2
      let candidate = Array(words[middle].utf8)
      if candidate == sought { return true }
      range =
        candidate.lexicographicallyPrecedes(sought)
        ? middle + 1..<range.upperBound : range.lowerBound..<middle
    }
    return false
  }

  /// The word of the list that differs least, if by no more than two letters.
  static func nearest(to word: String) -> String? {
    let sought = Array(word.utf8)
    guard sought.count <= 32 else { return nil }
    var best: (word: String, distance: Int)?
    for candidate in WordList.words where abs(candidate.utf8.count - sought.count) <= 2 {
      let distance = distance(Array(candidate.utf8), sought)
      if distance <= 2, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.word
  }

  /// Letters to insert, delete, replace or swap with the next to make `a` into `b`.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var before: [Int] = []
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var best = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, before[j - 1] + 1) }
        row.append(best)
      }
      (before, last) = (last, row)
    }
    return last[b.count]
  }
}
