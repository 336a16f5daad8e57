import FoundationEssentials

@testable import Hypercore
@testable import HyphaDaemonCore

/// Backups that are restored.
let backupTargets = [
  Target(
    name: "backup",
    seeds: {
      let files =
        BackupBytes.header("manifest.json", offset: 0, size: 2) + Array("{}".utf8)
        + BackupBytes.header("feeds/0/tree", offset: 40, size: 3) + [1, 2, 3]
        + BackupBytes.header("", offset: 0, size: 0)
      return [
        [0] + files, [4] + files, [2] + BackupFormat.magic + [0] + files,
        [3]
          + Array(
            #"{"state":1,"release":"1","created":"2026-01-31T00:00:00Z","node":{"version":1,"role":"origin","key":"00","deviceName":"n"},"feeds":[]}"#
              .utf8),
      ]
    }, run: fuzzBackup)
]

private func fuzzBackup(_ bytes: [UInt8]) {
  var input = Input(bytes)
  let kind = input.byte()
  let rest = input.rest()
  switch kind & 3 {
  case 0, 1:
    // With the checksum that fits.
    let start = BackupFormat.magic + [BackupFormat.Kind.plain.rawValue] + rest
    let digest = BackupDigest()
    digest.add(start)
    let backup = start + digest.final()
    let whole = read(backup, pieces: 1 << 20)
    let cut = read(backup, pieces: Int(kind >> 2) + 1)
    expect(whole == cut, "a backup in pieces is the same as in one")
    if let whole { expect(whole.altered(start) == nil, "an altered backup is not taken") }
  case 2: _ = read(rest, pieces: Int(kind >> 2) + 1)
  default:
    _ = try? JSONDecoder().decode(BackupManifest.self, from: Data(rest))
    _ = try? JSONDecoder().decode(NodeRecord.self, from: Data(rest))
  }
}

/// What was in a backup.
private struct Contents: Equatable {
  var files: [(name: String, offset: UInt64, size: UInt64, bytes: [UInt8])] = []

  static func == (a: Contents, b: Contents) -> Bool {
    a.files.count == b.files.count && zip(a.files, b.files).allSatisfy { $0 == $1 }
  }

  /// The same bytes with another checksum.
  func altered(_ start: [UInt8]) -> Contents? { read(start + [UInt8](repeating: 0, count: 32), pieces: 7) }
}

/// - Returns: `nil` where it is refused.
private func read(_ bytes: [UInt8], pieces: Int) -> Contents? {
  let reader = BackupReader(passphrase: nil)
  var contents = Contents()
  do throws(BackupReader.Failure) {
    for start in stride(from: 0, to: bytes.count, by: pieces) {
      try reader.take(Array(bytes[start..<min(start + pieces, bytes.count)])) {
        piece throws(BackupReader.Failure) in
        switch piece {
        case .begin(let name, let offset, let size): contents.files.append((name, offset, size, []))
        case .bytes(let bytes):
          guard !contents.files.isEmpty else { fatalError("not so: bytes belong to a file") }
          contents.files[contents.files.count - 1].bytes += bytes
        }
      }
    }
    try reader.finish()
  } catch {
    return nil
  }
  for file in contents.files {
    expect(UInt64(file.bytes.count) == file.size, "a file has the bytes that it says")
  }
  return contents
}
