import FoundationEssentials
import Hypercore
import HyphaControlAPI

/// What an initialised node is: the file `node.json` in the state folder. Nothing in it is secret, and nothing in
/// it says what the feeds hold; they do.
struct NodeRecord: Codable, Equatable {
  /// Grows when an older daemon could not read the file rightly.
  static let version = 1

  var version = NodeRecord.version
  var role: NodeRole
  /// Public key of the hypha's first feed, 64 hexadecimal digits.
  var key: String
  /// The salt of the keys; an always-on node need not know it.
  var domain: String?
  var deviceName: String
  /// Public key of this node's own feed, 64 hexadecimal digits, where that is not the first one.
  var writer: String?

  /// An origin that was made anew has not got back yet what it wrote before: it must not write until then.
  var catchesUp: Bool?

  /// The origin's passphrase was not generated for it, so it may have made this hypha before, elsewhere.
  var mayBeKnown: Bool?

  /// What this node wrote may not be all here.
  mutating func noteLoss() { (catchesUp, mayBeKnown) = (true, nil) }

  /// `dat://` and the key.
  var hyphalink: String { "dat://\(key)" }

  /// - Returns: `nil` for a key that is none: a damaged file.
  var publicKey: PublicKey? { PublicKey(hex: key) }

  var writerKey: PublicKey? { writer.flatMap { PublicKey(hex: $0) } }

  /// - Throws: where the file is not one of these, or of a later version.
  static func decode(_ bytes: [UInt8]) throws -> NodeRecord {
    let record = try JSONDecoder().decode(NodeRecord.self, from: Data(bytes))
    guard record.version == version, record.publicKey != nil else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: [], debugDescription: "version \(record.version) with key “\(record.key)”"))
    }
    return record
  }

  func encoded() throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    return [UInt8](try encoder.encode(self)) + [UInt8(ascii: "\n")]
  }
}
