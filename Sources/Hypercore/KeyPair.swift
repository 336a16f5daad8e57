import CSodium

/// An Ed25519 signature, 64 bytes held inline.
public struct Signature: Equatable, Sendable {
  var left: Bytes32
  var right: Bytes32

  /// - Returns: `nil` unless `bytes` has exactly 64 bytes.
  public init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 64, let left = Bytes32(bytes.prefix(32)), let right = Bytes32(bytes.suffix(32))
    else {
      return nil
    }
    self.left = left
    self.right = right
  }

  public var bytes: [UInt8] {
    left.bytes + right.bytes
  }

  var isZero: Bool {
    left.isZero && right.isZero
  }

  public func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    var copy = self
    return try Swift.withUnsafeMutableBytes(of: &copy) { (buffer) throws(E) in
      try body(UnsafeRawBufferPointer(buffer))
    }
  }
}

/// Bytes that must not leak: in locked memory that is never swapped, zeroed when freed.
public struct SecretBytes: ~Copyable {
  private let memory: UnsafeMutableRawBufferPointer

  /// `count` zero bytes, filled by `initialize`.
  public init<E: Error>(
    count: Int, initialize: (UnsafeMutableRawBufferPointer) throws(E) -> Void
  ) throws(E) {
    // That there is no memory for a secret is not something to go on from.
    guard Crypto.ready, let start = sodium_malloc(count) else { fatalError("no locked memory for a secret") }
    memory = UnsafeMutableRawBufferPointer(start: start, count: count)
    sodium_memzero(start, count)
    try initialize(memory)
  }

  deinit {
    sodium_free(memory.baseAddress)
  }

  public var count: Int { memory.count }

  /// Zeroes bytes of a secret that had to be in ordinary memory.
  public static func wipe(_ buffer: UnsafeMutableRawBufferPointer) {
    sodium_memzero(buffer.octets, buffer.count)
  }

  /// Lends the bytes; they must not be kept.
  public func withUnsafeBytes<R: ~Copyable, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeRawBufferPointer(memory))
  }
}

/// An Ed25519 key pair that signs a feed.
public struct KeyPair: ~Copyable {
  public let publicKey: PublicKey
  /// libsodium's 64-byte form: seed, then public key.
  public let secretKey: SecretBytes

  /// A new random pair.
  public init() {
    var key = PublicKey.zero
    secretKey = SecretBytes(count: 64) { (secret: UnsafeMutableRawBufferPointer) in
      key.withUnsafeMutableBytes { key in
        _ = crypto_sign_keypair(key.octets, secret.octets)
      }
    }
    publicKey = key
  }

  /// The pair that `seed` gives.
  ///
  /// - Precondition: `seed` has 32 bytes.
  public init(seed: UnsafeRawBufferPointer) {
    precondition(seed.count == 32, "an Ed25519 seed has 32 bytes")
    var key = PublicKey.zero
    secretKey = SecretBytes(count: 64) { (secret: UnsafeMutableRawBufferPointer) in
      key.withUnsafeMutableBytes { key in
        _ = crypto_sign_seed_keypair(key.octets, secret.octets, seed.octets)
      }
    }
    publicKey = key
  }

  /// The pair of a stored secret key, 64 bytes: seed, then public key.
  ///
  /// - Returns: `nil` for another size, or where the halves do not belong together.
  public static func stored(_ stored: [UInt8]) -> KeyPair? {
    guard stored.count == 64 else { return nil }
    let pair = stored.span.bytes.withUnsafeBytes {
      KeyPair(seed: UnsafeRawBufferPointer(rebasing: $0[..<32]))
    }
    let matches = pair.secretKey.withUnsafeBytes { secret in
      stored.withBytes { sodium_memcmp(secret.octets, $0.octets, 64) == 0 }
    }
    if matches { return pair }
    return nil
  }

  /// Signs a tree hash.
  public func sign(_ message: Hash) -> Signature {
    var signature = Signature(left: .zero, right: .zero)
    withUnsafeMutableBytes(of: &signature) { signature in
      message.withUnsafeBytes { message in
        secretKey.withUnsafeBytes { secret in
          _ = crypto_sign_detached(signature.octets, nil, message.octets, 32, secret.octets)
        }
      }
    }
    return signature
  }
}

extension Signature {
  fileprivate init(left: Bytes32, right: Bytes32) {
    self.left = left
    self.right = right
  }
}
