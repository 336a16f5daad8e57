@testable import Hypercore

/// Frames, messages, bitfields: what any stranger can send.
let wireTargets = [
  Target(
    name: "frames", seeds: { [[4] + helloFrames] + messageSeeds.map { [7] + frame($0) } }, run: fuzzFrames),
  Target(
    name: "messages", seeds: { messageSeeds.map { [$0.type] + body($0) } }, run: fuzzMessages),
  Target(
    name: "bitfield",
    seeds: {
      [[0xFF, 0xFF, 0xFF, 0], [1, 2, 3, 0, 0, 0, 0, 0, 255, 255, 255, 255, 7]].map {
        RunLengthBitfield.encode($0)
      }
    }, run: fuzzBitfield),
]

let someKey = Bytes32((0..<32).map { UInt8($0) }) ?? .zero

let messageSeeds: [Message] = [
  .feed(.init(discoveryKey: someKey, nonce: [UInt8](repeating: 3, count: 24))),
  .handshake(.init(id: [1, 2, 3], live: true, userData: [4], extensions: ["secure-ephemeral"])),
  .info(.init(uploading: true, downloading: false)),
  .have(.init(start: 8, length: 16, bitfield: [7, 4, 0x80])),
  .unhave(.init(start: 3, length: 2)), .want(.init(start: 0, length: 1 << 20)),
  .unwant(.init(start: 0, length: nil)),
  .request(.init(index: 5, nodes: 3)), .cancel(.init(index: 5, bytes: 1, hash: true)),
  .data(
    .init(
      index: 1, value: [9, 9],
      proof: Proof(
        nodes: [Node(treeIndex: 0, hash: someKey, byteSize: 300)],
        signature: Signature([UInt8](repeating: 8, count: 64))))),
  .extension(.init(id: 0, payload: [1, 2, 3])),
]

func frame(_ message: Message, channel: Int = 0) -> [UInt8] {
  var encoder = FrameEncoder()
  encoder.append(message, channel: channel)
  return encoder.takeOutput()
}

/// A message without its frame, all of which is one byte of length and one of header here.
private func body(_ message: Message) -> [UInt8] {
  let frame = frame(message)
  return Array(frame.dropFirst(frame[0] < 128 ? 2 : 3))
}

private var helloFrames: [UInt8] { messageSeeds.flatMap { frame($0) } }

/// All frames up to the first error, taken in pieces of a size.
private func frames(_ bytes: [UInt8], pieces: Int, encrypted: Bool) -> ([Frame], WireError.Code?) {
  var decoder = FrameDecoder()
  if encrypted { decoder.decrypt(key: someKey, nonce: [UInt8](repeating: 1, count: 24)) }
  var found: [Frame] = []
  do throws(WireError) {
    for start in stride(from: 0, to: bytes.count, by: pieces) {
      decoder.append(Array(bytes[start..<min(start + pieces, bytes.count)]))
      while let frame = try decoder.next() { found.append(frame) }
    }
    return (found, nil)
  } catch {
    return (found, error.code)
  }
}

private func fuzzFrames(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let choice = input.byte()
  let stream = input.rest()
  let encrypted = choice & 0x80 != 0
  let pieces = Int(choice & 0x3F) + 1
  let whole = frames(stream, pieces: max(stream.count, 1), encrypted: encrypted)
  let cut = frames(stream, pieces: pieces, encrypted: encrypted)
  expect(whole == cut, "a stream in pieces of \(pieces) bytes is the same as in one")
  for found in whole.0 {
    // A frame with nothing in it is passed over, as the reference does.
    guard let message = found.message, frame(message).count > 2, !hasGrown(message) else { continue }
    let again = frames(frame(message, channel: found.channel), pieces: 1, encrypted: false)
    expect(again.1 == nil && again.0.first?.message == message, "\(message) is read as it was written")
  }
}

private func fuzzMessages(_ bytes: [UInt8]) {
  guard let type = bytes.first else { return }
  let body = Array(bytes.dropFirst())
  let message = body.withUnsafeBytes { try? Message.decode(type: type & 15, $0) }
  guard let message, frame(message).count > 2, !hasGrown(message) else { return }
  let (again, error) = frames(frame(message), pieces: 5, encrypted: false)
  expect(error == nil && again.first?.message == message, "\(message) is read as it was written")
}

/// What is no UTF-8 in an extension's name is read as replacement characters, by which that can get too long.
private func hasGrown(_ message: Message) -> Bool {
  guard case .handshake(let handshake) = message else { return false }
  return handshake.extensions.contains { $0.utf8.count > WireLimits.extensionNameBytes }
}

private func fuzzBitfield(_ bytes: [UInt8]) {
  let limit = 1 << 16
  if let bits = try? RunLengthBitfield.decode(bytes, limit: limit) {
    expect(bits.count <= limit, "a bitfield stays in its bound")
    let again = try? RunLengthBitfield.decode(RunLengthBitfield.encode(bits), limit: limit)
    expect(trimmed(again) == trimmed(bits), "a bitfield is read as it was written")
  }
  let encoded = RunLengthBitfield.encode(bytes)
  // A run that ends a literal of 63 bytes is worth a piece of its own, and costs a byte more than it did.
  expect(
    encoded.count <= bytes.count + bytes.count / 64 + 10,
    "a bitfield grows by little: \(bytes.count) to \(encoded.count)")
  expect(
    trimmed(try? RunLengthBitfield.decode(encoded, limit: bytes.count)) == trimmed(bytes),
    "bits come back as they were")
}

private func trimmed(_ bits: [UInt8]?) -> [UInt8]? {
  guard var bits else { return nil }
  while bits.last == 0 { bits.removeLast() }
  return bits
}
