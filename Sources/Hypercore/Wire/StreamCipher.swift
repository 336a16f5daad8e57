import CSodium

/// XSalsa20 over a stream of bytes that comes in pieces of any size.
///
/// Source: hypercore-protocol 6.9.0 `index.js`, `crypto_stream_xor_instance`; DEP-0010, "Encryption".
struct StreamCipher {
  static let nonceSize = 24
  private static let blockSize: UInt64 = 64

  private let key: PublicKey
  private let nonce: [UInt8]
  private var position: UInt64 = 0

  /// - Parameter nonce: 24 bytes.
  init(key: PublicKey, nonce: [UInt8]) {
    precondition(Crypto.ready && nonce.count == Self.nonceSize)
    self.key = key
    self.nonce = nonce
  }

  /// Encrypts or decrypts the next bytes of the stream in place.
  mutating func apply(_ bytes: UnsafeMutableRawBufferPointer) {
    var done = 0
    let within = Int(position % Self.blockSize)
    if within > 0 {
      var block = [UInt8](repeating: 0, count: Int(Self.blockSize))
      block.withMutableBytes { xor($0, block: position / Self.blockSize) }
      done = min(bytes.count, Int(Self.blockSize) - within)
      for i in 0..<done { bytes[i] ^= block[within + i] }
    }
    if done < bytes.count {
      xor(
        UnsafeMutableRawBufferPointer(rebasing: bytes[done...]),
        block: (position + UInt64(done)) / Self.blockSize)
    }
    position += UInt64(bytes.count)
  }

  private func xor(_ bytes: UnsafeMutableRawBufferPointer, block: UInt64) {
    _ = key.withUnsafeBytes { key in
      crypto_stream_xsalsa20_xor_ic(
        bytes.octets, bytes.octets, UInt64(bytes.count), nonce, block, key.octets)
    }
  }
}
