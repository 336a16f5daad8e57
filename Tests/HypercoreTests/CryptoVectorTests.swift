import Hypercore
import TestSupport
import Testing

@Suite("Hashes and signatures equal the reference's")
struct CryptoVectorTests {
  private struct File: Decodable {
    struct Leaf: Decodable { let data, hash: HexBytes }
    struct Child: Decodable {
      let hash: HexBytes
      let size: UInt64
    }
    struct Parent: Decodable {
      let left, right: Child
      let hash: HexBytes
    }
    struct Root: Decodable {
      let index, size: UInt64
      let hash: HexBytes
    }
    struct Tree: Decodable {
      let roots: [Root]
      let hash: HexBytes
    }
    struct Discovery: Decodable { let key, discoveryKey: HexBytes }
    struct Sign: Decodable { let publicKey, secretKey, message, signature: HexBytes }
    let leaf: [Leaf]
    let parent: [Parent]
    let tree: [Tree]
    let discoveryKey: [Discovery]
    let sign: [Sign]
  }

  private let file: File

  init() throws {
    file = try Vectors.json("crypto.json")
    try #require(!file.leaf.isEmpty && !file.parent.isEmpty && !file.tree.isEmpty && !file.sign.isEmpty)
  }

  @Test func leaf() {
    for vector in file.leaf {
      #expect(vector.data.bytes.withUnsafeBytes { Crypto.leaf($0) }.bytes == vector.hash.bytes)
    }
  }

  @Test func parent() throws {
    for vector in file.parent {
      let left = Node(
        treeIndex: 0, hash: try #require(Hash(vector.left.hash.bytes)), byteSize: vector.left.size)
      let right = Node(
        treeIndex: 2, hash: try #require(Hash(vector.right.hash.bytes)), byteSize: vector.right.size)
      #expect(Crypto.parent(left, right).bytes == vector.hash.bytes)
      #expect(Crypto.parent(right, left).bytes == vector.hash.bytes)
    }
  }

  @Test func tree() throws {
    for vector in file.tree {
      let roots = try vector.roots.map {
        Node(treeIndex: $0.index, hash: try #require(Hash($0.hash.bytes)), byteSize: $0.size)
      }
      #expect(Crypto.tree(roots).bytes == vector.hash.bytes)
    }
  }

  @Test func discoveryKey() throws {
    for vector in file.discoveryKey {
      #expect(
        Crypto.discoveryKey(try #require(PublicKey(vector.key.bytes))).bytes == vector.discoveryKey.bytes)
    }
  }

  @Test func sign() throws {
    for vector in file.sign {
      guard let keyPair = KeyPair.stored(vector.secretKey.bytes) else {
        Issue.record("the secret key of the vector does not hold together")
        continue
      }
      #expect(keyPair.publicKey.bytes == vector.publicKey.bytes)
      guard let message = Hash(vector.message.bytes) else { continue }
      let signature = keyPair.sign(message)
      #expect(signature.bytes == vector.signature.bytes)
      #expect(Crypto.verify(signature, of: message, by: keyPair.publicKey))
      var forged = vector.signature.bytes
      forged[5] ^= 1
      #expect(!Crypto.verify(try #require(Signature(forged)), of: message, by: keyPair.publicKey))
    }
  }
}
