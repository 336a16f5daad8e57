import Hypercore
import TestSupport
import Testing

@testable import Hyperdb
@testable import Hypha

@Suite("A device that was revoked")
struct RevocationTests {
  private func post(_ text: String, on device: TestDevice, _ number: UInt8) throws {
    _ = try device.hypha.post(
      text, device: "d", now: 1_700_000_000_000 + Int64(number) * 1000,
      random: [UInt8](repeating: number, count: 10))
  }

  private func texts(_ device: TestDevice) throws -> [String] {
    try device.hypha.posts(limit: 1000).posts.map(\.text)
  }

  private func value(_ key: String, on device: TestDevice) throws -> [[UInt8]] {
    try device.hypha.database.get(key).compactMap(\.value)
  }

  private func code(_ body: () throws -> Void) -> HyphaError.Code? {
    do { try body() } catch { return (error as? HyphaError)?.code }
    return nil
  }

  @Test("may not write any more, and what it wrote before stays")
  func revoked() throws {
    let devices = try TestDevice.make(3)
    let (origin, friend, thief) = (devices[0], devices[1], devices[2])
    try post("before", on: thief, 1)
    try TestDevice.sync(devices)
    // Two posts that the revoker does not know of: one goes to a friend who does not know either.
    try post("unseen", on: thief, 2)
    try origin.hypha.revoke(thief.writer, now: 77)
    let revocation = try #require(try origin.hypha.device(named: "device 2").revocation)
    #expect(revocation.time == 77 && revocation.by == origin.store.own)
    #expect(revocation.blocks == 2)
    try friend.pull(from: thief)
    #expect(try texts(friend) == ["unseen", "before"])
    try post("on top", on: friend, 3)
    try TestDevice.sync(devices)
    for device in devices {
      #expect(try texts(device) == ["on top", "before"])
      #expect(try device.hypha.device(named: "device 2").revocation == revocation)
    }
    #expect(try thief.hypha.canPost() == false)
    #expect(code { try post("after", on: thief, 4) } == .revoked)
    #expect(code { try thief.hypha.database.authorize(PublicKey([UInt8](repeating: 9, count: 32))!) } == nil)
    // All that others built on is kept and passed on, and no more.
    #expect(try origin.hypha.database.limit(of: thief.writer) == 3)
    for device in devices {
      try device.restart()
      #expect(try texts(device) == ["on top", "before"])
    }
    // Its name is still its own, but another device can be found by it.
    try origin.hypha.rename(friend.writer, to: "device 2")
    #expect(try origin.hypha.device(named: "device 2").writer == friend.writer)
  }

  @Test("hides neither itself nor others by entries that lead astray, and can be revoked")
  func astray() throws {
    let devices = try TestDevice.make(3)
    let (origin, friend, thief) = (devices[0], devices[1], devices[2])
    let feed = try thief.store.feed(thief.writer)
    let writers = thief.hypha.database.writerKeys
    let own = try #require(writers.firstIndex(of: thief.writer))
    let list = FeedList(seq: 1, keys: writers, writers: Array(writers.indices))
    let sought = KeyPath(Array("devices".utf8)[...], terminated: false)[0]
    let keys = (0..<100).map { "astray\($0)" }
    let other = try #require(keys.first { KeyPath(Array($0.utf8)[...], terminated: true)[0] != sought })
    // The second leads to the first wherever a device is looked for.
    for seq in UInt64(1)...2 {
      var entry = StoredEntry(key: Array(other.utf8), value: [1], isDeleted: false)
      entry.clock = writers.indices.map { $0 == own ? seq + 1 : 0 }
      entry.inflate = 1
      if seq == 1 { entry.feeds = writers }
      let way = Trie.Item(position: 0, value: sought, pointer: Pointer(writer: own, seq: 1))
      if seq == 2 { entry.trie = Trie([way], list).encoded }
      _ = try feed.append(entry.encoded)
    }
    for device in [origin, friend] {
      try device.pull(from: thief)
      #expect(try device.hypha.database.visibleLength(of: thief.writer) == 3)
      #expect(throws: HyperdbError.self) { try device.hypha.database.get("devices/x") }
      #expect(try Set(device.hypha.devices().map(\.writer)) == Set(devices.map { try $0.writer }))
    }
    try origin.hypha.revoke(try origin.hypha.device(named: thief.writer.hex).writer, now: 7)
    try friend.pull(from: origin)
    #expect(try friend.hypha.isRevoked(thief.writer) && friend.hypha.devices().count == 3)
    try post("goes on", on: friend, 9)
    #expect(try texts(friend) == ["goes on"])
  }

  @Test("by whom nothing can be written on top of its newest entries: what others built on of it stays")
  func overwhelming() throws {
    let devices = try TestDevice.make(3)
    let (origin, friend, thief) = (devices[0], devices[1], devices[2])
    try post("one", on: thief, 1)
    try post("two", on: thief, 2)
    try friend.pull(from: thief)
    try post("on top", on: friend, 3)
    // More ways to go on than anybody goes, wherever devices are looked for.
    let feed = try thief.store.feed(thief.writer)
    let writers = thief.hypha.database.writerKeys
    let own = try #require(writers.firstIndex(of: thief.writer))
    let list = FeedList(seq: feed.length, keys: writers, writers: Array(writers.indices))
    let sought = KeyPath(Array("devices".utf8)[...], terminated: false)[0]
    let keys = (0..<100).map { "harm\($0)" }
    func isSought(_ key: String) -> Bool { KeyPath(Array(key.utf8)[...], terminated: true)[0] == sought }
    let first = feed.length
    let harm = [try #require(keys.first(where: isSought)), try #require(keys.first { !isSought($0) })]
    for (seq, key) in zip(first..., harm) {
      var entry = StoredEntry(key: Array(key.utf8), value: [1], isDeleted: false)
      entry.clock = writers.indices.map { $0 == own ? seq + 1 : 0 }
      entry.inflate = first
      if seq == first { entry.feeds = writers }
      let way = Trie.Item(position: 0, value: sought, pointer: Pointer(writer: own, seq: first))
      if seq > first { entry.trie = Trie(Array(repeating: way, count: 40_000), list).encoded }
      _ = try feed.append(entry.encoded)
    }
    try origin.pull(from: friend)
    try origin.pull(from: thief)
    #expect(try origin.hypha.database.visibleLength(of: thief.writer) == first + 2)
    try origin.hypha.revoke(thief.writer, now: 7)
    for device in [origin, friend] {
      try device.pull(from: origin)
      #expect(try device.hypha.device(named: thief.writer.hex).revocation?.blocks == first)
      #expect(try texts(device) == ["on top", "two", "one"])
    }
  }

  @Test("before its revoker had anything of it, though others built on that: who comes later writes on")
  func revokedUnseen() throws {
    let source = try #require(PublicKey(FeedStore.secretKey(1)[32...]))
    let devices = try (0..<4).map { try TestDevice(source, UInt8($0) + 1) }
    let (origin, friend, thief, late) = (devices[0], devices[1], devices[2], devices[3])
    try origin.hypha.admit(friend.writer, name: "friend", now: 1)
    try origin.hypha.admit(thief.writer, name: "thief", now: 2)
    for number in 0..<20 { try post("first \(number)", on: origin, UInt8(number)) }
    try friend.pull(from: origin)
    try thief.pull(from: origin)
    for number in 20..<40 { try post("stolen \(number)", on: thief, UInt8(number)) }
    try friend.pull(from: thief)
    for number in 40..<60 { try post("on top \(number)", on: friend, UInt8(number)) }
    try origin.hypha.revoke(thief.writer, now: 77)
    #expect(try origin.hypha.device(named: "thief").revocation?.blocks == 0)
    try origin.hypha.admit(late.writer, name: "late", now: 78)
    try late.pull(from: origin)
    try late.pull(from: friend)
    let expected = try texts(late)
    #expect(expected.count == 40 && !expected.contains { $0.hasPrefix("stolen") })
    // Its first entry, and one on top of it.
    try post("late 1", on: late, 61)
    try post("late 2", on: late, 62)
    for other in [origin, friend] { try other.pull(from: late) }
    try origin.pull(from: friend)
    try friend.pull(from: origin)
    for device in [late, origin, friend] {
      #expect(try texts(device) == ["late 2", "late 1"] + expected)
      #expect(try device.hypha.device(named: "thief").revocation != nil)
      try device.restart()
      #expect(try texts(device) == ["late 2", "late 1"] + expected)
    }
    #expect(try thief.hypha.canPost())
    try thief.pull(from: origin)
    #expect(try !thief.hypha.canPost())
  }

  @Test("cannot change or delete what others wrote, though someone built on it meanwhile")
  func vandal() throws {
    let devices = try TestDevice.make(4)
    let (origin, friend, thief, late) = (devices[0], devices[1], devices[2], devices[3])
    for number in 0..<40 { try origin.hypha.database.put("words/\(number)", [UInt8(number)]) }
    for number in 0..<10 { try post("post \(number)", on: origin, UInt8(number)) }
    try TestDevice.sync([origin, friend, thief])
    let expected = try texts(origin)
    try origin.hypha.revoke(thief.writer, now: 1)

    for number in 0..<20 { try thief.hypha.database.put("words/\(number)", [0xff]) }
    for number in 20..<30 { try thief.hypha.database.delete("words/\(number)") }
    try thief.hypha.database.put("words/thief", [1])
    for post in try thief.hypha.posts(limit: 5).posts { try thief.hypha.delete(post.id) }
    try friend.pull(from: thief)
    #expect(try texts(friend).count == 5)
    try friend.hypha.database.put("words/0", [100])
    try friend.hypha.database.put("words/friend", [2])
    try friend.pull(from: origin)
    // The friend learns of it, and goes on writing over what it had merged.
    try friend.hypha.database.put("words/1", [101])
    try TestDevice.sync([origin, friend, thief])
    try late.pull(from: friend)
    for device in devices {
      #expect(try texts(device) == expected)
      #expect(try value("words/0", on: device) == [[100]])
      #expect(try value("words/1", on: device) == [[101]])
      for number in 2..<40 { #expect(try value("words/\(number)", on: device) == [[UInt8(number)]]) }
      #expect(try value("words/thief", on: device) == [])
      #expect(try value("words/friend", on: device) == [[2]])
      #expect(try device.hypha.database.list(prefix: "words").count == 41)
      var history = try History(device.hypha.database.snapshot(), reversed: true)
      while let entry = try history.entry() {
        #expect(entry.feed != thief.store.own || entry.seq < 1, "\(entry.seq)")
      }
    }
  }

  @Test("and its revoker, who it revokes too: both are, until the origin says otherwise")
  func mutual() throws {
    let devices = try TestDevice.make(3)
    let (origin, a, b) = (devices[0], devices[1], devices[2])
    try a.hypha.revoke(b.writer, now: 1)
    try b.hypha.revoke(a.writer, now: 2)
    try TestDevice.sync(devices)
    for device in devices {
      #expect(try device.hypha.devices().map { $0.revocation != nil } == [false, true, true])
    }
    try origin.hypha.restore(a.writer)
    try TestDevice.sync(devices)
    for device in devices {
      #expect(try device.hypha.devices().map { $0.revocation != nil } == [false, false, true])
    }
    #expect(try a.hypha.canPost() && !b.hypha.canPost())
    try post("again", on: a, 1)
    try TestDevice.sync(devices)
    for device in devices { #expect(try texts(device) == ["again"]) }
  }

  @Test("by the origin cannot revoke others any more, nor take its revocation back, nor let others in")
  func powerless() throws {
    let devices = try TestDevice.make(3)
    let (origin, friend, thief) = (devices[0], devices[1], devices[2])
    let source = origin.hypha.source.key
    let accomplice = try TestDevice(source, 9)
    try origin.hypha.revoke(thief.writer, now: 1)
    // It has not heard of it, or says so.
    try thief.hypha.revoke(friend.writer, now: 2)
    try thief.hypha.admit(accomplice.writer, name: "accomplice", now: 3)
    try accomplice.pull(from: thief)
    try accomplice.hypha.revoke(friend.writer, now: 4)
    try post("from the accomplice", on: accomplice, 1)
    try TestDevice.sync(devices + [accomplice])
    for device in devices {
      #expect(try device.hypha.device(named: "device 1").revocation == nil)
      #expect(try texts(device) == [])
    }
    #expect(try friend.hypha.canPost() && !accomplice.hypha.canPost())
    // With a program of its own it writes over the very entry.
    let rogue = try Hyperdb(source: thief.store.feed(source), local: thief.store.feed(thief.writer)) {
      (key) throws(HyperdbError) in
      do { return try thief.store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
    }
    try rogue.delete("devices/\(thief.writer.hex)/revoked")
    try rogue.put("devices/\(friend.writer.hex)/revoked", Array("{\"revoked\":\"x\"}".utf8))
    // Nobody takes it any more; somebody who did all the same comes to the same answers.
    for device in [origin, friend] {
      for (key, index) in try device.store.missing([thief.writer], from: thief.store) {
        try device.store.take(index, of: key, from: thief.store)
      }
      #expect(try device.hypha.device(named: "device 2").revocation != nil)
      #expect(try device.hypha.device(named: "device 1").revocation == nil)
      try device.restart()
      #expect(try device.hypha.device(named: "device 2").revocation != nil)
      #expect(try device.hypha.canPost())
    }
    #expect(code { try friend.hypha.revoke(source, now: 5) } == .isOrigin)
  }

  @Test("is the same on all devices, whatever they did and in whatever order it came", arguments: 0..<60)
  func converge(seed: Int) throws {
    var random = SeededRandom(UInt64(seed) &+ 99)
    let devices = try TestDevice.make(5)
    let keys = (0..<12).map { "k/\($0)" }
    for step in 0..<120 {
      let device = devices[Int.random(in: 0..<devices.count, using: &random)]
      let other = devices[Int.random(in: 1..<devices.count, using: &random)]
      do {
        switch Int.random(in: 0..<20, using: &random) {
        case 0 where seed % 4 != 0: try device.hypha.revoke(other.writer, now: Int64(step))
        case 1 where seed % 3 == 0: try device.hypha.restore(other.writer)
        case 2, 3: try device.hypha.database.delete(keys.randomElement(using: &random) ?? "")
        case 4..<10: if device !== other { try device.pull(from: other) }
        case 10: try other.restart()
        default:
          try device.hypha.database.put(keys.randomElement(using: &random) ?? "", [UInt8(step)])
        }
      } catch let error as HyphaError {
        #expect(error.code == .revoked)
      } catch let error as HyperdbError {
        #expect(error.code == .cutOff)
      }
    }
    for _ in 0..<3 { try TestDevice.sync(devices) }
    let late = try TestDevice(devices[0].hypha.source.key, 200)
    for _ in 0..<3 { for device in devices { try late.pull(from: device) } }
    let expected = try answers(devices[0], keys)
    for device in devices.dropFirst() + [late] {
      let found = try answers(device, keys)
      #expect(found == expected, "seed \(seed)")
    }
    #expect(try model(devices[0], keys) == expected.values, "seed \(seed)")
  }

  private struct Answers: Equatable {
    var revoked: [String]
    var values: [Set<[UInt8]>]
    var listed: [Set<[UInt8]>]
  }

  private func answers(_ device: TestDevice, _ keys: [String]) throws -> Answers {
    let list = try device.hypha.database.list(prefix: "k")
    return Answers(
      revoked: try device.hypha.devices().sorted { $0.writer.hex < $1.writer.hex }.map {
        "\($0.name): \($0.revocation.map { "\($0.blocks)" } ?? "-")"
      },
      values: try keys.map { Set(try value($0, on: device)) },
      listed: keys.map { key in
        Set(list.first { $0.first?.key == Array(key.utf8) }?.compactMap(\.value) ?? [])
      })
  }

  /// Of all entries that count, those that no other of the same key that counts has seen.
  private func model(_ device: TestDevice, _ keys: [String]) throws -> [Set<[UInt8]>] {
    let database = device.hypha.database
    let writers = database.writerKeys
    var entries: [Entry] = []
    for key in writers {
      for seq in 1..<max(1, try database.visibleLength(of: key)) {
        entries.append(try database.entry(seq, of: key))
      }
    }
    func hasSeen(_ a: Entry, _ b: Entry) -> Bool {
      guard let number = writers.firstIndex(of: b.feed), number < a.clock.count else { return false }
      return a.clock[number] > b.seq && (a.feed, a.seq) != (b.feed, b.seq)
    }
    return keys.map { key in
      let own = entries.filter { $0.key == Array(key.utf8) }
      let newest = own.filter { entry in !own.contains { hasSeen($0, entry) } }
      return Set(newest.compactMap(\.value))
    }
  }
}
