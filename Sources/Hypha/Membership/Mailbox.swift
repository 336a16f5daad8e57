import Hypercore

/// How much a node keeps of what it passes on between a hypha's devices.
public struct MailboxLimits: Equatable, Sendable {
  public var messages: Int
  public var bytes: Int
  /// How long a message is kept, in milliseconds.
  public var age: Int64

  public init(messages: Int = 256, bytes: Int = 512 << 10, age: Int64 = HyphaLimits.requestLifetime) {
    self.messages = messages
    self.bytes = bytes
    self.age = age
  }
}

/// Sealed messages, each of which goes to every peer once for each of its connections, but not to the one that it came
/// from.
struct Mailbox {
  struct Item {
    /// In the order in which they came, over all that the mailbox ever held.
    var serial: UInt64
    var message: [UInt8]
    var hash: Hash
    /// Where it came from, as far as strangers cannot choose that; empty for this node's own.
    var address: String
    /// Milliseconds since 1970.
    var arrived: Int64
    /// The connection that it came by, while that lasts.
    var peer: ConnectionID?
  }

  let limits: MailboxLimits
  private(set) var items: [Item] = []
  private(set) var bytes = 0
  /// The next message's serial.
  private(set) var end: UInt64 = 0

  init(_ limits: MailboxLimits) {
    self.limits = limits
  }

  func contains(_ message: [UInt8]) -> Bool {
    let hash = Digest.hash(message)
    return items.contains { $0.hash == hash }
  }

  /// - Returns: `false` for a message that is here already.
  mutating func add(_ message: [UInt8], from peer: ConnectionID?, address: String, now: Int64) -> Bool {
    let hash = Digest.hash(message)
    guard !items.contains(where: { $0.hash == hash }) else { return false }
    items.append(
      Item(serial: end, message: message, hash: hash, address: address, arrived: now, peer: peer))
    end += 1
    bytes += message.count
    while items.count > limits.messages || bytes > limits.bytes { evict() }
    return true
  }

  /// The oldest of the address that has most makes room, so that one that floods the mailbox only pushes out its own.
  private mutating func evict() {
    var counts: [String: Int] = [:]
    for item in items { counts[item.address, default: 0] += 1 }
    let most = counts.values.max() ?? 0
    guard let place = items.firstIndex(where: { counts[$0.address] == most }) else { return }
    remove(at: place)
  }

  private mutating func remove(at place: Int) {
    bytes -= items[place].message.count
    items.remove(at: place)
  }

  mutating func remove(_ message: [UInt8]) {
    if let place = items.firstIndex(where: { $0.message == message }) { remove(at: place) }
  }

  /// - Returns: whether any message was too old.
  mutating func expire(now: Int64) -> Bool {
    let before = items.count
    while let place = items.firstIndex(where: { $0.arrived + limits.age <= now }) { remove(at: place) }
    return items.count != before
  }

  mutating func forget(peer: ConnectionID) {
    for place in items.indices where items[place].peer == peer { items[place].peer = nil }
  }

  /// The first message at or behind `serial` for a peer.
  func message(from serial: UInt64, for peer: ConnectionID) -> Item? {
    items.first { $0.serial >= serial && $0.peer != peer }
  }
}
