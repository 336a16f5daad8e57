import CSodium
import Glibc
import Hypercore
import HyphaDaemonCore

/// What this machine can do at best: the same calls without anything around them.
extension Workload {
  static let limits: [Workload] = [
    Workload(name: "limit: Ed25519 sign") { _, scale in
      let keyPair = KeyPair()
      let message = Hash.zero
      var sum: UInt8 = 0
      let rate = rate(atLeast: scale) { sum ^= keyPair.sign(message).bytes[0] }
      return Measurement(rate + Double(sum) * 0, .perSecond)
    },
    Workload(name: "limit: Ed25519 verify") { _, scale in
      let keyPair = KeyPair()
      let signature = keyPair.sign(Hash.zero)
      let key = keyPair.publicKey
      return Measurement(
        rate(atLeast: scale) { precondition(Crypto.verify(signature, of: Hash.zero, by: key)) }, .perSecond)
    },
    Workload(name: "limit: BLAKE2b of 64 KiB blocks") { _, scale in
      let block = [UInt8](repeating: 7, count: 64 << 10)
      let rate = rate(atLeast: scale) { block.withUnsafeBytes { _ = Crypto.leaf($0) } }
      return Measurement(rate * Double(block.count) / 1e6, .megabytes)
    },
    Workload(name: "limit: BLAKE2b of 100-byte blocks and their parents") { _, scale in
      let block = [UInt8](repeating: 7, count: 100)
      let rate = rate(atLeast: scale) {
        let hash = block.withUnsafeBytes { Crypto.leaf($0) }
        let node = Node(treeIndex: 0, hash: hash, byteSize: 100)
        _ = Crypto.parent(node, Node(treeIndex: 2, hash: hash, byteSize: 100))
      }
      return Measurement(rate, .perSecond)
    },
    Workload(name: "limit: XSalsa20") { _, scale in
      guard sodium_init() >= 0 else { throw BenchError("libsodium does not start") }
      var bytes = [UInt8](repeating: 7, count: 64 << 10)
      let key = [UInt8](repeating: 1, count: 32)
      let nonce = [UInt8](repeating: 2, count: 24)
      let rate = rate(atLeast: scale) {
        bytes.withUnsafeMutableBufferPointer { bytes in
          guard let start = bytes.baseAddress else { return }
          _ = crypto_stream_xsalsa20_xor_ic(start, start, UInt64(bytes.count), nonce, 0, key)
        }
      }
      return Measurement(rate * Double(bytes.count) / 1e6, .megabytes)
    },
    Workload(name: "limit: sequential write of 64 KiB pieces") { folder, scale in
      let file = try FileStorage(folder + "/sequential")
      let bytes = [UInt8](repeating: 7, count: 64 << 10)
      var offset: UInt64 = 0
      let rate = try rate(atLeast: scale) {
        try bytes.withUnsafeBytes { try file.write($0, at: offset) }
        // Not more than the page cache takes.
        offset = (offset + UInt64(bytes.count)) % (1 << 30)
      }
      return Measurement(rate * Double(bytes.count) / 1e6, .megabytes)
    },
    Workload(name: "limit: fdatasync after 100 bytes") { folder, scale in
      let file = try FileStorage(folder + "/durable")
      let bytes = [UInt8](repeating: 7, count: 100)
      var offset: UInt64 = 0
      let rate = try rate(atLeast: scale) {
        try bytes.withUnsafeBytes { try file.write($0, at: offset) }
        offset += 100
        try file.sync()
      }
      return Measurement(rate, .perSecond)
    },
  ]
}
