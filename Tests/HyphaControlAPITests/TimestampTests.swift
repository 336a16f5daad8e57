import FoundationEssentials
import HyphaControlAPI
import Testing

@Suite struct TimestampTests {
  @Test(
    arguments: [
      ("1970-01-01T00:00:00Z", 0), ("1970-01-01", 0), ("2026-01-31T12:34:56.789Z", 1_769_862_896_789),
      ("2026-01-31T13:34:56.7891234+01:00", 1_769_862_896_789), ("2026-01-31t12:34:56.7z", 1_769_862_896_700),
      ("2000-02-29T23:59:59Z", 951_868_799_000), ("1969-12-31T23:59:59.999Z", -1),
      ("0001-01-01T00:00:00Z", -62_135_596_800_000), ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
      ("2026-01-31 12:34:56-00:30", 1_769_864_696_000),
    ] as [(String, Int64)])
  func reads(text: String, milliseconds: Int64) {
    #expect(Timestamp(text)?.milliseconds == milliseconds)
  }

  @Test(arguments: [
    "", "2026", "2026-13-01", "2026-02-29", "2026-00-01", "2026-01-00", "0000-01-01", "2026-01-31T",
    "2026-01-31T12:34Z", "2026-01-31T12:34:56", "2026-01-31T24:00:00Z", "2026-01-31T12:34:56.Z",
    "2026-01-31T12:34:56Zx", "2026-01-31T12:34:56+1:00", "٢٠٢٦-01-01", "2026-1-1",
  ])
  func refuses(text: String) {
    #expect(Timestamp(text) == nil)
  }

  /// Foundation's own formatter is the model.
  @Test func agreesWithFoundation() throws {
    var random = SeededRandom(seed: 3)
    let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
    for _ in 0..<2000 {
      let seconds = Int64.random(in: -62_135_596_800...253_402_300_799, using: &random)
      let time = Timestamp(milliseconds: seconds * 1000 + 250)
      let date = Date(timeIntervalSince1970: Double(seconds) + 0.25)
      // Before 1582 Foundation counts by the Julian calendar, RFC 3339 does not.
      if seconds > -12_000_000_000 { #expect(time.description == style.format(date)) }
      #expect(Timestamp(time.description) == time)
    }
  }
}
