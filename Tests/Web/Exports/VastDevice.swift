import Hypercore
import HyphaWeb

/// A device, over one connection, that goes on behind the header of its feed with one block, and has signed that there are as
/// many blocks and bytes as it likes.
final class VastDevice {
  private let key: PublicKey
  private let block: [UInt8] = [1, 2, 3]
  private let proof: Proof
  private let blocks: UInt64
  private let session = Session(Session.Configuration(id: [UInt8](repeating: 9, count: 32)))
  private var channel: Int?
  /// Whether it was asked for the block.
  private(set) var wasAsked = false

  /// - Parameter blocks: a power of two.
  init(_ pair: consuming KeyPair, blocks: UInt64, bytes: UInt64, first: PublicKey) throws(WireError) {
    key = pair.publicKey
    self.blocks = blocks
    let header = [10, 7] + Array("hyperdb".utf8)
    var top = Node(treeIndex: 2, hash: block.withBytes { Crypto.leaf($0) }, byteSize: UInt64(block.count))
    var siblings = [
      Node(treeIndex: 0, hash: header.withBytes { Crypto.leaf($0) }, byteSize: UInt64(header.count))
    ]
    while true {
      let sibling = siblings[siblings.count - 1]
      top = Node(
        treeIndex: FlatTree.parent(top.treeIndex), hash: Crypto.parent(top, sibling),
        byteSize: top.byteSize + sibling.byteSize)
      if FlatTree.rightSpan(top.treeIndex) >= 2 * (blocks - 1) { break }
      // Any hash but zero, which stands for none.
      siblings.append(
        Node(
          treeIndex: FlatTree.sibling(top.treeIndex), hash: top.hash,
          byteSize: siblings.count == 1 ? bytes - top.byteSize : 0))
    }
    proof = Proof(nodes: siblings, signature: pair.sign(Crypto.tree([top])))
    _ = try session.open(first)
    channel = try session.open(key)
  }

  /// Takes what came, and answers.
  func receive(_ bytes: [UInt8]) throws(WireError) -> [UInt8] {
    try session.receive(bytes) { (event) throws(WireError) in
      guard case .message(let message, let channel) = event, channel == self.channel else { return }
      switch message {
      case .want(let want) where want.start == 0:
        session.send(.have(Message.Have(start: 1)), on: channel)
        session.send(.have(Message.Have(start: blocks - 1)), on: channel)
      case .request(let request) where request.index == 1:
        wasAsked = true
        session.send(.data(Message.Data(index: 1, value: block, proof: proof)), on: channel)
      case .request(let request): session.send(.unhave(Message.Unhave(start: request.index)), on: channel)
      default: break
      }
    }
    return session.takeOutput()
  }
}

extension VectorMethod {
  /// Makes a device with a feed that is vast, or has it take what came on its connection.
  func useVastDevice(
    _ request: inout RequestReader, _ response: inout ResponseWriter, _ device: inout VastDevice?
  ) throws(WebError) {
    if self == .makeVast {
      let pair = try request.pair()
      let (blocks, bytes) = (try request.uint64(), try request.uint64())
      let first = try request.key()
      do throws(WireError) {
        device = try VastDevice(pair, blocks: blocks, bytes: bytes, first: first)
      } catch {
        throw WebError(error)
      }
    }
    guard let device else { throw WebError("badRequest", "there is no device") }
    let input = try request.data()
    do throws(WireError) { response.append(try device.receive(input)) } catch { throw WebError(error) }
    response.append(device.wasAsked)
  }
}
