import Testing

@testable import HyphaDaemonCore

/// Who gets a place where there are none left.
@Suite struct ConnectionPlacesTests {
  private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

  @Test("Whoever has most gives way, and not to who would have as many")
  func households() throws {
    var places = ConnectionPlaces(total: 8, perAddress: 4)
    let good = try #require(places.admit(address("192.0.2.1")).number)
    places.keep(good)
    var idlers: [ConnectionPlaces.Number] = []
    for number in 0..<7 {
      let idler = try #require(places.admit(address("198.51.100.\(number % 2)")).number)
      places.keep(idler)
      idlers.append(idler)
    }
    // 4 and 3 of theirs.
    #expect(try places.admit(address("203.0.113.1")).instead == [idlers[0]])
    #expect(try places.admit(address("203.0.113.2")).instead == [idlers[1]])
    // 3 and 2; a third one of the second would be no fewer than what the first has.
    #expect(try places.admit(address("198.51.100.1")).number == nil)
    // The silent ones have one each: they do not give way to somebody who would have two.
    #expect(try places.admit(address("203.0.113.2")).instead == [idlers[2]])
    #expect(try places.admit(address("203.0.113.2")).number == nil)
  }

  @Test("Where enough are silent, the oldest of them gives way before any that shook hands")
  func silent() throws {
    var places = ConnectionPlaces(total: 8, perAddress: 4)
    let kept = try (0..<4).map { _ in try #require(places.admit(address("192.0.2.1")).number) }
    for number in kept { places.keep(number) }
    let silent = try (0..<4).map { try #require(places.admit(address("198.51.100.\($0)")).number) }
    #expect(try places.admit(address("203.0.113.1")).instead == [silent[0]])
    for number in silent.suffix(2) { places.keep(number) }
    let newcomer = try places.admit(address("203.0.113.2"))
    #expect(newcomer.instead == [silent[1]])
    // Fewer than a quarter.
    places.keep(try #require(newcomer.number))
    #expect(try places.admit(address("203.0.113.3")).instead == [kept[0]])
    places.remove(silent[2])
    #expect(try places.admit(address("203.0.113.4")).instead == [])
  }

  @Test("An address has so many places and no more, however many are free")
  func addresses() throws {
    var places = ConnectionPlaces(total: 100, perAddress: 4)
    let first = try (0..<4).map { _ in try #require(places.admit(address("192.0.2.1")).number) }
    #expect(try places.admit(address("192.0.2.1")).number == nil)
    #expect(try places.admit(address("192.0.2.2")).number != nil)
    let proxied = try #require(places.admit(nil).number)
    #expect(try !places.assign(proxied, to: address("192.0.2.1")))
    places.remove(first[0])
    #expect(try places.assign(proxied, to: address("192.0.2.1")))
    // A proxy that is not known as one has the machine's own address.
    #expect(try (0..<8).allSatisfy { _ in try places.admit(address("127.0.0.1")).number != nil })
  }

  @Test("A network of IPv6 counts as four addresses, however many it has")
  func networks() throws {
    var places = ConnectionPlaces(total: 100, perAddress: 2)
    for number in 0..<8 { #expect(try places.admit(address("2001:db8:0:\(number)::1")).number != nil) }
    #expect(try places.admit(address("2001:db8:0:9::1")).number == nil)
    #expect(try places.admit(address("2001:db8:1::1")).number != nil)
    let proxied = try #require(places.admit(nil).number)
    #expect(try !places.assign(proxied, to: address("2001:db8:0:9::1")))
    places.remove(0)
    #expect(try places.assign(proxied, to: address("2001:db8:0:9::1")))
  }
}
