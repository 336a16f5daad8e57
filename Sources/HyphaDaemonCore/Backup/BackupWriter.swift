import Glibc
import Hypercore
import HyphaControlAPI

/// Gives a backup's bytes, piece by piece, away from the node's own thread: what it reads does not change any more.
actor BackupWriter {
  enum Item: Sendable {
    case bytes(String, offset: UInt64 = 0, [UInt8])
    /// The first bytes of a file, without its holes.
    case file(String, path: String, size: UInt64)
  }

  private var items: ArraySlice<Item>
  private let digest = BackupDigest()
  private var cipher: BackupCipher?
  /// Plain bytes that were not given out yet.
  private var buffer: [UInt8] = []
  /// Bytes of the format itself that are ready: not encrypted any more.
  private var ready: [UInt8] = []
  private var hasBegun = false
  private var isDone = false
  /// Of the item that is being read.
  private var open: (name: String, file: OwnedDescriptor, offset: UInt64, end: UInt64, size: UInt64)?

  init(_ items: [Item]) {
    self.items = items[...]
  }

  deinit {
    buffer.withUnsafeMutableBytes { SecretBytes.wipe($0) }
  }

  /// To be called before the first ``next()``: from here on all is encrypted.
  func encrypt(_ passphrase: Secret) throws(NodeError) {
    let salt = Node.random(BackupFormat.saltBytes)
    guard let key = BackupFormat.key(passphrase, salt: salt) else {
      throw NodeError(.storage, "There is no memory for making the backup's key: 64 MiB are needed.")
    }
    cipher = BackupCipher(key: key, salt: salt)
  }

  /// The next bytes, at most ``ControlLimits/backupChunkBytes``.
  func next() throws(NodeError) -> (bytes: [UInt8], isLast: Bool) {
    if !hasBegun {
      hasBegun = true
      if let cipher {
        ready = cipher.start
      } else {
        buffer = BackupFormat.magic + [BackupFormat.Kind.plain.rawValue]
      }
    }
    while !isDone, ready.count + buffer.count < ControlLimits.backupChunkBytes / 2 {
      do throws(SystemError) { try fill() } catch { throw NodeError(error.storageError) }
      move()
    }
    let taken = Array(ready.prefix(ControlLimits.backupChunkBytes))
    ready.removeFirst(taken.count)
    return (taken, isDone && ready.isEmpty)
  }

  /// Makes plain bytes what they are in the file.
  private func move() {
    if let cipher {
      while buffer.count > BackupFormat.pieceBytes {
        ready += cipher.seal(buffer.prefix(BackupFormat.pieceBytes), isLast: false)
        buffer.removeFirst(BackupFormat.pieceBytes)
      }
      if isDone {
        ready += cipher.seal(buffer[...], isLast: true)
        buffer.withUnsafeMutableBytes { SecretBytes.wipe($0) }
        buffer = []
      }
    } else {
      digest.add(buffer)
      ready += buffer
      if isDone { ready += digest.final() }
      buffer.withUnsafeMutableBytes { SecretBytes.wipe($0) }
      buffer = []
    }
  }

  private func fill() throws(SystemError) {
    if open != nil { return try fillFromFile() }
    guard let item = items.popFirst() else {
      buffer += BackupBytes.header("", offset: 0, size: 0)
      isDone = true
      return
    }
    switch item {
    case .bytes(let name, let offset, let bytes):
      buffer += BackupBytes.header(name, offset: offset, size: UInt64(bytes.count)) + bytes
    case .file(let name, let path, let size):
      open = (name, try OwnedDescriptor(path), 0, 0, size)
    }
  }

  private func fillFromFile() throws(SystemError) {
    guard var current = open else { return }
    if current.offset == current.end {
      guard let extent = try current.file.extent(from: current.offset, below: current.size) else {
        open = nil
        return
      }
      (current.offset, current.end) = (extent.lowerBound, extent.upperBound)
      buffer += BackupBytes.header(
        current.name, offset: current.offset, size: current.end - current.offset)
    }
    let count = Int(min(UInt64(BackupFormat.pieceBytes), current.end - current.offset))
    buffer += try current.file.read(count, at: current.offset)
    current.offset += UInt64(count)
    open = current
  }
}

/// A file that is open for reading.
final class OwnedDescriptor {
  private let path: String
  private let file: FileDescriptor

  init(_ path: String) throws(SystemError) {
    self.path = path
    file = try FileDescriptor(path, O_RDONLY | O_NOFOLLOW)
  }

  /// The next bytes from `offset` on that are no hole.
  func extent(from offset: UInt64, below size: UInt64) throws(SystemError) -> Range<UInt64>? {
    let end = min(size, try file.size("size of \(path)"))
    guard offset < end else { return nil }
    // Linux's SEEK_DATA and SEEK_HOLE; a file system without them says that all is data.
    let data = lseek(file.number, off_t(offset), 3)
    guard data >= 0 else {
      if errno == ENXIO { return nil }
      throw SystemError("read \(path)")
    }
    // The file may be longer than what is asked for: it grows while it is read.
    guard UInt64(data) < end else { return nil }
    let hole = lseek(file.number, data, 4)
    guard hole >= 0 else { throw SystemError("read \(path)") }
    return UInt64(data)..<min(UInt64(hole), end)
  }

  func read(_ count: Int, at offset: UInt64) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let read = try bytes.withMutableBytes { (buffer) throws(SystemError) in
      try file.read(into: buffer, at: offset, "read \(path)")
    }
    guard read == count else { throw SystemError(EIO, "read \(path), which became shorter") }
    return bytes
  }
}
