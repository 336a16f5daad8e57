@testable import Hypercore
@testable import Hyperdb
@testable import Hypha

/// Sealed messages, requests to be let in, and the record of them.
let membershipTargets = [
  Target(
    name: "sealed",
    seeds: {
      [
        [0] + SecureChannel(key: channelKey()).seal(Array("{}".utf8), nonce: nonce),
        [1] + requestText(valid: true), [1] + Array(#"{"action":"denied","id":"00","nodeName":"n"}"#.utf8),
        [3] + Array("name".utf8),
      ]
    }, run: fuzzSealed),
  Target(name: "record", seeds: { recordSeeds }, run: fuzzRecord),
]

private let nonce = [UInt8](repeating: 5, count: 24)
private let start: Int64 = 1_700_000_000_000

private func channelKey() -> SecretBytes {
  SecretBytes(count: 32) { $0.copyBytes(from: [UInt8](repeating: 7, count: 32)) }
}

private let origin: FileBytes = {
  let files = FileBytes().opened()
  do {
    let feed = try Feed(files: files, keyPair: keyPair(1), storeSecretKey: false)
    _ = try Hypha(source: feed) { (_) throws(HyperdbError) in throw HyperdbError(.unopened, "no") }
    try feed.flush(durable: true)
  } catch { fatalError("\(error)") }
  return FileBytes(files)
}()

private func makeHypha() -> Hypha<MemoryStorage> {
  do {
    let feed = try Feed(files: origin.opened(), keyPair: keyPair(1), storeSecretKey: false)
    return try Hypha(source: feed) { (_) throws(HyperdbError) in throw HyperdbError(.unopened, "no") }
  } catch { fatalError("\(error)") }
}

/// A request as a device sends it, before it is sealed.
private func requestText(valid: Bool, name: String = "phone") -> [UInt8] {
  let pair = keyPair(3)
  let request = AuthorisationRequest(
    id: RequestID([UInt8](repeating: 4, count: 16)) ?? { fatalError() }(), name: name, writer: pair.publicKey,
    created: start, expires: start + 60_000)
  return request.encode(proof: pair.sign(request.proven(of: valid ? keyPair(1).publicKey : .zero)))
}

private func fuzzSealed(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let hypha = makeHypha()
  let kind = input.byte()
  let hasKey = kind & 0x80 == 0
  let membership = Membership(
    hypha, channelKey: hasKey ? channelKey() : nil, mailbox: MailboxLimits(messages: 4, bytes: 8192))
  membership.connected(1)
  membership.connected(2)
  let text = input.rest()
  switch kind & 3 {
  case 0: membership.receive(text, from: 1, address: "a", now: start)
  case 1, 2:
    let sealed = SecureChannel(key: channelKey()).seal(text, nonce: nonce)
    expect(SecureChannel(key: channelKey()).open(sealed) == text, "what was sealed opens")
    membership.receive(sealed, from: 1, address: "a", now: start)
    if kind & 4 != 0 { membership.receive(sealed, from: 2, address: "b", now: start) }
  default:
    // A request with a proof that fits, and a name from outside.
    let name = String(decoding: text, as: UTF8.self)
    let sealed = SecureChannel(key: channelKey()).seal(
      requestText(valid: kind & 4 == 0, name: name), nonce: nonce)
    membership.receive(sealed, from: 1, address: "a", now: start)
    let isTaken = membership.requests(now: start).count == 1
    if hasKey, sealed.count <= HyphaLimits.messageBytes {
      expect(isTaken == (Device.isName(name) && kind & 4 == 0), "a request with a name and a proof is taken")
    }
  }
  while let message = membership.nextMessage(for: 2) {
    expect(message.count <= HyphaLimits.messageBytes, "what is passed on is in its bound")
  }
  for request in membership.requests(now: start) { _ = try? membership.find(request.name, now: start) }
  membership.tick(now: start + 120_000)
  _ = membership.takeEvents()
  let state = membership.encodeState()
  let again = Membership(
    hypha, channelKey: nil, mailbox: MailboxLimits(messages: 4, bytes: 8192), state: state)
  expect(again.isStateIntact && again.encodeState() == state, "what is kept is read as it was written")
}

private var recordSeeds: [[UInt8]] {
  let membership = Membership(makeHypha(), channelKey: channelKey())
  membership.receive(
    SecureChannel(key: channelKey()).seal(requestText(valid: true), nonce: nonce), from: 1, address: "a",
    now: start)
  let relay = Membership(makeHypha(), channelKey: nil)
  relay.receive(SecureChannel(key: channelKey()).seal([1], nonce: nonce), from: 1, address: "b", now: start)
  return [membership, relay].map { Array($0.encodeState().dropLast(32)) }
}

private func fuzzRecord(_ bytes: [UInt8]) {
  _ = MembershipRecord<MemoryStorage>.decode(bytes)
  // With the hash that fits, as someone would make it who can write to the disk.
  guard let record = MembershipRecord<MemoryStorage>.decode(bytes + Digest.hash(bytes).bytes) else { return }
  let again = MembershipRecord<MemoryStorage>.decode(record.encoded)
  expect(again?.encoded == record.encoded, "a record is read as it was written")
  let membership = Membership(makeHypha(), channelKey: channelKey(), state: bytes + Digest.hash(bytes).bytes)
  _ = membership.ownRequest(now: start)
  _ = membership.requests(now: start)
  membership.tick(now: start)
  _ = membership.encodeState()
}
