/// A passphrase or setup code on its way through the API: a string in JSON, and never shown by printing it.
public struct Secret: Codable, Equatable, Sendable, CustomStringConvertible, CustomDebugStringConvertible {
  /// The secret itself.
  public var text: String

  public init(_ text: String) {
    self.text = text
  }

  public init(from decoder: any Decoder) throws {
    text = try decoder.singleValueContainer().decode(String.self)
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
  }

  public var description: String { "(secret)" }
  public var debugDescription: String { "(secret)" }
}
