public import Hypercore

/// A short text that somebody published.
public struct Post: Equatable, Sendable {
  public var id: PostID
  public var text: String
  /// Milliseconds since 1970.
  public var created: Int64
  /// Name of the device that made it.
  public var device: String
  /// The feed that it is in.
  public var writer: PublicKey
  /// Whether it is the version that is shown where several stand beside each other.
  public var isShown = true

  /// Where posts are in the database.
  static let prefix = "posts/"

  /// The value in the database: a JSON object with `text`, `created` (RFC 3339, UTC) and `device`.
  static func encode(text: String, created: Int64, device: String) -> [UInt8] {
    JSONText.object([
      ("text", text), ("created", UTCTime(milliseconds: created).text), ("device", device),
    ])
  }

  /// Reads a value of the database; fields that are not known are ignored.
  ///
  /// - Returns: `nil` for what is no post.
  static func decode(_ value: [UInt8], id: PostID, writer: PublicKey) -> Post? {
    guard value.count <= HyphaLimits.storedPostBytes else { return nil }
    var reader = JSONReader(value)
    var fields: [String: String] = [:]
    guard reader.readObject(into: &fields), let text = fields["text"],
      text.utf8.count <= HyphaLimits.postBytes,
      let created = fields["created"].flatMap({ UTCTime($0) })
    else { return nil }
    return Post(
      id: id, text: text, created: created.milliseconds,
      device: String(
        decoding: (fields["device"] ?? "").utf8.prefix(HyphaLimits.deviceNameBytes), as: UTF8.self),
      writer: writer)
  }
}
