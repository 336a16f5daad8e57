import Glibc
import Hypercore
import Testing

@testable import HyphaDaemonCore

@Suite(.fewAtOnce) struct EdgeStorageTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
  }

  private func write(_ storage: FileStorage, _ bytes: [UInt8], at offset: UInt64) throws(StorageError) {
    try bytes.withBytes { (bytes) throws(StorageError) in try storage.write(bytes, at: offset) }
  }

  private func read(_ storage: FileStorage, _ count: Int, at offset: UInt64) throws(StorageError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xAA, count: count)
    try bytes.withMutableBytes { (buffer) throws(StorageError) in
      try storage.read(into: buffer, at: offset)
    }
    return bytes
  }

  @Test func fileBehavesAsMemory() throws {
    let file = try FileStorage("\(folder.path)/data")
    let memory = MemoryStorage()
    var random = EdgeRandom(seed: 7)
    for _ in 0..<2_000 {
      let offset = UInt64(random.next() % 5_000)
      let bytes = (0..<Int(random.next() % 300)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      switch random.next() % 8 {
      case 0:
        try file.truncate(to: offset)
        try memory.truncate(to: offset)
      case 1:
        try file.sync()
      case 2...4:
        try write(file, bytes, at: offset)
        if !bytes.isEmpty { try bytes.withUnsafeBytes { try memory.write($0, at: offset) } }
      default:
        let inside = try offset + UInt64(bytes.count) <= memory.size
        if inside {
          #expect(
            try read(file, bytes.count, at: offset)
              == Array(memory.bytes[Int(offset)..<Int(offset) + bytes.count]))
        } else if !bytes.isEmpty {
          let error = #expect(throws: StorageError.self) { try read(file, bytes.count, at: offset) }
          #expect(error?.code == .outOfRange)
        }
      }
      #expect(try file.size == memory.size)
    }
    let again = try FileStorage("\(folder.path)/data")
    #expect(try again.size == memory.size)
    #expect(try read(again, memory.bytes.count, at: 0) == memory.bytes)
  }

  @Test func fileIsPrivateAndNotInherited() throws {
    let before = umask(0)
    defer { umask(before) }
    let storage = try FileStorage("\(folder.path)/secret_key")
    var status = stat()
    #expect(stat(storage.path, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
    let open = FileDescriptor(owning: Glibc.open(storage.path, O_RDONLY))
    #expect(fcntl(open.number, F_GETFD) & FD_CLOEXEC == 0)
    let closing = try FileDescriptor(storage.path, O_RDONLY)
    #expect(fcntl(closing.number, F_GETFD) & FD_CLOEXEC != 0)
  }

  /// The kernel's own full file: every write to it fails with ENOSPC.
  @Test func fullDiskIsTold() throws {
    let storage = try FileStorage("/dev/full")
    let error = #expect(throws: StorageError.self) { try write(storage, [1, 2, 3], at: 0) }
    #expect(error?.code == .full)
    #expect(error?.context.contains("/dev/full") == true)
  }

  @Test func errorsNameTheFile() throws {
    let path = "\(folder.path)/missing/data"
    let error = #expect(throws: StorageError.self) { try FileStorage(path) }
    #expect(error?.code == .system(ENOENT))
    #expect(error?.context.contains(path) == true)
    let file = try folder.write("file", [])
    #expect(throws: StorageError.self) { try FileStorage("\(file)/data") }
    let large = try FileStorage("\(folder.path)/large")
    #expect(throws: StorageError.self) { try write(large, [1], at: .max - 1) }
    #expect(throws: StorageError.self) { try large.truncate(to: .max) }
  }

  /// A pipe cannot be synced (EINVAL): as good an error as a broken disk's, which no test has at hand.
  @Test func syncIsNeverTriedAgain() throws {
    let path = "\(folder.path)/pipe"
    #expect(mkfifo(path, 0o600) == 0)
    let storage = try FileStorage(path)
    let first = try #require(throws: StorageError.self) {
      try storage.truncateIgnoringErrors()
      try storage.sync()
    }
    #expect(first.code == .system(EINVAL))
    #expect(throws: first) { try storage.sync() }
    #expect(throws: first) { try write(storage, [1], at: 0) }
    #expect(throws: first) { try storage.size }
  }

  @Test func smallFilesAreReplacedAsAWhole() throws {
    let path = "\(folder.path)/state"
    #expect(try AtomicFile.read(path) == nil)
    try AtomicFile.replace(path, with: [1, 2, 3])
    try AtomicFile.replace(path, with: [4], mode: 0o644)
    #expect(try AtomicFile.read(path) == [4])
    var status = stat()
    #expect(stat(path, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o644)
    #expect(access("\(path).new", F_OK) == -1)
    try AtomicFile.remove(path)
    try AtomicFile.remove(path)
    #expect(try AtomicFile.read(path) == nil)

    // A folder in the way of the rename: the old contents stay, and nothing else is left behind.
    #expect(mkdir(path, 0o700) == 0)
    #expect(throws: StorageError.self) { try AtomicFile.replace(path, with: [5]) }
    #expect(access(path, F_OK) == 0)
  }

  @Test func stateFolderIsMadeLockedAndFreed() throws {
    let path = "\(folder.path)/state/"
    var first: StateFolder? = try StateFolder(path)
    var status = stat()
    #expect(stat(path, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o700)
    let error = #expect(throws: StateFolderError.self) { try StateFolder(path) }
    #expect(error?.code == .locked)
    #expect(error?.context.contains("process \(getpid()):") == true)
    let peers = try first?.makeFolder("source/peers")
    #expect(peers == "\(folder.path)/state/source/peers")
    #expect(stat(peers ?? "", &status) == 0)
    try first?.sync(folder: "source")
    first = nil
    first = try StateFolder(path)
    #expect(first?.path == "\(folder.path)/state")
  }

  @Test func stateFolderOfTheFutureIsRefused() throws {
    let path = "\(folder.path)/state"
    _ = try StateFolder(path)
    _ = try folder.write("state/version", Array("2\n".utf8))
    #expect(throws: StateFolderError.self) { try StateFolder(path) }
    let newer = #expect(throws: StateFolderError.self) { try StateFolder(path) }
    #expect(newer?.code == .newer)
    _ = try folder.write("state/version", Array("one".utf8))
    let damaged = #expect(throws: StateFolderError.self) { try StateFolder(path) }
    #expect(damaged?.code == .unsuitable)
  }

  @Test func stateFolderMustBePrivate() throws {
    let path = "\(folder.path)/state"
    #expect(mkdir(path, 0o700) == 0)
    #expect(chmod(path, 0o750) == 0)
    let error = #expect(throws: StateFolderError.self) { try StateFolder(path) }
    #expect(error?.code == .unsuitable)
    #expect(error?.context.contains("chmod 700") == true)
    #expect(throws: StateFolderError.self) { try StateFolder("\(folder.path)/no/such") }
  }
}

extension FileStorage {
  /// Marks a special file as written to, so that a sync is due.
  fileprivate func truncateIgnoringErrors() throws {
    do { try truncate(to: 0) } catch {}
  }
}

/// splitmix64: the same numbers for the same seed.
struct EdgeRandom {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
