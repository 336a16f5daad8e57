/// A moment: in Swift the milliseconds since 1970, in JSON an RFC 3339 string in UTC
/// (`2026-01-31T12:34:56.789Z`).
public struct Timestamp: Codable, Comparable, Hashable, Sendable, CustomStringConvertible {
  public var milliseconds: Int64

  /// - Parameter milliseconds: since 1970-01-01T00:00:00Z.
  public init(milliseconds: Int64) {
    self.milliseconds = milliseconds
  }

  /// Reads RFC 3339 with any offset and any number of decimals (those beyond the third are cut off), or a date
  /// alone, which means its first moment in UTC. Years 1 to 9999.
  public init?(_ text: some StringProtocol) {
    var scanner = Scanner(text)
    guard let year = scanner.digits(4), scanner.skip("-"), let month = scanner.digits(2), scanner.skip("-"),
      let day = scanner.digits(2), year >= 1, (1...12).contains(month),
      (1...Self.days(inMonth: month, of: year)).contains(day)
    else { return nil }
    var milliseconds = Self.days(toYear: year, month: month, day: day) * 86_400_000
    if !scanner.isAtEnd {
      guard scanner.skip("T") || scanner.skip("t") || scanner.skip(" "),
        let hour = scanner.digits(2), scanner.skip(":"), let minute = scanner.digits(2), scanner.skip(":"),
        let second = scanner.digits(2), hour < 24, minute < 60, second < 61
      else { return nil }
      milliseconds += ((hour * 60 + minute) * 60 + second) * 1000
      if scanner.skip(".") {
        guard let fraction = scanner.fraction() else { return nil }
        milliseconds += fraction
      }
      guard let offset = scanner.offsetMinutes(), scanner.isAtEnd else { return nil }
      milliseconds -= offset * 60_000
    }
    self.milliseconds = milliseconds
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let time = Self(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "expected a time such as 2026-01-31T12:34:56Z")
    }
    self = time
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }

  /// RFC 3339 in UTC with milliseconds.
  public var description: String {
    let (day, rest) = milliseconds.quotientAndModulus(86_400_000)
    let date = Self.date(ofDay: day)
    return "\(Self.pad(date.year, 4))-\(Self.pad(date.month, 2))-\(Self.pad(date.day, 2))"
      + "T\(Self.pad(rest / 3_600_000, 2)):\(Self.pad(rest / 60_000 % 60, 2)):\(Self.pad(rest / 1000 % 60, 2))"
      + ".\(Self.pad(rest % 1000, 3))Z"
  }

  public static func < (a: Self, b: Self) -> Bool { a.milliseconds < b.milliseconds }

  private static func pad(_ number: Int64, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
  }

  private static func days(inMonth month: Int64, of year: Int64) -> Int64 {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Days from 1970-01-01, in the proleptic Gregorian calendar. Years begin in March here, so that the leap day is
  /// a year's last.
  private static func days(toYear year: Int64, month: Int64, day: Int64) -> Int64 {
    let y = month > 2 ? year : year - 1
    let (era, yearOfEra) = y.quotientAndModulus(400)
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  private static func date(ofDay day: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let (era, dayOfEra) = (day + 719_468).quotientAndModulus(146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let m = (5 * dayOfYear + 2) / 153
    let month = m < 10 ? m + 3 : m - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * m + 2) / 5 + 1)
  }
}

/// Reads a timestamp's parts from the front of a text.
private struct Scanner {
  private var rest: ArraySlice<UInt8>

  init(_ text: some StringProtocol) {
    rest = Array(text.utf8)[...]
  }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard let next = rest.first, UInt32(next) == character.value else { return false }
    rest.removeFirst()
    return true
  }

  mutating func digits(_ count: Int) -> Int64? {
    guard rest.count >= count, rest.prefix(count).allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    defer { rest.removeFirst(count) }
    return rest.prefix(count).reduce(0) { $0 * 10 + Int64($1 - 0x30) }
  }

  /// The decimals of a second, as milliseconds.
  mutating func fraction() -> Int64? {
    let decimals = rest.prefix { (0x30...0x39).contains($0) }
    guard !decimals.isEmpty else { return nil }
    rest.removeFirst(decimals.count)
    return (0..<3).reduce(0) { sum, place in
      let index = decimals.startIndex + place
      return sum * 10 + (index < decimals.endIndex ? Int64(decimals[index] - 0x30) : 0)
    }
  }

  mutating func offsetMinutes() -> Int64? {
    if skip("Z") || skip("z") { return 0 }
    let sign: Int64
    if skip("+") {
      sign = 1
    } else if skip("-") {
      sign = -1
    } else {
      return nil
    }
    guard let hours = digits(2), skip(":"), let minutes = digits(2), hours < 24, minutes < 60 else {
      return nil
    }
    return sign * (hours * 60 + minutes)
  }
}

extension Int64 {
  /// Division that rounds down, so that the remainder is never negative.
  fileprivate func quotientAndModulus(_ divisor: Int64) -> (Int64, Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
