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
/// | `hypha/forks/<discovery key>` | evidence that a feed's owner signed two versions of it (``ForkEvidence``) |
/// | `secrets/writer` | the secret key of this node's own feed, 64 bytes, or sealed (``SecretFiles``) |
/// | `secrets/channel` | the channel key, 32 bytes, or sealed |
/// | `membership` | requests, and messages for devices that are not connected |
/// | `setup-code` | the code with which an uninitialised node is claimed |
/// | `connections` | nodes to stay connected to, a URL a line |
struct NodeFiles {
  let folder: StateFolder
  /// Secrets are sealed under a credential.
  let sealsSecrets: Bool
  private let secrets: SecretFiles

  private static let record = "node.json"
  /// Folders of feeds, as hyperdb 3 names them.
  static let source = "hypha/source"
  static let local = "hypha/local"
  static let peers = "hypha/peers"
  /// A feed on its way out.
  private static let removed = "hypha/removed"
  private static let feedFileNames = ["key", "secret_key", "data", "tree", "signatures", "bitfield"]
  private static let membership = "membership"
  /// Bytes: a mailbox of 2 MiB, and what is remembered of requests.
  private static let membershipLimit = 8 << 20
  private static let setupCode = "setup-code"
  private static let connections = "connections"

  /// - Parameter credential: what seals stored secrets; `nil`: they are stored as they are.
  init(_ folder: StateFolder, credential: SecretFiles.Credential? = nil) {
    self.folder = folder
    sealsSecrets = credential != nil
    secrets = SecretFiles(folder, credential)
  }

  /// To be called at start, before any file is gone by: makes the names of files durable that an earlier process made or replaced. It may
  /// have been killed before it had.
  func settleNames() throws(NodeError) {
    for name in ["", "hypha", Self.peers, Self.forks, SecretFiles.folderName]
    where access(folder.path(of: name), F_OK) == 0 {
      do throws(StorageError) { try folder.sync(folder: name) } catch { throw NodeError(error) }
    }
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

  /// To be called before what belongs to a node without a record is cleared away. One that is becoming somebody's has its setup code
  /// until the record is durable: without either, the record was lost.
  func checkNothingIsLost() throws(NodeError) {
    let (feeds, keys) = (try feedFolders(), try names(in: SecretFiles.folderName))
    guard access(folder.path(of: Self.setupCode), F_OK) != 0, !feeds.isEmpty || !keys.isEmpty else { return }
    throw NodeError(
      .damaged,
      "\(folder.path(of: Self.record)) is missing, which says what this node is; its feeds or its keys are there. Put that file back "
        + "from a copy of the folder; or move the folder \(folder.path) away to begin anew. Nothing was changed."
    )
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
      throw NodeError(error)
    }
  }

  /// Clears away what an initialisation that was not finished has left.
  func removeUnfinished() throws(NodeError) {
    // It may be there though writing it was said to have failed.
    try remove(Self.record)
    try removeStaging()
    try removeFeeds()
    do throws(StorageError) {
      _ = try folder.makeFolder(Self.source)
      _ = try folder.makeFolder(Self.local)
    } catch {
      throw NodeError(error)
    }
    for feed in [Self.source, Self.local] {
      for name in Self.feedFileNames { try remove("\(feed)/\(name)") }
    }
    try removeSecrets()
    try removeMembership()
    try remove(Self.connections)
  }

  /// Moves this node's own feed to those of other writers: for a device that signs out, or in anew, and from then on
  /// only reads what it wrote there.
  ///
  /// Call it once `node.json` no longer names the writer: a node that finds its own feed gone would begin it anew, and
  /// sign other blocks with numbers that it has signed before. Fine where there is no own feed, and after a stop in
  /// between. Where that feed is among the others already (it may have come back from a peer), the one with more blocks
  /// stays: both have the owner's signatures. One without blocks goes away.
  ///
  /// - Returns: whether one cannot be opened: that is set aside, since who signs out writes no more and can have it fetched anew.
  func retireLocal() throws(NodeError) -> Bool {
    try clearRemoved()
    guard let stored = try read("\(Self.local)/key"), let key = PublicKey(stored) else { return false }
    guard let held = try heldBlocks(Self.local, key) else {
      try setAside(Self.local)
      return true
    }
    let peer = Self.peer(Crypto.discoveryKey(key))
    let isThere = access(folder.path(of: peer), F_OK) == 0
    let others = isThere ? try heldBlocks(peer, key) : 0
    if let others, held <= others {
      try removeFeed(Self.local)
      return false
    }
    if others == nil { try setAside(peer) } else if isThere { try removeFeed(peer) }
    do throws(StorageError) {
      _ = try folder.makeFolder(Self.peers)
      try folder.move(Self.local, to: peer)
    } catch {
      throw NodeError(error)
    }
    return others == nil
  }

  /// - Returns: `nil` where the feed cannot be opened.
  private func heldBlocks(_ name: String, _ key: PublicKey) throws(NodeError) -> UInt64? {
    let files = try feedFiles(name)
    do throws(FeedError) { return try Feed(files: files, key: key).heldBlocks } catch {
      guard error.isDamage else { throw NodeError(opening: error) }
      return nil
    }
  }

  /// Removes a feed: under another name first, so that no feed is ever half there.
  private func removeFeed(_ name: String) throws(NodeError) {
    do throws(StorageError) { try folder.move(name, to: Self.removed) } catch {
      throw NodeError(error)
    }
    try clearRemoved()
  }

  private func clearRemoved() throws(NodeError) {
    let path = folder.path(of: Self.removed)
    guard access(path, F_OK) == 0 else { return }
    for name in Self.feedFileNames { try remove("\(Self.removed)/\(name)") }
    guard rmdir(path) == 0 else {
      throw NodeError(SystemError("remove \(path)").storageError)
    }
  }

  // MARK: - Secrets

  /// To be called at start, before anything is changed: looks whether every secret can be read, and seals what is not
  /// sealed yet where there is a credential.
  func prepareSecrets() throws(NodeError) {
    try secrets.prepare()
  }

  func writeSecrets(_ keys: borrowing HyphaKeys) throws(NodeError) {
    try writeWriter(keys.writer)
    try writeChannel(keys.channel)
  }

  func writeWriter(_ writer: borrowing KeyPair) throws(NodeError) {
    try secrets.write(.writer, writer.secretKey)
  }

  /// - Precondition: it has 32 bytes.
  func writeChannel(_ key: borrowing SecretBytes) throws(NodeError) {
    try secrets.write(.channel, key)
  }

  /// The key pair of this node's own feed.
  func readWriter() throws(NodeError) -> KeyPair {
    var bytes: [UInt8] = []
    defer { bytes.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    if let secret = try secrets.read(.writer) { bytes = secret.withUnsafeBytes { [UInt8]($0) } }
    guard let pair = KeyPair.stored(bytes) else {
      throw NodeError(
        .damaged,
        "\(folder.path(of: "secrets/writer")) is missing or damaged; restore it from a backup. Nothing was changed."
      )
    }
    return pair
  }

  /// - Returns: `nil` where this node has none: it cannot read what devices send each other.
  func readChannel() throws(NodeError) -> SecretBytes? {
    try secrets.read(.channel)
  }

  /// Removes writer key and channel key, durably. Call it once `node.json` no longer names the writer.
  func removeSecrets() throws(NodeError) {
    try secrets.removeAll()
  }

  // MARK: - Membership

  /// - Returns: `nil` where there is none; no bytes where the file is longer than one can be, so that it reads as damaged.
  func readMembership() throws(NodeError) -> [UInt8]? {
    do throws(StorageError) {
      return try AtomicFile.read(folder.path(of: Self.membership), limit: Self.membershipLimit)
    } catch {
      if error.code == .system(EFBIG) { return [] }
      throw NodeError(error)
    }
  }

  func writeMembership(_ state: [UInt8]) throws(NodeError) {
    try replace(Self.membership, state)
  }

  func removeMembership() throws(NodeError) {
    try remove(Self.membership)
  }

  // MARK: - Setup code

  /// The code that is kept, or a new one.
  func setupCode() throws(NodeError) -> SetupCode {
    if let bytes = try read(Self.setupCode),
      let code = SetupCode(kept: String(decoding: bytes, as: UTF8.self))
    {
      return code
    }
    let code = SetupCode(random: Node.random(SetupCode.length))
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

  // MARK: - Disk

  /// Bytes that everything in the state folder, or in a folder inside, takes up on disk.
  func diskBytes(of name: String? = nil) -> UInt64 {
    var total: UInt64 = 0
    var waiting = [name.map { folder.path(of: $0) } ?? folder.path]
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
      throw NodeError(error)
    }
  }

  func replace(_ name: String, _ bytes: [UInt8]) throws(NodeError) {
    do throws(StorageError) { try AtomicFile.replace(folder.path(of: name), with: bytes) } catch {
      throw NodeError(error)
    }
  }

  private func remove(_ name: String) throws(NodeError) {
    do throws(StorageError) { try AtomicFile.remove(folder.path(of: name)) } catch {
      throw NodeError(error)
    }
  }
}
