import FoundationEssentials
import Glibc
import HyphaControlAPI
import Synchronization
import Testing

/// Something about the test's own surroundings that went wrong.
struct HarnessError: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) {
    self.description = description
  }
}

/// The sanitizer that everything was built with, if any (`scripts/sanitize`).
enum Sanitizer {
  static let isOn = getenv("HYPHA_SANITIZER") != nil

  /// A bound on time: with a sanitizer all is several times slower.
  static func seconds(_ bound: Double) -> Double { isOn ? 10 * bound : bound }

  /// A bound on how much more memory there is: a sanitizer keeps up to 256 MiB of what was freed.
  static func kilobytes(_ bound: Int) -> Int { isOn ? bound + 256 << 10 : bound }
}

/// The programs of this package, as they were built.
enum Programs {
  /// Beside the test bundle, or in the folder that `HYPHA_PROGRAMS` names.
  static let folder: String = {
    if let named = getenv("HYPHA_PROGRAMS") { return String(cString: named) }
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return own.lastIndex(of: "/").map { String(own[..<$0]) } ?? "."
  }()

  static func path(_ name: String) throws -> String {
    let path = "\(folder)/\(name)"
    guard access(path, X_OK) == 0 else {
      throw HarnessError("\(path) is not there: run `swift build` first, or set HYPHA_PROGRAMS")
    }
    return path
  }
}

/// A new folder, under `/tmp` if not elsewhere, that goes away with this object. Its name is short: a socket's path has at most 107 bytes.
///
/// Where `HYPHA_KEEP` names a folder, it is made there and stays: who runs the tests wants to see what a failure left.
final class TemporaryFolder: Sendable {
  let path: String
  private static let kept = getenv("HYPHA_KEEP").map { String(cString: $0) }

  init(in parent: String? = nil) throws {
    var template = Array("\(parent ?? Self.kept ?? "/tmp")/hypha-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw HarnessError("no temporary folder: \(String(cString: strerror(errno)))")
    }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit {
    if Self.kept == nil { remove() }
  }

  /// Removes it, wherever it is: nobody wants to see it.
  func remove() {
    try? FileManager.default.removeItem(atPath: path)
  }

  /// Writes a file and returns its path.
  func write(_ name: String, _ contents: some Sequence<UInt8>) throws -> String {
    let file = "\(path)/\(name)"
    try Data(Array(contents)).write(to: URL(filePath: file))
    return file
  }

  func read(_ name: String) -> [UInt8] {
    (try? Data(contentsOf: URL(filePath: "\(path)/\(name)"))).map { [UInt8]($0) } ?? []
  }
}

/// What a file under `/proc` says: the kernel gives it in pieces and no size, which Foundation takes for the end.
func kernelFile(_ path: String) throws -> String {
  let file = open(path, O_RDONLY | O_CLOEXEC)
  guard file >= 0 else { throw HarnessError("\(path): \(String(cString: strerror(errno)))") }
  defer { close(file) }
  var text: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = read(file, &chunk, chunk.count)
    guard count >= 0 else { throw HarnessError("\(path): \(String(cString: strerror(errno)))") }
    if count == 0 { return String(decoding: text, as: UTF8.self) }
    text += chunk[..<count]
  }
}

/// How a process ended.
struct Ended: Equatable {
  /// Exit status, or the negative number of the signal that ended it.
  var status: Int32
  var stdout: [UInt8]
  var stderr: String

  /// Standard output as text, without its last newline.
  var text: String {
    let text = String(decoding: stdout, as: UTF8.self)
    return text.hasSuffix("\n") ? String(text.dropLast()) : text
  }

  /// Standard output as one JSON object.
  func json() throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(stdout))
  }
}

/// A process started by a test. Killed when this object goes away.
final class Running {
  let pid: pid_t
  private let folder: TemporaryFolder
  private var ended: Ended?

  /// - Parameters:
  ///   - program: a path.
  ///   - input: its standard input; empty if not given.
  ///   - environment: added to this process's own; `nil` removes a variable.
  ///   - terminal: where it reads from, instead of `input`, and where its messages go.
  ///   - use: what else the terminal is to it.
  init(
    _ program: String, _ arguments: [String], input: [UInt8] = [], environment: [String: String?] = [:],
    terminal: PseudoTerminal? = nil, use: PseudoTerminal.Use = .messages
  ) throws {
    folder = try TemporaryFolder()
    let stdin = try folder.write("stdin", input)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    if let terminal {
      let flags = use == .session ? O_RDWR : O_RDWR | O_NOCTTY
      posix_spawn_file_actions_addopen(&actions, 0, terminal.path, flags, 0)
    } else {
      posix_spawn_file_actions_addopen(&actions, 0, stdin, O_RDONLY, 0)
    }
    posix_spawn_file_actions_addopen(&actions, 1, "\(folder.path)/stdout", O_WRONLY | O_CREAT, 0o600)
    if terminal == nil {
      posix_spawn_file_actions_addopen(&actions, 2, "\(folder.path)/stderr", O_WRONLY | O_CREAT, 0o600)
    } else {
      posix_spawn_file_actions_adddup2(&actions, 0, 2)
      if use != .messages { posix_spawn_file_actions_adddup2(&actions, 0, 1) }
    }
    // Test runners may ignore or block signals; a program starts with neither.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    for signal in [SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU] {
      sigaddset(&signals, signal)
    }
    posix_spawnattr_setsigdefault(&attributes, &signals)
    var flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
    if use == .session { flags |= 0x80 }  // POSIX_SPAWN_SETSID, which Glibc shows to GNU programs only.
    posix_spawnattr_setflags(&attributes, Int16(flags))

    var variables = ProcessInfo.processInfo.environment
    for (name, value) in environment { variables[name] = value }
    var argv = ([program] + arguments).map { strdup($0) } + [nil]
    var envp = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in argv + envp { free(text) } }
    var child: pid_t = 0
    let result = posix_spawn(&child, program, &actions, &attributes, &argv, &envp)
    guard result == 0 else { throw HarnessError("\(program): \(String(cString: strerror(result)))") }
    pid = child
  }

  deinit {
    if ended == nil {
      Glibc.kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
  }

  /// What it wrote so far.
  var stdout: [UInt8] { folder.read("stdout") }
  var stderr: String { String(decoding: folder.read("stderr"), as: UTF8.self) }

  /// `nil` while it runs.
  func poll() -> Ended? {
    if ended == nil {
      var status: Int32 = 0
      if waitpid(pid, &status, WNOHANG) == pid {
        let signal = status & 0x7F
        ended = Ended(status: signal == 0 ? (status >> 8) & 0xFF : -signal, stdout: stdout, stderr: stderr)
      }
    }
    return ended
  }

  /// Waits until it ends by itself.
  func end(within seconds: Double = 60) async throws -> Ended {
    try await eventually(within: seconds, "process \(pid) did not end; it wrote: \(stderr)") { poll() }
  }

  func send(_ signal: Int32) {
    if ended == nil { Glibc.kill(pid, signal) }
  }

  /// Ends it as a power failure would, and returns when it is gone.
  func kill() async throws {
    send(SIGKILL)
    _ = try await end()
  }
}

/// Asks again and again until there is an answer.
@discardableResult
func eventually<T>(
  within seconds: Double = 90, _ problem: @autoclosure () -> String = "it did not happen in time",
  isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> T?
) async throws -> T {
  let deadline = ContinuousClock.now + .seconds(seconds)
  while true {
    if let value = try await body() { return value }
    if ContinuousClock.now > deadline { throw HarnessError(problem()) }
    try await Task.sleep(for: .milliseconds(10))
  }
}

/// The ports that this process tries: no others that run tests now do, as long as they are fewer than five.
private let ownPorts: Range<Int> = {
  let size = 3000
  for start in stride(from: 20_000, to: 32_000, by: size) {
    // Held until the process ends.
    let file = open("/tmp/hypha-test-ports-\(start)", O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    if file >= 0, flock(file, LOCK_EX | LOCK_NB) == 0 { return start..<start + size }
    close(file)
  }
  return 20_000..<32_000
}()

/// The port that ``freePorts(_:)`` tries next.
private let nextPort = Mutex(ownPorts.lowerBound + Int(getpid()) * 97 % ownPorts.count)

/// TCP ports on 127.0.0.1 that nothing listens on; all different, and no two calls give the same.
///
/// Below 32768, where Linux takes the ports of outgoing connections from: one of those could else come between.
func freePorts(_ count: Int) throws -> [Int] {
  var ports: [Int] = []
  for _ in ownPorts where ports.count < count {
    let port = nextPort.withLock { next in
      defer { next = next + 1 < ownPorts.upperBound ? next + 1 : ownPorts.lowerBound }
      return next
    }
    let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    defer { close(socket) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = in_port_t(port).bigEndian
    let isFree = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    if isFree { ports.append(port) }
  }
  guard ports.count == count else { throw HarnessError("there are no \(count) free ports") }
  return ports
}

/// One `hyphad` with a state folder of its own.
final class TestNode {
  let folder: TemporaryFolder
  let host: String
  /// Of its web address.
  let port: Int
  private let settings: String
  /// Variables that the daemon has besides the test's own.
  var environment: [String: String?] = [:]
  /// What the daemon sees of the file system, if not what the test sees.
  var mounts: OwnMounts?
  private(set) var daemon: Running?

  var statePath: String { "\(folder.path)/state" }
  var socket: String { "\(folder.path)/control.sock" }
  var url: String { "ws://\(host):\(port)" }
  /// What `hyphad` logged.
  var log: String { daemon?.stderr ?? "" }

  /// - Parameters:
  ///   - settings: further tables of the configuration file.
  ///   - host: of its web address.
  ///   - port: of its web address; a free one if not given; 0 for one that the system chooses.
  init(settings: String = "", host: String = "127.0.0.1", port: Int? = nil) throws {
    folder = try TemporaryFolder()
    self.host = host
    self.port = try port ?? freePorts(1)[0]
    self.settings = settings
    try configure()
  }

  private var config: String { "\(folder.path)/hyphad.toml" }

  /// Writes the configuration file anew, for the next start or reload.
  ///
  /// - Parameters:
  ///   - node: further lines of the table `[node]`.
  ///   - http: of the table `[http]`.
  func configure(node: String = "", http: String = "") throws {
    _ = try folder.write(
      "hyphad.toml",
      """
      [node]
      state_folder = "\(folder.path)/state"
      \(node)
      [control]
      socket = "\(folder.path)/control.sock"
      [http]
      address = "\(host):\(port)"
      \(http)
      \(settings)
      """.utf8)
  }

  /// Starts the daemon, and returns once it answers.
  func start() async throws {
    let daemon = try run()
    self.daemon = daemon
    try await eventually("hyphad does not answer; it wrote: \(daemon.stderr)") {
      if let ended = daemon.poll() { throw HarnessError("hyphad ended (\(ended.status)): \(ended.stderr)") }
      return (try? client())?.isAnswering
    }
  }

  /// Starts a daemon that is to refuse, and returns what it said.
  func startInVain() async throws -> Ended {
    try await run().end(within: 15)
  }

  private func run() throws -> Running {
    let program = try Programs.path("hyphad")
    let arguments = ["--config", config]
    let started = mounts?.running(program, arguments) ?? (program: program, arguments: arguments)
    return try Running(started.program, started.arguments, environment: environment)
  }

  /// Stops it as systemd would.
  @discardableResult
  func stop() async throws -> Ended? {
    daemon?.send(SIGTERM)
    let ended = try await daemon?.end(within: 40)
    daemon = nil
    return ended
  }

  /// Ends it as a power failure would.
  func kill() async throws {
    try await daemon?.kill()
    daemon = nil
  }

  /// Starts the daemon, and ends it as a power failure would, whether it answers by then or not.
  func startAndKill(after time: Duration) async throws {
    daemon = try run()
    try await Task.sleep(for: time)
    try await kill()
  }

  func client() throws -> ControlClient {
    try ControlClient(path: socket)
  }

  /// Runs `hyphactl` against this node.
  func ctl(
    _ arguments: String..., input: [UInt8] = [], environment: [String: String?] = [:]
  ) async throws -> Ended {
    try await startCtl(arguments, input: input, environment: environment).end()
  }

  /// Runs `hyphactl` with its streams elsewhere.
  ///
  /// - Parameter streams: as a shell has it; 3 is a pipe that nobody reads.
  func ctl(_ arguments: [String], streams: String, input: [UInt8] = []) async throws -> Ended {
    try await Running(
      "/bin/bash",
      ["-c", "exec 3> >(:); wait $!; exec \"$0\" \"$@\" \(streams)", try Programs.path("hyphactl")]
        + arguments,
      input: input, environment: ["HYPHA_SOCKET": socket]
    ).end()
  }

  /// Starts a `hyphactl` that goes on running.
  func startCtl(
    _ arguments: [String], input: [UInt8] = [], environment: [String: String?] = [:],
    terminal: PseudoTerminal? = nil
  ) throws -> Running {
    var environment = environment
    if environment["HYPHA_SOCKET"] == nil { environment["HYPHA_SOCKET"] = .some(socket) }
    return try Running(
      try Programs.path("hyphactl"), arguments, input: input, environment: environment, terminal: terminal)
  }
}

extension ControlClient {
  /// `true`, or `nil` as ``eventually(within:_:isolation:_:)`` wants it.
  fileprivate var isAnswering: Bool? {
    (try? call(NodeVersion.self, Nothing(), timeoutSeconds: 5)) == nil ? nil : true
  }
}

extension TestNode {
  func status() throws -> NodeInfo { try client().call(NodeStatus.self, .init()) }

  /// Of all posts, newest first.
  func texts() throws -> [String] { try client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text) }

  func post(_ text: String) throws { _ = try client().call(PostsCreate.self, .init(text: text)) }
}
