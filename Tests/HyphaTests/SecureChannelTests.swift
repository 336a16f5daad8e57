import Hypercore
import TestSupport
import Testing

@testable import Hypha

@Suite("Sealed messages")
struct SecureChannelTests {
  private struct Vector: Decodable {
    var key, nonce, plaintext, encoded: String
  }

  private func channel(_ key: [UInt8]) -> SecureChannel {
    SecureChannel(key: SecretBytes(count: key.count) { $0.copyBytes(from: key) })
  }

  @Test("are the reference's, byte for byte, both ways")
  func vectors() throws {
    let vectors: [Vector] = try Vectors.json("secure-ephemeral.json")
    #expect(vectors.count == 8)
    for vector in vectors {
      let channel = channel(try #require(Hex.decode(vector.key)))
      let encoded = try #require(Hex.decode(vector.encoded))
      let plaintext = Array(vector.plaintext.utf8)
      #expect(channel.seal(plaintext, nonce: try #require(Hex.decode(vector.nonce))) == encoded)
      #expect(SecureChannel.isSealed(encoded))
      #expect(channel.open(encoded) == plaintext)
    }
  }

  @Test("do not open once altered, cut or under another key, and nothing else does")
  func altered() throws {
    let own = channel([UInt8](repeating: 1, count: 32))
    let other = channel([UInt8](repeating: 2, count: 32))
    let message = own.seal(Array("{}".utf8), nonce: [UInt8](repeating: 3, count: 24))
    #expect(other.open(message) == nil)
    for place in message.indices {
      for bit in 0..<8 {
        var altered = message
        altered[place] ^= 1 << UInt8(bit)
        #expect(own.open(altered) == nil, "byte \(place)")
      }
      #expect(own.open(Array(message[..<place])) == nil)
    }
    var random = SeededRandom(4)
    for _ in 0..<2000 {
      let bytes = random.bytes(Int.random(in: 0..<100, using: &random))
      #expect(own.open(bytes) == nil)
      _ = SecureChannel.isSealed(bytes)
    }
  }
}
