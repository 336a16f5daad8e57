import FoundationEssentials
import Glibc
import TestSupport

/// A file system on which a daemon's calls are done again, and whose power can be cut: contents count as durable once the file was
/// synced, names once their folder was. Of the rest, any part may be there: of a file any sectors, of a folder's names the first ones.
final class ReplayedDisk {
  private enum Entry {
    /// A file by its name on `contents`: a number and the name it was made with, since those of bitfields fail in fewer ways there.
    /// Files keep it when they are renamed.
    case file(String)
    case folder(Folder)
  }

  private final class Folder {
    var entries: [String: Entry] = [:]
    private var durable: [String: Entry] = [:]
    private var changes: [[(name: String, entry: Entry?)]] = []

    var isSynced: Bool { changes.isEmpty }

    func isSynced(_ name: String) -> Bool { !changes.contains { $0.contains { $0.name == name } } }

    /// Changes that are only there together.
    func change(_ names: [(name: String, entry: Entry?)]) {
      for (name, entry) in names { entries[name] = entry }
      changes.append(names)
    }

    func sync() {
      durable = entries
      changes = []
    }

    func failSync(_ random: inout SeededRandom) {
      durable = cutPower(&random)
      changes = []
    }

    func cutPower(_ random: inout SeededRandom) -> [String: Entry] {
      var left = durable
      let count = [0, changes.count, Int.random(in: 0...changes.count, using: &random)].randomElement(
        using: &random)
      for names in changes.prefix(count ?? 0) { for (name, entry) in names { left[name] = entry } }
      return left
    }
  }

  private let contents = SimulatedDisk()
  private let root = Folder()
  private var made = 0
  private var random = SeededRandom(0)
  /// Files that were changed since their last sync.
  private(set) var unsynced: Set<String> = []

  /// Does what a daemon did.
  func apply(_ call: DiskCall) throws {
    if call.kind == .output || call.path.isEmpty && ![.synced, .syncFailed].contains(call.kind) { return }
    switch call.kind {
    case .created:
      made += 1
      try folder(call.folder).change([(call.name, .file("\(made) \(call.name)"))])
    case .madeFolder: try folder(call.folder).change([(call.name, .folder(Folder()))])
    case .written(let place):
      try Array(call.bytes).withUnsafeBytes { try file(call.path).write($0, at: UInt64(place)) }
      unsynced.insert(call.path)
    case .resized(let size):
      try file(call.path).truncate(to: UInt64(size))
      unsynced.insert(call.path)
    case .synced:
      if case .folder(let folder)? = entry(call.path) { return folder.sync() }
      try file(call.path).sync()
      unsynced.remove(call.path)
    case .syncFailed:
      if case .folder(let folder)? = entry(call.path) { return folder.failSync(&random) }
      try file(call.path).failSync()
    case .renamed(let new):
      let to = DiskCall(kind: .synced, path: new, bytes: [])
      let moved = entry(call.path)
      guard call.folder == to.folder else {
        try folder(to.folder).change([(to.name, moved)])
        return try folder(call.folder).change([(call.name, nil)])
      }
      try folder(call.folder).change([(call.name, nil), (to.name, moved)])
      if unsynced.remove(call.path) != nil { unsynced.insert(new) }
    case .removed:
      try folder(call.folder).change([(call.name, nil)])
      unsynced.remove(call.path)
    case .output: break
    }
  }

  /// Whether the names in a folder, and in those that it is in, are durable.
  func hasDurableNames(_ path: String) -> Bool {
    var folder = root
    if !folder.isSynced { return false }
    for part in path.split(separator: "/") {
      guard case .folder(let next)? = folder.entries[String(part)], next.isSynced else { return false }
      folder = next
    }
    return true
  }

  /// Whether a name in the state folder itself leads to what it is to lead to after a power cut, too.
  func hasDurableName(_ name: String) -> Bool { root.isSynced(name) }

  /// Writes what may be there after a power cut now.
  func cutPower(into path: String, _ random: inout SeededRandom) throws {
    let contents = contents.cutPower(&random)
    func write(_ folder: Folder, _ path: String) throws {
      guard mkdir(path, 0o700) == 0 else { throw HarnessError("mkdir \(path): \(errno)") }
      for (name, entry) in folder.cutPower(&random).sorted(by: { $0.key < $1.key }) {
        switch entry {
        case .folder(let inner): try write(inner, "\(path)/\(name)")
        case .file(let file):
          try Data(contents[file] ?? []).write(to: URL(filePath: "\(path)/\(name)"))
          chmod("\(path)/\(name)", 0o600)
        }
      }
    }
    try write(root, path)
  }

  private func entry(_ path: String) -> Entry? {
    var found = Entry.folder(root)
    for part in path.split(separator: "/") {
      guard case .folder(let folder) = found, let next = folder.entries[String(part)] else { return nil }
      found = next
    }
    return found
  }

  private func folder(_ path: String) throws -> Folder {
    guard case .folder(let folder)? = entry(path) else { throw HarnessError("no folder \(path)") }
    return folder
  }

  private func file(_ path: String) throws -> SimulatedFile {
    guard case .file(let name)? = entry(path) else { throw HarnessError("no file \(path)") }
    return contents.file(name)
  }
}
