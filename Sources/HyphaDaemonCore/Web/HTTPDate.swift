import HyphaControlAPI

/// A moment as headers of HTTP have it, to the second: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
struct HTTPDate: Comparable, CustomStringConvertible {
  /// Since 1970.
  let seconds: Int64

  private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  /// The second that a moment is in; none before 1970.
  init(_ time: Timestamp) {
    seconds = max(0, time.milliseconds) / 1000
  }

  /// - Returns: `nil` for another form, such as the two that are obsolete.
  init?(_ text: String) {
    let parts = text.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 6, parts[0].utf8.count == 4, parts[0].hasSuffix(","), parts[5] == "GMT",
      let month = Self.months.firstIndex(where: { $0 == parts[2] }),
      let time = Timestamp("\(parts[3])-\(Self.pad(month + 1))-\(parts[1])T\(parts[4])Z")
    else { return nil }
    self.init(time)
  }

  var description: String {
    let text = Array(Timestamp(milliseconds: seconds * 1000).description.utf8)
    func part(_ range: Range<Int>) -> String { String(decoding: text[range], as: UTF8.self) }
    let day = Self.days[Int(seconds / 86_400 % 7)]
    let month = Self.months[(Int(part(5..<7)) ?? 1) - 1]
    return "\(day), \(part(8..<10)) \(month) \(part(0..<4)) \(part(11..<19)) GMT"
  }

  static func < (a: Self, b: Self) -> Bool { a.seconds < b.seconds }

  private static func pad(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
