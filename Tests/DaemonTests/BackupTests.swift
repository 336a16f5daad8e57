import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// Backups and restored nodes, with the programs as they are built.
@Suite("Backup and restore", .fewAtOnce, .timeLimit(.minutes(15)))
struct BackupTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
  }

  private func file(_ name: String) -> String { "\(folder.path)/\(name)" }

  private func status(_ node: TestNode) throws -> NodeInfo {
    try node.client().call(NodeStatus.self, .init())
  }

  private func texts(_ node: TestNode) throws -> [String] {
    try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text)
  }

  @discardableResult
  private func post(_ text: String, on node: TestNode) throws -> String {
    try node.client().call(PostsCreate.self, .init(text: text)).id
  }

  private func fresh() async throws -> TestNode {
    let node = try TestNode()
    try await node.start()
    return node
  }

  private func origin() async throws -> TestNode {
    let node = try await fresh()
    let client = try node.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "origin"))
    return node
  }

  /// An origin and an always-on node that it has claimed.
  private func pair() async throws -> (origin: TestNode, server: TestNode) {
    let (origin, server) = (try await origin(), try await fresh())
    try claim(server, by: origin)
    return (origin, server)
  }

  private func claim(_ server: TestNode, by origin: TestNode) throws {
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30))
  }

  private func refusal(_ body: () throws -> Void) throws -> ControlError.Code? {
    do {
      try body()
      return nil
    } catch let failure as ControlFailure {
      guard case .refused(let error) = failure.code else { throw failure }
      return error.code
    }
  }

  private func expectDone(_ ended: Ended, _ place: SourceLocation = #_sourceLocation) {
    #expect(ended.status == 0, "\(ended.stderr)", sourceLocation: place)
  }

  /// Nothing is left of a restore that did not come to its end.
  private func expectUntouched(_ node: TestNode, _ place: SourceLocation = #_sourceLocation) async throws {
    try await eventually("something of the restore is left") {
      access("\(node.statePath)/restore", F_OK) == 0 ? nil : true
    }
    #expect(try status(node).role == .uninitialised, sourceLocation: place)
    #expect(access("\(node.statePath)/node.json", F_OK) != 0, sourceLocation: place)
    #expect(access("\(node.statePath)/secrets/writer", F_OK) != 0, sourceLocation: place)
  }

  @Test("A backup that is made while posts go on is a node as it was at one moment")
  func whileRunning() async throws {
    let origin = try await origin()
    for number in 0..<300 { try post("before \(number) " + String(repeating: "x", count: 3000), on: origin) }
    let socket = origin.socket
    let poster = Task.detached {
      guard let client = try? ControlClient(path: socket) else { return 0 }
      var made = 0
      while !Task.isCancelled, (try? client.call(PostsCreate.self, .init(text: "meanwhile \(made)"))) != nil {
        made += 1
      }
      return made
    }
    let before = umask(0)
    defer { umask(before) }
    let ended = try await origin.ctl("backup", file("backup"), "--json")
    expectDone(ended)
    poster.cancel()
    #expect(await poster.value > 0)
    #expect(try ended.json()["blocks"] != nil && ended.json()["encrypted"] == .bool(false))
    var found = stat()
    #expect(stat(file("backup"), &found) == 0 && found.st_mode & 0o777 == 0o600)
    #expect(folder.read("backup").count > 300 * 3000)

    // It is not written over unless that is said.
    let again = try await origin.ctl("backup", file("backup"))
    #expect(again.status == 65 && again.stderr.contains("--force"))
    expectDone(try await origin.ctl("backup", file("backup"), "--force"))
    #expect(try names == ["backup"])

    let posts = try texts(origin)
    let link = try status(origin).hyphalink
    try await origin.kill()
    let restored = try await fresh()
    let output = try await restored.ctl("restore", file("backup"))
    expectDone(output)
    #expect(output.text == link)
    #expect(try texts(restored) == posts)
    let info = try status(restored)
    #expect(info.role == .origin && info.catchesUp == true && !info.canPost)
    #expect(try await restored.ctl("verify").status == 0)
    #expect(access("\(restored.statePath)/restore", F_OK) != 0)
    // Nothing is overwritten.
    let twice = try await restored.ctl("restore", file("backup"))
    #expect(twice.status == 1 && twice.stderr.contains("overwrites nothing"))
    // It opens from disk, too.
    _ = try await restored.stop()
    try await restored.start()
    #expect(try texts(restored) == posts)
  }

  private var names: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() }
  }

  @Test("A backup replaces files only, and those that links lead to")
  func targets() async throws {
    let origin = try await origin()
    mkfifo(file("pipe"), 0o600)
    for arguments in [[], ["--force"]] {
      for target in [file("pipe"), folder.path] {
        let refused = try await origin.startCtl(["backup", target] + arguments).end()
        #expect(refused.status == 65 && refused.stderr.contains("is no regular file"), "\(refused)")
      }
    }
    _ = try folder.write("old", "old".utf8)
    symlink("old", file("link"))
    #expect(try await origin.ctl("backup", file("link")).status == 65)
    expectDone(try await origin.ctl("backup", file("link"), "--force"))
    #expect(folder.read("old").starts(with: "hypha backup".utf8))
    var found = stat()
    #expect(lstat(file("old"), &found) == 0 && found.st_mode == S_IFREG | 0o600)
    #expect(lstat(file("link"), &found) == 0 && found.st_mode & S_IFMT == S_IFLNK)
    #expect(lstat(file("pipe"), &found) == 0 && found.st_mode & S_IFMT == S_IFIFO)
    #expect(try names == ["link", "old", "pipe"])
  }

  /// The file system of the tests' folders has files without names.
  private static let hasUnnamedFiles: Bool = {
    guard let folder = try? TemporaryFolder() else { return false }
    let file = open(folder.path, O_WRONLY | 0o20_000_000 | O_DIRECTORY | O_CLOEXEC, 0o600)
    if file >= 0 { close(file) }
    return file >= 0
  }()

  @Test(
    "A backup that is broken off leaves nothing behind",
    .enabled(if: hasUnnamedFiles, "the file system has no files without names"),
    arguments: [SIGINT, SIGTERM, SIGHUP, SIGKILL])
  func brokenOff(signal: Int32) async throws {
    let origin = try await origin()
    // It does not answer, so the backup waits with its file open.
    origin.daemon?.send(SIGSTOP)
    let backup = try origin.startCtl(["backup", file("backup")])
    try await eventually("the backup does not open its file") {
      let descriptors = "/proc/\(backup.pid)/fd"
      return try FileManager.default.contentsOfDirectory(atPath: descriptors).contains {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(descriptors)/\($0)"))?
          .hasPrefix(folder.path) == true
      } ? true : nil
    }
    backup.send(signal)
    #expect(try await backup.end().status == -signal)
    #expect(try names == [])
  }

  @Test("A backup needs no files without names, which some file systems do not have")
  func namedMeanwhile() async throws {
    let library = try await Preloaded(
      """
      #define _GNU_SOURCE
      #include <errno.h>
      #include <fcntl.h>
      #include <stdarg.h>
      #include <sys/syscall.h>
      #include <unistd.h>
      #define REFUSING(name) \
        int name(const char *path, int flags, ...) { \
          va_list rest; \
          va_start(rest, flags); \
          int mode = va_arg(rest, int); \
          va_end(rest); \
          if ((flags & O_TMPFILE) == O_TMPFILE) { errno = EOPNOTSUPP; return -1; } \
          return syscall(SYS_openat, AT_FDCWD, path, flags, mode); \
        }
      REFUSING(open)
      REFUSING(open64)
      """)
    let origin = try await origin()
    func backup(_ arguments: String...) async throws -> Ended {
      try await origin.startCtl(
        ["backup", file("backup")] + arguments, environment: ["LD_PRELOAD": library.path]
      ).end()
    }
    // It has a name while it is made.
    origin.daemon?.send(SIGSTOP)
    let waiting = try origin.startCtl(["backup", file("backup")], environment: ["LD_PRELOAD": library.path])
    try await eventually("it has no name") {
      try names == ["backup.\(waiting.pid).new"] ? true : nil
    }
    origin.daemon?.send(SIGCONT)
    expectDone(try await waiting.end())
    #expect(try await backup().status == 65)
    expectDone(try await backup("--force"))
    #expect(try names == ["backup"])
    var found = stat()
    #expect(stat(file("backup"), &found) == 0 && found.st_mode == S_IFREG | 0o600)
  }

  @Test("A writer that was restored does not contradict what it wrote after the backup")
  func doesNotFork() async throws {
    let (origin, server) = try await pair()
    try post("one", on: origin)
    expectDone(try await origin.ctl("backup", file("backup")))
    try post("two", on: origin)
    try post("three", on: origin)
    try await eventually("the server does not have all") { try texts(server).count == 3 ? true : nil }
    try await origin.kill()
    try await server.stop()

    let restored = try await fresh()
    expectDone(try await restored.ctl("restore", file("backup")))
    #expect(try texts(restored) == ["one"])
    let refused = try await restored.ctl("post", "four")
    #expect(refused.status == 1 && refused.stderr.contains("in sync with every node"), "\(refused.stderr)")
    #expect(try await restored.ctl("status").text.contains("not yet"))
    // Also after another start.
    _ = try await restored.stop()
    try await restored.start()
    #expect(try refusal { try post("four", on: restored) } == .behind)

    try await server.start()
    try await eventually(within: 60, "it does not catch up: \(restored.log)") {
      try status(restored).canPost ? true : nil
    }
    #expect(try texts(restored) == ["three", "two", "one"])
    try post("four", on: restored)
    try await eventually("the two do not agree: \(server.log)") {
      try texts(server) == ["four", "three", "two", "one"] ? true : nil
    }
    #expect(!server.log.contains("disconnected for what it sent"))
    #expect(try status(restored).catchesUp == nil)
    for node in [restored, server] { #expect(try await node.ctl("verify").status == 0) }
  }

  @Test("One node that has less does not let a restored writer write while another is missing")
  func waitsForEveryNode() async throws {
    let (origin, server) = try await pair()
    try post("one", on: origin)
    let other = try await fresh()
    try claim(other, by: origin)
    expectDone(try await origin.ctl("backup", file("backup")))
    // The second one is away when more is posted.
    _ = try await other.stop()
    try post("two", on: origin)
    try await eventually("the server does not have all") { try texts(server).count == 2 ? true : nil }
    try await origin.kill()
    _ = try await server.stop()
    try await other.start()

    let restored = try await fresh()
    expectDone(try await restored.ctl("restore", file("backup")))
    try await eventually("the second does not connect") {
      try restored.client().call(PeersList.self, .init()).peers.contains(where: \.synced) ? true : nil
    }
    // Some ticks, in which it could decide wrongly.
    try await Task.sleep(for: .seconds(3))
    #expect(try refusal { try post("another two", on: restored) } == .behind)
    try await server.start()
    try await eventually(within: 60) { try status(restored).canPost ? true : nil }
    #expect(try texts(restored) == ["two", "one"])
  }

  @Test("A restored writer does not wait for a connection of its settings that was ended")
  func endedConnection() async throws {
    let (origin, server) = try await pair()
    try post("one", on: origin)
    expectDone(try await origin.ctl("backup", file("backup")))
    try await origin.kill()
    let nowhere = "ws://127.0.0.1:9"
    let restored = try TestNode(settings: "[connections]\nurls = [\"\(server.url)\", \"\(nowhere)\"]")
    try await restored.start()
    expectDone(try await restored.ctl("restore", file("backup")))
    try await eventually("the server does not connect") {
      try restored.client().call(PeersList.self, .init()).peers.contains(where: \.synced) ? true : nil
    }
    try await Task.sleep(for: .seconds(2))
    #expect(try refusal { try post("two", on: restored) } == .behind)
    expectDone(try await restored.ctl("disconnect", nowhere))
    try await eventually { try status(restored).canPost ? true : nil }
    try post("two", on: restored)
    #expect(try texts(restored) == ["two", "one"])
  }

  @Test("A backup that is made while blocks come from other nodes is one of all that came by then, or more")
  func whileFetching() async throws {
    let feed = try Feed(
      files: FeedFiles { (_) throws(StorageError) in MemoryStorage() }, keyPair: KeyPair())
    let blocks = [[10, 7] + Array("hyperdb".utf8)] + (0..<60).map { [UInt8](repeating: $0, count: 3000) }
    try feed.append(contentsOf: blocks)
    let node = try await fresh()
    _ = try node.client().call(NodeInitialise.self, .init(hyphalink: "dat://\(feed.key.hex)"))
    let peer = try await HostilePeer(port: node.port, key: feed.key, id: 1)
    peer.say(.have(Message.Have(start: 0, length: feed.length)))
    var asked: [Message.Request] = []
    while asked.count < blocks.count {
      for case .request(let request) in try await peer.listen() { asked.append(request) }
    }
    func send(_ requests: some Sequence<Message.Request>) throws {
      for request in requests {
        let proof = try feed.proof(
          of: request.index, digest: request.nodes ?? 0, hashOnly: false, remoteTree: SparseBitfield())
        peer.say(
          .data(Message.Data(index: request.index, value: try feed.block(at: request.index), proof: proof)))
      }
    }
    func untilHeld(_ count: Int) async throws {
      try await eventually("\(node.log)") {
        try status(node).feeds.first?.heldBlocks == UInt64(count) ? true : nil
      }
    }
    try send(asked.prefix(20))
    try await untilHeld(20)
    let client = try node.client()
    let begun = try client.call(BackupBegin.self, .init())
    try send(asked.dropFirst(20))
    try await untilHeld(blocks.count)
    var backup: [UInt8] = []
    var isLast = false
    while !isLast {
      let piece = try client.call(BackupRead.self, .init(id: begun.id))
      backup += [UInt8](try #require(Data(base64Encoded: piece.base64)))
      isLast = piece.last
    }
    _ = try folder.write("backup", backup)
    let restored = try await fresh()
    expectDone(try await restored.ctl("restore", file("backup")))
    #expect(try #require(status(restored).feeds.first).heldBlocks >= 20)
    #expect(try await restored.ctl("verify").status == 0)
  }

  @Test("With a new writer, the others let it in, and the old feed stays readable")
  func newWriter() async throws {
    let (origin, server) = try await pair()
    try post("one", on: origin)
    expectDone(try await origin.ctl("backup", file("backup")))
    try post("two", on: origin)
    let restored = try await fresh()
    let ended = try await restored.ctl(
      "restore", file("backup"), "--new-writer", "--device-name", "second", "--json")
    expectDone(ended)
    let result = try JSONDecoder().decode(RestoreFinish.Result.self, from: Data(ended.stdout))
    #expect(result.role == .reader && !result.catchesUp && result.request?.state == .pending)
    #expect(try result.writer != status(origin).writer)
    #expect(try refusal { try post("not yet", on: restored) } == .readOnly)
    let words = try #require(result.request?.words)
    try await eventually("the request does not come: \(server.log)") {
      try origin.client().call(RequestsList.self, .init()).requests.first?.words == words ? true : nil
    }
    expectDone(try await origin.ctl("approve", "second", "--yes"))
    try await eventually { try status(restored).canPost ? true : nil }
    try post("three", on: restored)
    try await eventually { try texts(origin) == ["three", "two", "one"] ? true : nil }
  }

  @Test("An authorised device's backup has its own writer and the feeds of others")
  func device() async throws {
    let (origin, server) = try await pair()
    let phone = try await fresh()
    let link = try #require(try status(origin).hyphalink)
    _ = try phone.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "phone", writer: true))
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: server.url))
    let writer = try #require(try status(phone).writer)
    _ = try origin.client().call(DatabaseAuthorize.self, .init(key: writer))
    try post("from the origin", on: origin)
    try await eventually { try status(phone).canPost ? true : nil }
    try post("from the phone", on: phone)
    try await eventually { try texts(phone).count == 2 ? true : nil }
    expectDone(try await phone.ctl("backup", file("backup")))
    try post("later", on: phone)
    try await eventually { try texts(server).count == 3 ? true : nil }
    try await phone.kill()
    let restored = try await fresh()
    expectDone(try await restored.ctl("restore", file("backup")))
    try await eventually(within: 60) { try status(restored).canPost ? true : nil }
    #expect(try status(restored).writer == writer && status(restored).role == .authorised)
    try post("again", on: restored)
    try await eventually {
      try Set(texts(server)) == ["again", "later", "from the phone", "from the origin"] ? true : nil
    }
  }

  @Test("An encrypted backup gives nothing away, and opens with its passphrase only")
  func encrypted() async throws {
    let origin = try await origin()
    try post("a text to look for", on: origin)
    let right = try folder.write("passphrase", "correct horse battery\n".utf8)
    let wrong = try folder.write("wrong", "correct horse batterie\n".utf8)
    // The same passphrase, whichever system's newline ends its line.
    let elsewhere = try folder.write("elsewhere", "correct horse battery\r\n".utf8)
    expectDone(
      try await origin.ctl("backup", file("backup"), "--encrypt", "--passphrase-file", elsewhere))
    let bytes = folder.read("backup")
    #expect(bytes.starts(with: Array("hypha backup 1\n".utf8) + [1]))
    let secret = [UInt8](try Data(contentsOf: URL(filePath: "\(origin.statePath)/secrets/writer")))
    #expect(!contains(bytes, "a text to look for".utf8) && !contains(bytes, secret.prefix(16)))
    let plain = try await origin.ctl("backup", "-")
    #expect(
      plain.status == 0 && contains(plain.stdout, secret) && contains(plain.stdout, "a text to look for".utf8)
    )

    let node = try await fresh()
    for (arguments, words) in [
      ([], "--passphrase-file"), (["--passphrase-file", wrong], "not the backup's passphrase"),
    ] {
      let running = try node.startCtl(["restore", file("backup")] + arguments)
      let ended = try await running.end()
      #expect(ended.status != 0 && ended.stderr.contains(words), "\(ended.stderr)")
      try await expectUntouched(node)
    }
    #expect(!node.log.contains("correct horse"))
    expectDone(try await node.ctl("restore", file("backup"), "--passphrase-file", right))
    #expect(try texts(node) == ["a text to look for"])
    #expect(try await node.ctl("verify").status == 0)
    // From standard input.
    let other = try await fresh()
    expectDone(try await other.ctl("restore", "-", "--passphrase-file", right, input: bytes))
    #expect(try texts(other) == ["a text to look for"])
  }

  private func contains(_ bytes: [UInt8], _ part: some Collection<UInt8>) -> Bool {
    let part = Array(part)
    return bytes.indices.dropLast(part.count - 1).contains { bytes[$0...].starts(with: part) }
  }

  @Test("A backup that is cut off or altered is told, and nothing of it stays", arguments: [false, true])
  func damaged(isEncrypted: Bool) async throws {
    let origin = try await origin()
    for number in 0..<30 { try post("post \(number)", on: origin) }
    let passphrase = try folder.write("passphrase", "correct horse battery\n".utf8)
    let options = isEncrypted ? ["--passphrase-file", passphrase] : []
    let made = try await origin.startCtl(
      ["backup", file("backup")] + (isEncrypted ? ["--encrypt"] : []) + options
    ).end()
    expectDone(made)
    let whole = folder.read("backup")
    let node = try await fresh()
    var broken: [[UInt8]] = [
      [], Array(whole.prefix(9)), Array(whole.prefix(100)), Array(whole.prefix(whole.count / 2)),
      Array(whole.dropLast()), Array(whole.dropLast(40)), whole + [0], Array("something else".utf8),
    ]
    for place in [3, 15, 60, whole.count / 3, whole.count / 2, whole.count - 100, whole.count - 1] {
      var altered = whole
      altered[place] ^= 4
      broken.append(altered)
    }
    for (number, bytes) in broken.enumerated() {
      let ended = try await node.startCtl(["restore", "-"] + options, input: bytes).end()
      #expect(ended.status == 1, "\(number): \(ended.stderr)")
      #expect(!ended.stderr.isEmpty && ended.stdout.isEmpty)
      try await expectUntouched(node)
      // The next may begin at once.
      try await eventually { try await node.ctl("status", "--json").status == 1 ? true : nil }
    }
    expectDone(try await node.startCtl(["restore", file("backup")] + options).end())
    #expect(try texts(node).count == 30)
  }

  @Test("A backup whose checksum is right and that claims what cannot be is told, and nothing of it stays")
  func impossible() async throws {
    let origin = try await origin()
    for number in 0..<30 { try post("post \(number)", on: origin) }
    expectDone(try await origin.ctl("backup", file("backup")))
    var files: [(name: String, offset: UInt64, bytes: [UInt8])] = []
    let reader = BackupReader(passphrase: nil)
    try reader.take(folder.read("backup")) { piece throws(BackupReader.Failure) in
      switch piece {
      case .begin(let name, let offset, _): files.append((name, offset, []))
      case .bytes(let bytes): files[files.count - 1].bytes += bytes
      }
    }
    try reader.finish()
    try #require(files[0].name == BackupFormat.manifest)
    let manifest = try JSONDecoder().decode(BackupManifest.self, from: Data(files[0].bytes))
    /// The same with another manifest.
    func backup(_ change: (inout [BackupManifest.Feed]) -> Void) async throws -> [UInt8] {
      var changed = manifest
      change(&changed.feeds)
      let first = BackupWriter.Item.bytes(BackupFormat.manifest, [UInt8](try JSONEncoder().encode(changed)))
      let writer = BackupWriter(
        [first] + files.dropFirst().map { .bytes($0.name, offset: $0.offset, $0.bytes) })
      var bytes: [UInt8] = []
      var isDone = false
      while !isDone {
        let next = try await writer.next()
        bytes += next.bytes
        isDone = next.isLast
      }
      return bytes
    }
    let node = try await fresh()
    let changes: [(inout [BackupManifest.Feed]) -> Void] = [
      { $0[0].heldBlocks = .max }, { $0[0].length = .max }, { $0[0].byteLength = .max },
      { ($0[0].length, $0[0].byteLength, $0[0].heldBlocks) = (.max, .max, .max) },
      { $0[0].heldBlocks += 1 }, { $0[0].heldBlocks = 0 }, { $0[0].length = 1 << 62 },
      { $0 += $0 }, { $0 = [] }, { $0[0].key = "none" }, { $0[0].place = .local },
    ]
    for (number, change) in changes.enumerated() {
      let ended = try await node.startCtl(["restore", "-"], input: try await backup(change)).end()
      #expect(ended.status == 1 && ended.stderr.contains("backup"), "\(number): \(ended)")
      try await expectUntouched(node)
      try await eventually { try await node.ctl("status", "--json").status == 1 ? true : nil }
    }
    expectDone(try await node.startCtl(["restore", "-"], input: try await backup { _ in }).end())
    #expect(try texts(node).count == 30)
  }

  @Test("A restore that is killed half-way leaves nothing behind")
  func killed() async throws {
    let origin = try await origin()
    for number in 0..<50 { try post("post \(number)", on: origin) }
    expectDone(try await origin.ctl("backup", file("backup")))
    let node = try await fresh()
    let client = try node.client()
    let id = try client.call(RestoreBegin.self, .init()).id
    let half = Data(folder.read("backup").prefix(20_000)).base64EncodedString()
    _ = try client.call(RestoreWrite.self, .init(id: id, base64: half))
    #expect(access("\(node.statePath)/restore/hypha/source", F_OK) == 0)
    // Meanwhile it becomes nothing else.
    #expect(
      try refusal {
        _ = try client.call(
          NodeInitialise.self, .init(hyphalink: String(repeating: "ab", count: 32)))
      } == .alreadyInitialised)
    try await node.kill()
    try await node.start()
    try await expectUntouched(node)
    expectDone(try await node.ctl("restore", file("backup")))
    #expect(try texts(node).count == 50)
  }

  @Test("A node of the group's member gives out no secrets, and an always-on node has none")
  func alwaysOn() async throws {
    let (origin, server) = try await pair()
    try post("one", on: origin)
    try await eventually { try texts(server) == ["one"] ? true : nil }
    let ended = try await server.ctl("backup", file("backup"), "--json")
    expectDone(ended)
    #expect(try ended.json()["hasWriter"] == .bool(false))
    try await server.kill()
    let restored = try await fresh()
    #expect(try await restored.ctl("restore", file("backup"), "--new-writer").status == 1)
    try await expectUntouched(restored)
    expectDone(try await restored.ctl("restore", file("backup")))
    let info = try status(restored)
    #expect(info.role == .alwaysOn && info.catchesUp == nil && info.writer == nil)
    #expect(try texts(restored) == ["one"])
  }

  @Test("Sealed secrets are in encrypted backups only, and are sealed again where they are restored")
  func sealed() async throws {
    _ = try folder.write("hypha-secrets", [UInt8](repeating: 7, count: 32))
    let node = try TestNode()
    try node.configure(node: "secrets_credential = \"hypha-secrets\"")
    node.environment["CREDENTIALS_DIRECTORY"] = .some(folder.path)
    try await node.start()
    let passphrase = try node.client().call(PassphraseGenerate.self, .init()).passphrase
    _ = try node.client().call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "origin"))
    let refused = try await node.ctl("backup", file("backup"))
    #expect(refused.status == 1 && refused.stderr.contains("--encrypt"))
    let code = try folder.write("passphrase", "correct horse battery\n".utf8)
    expectDone(try await node.ctl("backup", file("backup"), "--encrypt", "--passphrase-file", code))
    let plain = try await fresh()
    expectDone(try await plain.ctl("restore", file("backup"), "--passphrase-file", code))
    #expect([UInt8](try Data(contentsOf: URL(filePath: "\(plain.statePath)/secrets/writer"))).count == 64)
  }

  @Test("On a terminal, passphrases are asked for unseen, and bars show how far it is") func asks()
    async throws
  {
    let origin = try await origin()
    for number in 0..<5 { try post("post \(number)", on: origin) }
    func start(_ node: TestNode, _ arguments: String...) throws -> Terminal {
      try Terminal(
        try Programs.path("hyphactl"), arguments, environment: ["HYPHA_SOCKET": .some(node.socket)])
    }
    let backup = try start(origin, "backup", file("backup"), "--encrypt")
    try await backup.expect("Passphrase for the backup: ")
    backup.type("short")
    try await backup.expect("At least 8 characters.")
    try await backup.expect("Passphrase for the backup: ")
    backup.type("correct horse battery")
    try await backup.expect("Once more: ")
    backup.type("correct horse")
    try await backup.expect("Passphrase for the backup: ")
    backup.type("correct horse battery")
    try await backup.expect("Once more: ")
    backup.type("correct horse battery")
    try await backup.expect("backup [#")
    // The bar is taken away before the last word.
    try await backup.expect("\r\u{1b}[K1 feed with ")
    #expect(try await backup.end() == 0)
    #expect(!backup.shown.contains("horse"))

    let none = try start(origin, "backup", file("none"), "--encrypt")
    try await none.expect("Passphrase for the backup: ")
    none.type("")
    try await none.expect("nothing was done")
    #expect(try await none.end() == 65)
    #expect(!FileManager.default.fileExists(atPath: file("none")))

    let verify = try start(origin, "verify")
    try await verify.expect("verify [#")
    try await verify.expect("\r\u{1b}[K")
    #expect(try await verify.end() == 0)

    let node = try await fresh()
    let restore = try start(node, "restore", file("backup"))
    try await restore.expect("Passphrase of the backup: ")
    restore.type("correct horse battery")
    try await restore.expect("restore [#")
    #expect(try await restore.end() == 0)
    #expect(!restore.shown.contains("horse"))
    #expect(try texts(node) == texts(origin))
  }

  @Test("Nothing secret is written to a terminal") func terminal() async throws {
    let origin = try await origin()
    let terminal = try PseudoTerminal()
    let program = try Programs.path("hyphactl")
    let running = try Running(
      program, ["backup", "-"], environment: ["HYPHA_SOCKET": .some(origin.socket)], terminal: terminal,
      use: .output)
    #expect(try await running.end().status == 64)
    #expect(terminal.shown.contains("not written to a terminal"))
  }
}
