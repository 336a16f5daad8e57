import Hypercore
import Hyperdb
import Hypha
import HyphaWeb

/// What the tests call beyond what a page does: single primitives, feeds and databases.
enum VectorMethod: UInt32 {
  case leaf = 1
  case parent = 2
  case tree = 3
  case discoveryKey = 4
  case sign = 5
  case verify = 6
  case encodeBits = 7
  case decodeBits = 8
  case seal = 9
  case unseal = 10
  case recode = 11
  case writeFeed = 20
  case readFeed = 21
  case prepareClone = 22
  case clone = 23
  case makeVast = 24
  case receiveVast = 25
  case openDatabases = 30
  case put = 31
  case delete = 32
  case authorize = 33
  case sync = 34
  case get = 35
  case list = 36
  case feeds = 37
  case version = 38
  case checkout = 39
  case history = 40
}

/// What is kept from one call to the next.
struct VectorState {
  var replicas: [Replica] = []
  var source: Feed<MemoryStorage>?
  var vast: VastDevice?
}

// The tests call one export at a time.
nonisolated(unsafe) private var state = VectorState()

@_expose(wasm, "call_test")
@_cdecl("hypha_call_test")
func callTest(_ method: UInt32, _ request: UnsafeMutableRawPointer, _ count: Int) -> Int {
  respond(to: request, count) { (request, response) throws(WebError) in
    guard let method = VectorMethod(rawValue: method) else {
      throw WebError("badRequest", "there is no method \(method)")
    }
    switch method.rawValue {
    case 24, 25: try method.useVastDevice(&request, &response, &state.vast)
    case ..<20: try method.compute(&request, &response)
    case ..<30: try method.useFeed(&request, &response)
    default: try method.useDatabase(&request, &response)
    }
  }
}

func feed<T>(_ body: () throws(FeedError) -> T) throws(WebError) -> T {
  do throws(FeedError) { return try body() } catch { throw WebError("feed", error.context) }
}

func database<T>(_ body: () throws(HyperdbError) -> T) throws(WebError) -> T {
  do throws(HyperdbError) { return try body() } catch { throw WebError("database", error.context) }
}

extension RequestReader {
  mutating func pair() throws(WebError) -> KeyPair {
    guard let pair = KeyPair.stored(try data()) else {
      throw WebError("badRequest", "the secret key does not hold together")
    }
    return pair
  }

  mutating func node() throws(WebError) -> Node {
    Node(treeIndex: try uint64(), hash: try key(), byteSize: try uint64())
  }
}

extension VectorMethod {
  fileprivate func compute(
    _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    switch self {
    case .recode: try recode(&request, &response)
    case .leaf: response.append(try request.data().withBytes { Crypto.leaf($0) })
    case .parent: response.append(Crypto.parent(try request.node(), try request.node()))
    case .tree:
      var roots: [Node] = []
      for _ in 0..<(try request.count()) { roots.append(try request.node()) }
      response.append(Crypto.tree(roots))
    case .discoveryKey: response.append(Crypto.discoveryKey(try request.key()))
    case .sign:
      let pair = try request.pair()
      response.append(pair.sign(try request.key()).bytes)
    case .verify:
      let (key, message) = (try request.key(), try request.key())
      let signature = Signature(try request.data())
      response.append(signature.map { Crypto.verify($0, of: message, by: key) } ?? false)
    case .encodeBits: response.append(RunLengthBitfield.encode(try request.data()))
    case .decodeBits:
      let encoded = try request.data()
      do throws(RunLengthBitfield.Malformed) {
        response.append(try RunLengthBitfield.decode(encoded, limit: 1 << 20))
      } catch {
        throw WebError("malformed", "the bitfield is malformed")
      }
    default:
      guard let key = try request.secret(count: 32) else { throw WebError("badRequest", "there is no key") }
      let channel = SecureChannel(key: key)
      if self == .seal {
        let nonce = try request.data()
        response.append(channel.seal(try request.data(), nonce: nonce))
      } else {
        guard let opened = channel.open(try request.data()) else {
          throw WebError("unopened", "the message does not open")
        }
        response.append(opened)
      }
    }
  }

  // MARK: - Feeds

  fileprivate func useFeed(
    _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    switch self {
    case .writeFeed:
      let files = try Self.files([])
      let made = try Self.writableFeed(files, try request.data())
      for _ in 0..<(try request.count()) {
        var batch: [[UInt8]] = []
        for _ in 0..<(try request.count()) { batch.append(try request.data()) }
        try feed { () throws(FeedError) in
          try made.append(contentsOf: batch)
          try made.flush(durable: true)
        }
      }
      try feed { () throws(FeedError) in try made.flush(durable: true) }
      let all = [
        files.key, files.secretKey, files.data, files.tree, files.signatures, files.bitfield,
      ]
      for file in all { response.append(file.bytes) }
    case .readFeed:
      let key = try request.key()
      var contents: [[UInt8]] = []
      for _ in 0..<6 { contents.append(try request.data()) }
      let files = try Self.files(contents)
      let read = try feed { () throws(FeedError) in try Feed(files: files, key: key) }
      response.append(read.length)
      response.append(read.byteLength)
      response.append(read.isWritable)
      response.append(count: read.roots.count)
      for root in read.roots {
        response.append(root.treeIndex)
        response.append(root.hash)
        response.append(root.byteSize)
      }
      let last = read.length
      let signature =
        last == 0 ? nil : try feed { () throws(FeedError) in try read.signature(at: last - 1) }
      response.append(signature?.bytes ?? [])
      for index in 0..<read.length {
        response.append(read.has(index))
        guard read.has(index) else { continue }
        response.append(try feed { () throws(FeedError) in try read.block(at: index) })
      }
    case .prepareClone:
      let secretKey = try request.data()
      let (count, size) = (try request.count(), try request.count())
      let source = try Self.writableFeed(Self.files([]), secretKey)
      for number in 0..<count {
        let block = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: size)
        _ = try feed { () throws(FeedError) in try source.append(block) }
      }
      state.source = source
    default:
      guard let source = state.source else { throw WebError("badRequest", "there is no source") }
      let held = try feed { () throws(FeedError) in
        let clone = try Feed(files: Self.noFiles(), key: source.key)
        let remoteTree = SparseBitfield()
        for index in 0..<source.length {
          let proof = try source.proof(
            of: index, digest: clone.digest(of: index), hashOnly: false, remoteTree: remoteTree)
          try clone.put(source.block(at: index), at: index, proof: proof)
        }
        return clone.heldBlocks
      }
      response.append(held)
    }
  }

  private static func writableFeed(
    _ files: FeedFiles<MemoryStorage>, _ secretKey: [UInt8]
  ) throws(WebError) -> Feed<MemoryStorage> {
    guard let pair = KeyPair.stored(secretKey) else {
      throw WebError("badRequest", "the secret key does not hold together")
    }
    do throws(FeedError) { return try Feed(files: files, keyPair: pair) } catch { throw WebError(error) }
  }

  private static func files(_ contents: [[UInt8]]) throws(WebError) -> FeedFiles<MemoryStorage> {
    var rest = contents[...]
    do throws(StorageError) {
      return try FeedFiles { (_) throws(StorageError) in MemoryStorage(rest.popFirst() ?? []) }
    } catch {
      throw WebError("storage", error.context)
    }
  }

  private static func noFiles() throws(FeedError) -> FeedFiles<MemoryStorage> {
    do throws(WebError) { return try files([]) } catch { throw FeedError(.damaged, error.context) }
  }

  // MARK: - Databases

  fileprivate func useDatabase(
    _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    if self == .openDatabases {
      let key = try request.key()
      var replicas: [Replica] = []
      for _ in 0..<(try request.count()) { replicas.append(try Replica(key, try request.pair())) }
      state.replicas = replicas
      return
    }
    let replica = state.replicas[try request.count()]
    switch self {
    case .put:
      let (key, value) = (try request.text(), try request.data())
      _ = try database { () throws(HyperdbError) in try replica.database.put(key, value) }
    case .delete:
      let key = try request.text()
      _ = try database { () throws(HyperdbError) in try replica.database.delete(key) }
    case .authorize:
      let key = try request.key()
      _ = try database { () throws(HyperdbError) in try replica.database.authorize(key) }
    case .sync:
      let other = state.replicas[try request.count()]
      try replica.pull(from: other)
      try other.pull(from: replica)
      try replica.pull(from: other)
    case .get:
      let key = try request.text()
      response.append(try database { () throws(HyperdbError) in try replica.database.get(key) })
    case .list:
      let prefix = try request.text()
      let all = try database { () throws(HyperdbError) in try replica.database.list(prefix: prefix) }
      response.append(count: all.count)
      for entries in all { response.append(entries) }
    case .feeds:
      let feeds = try database { () throws(HyperdbError) in try replica.database.feeds }
      response.append(count: feeds.count)
      for made in feeds {
        response.append(made.key)
        response.append(count: Int(made.length))
        for index in 0..<made.length {
          response.append(try feed { () throws(FeedError) in try made.block(at: index) })
        }
      }
    case .version:
      let now = try database { () throws(HyperdbError) in try replica.database.snapshot() }
      response.append(now.version.bytes)
    case .checkout:
      guard let version = Version(try request.data()) else { throw WebError("badVersion", "no version") }
      let key = try request.text()
      response.append(
        try database { () throws(HyperdbError) in try replica.database.checkout(version).get(key) })
    default:
      let isReversed = try request.flag()
      let entries = try database { () throws(HyperdbError) in
        var history = try History(replica.database.snapshot(), reversed: isReversed)
        var entries: [Entry] = []
        while let entry = try history.entry() { entries.append(entry) }
        return entries
      }
      response.append(entries)
    }
  }
}

extension ResponseWriter {
  fileprivate mutating func append(_ entries: [Entry]) {
    append(count: entries.count)
    for entry in entries {
      append(entry.key)
      append(entry.value != nil)
      append(entry.value ?? [])
      append(entry.feed)
      append(entry.seq)
      append(count: entry.clock.count)
      for seen in entry.clock { append(seen) }
    }
  }
}

/// One node's copy of a database.
final class Replica {
  let database: Hyperdb<MemoryStorage>
  private let feeds: Feeds

  /// Feeds by key, opened once.
  private final class Feeds {
    var all: [PublicKey: Feed<MemoryStorage>] = [:]

    func files() throws(FeedError) -> FeedFiles<MemoryStorage> {
      do throws(StorageError) { return try FeedFiles { (_) throws(StorageError) in MemoryStorage() } } catch {
        throw FeedError(.storage(error.code), error.context)
      }
    }

    func open(_ key: PublicKey) throws(FeedError) -> Feed<MemoryStorage> {
      if let feed = all[key] { return feed }
      let feed = try Feed(files: files(), key: key)
      all[key] = feed
      return feed
    }
  }

  init(_ key: PublicKey, _ pair: consuming KeyPair) throws(WebError) {
    let feeds = Feeds()
    self.feeds = feeds
    let ownKey = pair.publicKey
    let own: Feed<MemoryStorage>
    let source: Feed<MemoryStorage>
    do throws(FeedError) {
      own = try Feed(files: feeds.files(), keyPair: pair, storeSecretKey: false)
      feeds.all[ownKey] = own
      source = try feeds.open(key)
    } catch { throw WebError("feed", error.context) }
    do throws(HyperdbError) {
      database = try Hyperdb(source: source, local: own === source ? nil : own) {
        (key) throws(HyperdbError) in
        do throws(FeedError) { return try feeds.open(key) } catch {
          throw HyperdbError(.unopened, error.context)
        }
      }
    } catch { throw WebError("database", error.context) }
  }

  /// Takes over, verified, all blocks of the feeds that both know.
  func pull(from other: Replica) throws(WebError) {
    var isDone = false
    while !isDone {
      isDone = true
      let known = try WebTestExports.database { () throws(HyperdbError) in try database.feeds }
      let theirs = try WebTestExports.database { () throws(HyperdbError) in try other.database.feeds }
      for mine in known {
        guard let their = theirs.first(where: { $0.key == mine.key }) else { continue }
        for index in 0..<their.length where their.has(index) && !mine.has(index) {
          isDone = false
          try feed { () throws(FeedError) in
            let proof = try their.proof(
              of: index, digest: mine.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
            try mine.put(their.block(at: index), at: index, proof: proof)
          }
        }
      }
    }
  }
}
