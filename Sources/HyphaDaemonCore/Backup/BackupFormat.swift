import CSodium
import FoundationEssentials
import Hypercore
import HyphaControlAPI

/// A backup, as docs/backup.md describes it: one file with everything that a node needs.
enum BackupFormat {
  /// At the start of each; the number is the format's version.
  static let magic = Array("hypha backup 1\n".utf8)

  enum Kind: UInt8 {
    case plain = 0
    case encrypted = 1
  }

  static let saltBytes = 16
  /// Of BLAKE2b, at the end of a plain backup.
  static let digestBytes = 32
  /// Most bytes of one encrypted piece.
  static let pieceBytes = 64 << 10
  static let nameBytes = 64
  /// Bytes of the manifest: 256 feeds, and what goes with them.
  static let manifestBytes: UInt64 = 1 << 20
  static let connectionsBytes: UInt64 = 1 << 20
  static let membershipBytes: UInt64 = 8 << 20
  /// Feeds in one backup: as many as a hypha has writers.
  static let feeds = 256

  static let manifest = "manifest.json"
  static let writer = "secrets/writer"
  static let channel = "secrets/channel"
  static let membership = "membership"
  static let connections = "connections"

  /// The files of a feed that a backup has, in this order.
  static let feedFiles = ["bitfield", "signatures", "tree", "data"]

  /// Key of an encrypted backup: Argon2id, 3 passes over 64 MiB, as for the hypha's own keys, but with a random salt.
  ///
  /// - Returns: `nil` where there is no memory for it.
  static func key(_ passphrase: Secret, salt: [UInt8]) -> SecretBytes? {
    guard sodium_init() >= 0 else { return nil }
    var isDone = false
    let key = SecretBytes(count: 32) { (key: UnsafeMutableRawBufferPointer) in
      isDone = passphrase.text.withCString { text in
        crypto_pwhash(
          key.octets, 32, text, UInt64(passphrase.text.utf8.count), salt, 3, 64 << 20,
          crypto_pwhash_alg_argon2id13()) == 0
      }
    }
    if isDone { return key }
    return nil
  }
}

/// What is in a backup: its first file.
struct BackupManifest: Codable {
  struct Feed: Codable {
    enum Place: String, Codable {
      case source, local, peer
    }

    var place: Place
    /// Public key, 64 hexadecimal digits.
    var key: String
    /// Blocks in the feed, and how many of them are in the backup.
    var length: UInt64
    var byteLength: UInt64
    var heldBlocks: UInt64
  }

  /// Version of the state folder.
  var state: Int
  /// Of the program that made it.
  var release: String
  var created: Timestamp
  var node: NodeRecord
  var feeds: [Feed]
}

/// BLAKE2b-256 over bytes that come one after the other.
final class BackupDigest {
  private let state: UnsafeMutableRawPointer

  init() {
    state = .allocate(byteCount: crypto_generichash_statebytes(), alignment: 64)
    crypto_generichash_init(OpaquePointer(state), nil, 0, BackupFormat.digestBytes)
  }

  deinit {
    state.deallocate()
  }

  func add(_ bytes: some Collection<UInt8>) {
    let bytes = Array(bytes)
    crypto_generichash_update(OpaquePointer(state), bytes, UInt64(bytes.count))
  }

  /// To be asked once.
  func final() -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: BackupFormat.digestBytes)
    crypto_generichash_final(OpaquePointer(state), &digest, digest.count)
    return digest
  }
}

/// libsodium's secretstream, XChaCha20-Poly1305: pieces that can be neither altered, swapped nor left out.
final class BackupCipher {
  static let headerBytes = crypto_secretstream_xchacha20poly1305_headerbytes()
  static let pieceOverhead = crypto_secretstream_xchacha20poly1305_abytes()

  private var state = crypto_secretstream_xchacha20poly1305_state()
  /// Goes with the first piece: the bytes before it, which are not encrypted.
  private var prefix: [UInt8]

  /// For encrypting. The prefix is to be written first.
  init(key: borrowing SecretBytes, salt: [UInt8]) {
    prefix = []
    var header = [UInt8](repeating: 0, count: Self.headerBytes)
    let result = key.withUnsafeBytes {
      crypto_secretstream_xchacha20poly1305_init_push(&state, &header, $0.octets)
    }
    precondition(result == 0, "a stream's key that is none")
    prefix = BackupFormat.magic + [BackupFormat.Kind.encrypted.rawValue] + salt + header
  }

  /// For decrypting what follows the prefix.
  ///
  /// - Returns: `nil` where the prefix cannot be one.
  init?(key: borrowing SecretBytes, prefix: [UInt8]) {
    self.prefix = prefix
    let header = Array(prefix.suffix(Self.headerBytes))
    let result = key.withUnsafeBytes {
      crypto_secretstream_xchacha20poly1305_init_pull(&state, header, $0.octets)
    }
    guard result == 0 else { return nil }
  }

  deinit {
    withUnsafeMutableBytes(of: &state) { SecretBytes.wipe($0) }
  }

  /// Everything before the first piece.
  var start: [UInt8] { prefix }

  /// A piece with its size before it.
  func seal(_ piece: ArraySlice<UInt8>, isLast: Bool) -> [UInt8] {
    let tag = isLast ? crypto_secretstream_xchacha20poly1305_tag_final() : 0
    let plain = Array(piece)
    var sealed = [UInt8](repeating: 0, count: plain.count + Self.pieceOverhead)
    crypto_secretstream_xchacha20poly1305_push(
      &state, &sealed, nil, plain, UInt64(plain.count), prefix, UInt64(prefix.count), tag)
    prefix = []
    return BackupBytes.number(UInt64(sealed.count), bytes: 4) + sealed
  }

  /// - Returns: `nil` for a piece that does not open: another key, another place, or altered.
  func open(_ sealed: [UInt8]) -> (piece: [UInt8], isLast: Bool)? {
    guard sealed.count >= Self.pieceOverhead else { return nil }
    var plain = [UInt8](repeating: 0, count: sealed.count - Self.pieceOverhead)
    var tag: UInt8 = 0
    let result = crypto_secretstream_xchacha20poly1305_pull(
      &state, &plain, nil, &tag, sealed, UInt64(sealed.count), prefix, UInt64(prefix.count))
    guard result == 0 else { return nil }
    prefix = []
    return (plain, tag == crypto_secretstream_xchacha20poly1305_tag_final())
  }
}

enum BackupBytes {
  /// Big-endian.
  static func number(_ value: UInt64, bytes count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
  }

  static func number(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// What stands before a file's bytes: its name, where in the file they belong, how many follow.
  static func header(_ name: String, offset: UInt64, size: UInt64) -> [UInt8] {
    let name = Array(name.utf8)
    return number(UInt64(name.count), bytes: 2) + name + number(offset, bytes: 8) + number(size, bytes: 8)
  }
}
