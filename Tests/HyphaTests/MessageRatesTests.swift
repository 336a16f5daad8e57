import Hypercore
import Testing

@testable import Hypha

/// How many messages are taken of whom.
@Suite struct MessageRatesTests {
  @Test("A sender has its rate, and all together theirs, for which the first few of each do not count")
  func rates() {
    var rates = MessageRates()
    func taken(_ sender: String, _ count: Int, now: Int64) -> Int {
      (0..<count).count { _ in rates.take(sender, now: now) }
    }
    #expect(taken("a", 1000, now: 0) == 512)
    // Four of a's did not count for all.
    #expect(taken("b", 100, now: 0) == 8)
    #expect(taken("c", 100, now: 0) == 4)
    // All have one more, and c by itself in a minute.
    #expect(taken("c", 100, now: 1000) == 1)
    #expect(taken("c", 100, now: 1000) == 0)
    #expect(taken("d", 100, now: 1000) == 4)
    #expect(taken("a", 100, now: 2000) == 1)
  }

  @Test("Who sent nothing for longest is forgotten, and no more are remembered than there is room for")
  func senders() {
    var rates = MessageRates()
    for number in 0..<10 { #expect(rates.take("a", now: Int64(number)) == true) }
    for number in 0..<2 * HyphaLimits.messageSenders { _ = rates.take("\(number)", now: 100) }
    // Forgotten, it has its first few again.
    let again = (0..<100).count { _ in rates.take("a", now: 100) }
    #expect(again >= 4)
  }

  @Test("What a device cannot open does not count for those that pass it on")
  func junk() throws {
    let home = try Household("od")
    let owner = home.nodes[0].membership
    owner.connected(1)
    home.nodes[1].membership.connected(1)
    let stranger = SecureChannel(key: SecretBytes(count: 32) { $0[0] = 1 })
    for _ in 0..<1000 {
      owner.receive(stranger.seal([1], nonce: home.bytes(24)), from: 1, address: "relay", now: home.now)
    }
    let asked = try home.ask(1, as: "phone")
    let message = try #require(home.nodes[1].membership.nextMessage(for: 1))
    owner.receive(message, from: 1, address: "relay", now: home.now)
    #expect(home.pending(0).map(\.id) == [asked.id])
    #expect(owner.drops == Drops(unopened: 1000))
  }

  @Test("What only passes through is no promise; a request is")
  func promises() throws {
    let home = try Household("rod")
    let relay = home.nodes[0].membership
    relay.connected(1)
    home.nodes[2].membership.connected(1)
    _ = home.nodes[0].membership.encodeState()
    _ = home.nodes[1].membership.encodeState()
    _ = try home.ask(2, as: "phone")
    #expect(home.nodes[2].membership.hasPromises)
    let message = try #require(home.nodes[2].membership.nextMessage(for: 1))
    relay.receive(message, from: 1, address: "a", now: home.now)
    #expect(relay.hasChanged && !relay.hasPromises)
    home.nodes[1].membership.receive(message, from: 1, address: "a", now: home.now)
    #expect(home.nodes[1].membership.hasPromises)
  }
}
