import Glibc
import HyphaControlAPI
import Logging
import NIOPosix
import Synchronization
import Testing

@testable import HyphaDaemonCore

@Suite(.fewAtOnce) struct CallerRuleTests {
  let rule = CallerRule(ownUID: 990, group: 980)

  @Test func permitsRootItselfAndMembers() {
    #expect(rule.permits(Caller(uid: 0, groups: [0])))
    #expect(rule.permits(Caller(uid: 990, groups: [990])))
    #expect(rule.permits(Caller(uid: 1000, groups: [980])))
    #expect(rule.permits(Caller(uid: 1000, groups: [1000, 27, 980])))
  }

  @Test func refusesEverybodyElse() {
    #expect(!rule.permits(Caller(uid: 1000, groups: [1000, 0, 990])))
    #expect(!rule.permits(Caller(uid: 65534, groups: [])))
    #expect(!CallerRule(ownUID: 990, group: nil).permits(Caller(uid: 1000, groups: [0, 980, 990])))
  }

  @Test func membersOfTheGroupDoNotGetSecrets() {
    let rule = CallerRule(ownUID: 500, group: 7)
    #expect(rule.isOwner(Caller(uid: 0, groups: [])) && rule.isOwner(Caller(uid: 500, groups: [])))
    let member = Caller(uid: 501, groups: [7])
    #expect(rule.permits(member) && !rule.isOwner(member))
    let withSecrets = controlMethods.filter { $0.isOwnerOnly }.map { $0.name }
    #expect(withSecrets == ["backup.begin", "backup.read", "backup.end"])
  }

  @Test func readsTheUserDatabase() {
    let root = Caller(uid: 0, gid: 0)
    #expect(root.groups.contains(0))
    let unknown = Caller(uid: 3_999_999_999, gid: 77)
    #expect(unknown.groups == [77])
  }
}

/// Answers from memory; posts are its list of texts, and requests and devices what a test puts there.
final class FakeService: ControlService {
  let info = Mutex(
    NodeInfo(
      role: .origin, ready: true, canPost: true, feeds: [], peers: 0, diskBytes: 0, version: "0",
      started: Timestamp(milliseconds: 0)))
  let requests = Mutex(
    RequestsList.Result(requests: [], canOpen: true, sealedMessages: 0, sealedBytes: 0, dropped: [:]))
  let devices = Mutex<[DeviceInfo]>([])
  let posts = Mutex<[PostInfo]>([])
  let waiting = Mutex(0)
  private let followers = Mutex<[AsyncStream<ControlEvent>.Continuation]>([])

  func version() async throws(ControlError) -> NodeVersion.Result { .init(name: "fake", version: "0") }
  func status() async throws(ControlError) -> NodeInfo { info.withLock { $0 } }
  func generatePassphrase(_: PassphraseGenerate.Params) async throws(ControlError)
    -> PassphraseGenerate.Result
  {
    .init(passphrase: Secret("a b"), words: 2, bits: 1.5)
  }
  func initialise(_: NodeInitialise.Params) async throws(ControlError) -> NodeInitialise.Result {
    throw ControlError(.alreadyInitialised, "it holds one")
  }
  func doctor() async throws(ControlError) -> NodeDoctor.Result {
    NodeDoctor.Result(checks: [])
  }

  func auditWeb(_: WebAudit.Params) async throws(ControlError) -> WebAudit.Result {
    .init(url: "https://example.org/", installedVersion: "1", servedVersion: "1", files: 0, differences: [])
  }
  func setupCode(_: SetupCodeShow.Params) async throws(ControlError) -> SetupCodeShow.Result {
    .init(code: Secret("code"), link: Secret("https://example.org/#setup=code"))
  }
  func createPost(_ params: PostsCreate.Params) async throws(ControlError) -> PostsCreate.Result {
    let created = Timestamp(milliseconds: 0)
    let id = posts.withLock { posts in
      let id = "\(posts.count)"
      posts.append(PostInfo(id: id, text: params.text, created: created, device: "d", writer: "w"))
      return id
    }
    return .init(id: id, created: created)
  }
  func listPosts(_: PostsList.Params) async throws(ControlError) -> PostsList.Result {
    .init(posts: posts.withLock { $0.reversed() }, more: false)
  }
  func deletePost(_ params: PostsDelete.Params) async throws(ControlError) -> PostsDelete.Result {
    throw ControlError(.notFound, "no post \(params.id)", field: "id")
  }
  func databaseGet(_ params: DatabaseGet.Params) async throws(ControlError) -> KeyInfo {
    throw ControlError(.notFound, "no key \(params.key)", field: "key")
  }
  func databasePut(_ params: DatabasePut.Params) async throws(ControlError) -> WrittenInfo {
    .init(key: params.key, feed: "f", seq: 1, version: "v")
  }
  func databaseDelete(_ params: DatabaseDelete.Params) async throws(ControlError) -> WrittenInfo {
    .init(key: params.key, feed: "f", seq: 1, version: "v")
  }
  func databaseList(_: DatabaseList.Params) async throws(ControlError) -> DatabaseList.Result {
    .init(keys: [], more: false, version: "v")
  }
  func databaseHistory(_: DatabaseHistory.Params) async throws(ControlError) -> DatabaseHistory.Result {
    .init(steps: [], next: nil)
  }
  func authorize(_ params: DatabaseAuthorize.Params) async throws(ControlError) -> DatabaseAuthorize.Result {
    .init(key: params.key, new: true)
  }
  func signIn(_: NodeSignIn.Params) async throws(ControlError) -> NodeSignIn.Result {
    guard let request = info.withLock({ $0.request }) else {
      throw ControlError(.wrongPassphrase, "it is another one")
    }
    return .init(hyphalink: "dat://h", writer: "w", request: request)
  }
  func requestAgain(_: NodeRequestAgain.Params) async throws(ControlError) -> OwnRequestInfo {
    guard let request = info.withLock({ $0.request }) else { throw ControlError(.notFound, "there was none") }
    return request
  }
  func signOut() async throws(ControlError) -> NodeSignOut.Result {
    .init(hyphalink: info.withLock { $0.hyphalink ?? "" })
  }
  func listRequests() async throws(ControlError) -> RequestsList.Result { requests.withLock { $0 } }
  func findRequest(_ params: RequestsFind.Params) async throws(ControlError) -> RequestInfo {
    let found = requests.withLock { list in
      list.requests.filter {
        params.device == $0.name || params.device == $0.words || $0.id.hasPrefix(params.device)
      }
    }
    switch (found.count, found.first?.state) {
    case (0, _): throw ControlError(.notFound, "nobody asks like this", field: "device")
    case (2..., _): throw ControlError(.ambiguous, "several ask like this", field: "device")
    case (_, .expired): throw ControlError(.requestExpired, "it has expired")
    case (_, .approved), (_, .denied): throw ControlError(.alreadyAnswered, "it was answered")
    default: return found[0]
    }
  }
  func approveRequest(_ params: RequestsApprove.Params) async throws(ControlError) -> RequestInfo {
    try answer(params.id, .approved)
  }
  func denyRequest(_ params: RequestsDeny.Params) async throws(ControlError) -> RequestInfo {
    try answer(params.id, .denied)
  }
  private func answer(_ id: String, _ state: RequestInfo.State) throws(ControlError) -> RequestInfo {
    let answered: RequestInfo? = requests.withLock { list in
      guard let place = list.requests.firstIndex(where: { $0.id == id }) else { return nil }
      list.requests[place].state = state
      return list.requests[place]
    }
    guard let answered else { throw ControlError(.notFound, "nobody asks like this", field: "id") }
    happen(.answered) { $0.request = answered }
    return answered
  }
  func listDevices() async throws(ControlError) -> DevicesList.Result {
    .init(devices: devices.withLock { $0 })
  }
  func findDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    let found = devices.withLock { list in
      list.filter { params.device == $0.name || $0.writer.hasPrefix(params.device) }
    }
    guard let device = found.first else { throw ControlError(.notFound, "no such device", field: "device") }
    guard found.count == 1 else { throw ControlError(.ambiguous, "several are called this", field: "device") }
    return device
  }
  func renameDevice(_ params: DevicesRename.Params) async throws(ControlError) -> DeviceInfo {
    var device = try await findDevice(.init(device: params.device))
    device.name = params.name
    return device
  }
  func revokeDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    var device = try await findDevice(params)
    device.revoked = RevocationInfo(at: Timestamp(milliseconds: 0), by: device.writer, blocks: 1)
    return device
  }
  func restoreDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    var device = try await findDevice(params)
    device.revoked = nil
    return device
  }
  func listPeers() async throws(ControlError) -> PeersList.Result { .init(peers: []) }
  func addConnection(_ params: ConnectionsAdd.Params) async throws(ControlError) -> ConnectionInfo {
    .init(url: params.url, state: .connecting)
  }
  func removeConnection(_ params: ConnectionsRemove.Params) async throws(ControlError)
    -> ConnectionsRemove.Result
  {
    .init(url: params.url)
  }
  func listConnections() async throws(ControlError) -> ConnectionsList.Result { .init(connections: []) }

  func wait(_ params: NodeWait.Params) async throws(ControlError) -> NodeInfo {
    waiting.withLock { $0 += 1 }
    defer { waiting.withLock { $0 -= 1 } }
    do {
      try await Task.sleep(for: .seconds(params.timeoutSeconds ?? 3600))
    } catch {
      throw ControlError(.stopping, "cancelled")
    }
    return try await status()
  }

  func events(after: UInt64?) async -> AsyncStream<ControlEvent> {
    let (stream, continuation) = AsyncStream.makeStream(
      of: ControlEvent.self, bufferingPolicy: .bufferingOldest(ControlLimits.queuedEvents))
    followers.withLock { $0.append(continuation) }
    return stream
  }

  func happen(_ id: UInt64, reason: String? = nil) {
    happen(.synced, id: id) { $0.reason = reason }
  }

  func happen(_ kind: ControlEvent.Kind, id: UInt64 = 1, _ fill: (inout ControlEvent) -> Void) {
    var event = ControlEvent(id: id, time: Timestamp(milliseconds: 0), kind: kind)
    fill(&event)
    followers.withLock { followers in
      for follower in followers {
        if case .dropped = follower.yield(event) { follower.finish() }
      }
    }
  }
}

/// Calls the server over a real socket; raw lines, so that wrong ones can be sent too.
final class RawCaller {
  let descriptor: CInt
  private var lines = LineBuffer(limit: 4 << 20)

  init(path: String) throws {
    descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw HarnessError("connect: \(String(cString: strerror(errno)))") }
    // As long as elsewhere: tests that wait for daemons can hold both threads that the server in this process needs.
    var patience = timeval(tv_sec: 90, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(descriptor) }

  func send(_ bytes: some Sequence<UInt8>) throws {
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw HarnessError("send: \(String(cString: strerror(errno)))") }
      rest = rest.dropFirst(count)
    }
  }

  func send(_ line: String) throws { try send((line + "\n").utf8) }

  func endSending() { shutdown(descriptor, CInt(SHUT_WR)) }

  /// The next line, or `nil` at the end.
  func line() throws -> String? {
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      if let line = try lines.next() { return String(decoding: line, as: UTF8.self) }
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count == 0 || (count < 0 && errno == ECONNRESET) { return nil }
      guard count > 0 else { throw HarnessError("recv: \(String(cString: strerror(errno)))") }
      lines.append(chunk[..<count])
    }
  }
}

/// Runs what blocks, such as calls of ``ControlClient``, away from the few threads that the server's tasks need.
final class BlockingExecutor: TaskExecutor {
  static let shared = BlockingExecutor()
  private let threads = NIOThreadPool(numberOfThreads: 32)

  init() { threads.start() }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    threads.submit { _ in job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}

/// Time-outs are long: other tests keep the machine busy meanwhile.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct ControlServerTests {
  /// A server with a fake node behind it, for as long as `body` runs.
  func serve(
    rule: CallerRule = CallerRule(ownUID: geteuid(), group: nil),
    _ body: (_ path: String, _ service: FakeService, _ server: ControlServer<FakeService>) async throws ->
      Void
  ) async throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/s"
    let service = FakeService()
    let server = try await ControlServer.start(
      descriptor: try ControlSocket.make(path: path, group: nil), path: path, service: service, rule: rule,
      eventLoops: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "test"))
    do {
      try await withTaskExecutorPreference(BlockingExecutor.shared) { try await body(path, service, server) }
    } catch {
      await server.stop(grace: .zero)
      throw error
    }
    await server.stop(grace: .seconds(1))
    #expect(access(path, F_OK) != 0)
  }

  @Test func answersTheClient() async throws {
    try await serve { path, _, _ in
      let client = try ControlClient(path: path)
      #expect(try client.call(NodeVersion.self, Nothing()).name == "fake")
      let created = try client.call(PostsCreate.self, .init(text: "one\ntwo ☃"))
      #expect(created.id == "0")
      #expect(try client.call(PostsList.self, .init()).posts.map(\.text) == ["one\ntwo ☃"])
      #expect(try client.call(PassphraseGenerate.self, .init()).passphrase == Secret("a b"))
      #expect(try client.call(Discover.self, Nothing())["openrpc"] == .string("1.3.2"))
      for (text, code) in [
        ("", ControlError.Code.textEmpty), (" \n", .textEmpty),
        (String(repeating: "é", count: 32769), .textTooLong),
      ] {
        let failure = #expect(throws: ControlFailure.self) {
          try client.call(PostsCreate.self, .init(text: text))
        }
        guard case .refused(let error) = failure?.code else { throw HarnessError("not refused") }
        #expect(error.code == code)
      }
      _ = try client.call(PostsCreate.self, .init(text: String(repeating: "é", count: 32768)))
      let failure = #expect(throws: ControlFailure.self) {
        try client.call(NodeWait.self, .init(for: .ready), timeoutSeconds: 0.05)
      }
      #expect(failure?.code == .timedOut)
    }
  }

  @Test func theSocketIsForItsOwnerAndGroup() async throws {
    try await serve { path, _, _ in
      var status = stat()
      #expect(stat(path, &status) == 0)
      #expect(status.st_mode & 0o7777 == 0o660)
      #expect(throws: ControlServerError.self) { try ControlSocket.make(path: path, group: nil) }
    }
  }

  @Test func replacesASocketThatWasLeftButNoOtherFile() throws {
    let folder = try TemporaryFolder()
    close(try ControlSocket.make(path: "\(folder.path)/s", group: nil))
    close(try ControlSocket.make(path: "\(folder.path)/s", group: nil))
    let file = try folder.write("f", "text".utf8)
    let error = #expect(throws: ControlServerError.self) { try ControlSocket.make(path: file, group: nil) }
    #expect(error?.code == .notASocket)
    #expect(folder.read("f") == Array("text".utf8))
    #expect(throws: ControlServerError.self) {
      try ControlSocket.make(path: "\(folder.path)/none/s", group: nil)
    }
  }

  @Test func saysWhatIsWrongWithALine() async throws {
    try await serve { path, _, _ in
      let caller = try RawCaller(path: path)
      func answer(_ line: String) throws -> String? {
        try caller.send(line)
        return try caller.line()
      }
      #expect(try answer("{")?.contains("-32700") == true)
      #expect(try answer("[]")?.contains("batches") == true)
      #expect(
        try answer(#"{"jsonrpc":"2.0","id":"x","method":"node.statsu"}"#)
          == #"{"error":{"code":-32601,"data":{"suggestion":"node.status"},"#
          + #""message":"there is no method “node.statsu”; did you mean node.status?"},"id":"x","jsonrpc":"2.0"}"#
      )
      #expect(
        try answer(#"{"jsonrpc":"2.0","id":1,"method":"zzz"}"#)?.contains("rpc.discover lists them") == true)
      #expect(
        try answer(#"{"jsonrpc":"2.0","id":2,"method":"posts.create","params":{"txt":"a"}}"#)
          == #"{"error":{"code":-32602,"data":{"field":"text"},"message":"text is missing"},"id":2,"jsonrpc":"2.0"}"#
      )
      #expect(
        try answer(#"{"jsonrpc":"2.0","id":3,"method":"posts.list","params":{"limit":0}}"#)?.contains("limit")
          == true)
      #expect(
        try answer(#"{"jsonrpc":"2.0","id":4,"method":"events.unsubscribe","params":{"subscription":9}}"#)?
          .contains("1007") == true)
      // Blank lines and notifications get no answer.
      try caller.send("\r\n  \n" + #"{"jsonrpc":"2.0","method":"node.status"}"#)
      #expect(
        try answer(#"{"jsonrpc":"2.0","id":5,"method":"peers.list"}"#)
          == #"{"id":5,"jsonrpc":"2.0","result":{"peers":[]}}"#)
    }
  }

  @Test func answersAfterTheCallerStoppedSending() async throws {
    try await serve { path, _, _ in
      let caller = try RawCaller(path: path)
      try caller.send(
        #"{"jsonrpc":"2.0","id":1,"method":"node.wait","params":{"for":"ready","timeoutSeconds":0.2}}"#)
      caller.endSending()
      #expect(try caller.line()?.contains(#""ready":true"#) == true)
      #expect(try caller.line() == nil)
    }
  }

  @Test func refusesALineThatIsTooLong() async throws {
    try await serve { path, _, _ in
      let caller = try RawCaller(path: path)
      try? caller.send([UInt8](repeating: 32, count: ControlLimits.lineBytes + (1 << 16)))
      #expect(try caller.line()?.contains("at most 1048576 bytes") == true)
      #expect(try caller.line() == nil)
      let unfinished = try RawCaller(path: path)
      try unfinished.send(#"{"jsonrpc""#.utf8)
      unfinished.endSending()
      #expect(try unfinished.line()?.contains("no newline") == true)
    }
  }

  @Test(.enabled(if: geteuid() != 0, "root may always call"))
  func refusesCallersWhoMayNot() async throws {
    try await serve(rule: CallerRule(ownUID: 1, group: nil)) { path, _, _ in
      let client = try ControlClient(path: path)
      let failure = #expect(throws: ControlFailure.self) { try client.call(NodeStatus.self, Nothing()) }
      guard case .refused(let error) = failure?.code else { throw HarnessError("not refused") }
      #expect(error.code == .notPermitted)
    }
  }

  @Test func takesSoManyConnectionsAndNoMore() async throws {
    try await serve { path, _, _ in
      var callers = try (0..<ControlLimits.connections).map { _ in try RawCaller(path: path) }
      for caller in callers {
        try caller.send(#"{"jsonrpc":"2.0","id":1,"method":"node.version"}"#)
        #expect(try caller.line()?.contains("fake") == true)
      }
      #expect(try RawCaller(path: path).line()?.contains("1008") == true)
      callers.removeAll()
      try await eventually {
        (try? ControlClient(path: path).call(NodeVersion.self, Nothing())) == nil ? nil : true
      }
    }
  }

  @Test func runsManyRequestsOfOneConnectionSideBySide() async throws {
    try await serve { path, service, _ in
      let caller = try RawCaller(path: path)
      for id in 0..<(ControlLimits.requestsInFlight + 8) {
        try caller.send(
          #"{"jsonrpc":"2.0","id":\#(id),"method":"node.wait","params":{"for":"ready","timeoutSeconds":0.3}}"#
        )
      }
      try await eventually { service.waiting.withLock { $0 } == ControlLimits.requestsInFlight ? true : nil }
      for _ in 0..<(ControlLimits.requestsInFlight + 8) { #expect(try caller.line() != nil) }
    }
  }

  @Test func cancelsWhatACallerWhoLeftWaitsFor() async throws {
    try await serve { path, service, _ in
      do {
        let caller = try RawCaller(path: path)
        try caller.send(#"{"jsonrpc":"2.0","id":1,"method":"node.wait","params":{"for":"ready"}}"#)
        try await eventually { service.waiting.withLock { $0 } == 1 ? true : nil }
      }
      try await eventually { service.waiting.withLock { $0 } == 0 ? true : nil }
    }
  }

  @Test func sendsEventsToThoseWhoSubscribed() async throws {
    try await serve { path, service, _ in
      let client = try ControlClient(path: path)
      let all = try client.call(EventsSubscribe.self, .init())
      let none = try client.call(EventsSubscribe.self, .init(kinds: [.posted]))
      #expect(all.subscription != none.subscription)
      for id in 1...3 { service.happen(UInt64(id)) }
      for id in 1...3 {
        guard case .event(let params) = try client.nextNotification(timeoutSeconds: 90) else {
          throw HarnessError("no event")
        }
        #expect(params.event.id == UInt64(id))
        #expect(params.subscription == all.subscription)
      }
      _ = try client.call(EventsUnsubscribe.self, .init(subscription: all.subscription))
      service.happen(4)
      #expect(throws: ControlFailure.self) { try client.nextNotification(timeoutSeconds: 0.1) }
      for _ in 0..<(ControlLimits.subscriptions - 1) { _ = try client.call(EventsSubscribe.self, .init()) }
      #expect(throws: ControlFailure.self) { try client.call(EventsSubscribe.self, .init()) }
    }
  }

  @Test func dropsAReaderThatIsTooSlow() async throws {
    try await serve { path, service, _ in
      let client = try ControlClient(path: path)
      _ = try client.call(EventsSubscribe.self, .init())
      let long = String(repeating: "x", count: 4096)
      for id in 1...(2 * ControlLimits.queuedEvents) { service.happen(UInt64(id), reason: long) }
      var last: UInt64 = 0
      reading: while true {
        switch try client.nextNotification(timeoutSeconds: 90) {
        case .event(let params):
          #expect(params.event.id == last + 1)
          last = params.event.id
        case .ended: break reading
        case nil: throw HarnessError("closed")
        }
      }
      #expect(last >= UInt64(ControlLimits.queuedEvents))
      #expect(last < UInt64(2 * ControlLimits.queuedEvents))
      #expect(try client.call(NodeVersion.self, Nothing()).name == "fake")
    }
  }

  @Test func finishesWhatIsInFlightWhenItStops() async throws {
    try await serve { path, service, server in
      let caller = try RawCaller(path: path)
      try caller.send(
        #"{"jsonrpc":"2.0","id":1,"method":"node.wait","params":{"for":"ready","timeoutSeconds":0.3}}"#)
      try await eventually { service.waiting.withLock { $0 } == 1 ? true : nil }
      await server.stop(grace: .seconds(10))
      #expect(try caller.line()?.contains(#""ready":true"#) == true)
      #expect(try caller.line() == nil)
      #expect(throws: ControlFailure.self) { try ControlClient(path: path) }
    }
  }

  /// Those who connect just then are served or sent away; neither hangs.
  @Test func stopsWhileCallersConnect() async throws {
    for round in 0..<20 {
      try await serve { path, _, server in
        let callers = try (0..<20).map { _ in try RawCaller(path: path) }
        if round % 2 == 0 { try callers[0].send(#"{"jsonrpc":"2.0","id":1,"method":"node.version"}"#) }
        await server.stop(grace: .zero)
        for caller in callers {
          while try caller.line() != nil {}
        }
      }
    }
  }

  @Test func survivesNoise() async throws {
    try await serve { path, _, _ in
      var random = SystemRandomNumberGenerator()
      for _ in 0..<50 {
        let caller = try RawCaller(path: path)
        try? caller.send((0..<2000).map { _ in UInt8.random(in: 0...255, using: &random) })
      }
      try await eventually {
        (try? ControlClient(path: path).call(NodeVersion.self, Nothing())) == nil ? nil : true
      }
    }
  }
}
