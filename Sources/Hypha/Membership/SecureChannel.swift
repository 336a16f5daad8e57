import CSodium
package import Hypercore

/// Seals what a hypha's devices say to each other: XSalsa20-Poly1305 under the channel key, nonce and ciphertext as
/// fields 1 and 2 of a Protocol Buffers message.
///
/// Source: secure-ephemeral-messaging-channel 1.0.0 `schema.proto`, `index.js`.
package struct SecureChannel: ~Copyable {
  static let nonceBytes = 24
  private static let macBytes = 16

  private let key: SecretBytes

  /// - Precondition: `key` has 32 bytes.
  package init(key: consuming SecretBytes) {
    precondition(key.count == 32, "a channel key has 32 bytes")
    self.key = key
  }

  /// - Parameter nonce: ``nonceBytes`` random bytes.
  package func seal(_ plaintext: [UInt8], nonce: [UInt8]) -> [UInt8] {
    precondition(nonce.count == Self.nonceBytes)
    var ciphertext = [UInt8](repeating: 0, count: plaintext.count + Self.macBytes)
    key.withUnsafeBytes { key in
      _ = crypto_secretbox_easy(&ciphertext, plaintext, UInt64(plaintext.count), nonce, key.octets)
    }
    var message: [UInt8] = [1 << 3 | 2, UInt8(nonce.count)] + nonce + [2 << 3 | 2]
    Varint.append(UInt64(ciphertext.count), to: &message)
    return message + ciphertext
  }

  /// - Returns: `nil` for what was not sealed with this key, or was altered.
  package func open(_ message: [UInt8]) -> [UInt8]? {
    guard let (nonce, ciphertext) = Self.parts(message) else { return nil }
    var plaintext = [UInt8](repeating: 0, count: ciphertext.count - Self.macBytes)
    let opened = key.withUnsafeBytes { key in
      crypto_secretbox_open_easy(&plaintext, ciphertext, UInt64(ciphertext.count), nonce, key.octets) == 0
    }
    return opened ? plaintext : nil
  }

  /// Whether bytes have the form of a sealed message, which is all that one without the key can tell.
  static func isSealed(_ message: [UInt8]) -> Bool {
    parts(message) != nil
  }

  private static func parts(_ message: [UInt8]) -> (nonce: [UInt8], ciphertext: [UInt8])? {
    var reader = ByteReader(message[...])
    var nonce: [UInt8]?
    var ciphertext: [UInt8]?
    while !reader.isAtEnd {
      guard let tag = reader.varint() else { return nil }
      switch tag & 7 {
      case 0:
        guard reader.varint() != nil else { return nil }
      case 2:
        guard let count = reader.varint(), count <= UInt64(reader.rest.count),
          let bytes = reader.bytes(Int(count))
        else { return nil }
        if tag >> 3 == 1 { nonce = Array(bytes) }
        if tag >> 3 == 2 { ciphertext = Array(bytes) }
      default: return nil
      }
    }
    guard let nonce, nonce.count == nonceBytes, let ciphertext, ciphertext.count >= macBytes else {
      return nil
    }
    return (nonce, ciphertext)
  }
}
