import Hypercore
import HyphaControlAPI

/// Takes a backup's bytes as they come, and gives the files that are in it.
///
/// Nothing that it gives is to be trusted before ``finish()``: only then is it known that all is as it was written.
final class BackupReader {
  /// Why bytes are no backup.
  struct Failure: Error {
    enum Code { case damaged, passphrase, memory }
    var code: Code
    var context: String

    init(_ code: Code, _ context: String) {
      self.code = code
      self.context = context
    }

    static func damaged(_ what: String) -> Failure {
      Failure(.damaged, "The backup is damaged: \(what).")
    }
  }

  enum Piece {
    /// A file, or a part of one, begins.
    case begin(name: String, offset: UInt64, size: UInt64)
    case bytes(ArraySlice<UInt8>)
  }

  private let passphrase: Secret?
  private var input: [UInt8] = []
  private var kind: BackupFormat.Kind?
  private let digest = BackupDigest()
  private var cipher: BackupCipher?
  private var sawLastPiece = false
  /// Plain bytes of files that were not given yet.
  private var plain: [UInt8] = []
  /// Bytes of the file that is under way.
  private var left: UInt64 = 0
  private var sawEnd = false
  /// Bytes taken.
  private(set) var count: UInt64 = 0

  init(passphrase: Secret?) {
    self.passphrase = passphrase
  }

  deinit {
    plain.withUnsafeMutableBytes { SecretBytes.wipe($0) }
  }

  func take(_ bytes: [UInt8], _ body: (Piece) throws(Failure) -> Void) throws(Failure) {
    count += UInt64(bytes.count)
    input += bytes
    if kind == nil { try readStart() }
    switch kind {
    case nil: return
    case .plain:
      // What could be the digest is held back.
      let ready = max(0, input.count - BackupFormat.digestBytes)
      digest.add(input.prefix(ready))
      plain += input.prefix(ready)
      input.removeFirst(ready)
    case .encrypted: try openPieces()
    }
    try readFiles(body)
  }

  /// To be called once there are no more bytes.
  func finish() throws(Failure) {
    guard kind != nil else { throw Self.noBackup }
    guard sawEnd, left == 0, plain.isEmpty else {
      throw Failure(.damaged, "The backup is cut off: its end is missing.")
    }
    switch kind {
    case .encrypted:
      guard sawLastPiece, input.isEmpty else { throw .damaged("something follows its end") }
    default:
      guard input == digest.final() else {
        throw Failure(.damaged, "The backup was altered or is cut off: its checksum is another one.")
      }
    }
  }

  private static var noBackup: Failure {
    Failure(
      .damaged, "This is no backup that “hyphactl backup” of this version has made, or it is cut off.")
  }

  private func readStart() throws(Failure) {
    let size = BackupFormat.magic.count + 1
    let known = min(input.count, BackupFormat.magic.count)
    guard input.prefix(known) == BackupFormat.magic.prefix(known) else { throw Self.noBackup }
    guard input.count >= size else { return }
    guard let found = BackupFormat.Kind(rawValue: input[size - 1]) else { throw Self.noBackup }
    switch found {
    case .plain:
      guard passphrase == nil else {
        throw Failure(.passphrase, "The backup is not encrypted: leave out the passphrase.")
      }
      digest.add(input.prefix(size))
      input.removeFirst(size)
    case .encrypted:
      guard let passphrase else {
        throw Failure(.passphrase, "The backup is encrypted: give its passphrase.")
      }
      let prefixSize = size + BackupFormat.saltBytes + BackupCipher.headerBytes
      guard input.count >= prefixSize else { return }
      let prefix = Array(input.prefix(prefixSize))
      input.removeFirst(prefixSize)
      let salt = Array(prefix[size..<size + BackupFormat.saltBytes])
      guard let key = BackupFormat.key(passphrase, salt: salt) else {
        throw Failure(.memory, "There is no memory for making the backup's key: 64 MiB are needed.")
      }
      cipher = BackupCipher(key: key, prefix: prefix)
    }
    kind = found
  }

  private func openPieces() throws(Failure) {
    var start = 0
    while input.count - start >= 4 {
      guard !sawLastPiece else { throw .damaged("something follows its end") }
      let size = Int(BackupBytes.number(input[start..<start + 4]))
      guard size <= BackupFormat.pieceBytes + BackupCipher.pieceOverhead else {
        throw .damaged("a piece is impossibly large")
      }
      guard input.count - start - 4 >= size else { break }
      guard let cipher, let (piece, isLast) = cipher.open(Array(input[start + 4..<start + 4 + size])) else {
        if plain.isEmpty, !sawEnd, left == 0, !hasOpened {
          throw Failure(
            .passphrase, "That is not the backup's passphrase, or the backup's first bytes were altered.")
        }
        throw .damaged("a piece was altered")
      }
      hasOpened = true
      plain += piece
      sawLastPiece = isLast
      start += 4 + size
    }
    input.removeFirst(start)
  }

  private var hasOpened = false

  private func readFiles(_ body: (Piece) throws(Failure) -> Void) throws(Failure) {
    var start = 0
    reading: while start < plain.count {
      if left > 0 {
        let count = min(plain.count - start, Int(min(left, UInt64(1 << 30))))
        try body(.bytes(plain[start..<start + count]))
        left -= UInt64(count)
        start += count
        continue
      }
      guard !sawEnd else { throw .damaged("something follows its end") }
      guard plain.count - start >= 2 else { break }
      let nameSize = Int(BackupBytes.number(plain[start..<start + 2]))
      guard nameSize <= BackupFormat.nameBytes else { throw .damaged("a name is impossibly long") }
      guard plain.count - start >= 18 + nameSize else { break reading }
      let name = String(decoding: plain[start + 2..<start + 2 + nameSize], as: UTF8.self)
      start += 2 + nameSize
      let offset = BackupBytes.number(plain[start..<start + 8])
      left = BackupBytes.number(plain[start + 8..<start + 16])
      start += 16
      if name.isEmpty {
        guard left == 0, offset == 0 else { throw .damaged("its end is no end") }
        sawEnd = true
      } else {
        try body(.begin(name: name, offset: offset, size: left))
      }
    }
    if start > 0 {
      plain.withUnsafeMutableBytes { SecretBytes.wipe(UnsafeMutableRawBufferPointer(rebasing: $0[..<start])) }
      plain.removeFirst(start)
    }
  }
}
