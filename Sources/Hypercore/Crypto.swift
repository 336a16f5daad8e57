import CSodium

/// The cryptography of hypercore 6, all of it libsodium's.
///
/// Source: hypercore-crypto 1.0.0 `index.js`, hypercore-protocol 6.9.0 `index.js`.
public enum Crypto {
  private static let leafType: UInt8 = 0
  private static let parentType: UInt8 = 1
  private static let rootType: UInt8 = 2

  /// Readies libsodium the first time it is asked: only then does libsodium use the fastest code for this
  /// CPU, so each call here asks first, at the cost of one comparison.
  static let ready: Bool = sodium_init() >= 0

  /// Hash of a block: BLAKE2b-256 of `0`, its size as a big-endian 64-bit number, and its bytes.
  public static func leaf(_ block: UnsafeRawBufferPointer) -> Hash {
    precondition(ready)
    return Hash { (hash: UnsafeMutableRawBufferPointer) in
      withUnsafeTemporaryAllocation(byteCount: 9, alignment: 1) { prefix in
        prefix[0] = leafType
        storeBigEndian(UInt64(block.count), prefix, 1)
        csodium_blake2b_2(hash.octets, prefix.octets, 9, block.octets, block.count)
      }
    }
  }

  /// Hash of a parent: BLAKE2b-256 of `1`, the byte size of both children as a big-endian 64-bit number,
  /// and the children's hashes, the left one first.
  public static func parent(_ a: Node, _ b: Node) -> Hash {
    precondition(ready)
    let (left, right) = a.treeIndex <= b.treeIndex ? (a, b) : (b, a)
    return Hash { (hash: UnsafeMutableRawBufferPointer) in
      withUnsafeTemporaryAllocation(byteCount: 73, alignment: 1) { message in
        message[0] = parentType
        storeBigEndian(left.byteSize &+ right.byteSize, message, 1)
        copy(left.hash, to: message, at: 9)
        copy(right.hash, to: message, at: 41)
        blake2b(UnsafeRawBufferPointer(message), into: hash)
      }
    }
  }

  /// The hash that a feed's owner signs: BLAKE2b-256 of `2` and, for each root from left to right, its
  /// hash, tree index and byte size (big-endian 64-bit numbers).
  public static func tree(_ roots: some Collection<Node>) -> Hash {
    precondition(ready)
    return Hash { (hash: UnsafeMutableRawBufferPointer) in
      withUnsafeTemporaryAllocation(byteCount: 1 + 48 * roots.count, alignment: 1) { message in
        message[0] = rootType
        var offset = 1
        for root in roots {
          copy(root.hash, to: message, at: offset)
          storeBigEndian(root.treeIndex, message, offset + 32)
          storeBigEndian(root.byteSize, message, offset + 40)
          offset += 48
        }
        blake2b(UnsafeRawBufferPointer(message), into: hash)
      }
    }
  }

  /// BLAKE2b-256 of `hypercore`, keyed with the feed's public key.
  public static func discoveryKey(_ key: PublicKey) -> DiscoveryKey {
    precondition(ready)
    let message = Array("hypercore".utf8)
    return DiscoveryKey { (hash: UnsafeMutableRawBufferPointer) in
      _ = key.withUnsafeBytes { key in
        crypto_generichash(
          hash.octets, 32, message, UInt64(message.count),
          key.octets, 32)
      }
    }
  }

  /// Whether `signature` is by the owner of `key` over `message`.
  public static func verify(_ signature: Signature, of message: Hash, by key: PublicKey) -> Bool {
    precondition(ready)
    return signature.withUnsafeBytes { signature in
      message.withUnsafeBytes { message in
        key.withUnsafeBytes { key in
          crypto_sign_verify_detached(
            signature.octets,
            message.octets, 32,
            key.octets) == 0
        }
      }
    }
  }

  /// SHA-256, by which files outside of feeds are told apart.
  public static func sha256(_ message: UnsafeRawBufferPointer) -> [UInt8] {
    precondition(ready)
    var hash = [UInt8](repeating: 0, count: 32)
    crypto_hash_sha256(&hash, message.octets, UInt64(message.count))
    return hash
  }

  private static func blake2b(_ message: UnsafeRawBufferPointer, into hash: UnsafeMutableRawBufferPointer) {
    crypto_generichash(
      hash.octets, 32,
      message.octets, UInt64(message.count), nil, 0)
  }

  private static func copy(_ hash: Hash, to buffer: UnsafeMutableRawBufferPointer, at offset: Int) {
    hash.withUnsafeBytes {
      UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<offset + 32]).copyMemory(from: $0)
    }
  }

  private static func storeBigEndian(
    _ value: UInt64, _ buffer: UnsafeMutableRawBufferPointer, _ offset: Int
  ) {
    buffer.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
  }
}

extension UnsafeRawBufferPointer {
  /// The first byte, as C wants it; for an empty buffer, an address that is not read.
  @inline(__always)
  package var octets: UnsafePointer<UInt8> {
    guard let baseAddress else { return UnsafePointer(bitPattern: 1).unsafelyUnwrapped }
    return baseAddress.assumingMemoryBound(to: UInt8.self)
  }
}

extension UnsafeMutableRawBufferPointer {
  /// The first byte, as C wants it; for an empty buffer, an address that is not touched.
  @inline(__always)
  package var octets: UnsafeMutablePointer<UInt8> {
    guard let baseAddress else { return UnsafeMutablePointer(bitPattern: 1).unsafelyUnwrapped }
    return baseAddress.assumingMemoryBound(to: UInt8.self)
  }
}
