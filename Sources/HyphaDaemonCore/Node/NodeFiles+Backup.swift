import Glibc
import Hypercore

/// Where a backup is put together again, and what becomes of feeds that are damaged.
extension NodeFiles {
  /// Of a backup that is being restored, until it is checked.
  static let staging = "restore"
  private static let hypha = "hypha"
  private static let resync = "resync"
  /// Feeds that could not be opened, as they were.
  private static let damaged = "damaged"

  func removeStaging() throws(NodeError) {
    try removeTree(Self.staging)
  }

  /// Has the restored feeds take the place of what a node without a hypha has: nothing.
  func installStaging() throws(NodeError) {
    try removeTree(Self.hypha)
    do throws(StorageError) { try folder.move("\(Self.staging)/\(Self.hypha)", to: Self.hypha) } catch {
      throw NodeError(error)
    }
    try removeStaging()
  }

  /// Clears away the feeds of a node that is not initialised.
  func removeFeeds() throws(NodeError) {
    try removeTree(Self.hypha)
  }

  private func removeTree(_ name: String) throws(NodeError) {
    do throws(SystemError) {
      try Self.removeTree(at: folder.path(of: name))
      try AtomicFile.sync(folder: folder.path)
    } catch {
      throw NodeError(error.storageError)
    }
  }

  private static func removeTree(at path: String) throws(SystemError) {
    for name in try entries(of: path) {
      let inside = "\(path)/\(name)"
      if unlink(inside) == 0 || errno == ENOENT { continue }
      guard errno == EISDIR || errno == EPERM else { throw SystemError("remove \(inside)") }
      try removeTree(at: inside)
    }
    guard rmdir(path) == 0 || errno == ENOENT else { throw SystemError("remove \(path)") }
  }

  /// What is in a folder; nothing where that is not there.
  private static func entries(of path: String) throws(SystemError) -> [String] {
    guard let directory = opendir(path) else {
      if errno == ENOENT { return [] }
      throw SystemError("open \(path)")
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  // MARK: - Damage

  /// The owner made a file `resync`: what is damaged is to be fetched anew.
  var isResyncWanted: Bool { access(folder.path(of: Self.resync), F_OK) == 0 }

  func endResync() throws(NodeError) {
    do throws(StorageError) { try AtomicFile.remove(folder.path(of: Self.resync)) } catch {
      throw NodeError(error)
    }
  }

  /// What is in a folder of the state folder; nothing where that is not there.
  func names(in name: String) throws(NodeError) -> [String] {
    do throws(SystemError) { return try Self.entries(of: folder.path(of: name)) } catch {
      throw NodeError(error.storageError)
    }
  }

  /// The folders of all feeds that are here.
  func feedFolders() throws(NodeError) -> [String] {
    var folders: [String] = []
    for name in [Self.source, Self.local] where access(folder.path(of: "\(name)/key"), F_OK) == 0 {
      folders.append(name)
    }
    for name in try names(in: Self.peers) { folders.append("\(Self.peers)/\(name)") }
    return folders
  }

  /// The key of the feed in a folder; `nil` where it is not the one that belongs there.
  func key(of name: String, _ record: NodeRecord) throws(NodeError) -> PublicKey? {
    switch name {
    case Self.source: return record.publicKey
    case Self.local: return record.writerKey
    default:
      let bytes: [UInt8]?
      do throws(StorageError) { bytes = try AtomicFile.read(folder.path(of: "\(name)/key")) } catch {
        throw NodeError(error)
      }
      guard let key = bytes.flatMap({ PublicKey($0) }), Self.peer(Crypto.discoveryKey(key)) == name else {
        return nil
      }
      return key
    }
  }

  /// Moves a feed out of the way, as it is.
  func setAside(_ name: String) throws(NodeError) {
    let flat = name.split(separator: "/").joined(separator: "-")
    do throws(StorageError) {
      try folder.makeFolder(Self.damaged)
      var place = "\(Self.damaged)/\(flat)"
      var number = 1
      while access(folder.path(of: place), F_OK) == 0 {
        number += 1
        place = "\(Self.damaged)/\(flat).\(number)"
      }
      try folder.move(name, to: place)
    } catch {
      throw NodeError(error)
    }
  }
}
