import FoundationEssentials
import Glibc
import Hypercore
import Testing

@testable import HyphaDaemonCore

@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct SecretFilesTests {
  private static let name = "hypha-secrets"

  let folder: TemporaryFolder
  let state: StateFolder

  init() throws {
    folder = try TemporaryFolder()
    state = try StateFolder("\(folder.path)/state")
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/credentials", withIntermediateDirectories: false)
    _ = try folder.write("credentials/\(Self.name)", [UInt8](repeating: 7, count: 32))
    _ = try folder.write("credentials/other", [UInt8](repeating: 8, count: 100))
    _ = try folder.write("credentials/short", [UInt8](repeating: 9, count: 31))
  }

  private func files(sealedUnder name: String? = nil) -> NodeFiles {
    NodeFiles(
      state,
      credential: name.map { SecretFiles.Credential(name: $0, folder: "\(folder.path)/credentials") })
  }

  private static func channelKey() -> SecretBytes {
    SecretBytes(count: 32) { (key: UnsafeMutableRawBufferPointer) in
      for index in key.indices { key[index] = UInt8(index) ^ 0x5A }
    }
  }

  private static let channelBytes = (0..<32).map { UInt8($0) ^ 0x5A }

  /// Stores a writer key and a channel key.
  ///
  /// - Returns: the writer's secret and public key.
  private func store(_ files: NodeFiles) throws -> (secret: [UInt8], key: PublicKey) {
    let pair = KeyPair()
    try files.writeWriter(pair)
    try files.writeChannel(Self.channelKey())
    return (pair.secretKey.withUnsafeBytes { [UInt8]($0) }, pair.publicKey)
  }

  private var writer: [UInt8] { folder.read("state/secrets/writer") }
  private var channel: [UInt8] { folder.read("state/secrets/channel") }

  private func expectReadable(_ files: NodeFiles, _ key: PublicKey) throws {
    #expect(try files.readWriter().publicKey == key)
    let channel = try files.readChannel()
    #expect(channel?.withUnsafeBytes { [UInt8]($0) } == Self.channelBytes)
  }

  private func failure(_ work: () throws -> Void) throws -> NodeError {
    try #require(throws: NodeError.self) { try work() }
  }

  // MARK: - Secrets

  @Test func withoutACredentialSecretsAreStoredAsTheyAre() throws {
    let before = umask(0)
    defer { umask(before) }
    let files = files()
    try files.prepareSecrets()
    #expect(try files.readChannel() == nil)
    let (secret, key) = try store(files)
    #expect(writer == secret && channel == Self.channelBytes)
    for name in ["writer", "channel"] {
      var status = stat()
      #expect(stat("\(state.path)/secrets/\(name)", &status) == 0)
      #expect(status.st_mode & 0o777 == 0o600)
    }
    try files.prepareSecrets()
    try expectReadable(files, key)
  }

  @Test func aCopyOfSealedFilesGivesNothingAway() throws {
    let files = files(sealedUnder: Self.name)
    try files.prepareSecrets()
    let (secret, key) = try store(files)
    #expect(writer.count == 119 && channel.count == 87)
    #expect(!writer.contains(secret[..<8]) && !writer.contains(secret[32..<40]))
    #expect(!channel.contains(Self.channelBytes[..<8]))
    try expectReadable(files, key)
    let (first, second) = (writer, channel)
    try files.prepareSecrets()
    #expect(writer == first && channel == second)
    // Another nonce each time.
    try files.writeChannel(Self.channelKey())
    #expect(channel != second)
    try expectReadable(files, key)
    var status = stat()
    #expect(stat("\(state.path)/secrets/channel", &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
  }

  @Test func turnedOnItSealsWhatIsThereAndOverwritesWhatWas() throws {
    let (secret, key) = try store(files())
    // Another name of the same file shows what becomes of its bytes.
    #expect(link("\(state.path)/secrets/writer", "\(folder.path)/old-writer") == 0)
    #expect(link("\(state.path)/secrets/channel", "\(folder.path)/old-channel") == 0)
    #expect(folder.read("old-writer") == secret)
    let files = files(sealedUnder: Self.name)
    try files.prepareSecrets()
    #expect(writer.count == 119 && channel.count == 87)
    #expect(folder.read("old-writer") == [UInt8](repeating: 0, count: 64))
    #expect(folder.read("old-channel") == [UInt8](repeating: 0, count: 32))
    try expectReadable(files, key)
  }

  /// The power went between the two.
  @Test func sealingGoesOnWhereItStopped() throws {
    let (_, key) = try store(files())
    let plain = channel
    try files(sealedUnder: Self.name).prepareSecrets()
    _ = try folder.write("state/secrets/channel", plain)
    _ = try folder.write("state/secrets/channel.new", plain[..<10])
    let files = files(sealedUnder: Self.name)
    try files.prepareSecrets()
    #expect(channel.count == 87)
    #expect(access("\(state.path)/secrets/channel.new", F_OK) == -1)
    try expectReadable(files, key)
  }

  @Test func aWrongOrMissingCredentialIsToldAndChangesNothing() throws {
    let (_, key) = try store(files(sealedUnder: Self.name))
    // One of them not sealed yet.
    _ = try folder.write("state/secrets/channel", Self.channelBytes)
    let before = (writer, channel)
    func expect(_ files: NodeFiles, _ text: String) throws {
      let errors = [
        try failure { try files.prepareSecrets() }, try failure { _ = try files.readWriter() },
      ]
      for error in errors {
        #expect(error.code == .credential)
        #expect(error.context.contains(text), "\(error.context)")
        #expect(error.context.hasSuffix("Nothing was changed."))
      }
      #expect((writer, channel) == before)
    }
    try expect(files(sealedUnder: "other"), "was sealed under another credential")
    try expect(files(sealedUnder: "short"), "has 31 bytes, and needs at least 32")
    try expect(files(sealedUnder: "none"), "there is no such credential in \(folder.path)/credentials")
    try expect(
      NodeFiles(state, credential: .init(name: Self.name, folder: nil)), "$CREDENTIALS_DIRECTORY is not set")
    try expect(files(), "secrets/writer is sealed: set secrets_credential in [node]")
    let right = files(sealedUnder: Self.name)
    try right.prepareSecrets()
    try expectReadable(right, key)
  }

  @Test func aCredentialIsAskedForBeforeThereAreSecrets() throws {
    for name in ["none", "short"] {
      #expect(try failure { try files(sealedUnder: name).prepareSecrets() }.code == .credential)
    }
    #expect(access("\(state.path)/secrets", F_OK) == -1)
  }

  @Test func alteredFilesAreRefused() throws {
    let files = files(sealedUnder: Self.name)
    _ = try store(files)
    let sealed = channel
    for place in sealed.indices {
      var altered = sealed
      altered[place] ^= 1 << (place % 8)
      _ = try folder.write("state/secrets/channel", altered)
      #expect(throws: NodeError.self) { _ = try files.readChannel() }
      #expect(throws: NodeError.self) { try files.prepareSecrets() }
      #expect(channel == altered)
    }
    for count in 0..<sealed.count {
      _ = try folder.write("state/secrets/channel", sealed[..<count])
      #expect(throws: NodeError.self) { try files.prepareSecrets() }
    }
    _ = try folder.write("state/secrets/channel", sealed + [0])
    #expect(throws: NodeError.self) { try files.prepareSecrets() }
    // Each in the other's place.
    _ = try folder.write("state/secrets/channel", writer)
    #expect(throws: NodeError.self) { _ = try files.readChannel() }
  }

  @Test(arguments: [nil, Self.name]) func removedSecretsAreGone(sealedUnder name: String?) throws {
    let files = files(sealedUnder: name)
    try files.removeSecrets()
    _ = try store(files)
    #expect(link("\(state.path)/secrets/writer", "\(folder.path)/old-writer") == 0)
    _ = try folder.write("state/secrets/writer.new", [1, 2, 3])
    try files.removeSecrets()
    #expect(try FileManager.default.contentsOfDirectory(atPath: "\(state.path)/secrets") == [])
    #expect(folder.read("old-writer").allSatisfy { $0 == 0 })
    #expect(try files.readChannel() == nil)
    #expect(try failure { _ = try files.readWriter() }.code == .damaged)
    try files.removeSecrets()
  }

  // MARK: - Membership

  @Test func membershipIsReplacedAsAWhole() throws {
    let files = files()
    #expect(try files.readMembership() == nil)
    let large = (0..<3 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    for state in [[], [1, 2, 3], large, [4]] {
      try files.writeMembership(state)
      #expect(try files.readMembership() == state)
    }
    // Longer than one can be: it reads as damaged, and the node starts.
    #expect(truncate("\(state.path)/membership", 1 << 30) == 0)
    #expect(try files.readMembership() == [])
  }

  // MARK: - The own feed of a device that signs out

  /// Writes a feed of the first `count` blocks that this key ever signs.
  private func makeFeed(_ name: String, _ pair: consuming KeyPair, blocks count: Int) throws {
    let feed = try Feed(files: files().feedFiles(name), keyPair: pair, storeSecretKey: false)
    _ = try feed.append(contentsOf: (0..<count).map { Array("block \($0)".utf8) })
    try feed.flush(durable: true)
  }

  private static func pair(_ number: UInt8) -> KeyPair {
    let seed = [UInt8](repeating: number, count: 32)
    return seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }
  }

  private func blocks(_ key: PublicKey) throws -> [String] {
    let feed = try Feed(files: files().feedFiles(NodeFiles.peer(Crypto.discoveryKey(key))), key: key)
    #expect(!feed.isWritable)
    return try (0..<feed.length).map { String(decoding: try feed.block(at: $0), as: UTF8.self) }
  }

  private func isThere(_ name: String) -> Bool { access("\(state.path)/\(name)", F_OK) == 0 }

  @Test(arguments: [(5, nil), (5, 0), (5, 3), (5, 5), (3, 5), (0, nil), (0, 2)] as [(Int, Int?)])
  func theLongerOfTwoStays(own: Int, others: Int?) throws {
    let key = Self.pair(1).publicKey
    let peer = NodeFiles.peer(Crypto.discoveryKey(key))
    try makeFeed(NodeFiles.local, Self.pair(1), blocks: own)
    if let others { try makeFeed(peer, Self.pair(1), blocks: others) }
    for _ in 0..<2 {
      #expect(try !files().retireLocal())
      #expect(!isThere(NodeFiles.local) && !isThere("hypha/removed"))
      #expect(isThere(peer) == (own > 0 || others != nil))
      guard isThere(peer) else { continue }
      #expect(try blocks(key) == (0..<max(own, others ?? 0)).map { "block \($0)" })
    }
  }

  @Test func withoutAnOwnFeedThereIsNothingToRetire() throws {
    #expect(try !files().retireLocal())
    try files().removeUnfinished()
    #expect(try !files().retireLocal())
    #expect(!isThere("hypha/peers"))
  }

  /// The power went after the shorter one got out of the way, or while its files were removed.
  @Test func retiringGoesOnWhereItStopped() throws {
    let key = Self.pair(1).publicKey
    try makeFeed(NodeFiles.local, Self.pair(1), blocks: 4)
    try makeFeed("hypha/removed", Self.pair(1), blocks: 2)
    #expect(unlink("\(state.path)/hypha/removed/key") == 0)
    #expect(try !files().retireLocal())
    #expect(!isThere("hypha/removed"))
    #expect(try blocks(key).count == 4)
    try makeFeed("hypha/removed", Self.pair(1), blocks: 1)
    #expect(try !files().retireLocal())
    #expect(!isThere("hypha/removed"))
    #expect(try blocks(key).count == 4)
  }

  // MARK: - With the daemon

  @Test func theDaemonSealsAtItsNextStart() async throws {
    let node = try TestNode()
    try await node.start()
    let passphrase = try folder.write("passphrase", HyphactlTests.passphrase)
    #expect(
      try await node.ctl("init", "--domain", "example.org", "--passphrase-file", passphrase).status == 0)
    #expect(try await node.ctl("post", "stored as it is").status == 0)
    try await node.stop()
    func stored() -> [UInt8] { node.folder.read("state/secrets/writer") }
    let plain = stored()
    #expect(plain.count == 64)

    // The setting without the credential: nothing happens, and systemd need not try again.
    try node.configure(node: "secrets_credential = \"\(Self.name)\"")
    var ended = try await node.startInVain()
    #expect(ended.status == EX_CONFIG)
    #expect(ended.stderr.contains("$CREDENTIALS_DIRECTORY is not set"), "\(ended.stderr)")
    #expect(stored() == plain)

    node.environment["CREDENTIALS_DIRECTORY"] = .some("\(folder.path)/credentials")
    try await node.start()
    #expect(stored().count == 119 && !stored().contains(plain[..<8]))
    #expect(try await node.ctl("post", "stored sealed").status == 0)
    try await node.stop()

    try node.configure(node: "secrets_credential = \"other\"")
    ended = try await node.startInVain()
    #expect(ended.status == EX_CONFIG)
    #expect(ended.stderr.contains("was sealed under another credential"), "\(ended.stderr)")
    try node.configure(node: "")
    ended = try await node.startInVain()
    #expect(ended.status == EX_CONFIG)
    #expect(ended.stderr.contains("set secrets_credential in [node]"), "\(ended.stderr)")

    try node.configure(node: "secrets_credential = \"\(Self.name)\"")
    try await node.start()
    let posts = try await node.ctl("posts").text
    #expect(posts.contains("stored as it is") && posts.contains("stored sealed"))
    #expect(try await node.ctl("post", "and again").status == 0)
    try await node.stop()
  }
}

extension [UInt8] {
  /// Whether `part` is somewhere in it.
  fileprivate func contains(_ part: ArraySlice<UInt8>) -> Bool {
    indices.contains { self[$0...].starts(with: part) }
  }
}
