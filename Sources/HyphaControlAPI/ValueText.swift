import FoundationEssentials

/// How a value is put into a message: as text where it is UTF-8, unless that makes it too long where base 64 does not: JSON makes six
/// bytes of each control character.
public struct ValueText: Equatable, Sendable {
  public let text: String?
  public let base64: String?
  /// Bytes that it takes in JSON.
  public let byteCount: Int

  public init(_ value: [UInt8]) {
    let base64Count = (value.count + 2) / 3 * 4
    let textCount = value.reduce(0) { $0 + Self.byteCount(of: $1) }
    let isShort = textCount <= max(base64Count, ControlLimits.entryBytesPerList)
    text = isShort ? String(validating: value, as: UTF8.self) : nil
    base64 = text == nil ? Data(value).base64EncodedString() : nil
    byteCount = text == nil ? base64Count : textCount
  }

  private static func byteCount(of byte: UInt8) -> Int {
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), 8, 9, 10, 12, 13: 2
    case ..<32: 6
    default: 1
    }
  }
}
