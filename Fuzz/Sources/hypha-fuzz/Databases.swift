@testable import Hypercore
@testable import Hyperdb

/// Entries and tries, alone and as what a writer that means harm puts into a database.
let databaseTargets = [
  Target(name: "entries", seeds: { entrySeeds }, run: fuzzEntry),
  Target(name: "tries", seeds: { [[1, 2, 0, 1], [0, 3, 2, 4, 0, 1, 1, 2, 1, 5]] }, run: fuzzTrie),
  Target(name: "database", seeds: { databaseSeeds }, run: fuzzDatabase),
]

private var entrySeeds: [[UInt8]] {
  var entry = StoredEntry(key: Array("posts/1".utf8), value: Array("{}".utf8), isDeleted: false)
  entry.clock = [3, 2]
  entry.trie = [0, 1, 0, 2]
  entry.feeds = [someKey]
  entry.inflate = 1
  return [entry.encoded, StoredEntry(key: [], value: nil, isDeleted: true).encoded]
}

private func fuzzEntry(_ bytes: [UInt8]) {
  let value = StoredEntry.value(in: bytes)
  if let version = Version(bytes) {
    expect(Version(version.bytes) == version, "a version is read as it was written")
  }
  guard let entry = StoredEntry(decoding: bytes) else { return }
  expect(value == entry.value, "the value alone is the entry's")
  expect(StoredEntry(decoding: entry.encoded) == entry, "an entry is read as it was written")
  let path = KeyPath(entry.key[...], terminated: true)
  for position in 0..<path.count {
    expect(path[position] < Trie.values, "a path has the values that there are")
  }
}

private func fuzzTrie(_ bytes: [UInt8]) {
  let list = FeedList(seq: 1, keys: [someKey, .zero], writers: [0, 1])
  let count = 65
  let trie = Trie(decoding: bytes, list, pathCount: count) { $0.seq < 1 << 40 }
  guard let trie else { return }
  var items: [Trie.Item] = []
  var position = 0
  while let (found, here) = trie.firstBucket(from: position) {
    expect(found >= position && found < count, "a trie has no position beyond its path")
    items += here
    for value in 0..<Trie.values { _ = trie.pointers(at: found, value: value) }
    position = found + 1
  }
  for item in items { expect(item.pointer.writer < 2, "a trie points to writers that there are") }
  let again = Trie(decoding: Trie(items, list).encoded, list, pathCount: count) { $0.seq < 1 << 40 }
  expect(again != nil, "a trie is read as it was written")
}

// MARK: - A database

/// One that has a key of its own and lets in a writer, whose feed has only its header.
private struct SampleDatabase: Sendable {
  let source: FileBytes
  let hostile: FileBytes
  let keys: [PublicKey]

  init() {
    do {
      let (first, second) = (FileBytes().opened(), FileBytes().opened())
      let source = try Feed(files: first, keyPair: keyPair(1), storeSecretKey: false)
      let hostile = try Feed(files: second, keyPair: keyPair(2), storeSecretKey: false)
      let database = try Hyperdb(source: source) { (_) throws(HyperdbError) in hostile }
      for key in ["kept", "posts/1", "posts/2", "devices/a"] { _ = try database.put(key, [1]) }
      _ = try database.authorize(hostile.key)
      if hostile.length == 0 { _ = try hostile.append(Writer<MemoryStorage>.header) }
      try source.flush(durable: true)
      try hostile.flush(durable: true)
      self.source = FileBytes(first)
      self.hostile = FileBytes(second)
      keys = [source.key, hostile.key]
    } catch {
      fatalError("\(error)")
    }
  }
}

private let sample = SampleDatabase()

private var databaseSeeds: [[UInt8]] {
  let key = Array("posts/3".utf8).asPiece
  let plain: [UInt8] = [0] + key + [1, 7, 2, 6, 2, 1, 1, 0]
  return [
    plain, plain + plain, [1] + entrySeeds[0].asPiece,
    [0] + key + [1, 7, 2, 6, 2, 1, 1, 6, 0, 1, 0, 1, 3, 2] + plain, [2] + plain, [3] + plain + [2, 3],
  ]
}

/// Whatever a writer writes, the database answers in bounded time, and others go on writing.
private func fuzzDatabase(_ bytes: [UInt8]) {
  var input = Input(bytes)
  do {
    let source = try Feed(files: sample.source.opened(), keyPair: keyPair(1), storeSecretKey: false)
    let hostile = try Feed(files: sample.hostile.opened(), keyPair: keyPair(2), storeSecretKey: false)
    var opened: [PublicKey: Feed<MemoryStorage>] = [hostile.key: hostile]
    let database = try Hyperdb(source: source) { (key) throws(HyperdbError) in
      if let feed = opened[key] { return feed }
      guard let feed = try? Feed(files: FileBytes().opened(), key: key) else {
        throw HyperdbError(.unopened, "no")
      }
      opened[key] = feed
      return feed
    }
    for _ in 0..<24 where !input.isAtEnd {
      switch input.byte() & 3 {
      case 0: _ = try hostile.append(entry(&input).encoded)
      case 1: _ = try hostile.append(input.piece())
      case 2: _ = try? database.put("posts/\(input.byte() & 3)", [2])
      default: read(database)
      }
    }
    read(database)
    do throws(HyperdbError) {
      _ = try database.put("more", [3])
      expect(try !database.get("more").isEmpty, "what was put is there")
    } catch {
      fatalError("not so: others go on writing: \(error)")
    }
  } catch {
    fatalError("\(error)")
  }
}

private func entry(_ input: inout Input) -> StoredEntry {
  let key = input.piece()
  var entry = StoredEntry(key: key, value: [input.byte()], isDeleted: false)
  let flags = input.byte()
  entry.isDeleted = flags & 1 != 0
  for _ in 0..<Int(flags >> 1 & 3) { entry.clock.append(input.number()) }
  entry.inflate = input.number()
  entry.trie = input.piece()
  if flags & 8 != 0 { entry.feeds = sample.keys }
  if flags & 16 != 0 { entry.feeds.append(PublicKey([UInt8](repeating: input.byte(), count: 32)) ?? .zero) }
  return entry
}

private func read(_ database: Hyperdb<MemoryStorage>) {
  for key in ["kept", "posts/1", "posts/3", ""] { _ = try? database.get(key) }
  _ = try? database.list(prefix: "posts/")
  _ = try? database.list()
  guard let snapshot = try? database.snapshot() else { return }
  for reversed in [false, true] {
    guard var history = try? History(snapshot, reversed: reversed) else { continue }
    var count = 0
    while count < 200, (try? history.entry()) ?? nil != nil { count += 1 }
    _ = try? History(database, rest: history.rest)
  }
  var steps = 0
  var next = try? snapshot.historyStep(of: "kept")
  while let step = next, steps < 64 {
    next = try? step.earlier.historyStep(of: "kept")
    steps += 1
  }
}
