import CSodium
public import Hypercore

/// The keys that a passphrase and a domain give, the same on every kind of node.
///
/// Argon2id (3 passes, 64 MiB, salt: BLAKE2b-128 of `hypha` and the domain) of the passphrase gives a root key of 32
/// bytes; libsodium's `crypto_kdf` with the context `hyphakey` gives the others from it: 1 is the seed of the origin
/// writer's Ed25519 pair, 2 the channel key, 3 the key for secrets at rest.
public struct HyphaKeys: ~Copyable {
  /// Signs the hypha's first feed; its public key is the hyphalink.
  public let writer: KeyPair
  /// Seals messages between the hypha's devices.
  public let channel: SecretBytes
  /// Seals secrets that are stored.
  public let atRest: SecretBytes

  private static let passes: UInt64 = 3
  private static let memoryBytes = 64 << 20
  private static let context = "hyphakey"

  /// Derives the keys: about a fifth of a second and 64 MiB.
  ///
  /// - Throws: `.badDomain`; `.noMemory`.
  public init(_ passphrase: borrowing Passphrase, domain: String) throws(HyphaError) {
    let salt = Self.salt(domain: try Self.normalise(domain: domain))
    var derived: Int32 = -1
    let root = SecretBytes(count: Int(crypto_kdf_keybytes())) { (root: UnsafeMutableRawBufferPointer) in
      derived = passphrase.bytes.withUnsafeBytes { passphrase in
        crypto_pwhash(
          root.octets, UInt64(root.count),
          UnsafeRawPointer(passphrase.octets).assumingMemoryBound(to: CChar.self), UInt64(passphrase.count),
          salt,
          Self.passes, Self.memoryBytes, crypto_pwhash_alg_argon2id13())
      }
    }
    guard derived == 0 else {
      throw HyphaError(
        .noMemory, "not enough memory to derive the keys: 64 MiB are needed; free some and try again")
    }
    let seed = Self.subkey(1, of: root)
    writer = seed.withUnsafeBytes { KeyPair(seed: $0) }
    channel = Self.subkey(2, of: root)
    atRest = Self.subkey(3, of: root)
  }

  /// The channel key alone, for who does not keep the others.
  public consuming func takeChannel() -> SecretBytes { channel }

  private static func subkey(_ number: UInt64, of root: borrowing SecretBytes) -> SecretBytes {
    root.withUnsafeBytes { root in
      SecretBytes(count: 32) { (subkey: UnsafeMutableRawBufferPointer) in
        let context = Array(Self.context.utf8CString)
        _ = crypto_kdf_derive_from_key(subkey.octets, subkey.count, number, context, root.octets)
      }
    }
  }

  private static func salt(domain: String) -> [UInt8] {
    let message = Array("hypha".utf8) + Array(domain.utf8)
    var salt = [UInt8](repeating: 0, count: Int(crypto_pwhash_saltbytes()))
    crypto_generichash(&salt, salt.count, message, UInt64(message.count), nil, 0)
    return salt
  }

  /// A domain in lower case, without a dot at the end.
  ///
  /// - Throws: `.badDomain` where it is no host name; one in another script is written as `xn--…`.
  public static func normalise(domain: String) throws(HyphaError) -> String {
    var bytes = Array(domain.utf8)
    if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
    let labels = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard !bytes.isEmpty, bytes.count <= 253, labels.allSatisfy(isLabel) else {
      throw HyphaError(
        .badDomain, "“\(domain)” is not a domain: letters, digits, hyphens and dots, such as example.org")
    }
    return String(decoding: bytes.map { isUpper($0) ? $0 + 32 : $0 }, as: UTF8.self)
  }

  private static func isLabel(_ label: ArraySlice<UInt8>) -> Bool {
    (1...63).contains(label.count) && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
      && label.allSatisfy {
        isUpper($0) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
          || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: "-")
      }
  }

  private static func isUpper(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
  }
}
