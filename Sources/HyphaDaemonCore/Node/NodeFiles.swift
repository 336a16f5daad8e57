import Glibc
import Hypercore
import Hypha

/// What a node keeps in its state folder, and where.
///
/// | path | what |
/// |---|---|
/// | `node.json` | what the node is; once it is there, the node is initialised |
/// | `hypha/source/` | the hypha's first feed, in the reference's files |
/// | `hypha/peers/<discovery key>/` | the feeds of other writers |
/// | `hypha/local/` | this node's own feed, where that is not the first |
/// | `secrets/writer` | the secret key of this node's own feed, 64 bytes |
/// | `secrets/channel` | the channel key, 32 bytes |
/// | `membership` | requests and messages of devices that ask to be let in |
/// | `setup-code` | the code with which an uninitialised node is claimed |
/// | `connections` | nodes to stay connected to, a URL a line |
struct NodeFiles {
  let folder: StateFolder

  private static let record = "node.json"
  /// Folders of feeds, as hyperdb 3 names them.
  static let source = "hypha/source"
  static let local = "hypha/local"
  private static let peers = "hypha/peers"
  private static let secrets = "secrets"
  private static let membership = "membership"
  private static let setupCode = "setup-code"
  private static let connections = "connections"

  private static let feedFileNames = ["key", "secret_key", "data", "tree", "signatures", "bitfield"]

  init(_ folder: StateFolder) {
    self.folder = folder
  }

  // MARK: - What the node is

  /// - Returns: `nil` where the node is not initialised.
  func readRecord() throws(NodeError) -> NodeRecord? {
    guard let bytes = try read(Self.record) else { return nil }
    do { return try NodeRecord.decode(bytes) } catch {
      throw NodeError(
        .damaged, "\(folder.path(of: Self.record)) is damaged; restore it from a backup. Nothing was changed."
      )
    }
  }

  /// Makes the node what `record` says: the last step of initialising it.
  func write(_ record: NodeRecord) throws(NodeError) {
    let bytes: [UInt8]
    do { bytes = try record.encoded() } catch {
      throw NodeError(.damaged, "\(folder.path(of: Self.record)) cannot be made: \(error)")
    }
    try replace(Self.record, bytes)
  }

  // MARK: - Feeds

  /// The folder of another writer's feed.
  static func peer(_ key: DiscoveryKey) -> String { "\(peers)/\(key.hex)" }

  /// The files of a feed, made where they are not there.
  func feedFiles(_ name: String) throws(NodeError) -> FeedFiles<FileStorage> {
    do throws(StorageError) {
      let path = try folder.makeFolder(name)
      let files = try FeedFiles { (name) throws(StorageError) in try FileStorage("\(path)/\(name)") }
      try folder.sync(folder: name)
      return files
    } catch {
      throw NodeError(.storage, error.context)
    }
  }

  /// Clears away what an initialisation that was not finished has left.
  func removeUnfinished() throws(NodeError) {
    do throws(StorageError) {
      _ = try folder.makeFolder(Self.source)
      _ = try folder.makeFolder(Self.local)
      _ = try folder.makeFolder(Self.secrets)
    } catch {
      throw NodeError(.storage, error.context)
    }
    for feed in [Self.source, Self.local] {
      for name in Self.feedFileNames { try remove("\(feed)/\(name)") }
    }
    try removeSecrets()
  }

  /// Puts the feed of a writer that this node has given up among those of other writers: it may count.
  func retireLocal() throws(NodeError) {
    guard let bytes = try read("\(Self.local)/key"), let key = PublicKey(bytes) else { return }
    let (path, place) = (
      folder.path(of: Self.local), folder.path(of: Self.peer(Crypto.discoveryKey(key)))
    )
    do throws(StorageError) {
      _ = try folder.makeFolder(Self.peers)
      guard rename(path, place) == 0 else {
        throw SystemError("rename \(path) to \(place)").storageError
      }
      try folder.sync(folder: Self.peers)
      try folder.sync(folder: "hypha")
    } catch {
      throw NodeError(.storage, error.context)
    }
  }

  // MARK: - Secrets

  func writeSecrets(_ keys: borrowing HyphaKeys) throws(NodeError) {
    do throws(StorageError) { _ = try folder.makeFolder(Self.secrets) } catch {
      throw NodeError(.storage, error.context)
    }
    try writeWriter(keys.writer)
    try writeChannel(keys.channel)
  }

  func writeChannel(_ key: borrowing SecretBytes) throws(NodeError) {
    try key.withUnsafeBytes { (secret) throws(NodeError) in try replaceSecret("channel", secret) }
  }

  /// The channel key.
  ///
  /// - Returns: `nil` on a node that has none.
  func readChannel() throws(NodeError) -> SecretBytes? {
    guard var secret = try read("\(Self.secrets)/channel") else { return nil }
    defer { secret.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    guard secret.count == 32 else {
      throw NodeError(
        .damaged,
        "\(folder.path(of: Self.secrets))/channel is damaged; restore it from a backup. Nothing was changed.")
    }
    return SecretBytes(count: secret.count) { $0.copyBytes(from: secret) }
  }

  /// Forgets all keys.
  func removeSecrets() throws(NodeError) {
    for name in ["writer", "channel"] { try remove("\(Self.secrets)/\(name)") }
  }

  func writeWriter(_ writer: borrowing KeyPair) throws(NodeError) {
    do throws(StorageError) { _ = try folder.makeFolder(Self.secrets) } catch {
      throw NodeError(.storage, error.context)
    }
    try writer.secretKey.withUnsafeBytes { (secret) throws(NodeError) in try replaceSecret("writer", secret) }
  }

  /// The key pair of this node's own feed.
  func readWriter() throws(NodeError) -> KeyPair {
    var secret = try read("\(Self.secrets)/writer") ?? []
    defer { secret.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    guard let pair = KeyPair.stored(secret) else {
      throw NodeError(
        .damaged,
        "\(folder.path(of: Self.secrets))/writer is missing or damaged; restore it from a backup. Nothing was changed."
      )
    }
    return pair
  }

  private func replaceSecret(_ name: String, _ secret: UnsafeRawBufferPointer) throws(NodeError) {
    var bytes = [UInt8](secret)
    defer { bytes.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    try replace("\(Self.secrets)/\(name)", bytes)
  }

  // MARK: - Setup code

  /// The code that is kept, or a new one.
  func setupCode() throws(NodeError) -> SetupCode {
    if let bytes = try read(Self.setupCode),
      let code = SetupCode(kept: String(decoding: bytes, as: UTF8.self))
    {
      return code
    }
    let code = SetupCode()
    try replace(Self.setupCode, Array(code.text.utf8))
    return code
  }

  func removeSetupCode() throws(NodeError) {
    try remove(Self.setupCode)
  }

  // MARK: - Connections

  /// URLs, one a line.
  func readConnections() throws(NodeError) -> [String] {
    let bytes = try read(Self.connections) ?? []
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { String($0) }
  }

  func writeConnections(_ urls: [String]) throws(NodeError) {
    try replace(Self.connections, Array(urls.map { $0 + "\n" }.joined().utf8))
  }

  // MARK: - Devices

  func readMembership() throws(NodeError) -> [UInt8]? {
    try read(Self.membership)
  }

  func writeMembership(_ state: [UInt8]) throws(NodeError) {
    try replace(Self.membership, state)
  }

  func removeMembership() throws(NodeError) {
    try remove(Self.membership)
  }

  // MARK: - Disk

  /// Bytes that everything in the folder takes up on disk.
  func diskBytes() -> UInt64 {
    var total: UInt64 = 0
    var waiting = [folder.path]
    while let path = waiting.popLast() {
      guard let directory = opendir(path) else { continue }
      defer { closedir(directory) }
      while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
          String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        guard name != ".", name != ".." else { continue }
        var status = stat()
        guard lstat("\(path)/\(name)", &status) == 0 else { continue }
        total += UInt64(status.st_blocks) * 512
        if status.st_mode & S_IFMT == S_IFDIR { waiting.append("\(path)/\(name)") }
      }
    }
    return total
  }

  private func read(_ name: String) throws(NodeError) -> [UInt8]? {
    do throws(StorageError) { return try AtomicFile.read(folder.path(of: name)) } catch {
      throw NodeError(.storage, error.context)
    }
  }

  private func replace(_ name: String, _ bytes: [UInt8]) throws(NodeError) {
    do throws(StorageError) { try AtomicFile.replace(folder.path(of: name), with: bytes) } catch {
      throw NodeError(.storage, error.context)
    }
  }

  private func remove(_ name: String) throws(NodeError) {
    do throws(StorageError) { try AtomicFile.remove(folder.path(of: name)) } catch {
      throw NodeError(.storage, error.context)
    }
  }
}
