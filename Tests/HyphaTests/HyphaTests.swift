import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

@Suite("Posts")
struct PostTests {
  private func hypha() throws -> Hypha<MemoryStorage> {
    try Hypha.alone(
      Feed(files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, keyPair: KeyPair()))
  }

  @Test("newest first, by pages, without what was deleted; the same after a restart")
  func pages() throws {
    var random = SeededRandom(1)
    let files = try FeedFiles { (_) throws(StorageError) in MemoryStorage() }
    let source = try Feed(files: files, keyPair: KeyPair())
    var hypha = try Hypha.alone(source)
    var model: [Post] = []
    for step in 0..<300 {
      switch UInt8.random(in: 0...5, using: &random) {
      case 0 where !model.isEmpty:
        let place = Int.random(in: 0..<model.count, using: &random)
        try hypha.delete(model.remove(at: place).id)
      case 1: try hypha.database.put("profile/name", random.bytes(4))
      default:
        // The clock goes back now and then.
        let now = 1_700_000_000_000 + Int64(step) * 1000 - Int64.random(in: 0...5000, using: &random)
        model.insert(
          try hypha.post("post \(step)\nsecond line", device: "laptop", now: now, random: random.bytes(10)),
          at: 0)
      }
      if step == 150 {
        try source.flush(durable: true)
        hypha = try Hypha.alone(Feed(files: files, key: source.key))
      }
    }
    #expect(zip(model, model.dropFirst()).allSatisfy { $0.id > $1.id })
    var (page, more) = try hypha.posts(limit: 1000)
    #expect(page == model)
    #expect(!more)
    var paged: [Post] = []
    repeat {
      (page, more) = try hypha.posts(limit: 7, before: paged.last?.id)
      paged += page
    } while more
    #expect(paged == model)
    let middle = model[model.count / 2]
    #expect(try hypha.posts(limit: 1000, since: middle.created).posts == Array(model[...(model.count / 2)]))
    #expect(try hypha.postChange(at: 0, of: source.key) == nil)
  }

  @Test(
    "found among any number of entries that are none, also as more come, and looked for where there are none")
  func amongOthers() throws {
    var random = SeededRandom(2)
    let hypha = try hypha()
    var model: [Post] = []
    #expect(try hypha.posts(limit: 10).posts.isEmpty)
    for round in 0..<12 {
      let others = [0, 1, 255, 256, 257, 700].randomElement(using: &random) ?? 0
      try hypha.database.batch((0..<others).map { .put(key: "other/\($0 % 9)", value: [UInt8($0 & 255)]) })
      if round % 3 > 0 { #expect(try hypha.posts(limit: 1000).posts == model) }
      let now = 1_700_000_000_000 + Int64(round) * 1000
      model.insert(
        try hypha.post("post \(round)", device: "laptop", now: now, random: random.bytes(10)), at: 0)
      if round % 4 == 3 { try hypha.delete(model.remove(at: 2).id) }
      #expect(try hypha.posts(limit: 1000).posts == model)
      for post in model {
        let older = Array(model.drop { $0.id >= post.id })
        #expect(try hypha.posts(limit: 1000, before: post.id).posts == older)
      }
    }
  }

  @Test("runs of blocks without posts are known as far as they were told of")
  func postlessRuns() {
    var random = SeededRandom(3)
    for _ in 0..<100 {
      var runs = PostlessRuns()
      var known: Set<UInt64> = []
      for _ in 0..<12 {
        let start = UInt64.random(in: 1...6000, using: &random)
        let run = start..<start + UInt64.random(in: 0...900, using: &random)
        runs.note(run)
        if run.count >= PostlessRuns.shortest { known.formUnion(run) }
      }
      for index in 1...UInt64(7000) {
        var start: UInt64?
        if known.contains(index) {
          var first = index
          while known.contains(first - 1) { first -= 1 }
          start = first
        }
        if runs.start(of: index) != start {
          Issue.record("block \(index)")
          return
        }
      }
    }
  }

  @Test("a device whose ids are in no order neither makes paging endless nor hides what others wrote")
  func noOrder() throws {
    let devices = try TestDevice.make(2)
    let (honest, hostile) = (devices[0].hypha, devices[1].hypha)
    var random = SeededRandom(3)
    var mine: [Post] = []
    for step in 0..<60 {
      mine.insert(
        try honest.post("post \(step)", device: "laptop", now: Int64(step) * 1000, random: random.bytes(10)),
        at: 0)
    }
    func put(_ time: Int64) throws {
      let value = Post.encode(text: "\(time)", created: 1_700_000_000_000, device: "phone")
      try hostile.database.put(Post.prefix + PostID(time: time, random: random.bytes(10)).text, value)
    }
    // The highest times there are; where halving looks, low ones.
    let count = 200
    var probes: Set<Int> = []
    var (low, high) = (1, count + 1)
    while low < high {
      let middle = low + (high - low) / 2
      probes.insert(middle)
      low = middle + 1
    }
    for block in 1...count { try put(probes.contains(block) ? 1 : (1 << 48) - 1 - Int64(count - block)) }
    for _ in 0..<100 { try put(Int64.random(in: 0...100_000, using: &random)) }
    try TestDevice.sync(devices)
    for device in devices {
      for limit in [1, 7, 80] {
        var paged: [Post] = []
        while true {
          let (page, more) = try device.hypha.posts(limit: limit, before: paged.last?.id)
          try #require(paged.last.map { last in page.allSatisfy { $0.id < last.id } } ?? true)
          try #require(zip(page, page.dropFirst()).allSatisfy { $0.id > $1.id })
          paged += page
          if !more { break }
          try #require(!page.isEmpty)
        }
        #expect(paged.filter { $0.writer == mine[0].writer } == mine)
      }
    }
  }

  @Test("refusals say why")
  func refusals() throws {
    let hypha = try hypha()
    func code(_ body: () throws -> Void) -> HyphaError.Code? {
      do {
        try body()
        return nil
      } catch {
        return (error as? HyphaError)?.code
      }
    }
    let random = [UInt8](repeating: 0, count: 10)
    #expect(code { _ = try hypha.post(" \n", device: "d", now: 1, random: random) } == .textEmpty)
    let longest = String(repeating: "\u{1}a", count: HyphaLimits.postBytes / 2)
    #expect(code { _ = try hypha.post(longest + "a", device: "d", now: 1, random: random) } == .textTooLong)
    let post = try hypha.post(longest, device: "d", now: 1, random: random)
    #expect(try hypha.posts(limit: 1).posts == [post])
    try hypha.delete(post.id)
    #expect(code { try hypha.delete(post.id) } == .unknownPost)
    let reader = try Hypha.alone(
      Feed(files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, key: hypha.source.key))
    #expect(code { _ = try reader.post("x", device: "d", now: 1, random: random) } == .readOnly)
    #expect(try reader.posts(limit: 5).posts.isEmpty)
  }

  @Test("an entry that cannot be read hides no post")
  func unreadable() throws {
    let hypha = try hypha()
    let post = try hypha.post("kept", device: "d", now: 1, random: [UInt8](repeating: 0, count: 10))
    _ = try hypha.source.append([0xff, 0xff, 0xff])
    #expect(try hypha.posts(limit: 5).posts == [post])
  }

  @Test("any text comes back as it was")
  func texts() throws {
    var random = SeededRandom(2)
    let hypha = try hypha()
    let pieces = [
      "a", "\"", "\\", "\n", "\r", "\t", "\u{0}", "\u{7f}", "é", "日本", "👩‍👩‍👧", "\u{2028}", "/", "</script>",
    ]
    for step in 0..<200 {
      let text = "x" + (0..<20).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
      _ = try hypha.post(
        text, device: pieces[step % pieces.count], now: Int64(step), random: random.bytes(10))
      let read = try #require(try hypha.posts(limit: 1).posts.first)
      #expect(Array(read.text.utf8) == Array(text.utf8))
      #expect(read.device == pieces[step % pieces.count])
    }
  }

  @Test("values of others are read strictly, unknown fields passed over")
  func values() throws {
    let id = PostID(time: 0, random: [UInt8](repeating: 0, count: 10))
    func read(_ json: String) -> String? { Post.decode(Array(json.utf8), id: id, writer: .zero)?.text }
    let time = #""created":"2026-01-31T12:34:56.789Z""#
    #expect(read(#"{"text":"a\u00e9\ud83d\ude00\/","# + time + "}") == "aé😀/")
    #expect(read(#" { "x" : [1,-2.5e3,{"y":null},true,"z"] , "text":"t", "# + time + " } ") == "t")
    for bad in [
      "", "{}", "[]", #"{"text":"a"}"#, #"{"text":"a",\#(time)"#, #"{"text":1,\#(time)}"#,
      #"{"text":"\ud83d",\#(time)}"#,
      #"{"text":"\x",\#(time)}"#, #"{"text":"a",\#(time)} x"#, #"{"text":"a",\#(time),}"#,
      "{\"text\":\"a\nb\",\(time)}",
      #"{"text":"a","created":"2026-13-31T12:34:56.789Z"}"#,
      #"{"a":"# + String(repeating: "[", count: 100_000),
    ] {
      #expect(read(bad) == nil, "\(bad.prefix(40))")
    }
    #expect(Post.decode([0x7b, 0x22, 0xff, 0x22], id: id, writer: .zero) == nil)
    var random = SeededRandom(4)
    let good = Post.encode(text: "hello \"world\"", created: 1, device: "d")
    for _ in 0..<5000 {
      var value = good
      value[Int.random(in: 0..<value.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      _ = Post.decode(value, id: id, writer: .zero)
    }
  }

  @Test("ids sort by time as text, never go back, and are read strictly")
  func ids() throws {
    var random = SeededRandom(3)
    var last: PostID?
    for _ in 0..<1000 {
      let id = PostID.next(
        after: last, time: Int64.random(in: 0...50, using: &random), random: random.bytes(10))
      #expect(PostID(id.text) == id)
      #expect(PostID(id.text.uppercased()) == id)
      if let last {
        #expect(id > last)
        #expect(id.text > last.text)
      }
      last = id
    }
    // From the specification of ULIDs.
    #expect(PostID("01ARZ3NDEKTSV4RRFFQ69G5FAV")?.time == 1_469_922_850_259)
    for bad in ["", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU"] {
      #expect(PostID(bad) == nil)
    }
    let full = PostID(time: 5, random: [UInt8](repeating: 255, count: 10))
    #expect(PostID.next(after: full, time: 0, random: [UInt8](repeating: 1, count: 10)).time == 6)
    for milliseconds in [0, 951_782_399_999, 951_782_400_000, 1_700_000_000_123, 4_102_444_800_000] as [Int64]
    {
      #expect(UTCTime(UTCTime(milliseconds: milliseconds).text) == UTCTime(milliseconds: milliseconds))
    }
    #expect(UTCTime(milliseconds: 951_782_400_000).text == "2000-02-29T00:00:00.000Z")
    #expect(UTCTime("9999-12-31T23:59:59.999Z")?.milliseconds == UTCTime.range.upperBound)
    for outside in ["0000-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:60.999Z"] {
      #expect(UTCTime(outside) == nil)
    }
  }
}

@Suite("Passphrases and keys")
struct KeyTests {
  private static let phrase = "abacus zoom t-shirt yo-yo lunchbox dolphin unicycle parsnip"

  @Test("keys equal those computed with another implementation of Argon2id and BLAKE2b")
  func knownAnswer() throws {
    let keys = try HyphaKeys(Passphrase(typed: Self.phrase), domain: "Example.ORG.")
    #expect(keys.writer.publicKey.hex == "d5c74d118c41b368619b282f02f7db793be21bb0be92108c68cfd0ee5b8a1a81")
    #expect(
      keys.channel.withUnsafeBytes { Hex.encode($0) }
        == "e923d956a32e5780396d05c1dbbf6c3ce7275a3567ee0ab70e00cf7ee7fcc03f")
    #expect(
      keys.atRest.withUnsafeBytes { Hex.encode($0) }
        == "42df419b21fd5137456c16c55b7860d116aa1d05e4c054c7feae5f7659ea82ec")
    let other = try HyphaKeys(Passphrase(typed: Self.phrase), domain: "example.com")
    #expect(other.writer.publicKey != keys.writer.publicKey)
  }

  @Test("a typed passphrase is read whatever its case, spaces and hyphens")
  func typed() throws {
    let same = try Passphrase(
      typed: " ABACUS\u{a0}zoom  T‑shirt yo–yo\nlunchbox\tDolphin ｕｎｉcycle parsnip\u{3000}")
    #expect(same.reveal() == Self.phrase)
    #expect(same.wordCount == 8)
    func refused(_ text: String) -> String? {
      do throws(HyphaError) {
        _ = try Passphrase(typed: text)
        return nil
      } catch {
        #expect(error.code == .badPassphrase)
        return error.context
      }
    }
    #expect(try #require(refused("abacus zoom")).contains("2 words"))
    let near = try #require(refused(Self.phrase.replacing("dolphin", with: "dolphn")))
    #expect(near.contains("word 6") && near.contains("dolphin") && !near.contains("dolphn"))
    #expect(try #require(refused(Self.phrase.replacing("dolphin", with: "xqzxqzxqz"))).contains("word 6"))
    #expect(refused(String(repeating: "abacus ", count: 65)) != nil)
  }

  @Test("words that are wrong are found as they are typed")
  func checked() {
    #expect(Passphrase.check(typed: "").words == 0)
    let (words, wrong) = Passphrase.check(typed: "Abacus  dolphn zoom xqzxqzxqz")
    #expect(words == 4)
    #expect(
      wrong == [
        Passphrase.WrongWord(place: 2, hint: "dolphin"), Passphrase.WrongWord(place: 4, hint: nil),
      ])
    #expect(Passphrase.check(typed: String(repeating: "zzzzzzz ", count: 1000)).wrong.count == 64)
  }

  @Test("random passphrases are of the list, and differ")
  func generated() throws {
    var seen: Set<String> = []
    for _ in 0..<200 {
      let passphrase = Passphrase()
      #expect(passphrase.wordCount == 8)
      let text = passphrase.reveal()
      #expect(seen.insert(text).inserted)
      #expect(try Passphrase(typed: text).reveal() == text)
    }
    #expect(Passphrase.listLength == 7776)
    #expect(Passphrase.entropy(words: 8) == 103)
    #expect(Passphrase.isListed("abacus") && Passphrase.isListed("zoom") && !Passphrase.isListed("zzzz"))
  }

  @Test("domains are read as people write them")
  func domains() throws {
    #expect(try HyphaKeys.normalise(domain: "Example.ORG.") == "example.org")
    #expect(try HyphaKeys.normalise(domain: "localhost") == "localhost")
    for bad in [
      "", ".", "a..b", "-a.org", "a_b.org", "exämple.org", "http://a.org", String(repeating: "a", count: 64),
    ] {
      #expect(throws: HyphaError.self) { try HyphaKeys.normalise(domain: bad) }
    }
  }
}
