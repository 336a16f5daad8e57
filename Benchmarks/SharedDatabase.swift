import Glibc
import Hypercore
import Hyperdb
import HyphaDaemonCore

/// A database on disk that several workloads use: made by the first of them, removed when the run ends.
///
/// Its keys are `posts/0000000000` and so on. With several writers it has been written by taking turns: in each
/// round every writer puts its part without knowing of the others', then all learn of all.
struct SharedDatabase {
  /// Entries of all writers together in one round.
  private static let round = 1000
  static let value = Array(#"{"text":"what a short post says, of about a hundred bytes in all"}"#.utf8)

  let keys: Int
  private let writers: [PublicKey]
  private let folder: String

  static func key(_ number: Int) -> String {
    let digits = String(number)
    return "posts/" + String(repeating: "0", count: 10 - digits.count) + digits
  }

  /// - Parameter folder: the workload's own; the database is beside it, in `shared`.
  init(keys: Int, writers: Int, beside folder: String) throws {
    let path = "\(folder)/../shared/\(keys)-\(writers)"
    if access(path, F_OK) != 0 {
      // In a process of its own, whose memory does not count here.
      _ = try Child(["--database", path, String(keys), String(writers)]).output()
    }
    self.keys = keys
    self.folder = path
    self.writers = try (0..<writers).map { writer in
      let file = try FileStorage("\(path)/\(writer)/key")
      var key = [UInt8](repeating: 0, count: 32)
      try key.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
      guard let key = PublicKey(key) else { throw BenchError("no database in \(path)") }
      return key
    }
    try readIntoMemory()
  }

  /// The other side of ``init(keys:writers:beside:)``.
  static func make(_ folder: String, keys: Int, writers: Int) throws {
    mkdir(folder, 0o700)
    for writer in 0..<writers { _ = try Feed.create(in: "\(folder)/\(writer)") }
    let database = try SharedDatabase(keys: keys, writers: writers, beside: folder + "/..")
    var number = 0
    let replicas = try Replicas(database)
    while number < keys {
      _ = try replicas.round(batch: 1000) {
        number += 1
        return number <= keys ? number - 1 : nil
      }
    }
    try replicas.flush(durable: true)
  }

  fileprivate func feed(_ writer: Int) throws -> Feed<FileStorage> {
    try Feed(files: Feed<FileStorage>.files(in: "\(folder)/\(writer)"), key: writers[writer])
  }

  /// - Parameter writer: whose copy it is.
  fileprivate func open(_ feeds: [Feed<FileStorage>], as writer: Int) throws -> Hyperdb<FileStorage> {
    try Hyperdb(source: feeds[0], local: feeds[writer]) { (key) throws(HyperdbError) in
      guard let feed = feeds.first(where: { $0.key == key }) else {
        throw HyperdbError(.unopened, "no feed \(key.hex)")
      }
      return feed
    }
  }

  func open() throws -> Hyperdb<FileStorage> {
    try open(writers.indices.map(feed), as: 0)
  }

  /// Has the system forget what it holds of the files in memory.
  func dropFromMemory() throws {
    try forEachFile { file in
      guard fdatasync(file) == 0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0 else {
        throw BenchError(system: "forget a file of \(folder)")
      }
    }
  }

  /// Has the system hold all files in memory, as it does for files in use if there is enough.
  private func readIntoMemory() throws {
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    try forEachFile { file in while read(file, &buffer, buffer.count) > 0 {} }
  }

  private func forEachFile(_ body: (Int32) throws -> Void) throws {
    for writer in writers.indices {
      for name in ["key", "secret_key", "data", "tree", "signatures", "bitfield"] {
        let file = Glibc.open("\(folder)/\(writer)/\(name)", O_RDONLY)
        guard file >= 0 else { throw BenchError(system: "open \(name)") }
        defer { close(file) }
        try body(file)
      }
    }
  }

  /// Every writer's copy of the database.
  ///
  /// The copies share their files: all that know a block write the same bytes to the same place, and write nothing
  /// between two rounds. So they take room for one.
  final class Replicas {
    /// First by copy, then by writer.
    private let feeds: [[Feed<FileStorage>]]
    private let databases: [Hyperdb<FileStorage>]

    init(_ database: SharedDatabase) throws {
      let writers = database.writers.indices
      let feeds = try writers.map { _ in try writers.map(database.feed) }
      databases = try writers.map { try database.open(feeds[$0], as: $0) }
      self.feeds = feeds
      for key in database.writers { try databases[0].authorize(key) }
      try exchange()
    }

    /// Lets every writer put its part.
    ///
    /// - Parameter next: the number of the next key, or `nil` at the end.
    /// - Returns: seconds that writing took, and how many puts they were.
    func round(batch: Int, _ next: () -> Int?) throws -> (seconds: Double, puts: Int) {
      var elapsed = 0.0
      var puts = 0
      for (writer, database) in databases.enumerated() {
        var left = SharedDatabase.round / databases.count
        while left > 0 {
          var changes: [Hyperdb<FileStorage>.Change] = []
          while changes.count < min(batch, left), let number = next() {
            changes.append(.put(key: SharedDatabase.key(number), value: SharedDatabase.value))
          }
          if changes.isEmpty { break }
          elapsed += try seconds {
            try database.batch(changes)
            try feeds[writer][writer].flush(durable: false)
          }
          left -= changes.count
          puts += changes.count
        }
      }
      try exchange()
      return (elapsed, puts)
    }

    func flush(durable: Bool) throws {
      for feed in feeds.joined() { try feed.flush(durable: durable) }
    }

    /// Gives all blocks to all. Each copy has all secret keys, so it appends what the writer did: a signature over the
    /// same roots is the same, and nothing has to be verified.
    private func exchange() throws {
      for writer in feeds.indices {
        let source = feeds[writer][writer]
        for copy in feeds.indices where copy != writer {
          let feed = feeds[copy][writer]
          guard feed.length < source.length else { continue }
          try feed.append(contentsOf: (feed.length..<source.length).map { try source.block(at: $0) })
        }
      }
      try flush(durable: false)
    }
  }
}
