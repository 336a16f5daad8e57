import FoundationEssentials
import Glibc

/// A process on a terminal of its own, at which a test types. Killed when this object goes away.
final class Terminal {
  private let pid: pid_t
  private let master: Int32
  private var hasEnded = false
  /// Linux's TIOCSPTLCK and TIOCGPTN, of which Swift imports neither.
  private static let (lock, getNumber): (CUnsignedLong, CUnsignedLong) = (0x4004_5431, 0x8004_5430)
  /// All that the terminal has shown so far.
  private(set) var shown = ""
  /// What of it was waited for already.
  private var seen = ""

  /// - Parameter environment: added to this process's own.
  init(_ program: String, _ arguments: [String], environment: [String: String] = [:]) throws {
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    var (isLocked, number): (CInt, CUnsignedInt) = (0, 0)
    guard master >= 0, ioctl(master, Self.lock, &isLocked) == 0, ioctl(master, Self.getNumber, &number) == 0,
      fcntl(master, F_SETFL, O_NONBLOCK) == 0
    else { throw HarnessError("no terminal: \(String(cString: strerror(errno)))") }
    let path = "/dev/pts/\(number)"
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, path, O_RDWR, 0)
    posix_spawn_file_actions_adddup2(&actions, 0, 1)
    posix_spawn_file_actions_adddup2(&actions, 0, 2)
    var variables = ProcessInfo.processInfo.environment
    for (name, value) in environment { variables[name] = value }
    var argv = ([program] + arguments).map { strdup($0) } + [nil]
    var envp = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in argv + envp { free(text) } }
    var child: pid_t = 0
    let result = posix_spawn(&child, program, &actions, nil, &argv, &envp)
    guard result == 0 else { throw HarnessError("\(program): \(String(cString: strerror(result)))") }
    pid = child
  }

  deinit {
    if !hasEnded {
      kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
    close(master)
  }

  private func read() {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = Glibc.read(master, &buffer, buffer.count)
      guard count > 0 else { return }
      shown += String(decoding: buffer[..<count], as: UTF8.self).replacing("\r\n", with: "\n")
    }
  }

  /// Waits until a text is shown, behind what was waited for before.
  func expect(_ text: String) async throws {
    try await eventually("the terminal does not show “\(text)” but: \(shown)") { () -> Bool? in
      read()
      let rest = shown.dropFirst(seen.count)
      guard let range = rest.firstRange(of: text) else { return nil }
      seen = String(shown[..<range.upperBound])
      return true
    }
  }

  /// Types a line.
  func type(_ line: String) throws {
    let bytes = Array((line + "\n").utf8)
    guard write(master, bytes, bytes.count) == bytes.count else { throw HarnessError("cannot type") }
  }

  /// Waits until the process ends by itself.
  /// - Returns: its exit status, or the negative number of the signal that ended it.
  func end() async throws -> Int32 {
    try await eventually("the process does not end; its terminal shows: \(shown)") { () -> Int32? in
      read()
      var status: Int32 = 0
      guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
      hasEnded = true
      read()
      return status & 0x7F == 0 ? (status >> 8) & 0xFF : -(status & 0x7F)
    }
  }
}
