import FoundationEssentials
import Glibc

/// A terminal as a person has it: what programs show on it can be read, and typed to.
final class PseudoTerminal {
  /// What it is to a program that reads from it.
  enum Use {
    /// Its messages go there, what it prints does not.
    case messages
    /// All that it writes goes there.
    case output
    /// It is like a shell that the terminal was opened for: all that it writes goes there, and the terminal sends it
    /// signals. When it ends, the terminal is gone, with what was not read yet.
    case session
  }

  /// Where programs open it.
  let path: String
  private let person: Int32
  /// Held open, so that what the terminal is set to stays when a program has ended.
  private let program: Int32
  private var bytes: [UInt8] = []

  init() throws {
    var (person, program): (Int32, Int32) = (-1, -1)
    var name = [CChar](repeating: 0, count: 64)
    var size = winsize(ws_row: 50, ws_col: 250, ws_xpixel: 0, ws_ypixel: 0)
    guard openpty(&person, &program, &name, nil, &size) == 0 else {
      throw HarnessError("no terminal: \(String(cString: strerror(errno)))")
    }
    _ = fcntl(person, F_SETFD, FD_CLOEXEC)
    _ = fcntl(program, F_SETFD, FD_CLOEXEC)
    _ = fcntl(person, F_SETFL, O_NONBLOCK)
    (self.person, self.program) = (person, program)
    path = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit {
    close(program)
    close(person)
  }

  /// Everything that was shown on it so far.
  var shown: String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(person, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// What is typed is shown.
  var echoes: Bool { localModes & tcflag_t(ECHO) != 0 }

  /// How it treats what is typed: as lines, shown, with keys that send signals.
  var localModes: tcflag_t {
    var attributes = termios()
    tcgetattr(program, &attributes)
    return attributes.c_lflag
  }

  /// Types; `\n` is Return, `\u{3}` Ctrl-C, `\u{4}` Ctrl-D.
  func type(_ text: String) {
    let bytes = Array(text.utf8)
    _ = write(person, bytes, bytes.count)
  }

  /// Waits until a shell reads keys one by one: before, Tab is no more than a space to the terminal.
  func takesKeys(isolation: isolated (any Actor)? = #isolation) async throws {
    try await eventually("nothing reads keys on the terminal: \(shown)") {
      localModes & tcflag_t(ICANON) == 0 ? true : nil
    }
  }

  /// Waits until a text has been shown so many times.
  func shows(_ text: String, times: Int = 1, isolation: isolated (any Actor)? = #isolation) async throws {
    try await eventually("“\(text)” is not on the terminal: \(shown)") {
      shown.components(separatedBy: text).count > times ? true : nil
    }
  }
}

/// A program on a terminal of its own.
final class Terminal {
  private let terminal: PseudoTerminal
  private let running: Running
  /// How much of what is shown was waited for already.
  private var seen = 0

  /// - Parameter environment: added to this process's own.
  init(_ program: String, _ arguments: [String], environment: [String: String?] = [:]) throws {
    terminal = try PseudoTerminal()
    running = try Running(program, arguments, environment: environment, terminal: terminal, use: .output)
  }

  /// All that was shown so far.
  var shown: String { terminal.shown.replacing("\r\n", with: "\n") }

  /// Waits until a text is shown, behind what was waited for before.
  func expect(_ text: String) async throws {
    try await eventually("the terminal does not show “\(text)” but: \(shown)") { () -> Bool? in
      let shown = shown
      guard let range = shown.dropFirst(seen).firstRange(of: text) else { return nil }
      seen = shown.distance(from: shown.startIndex, to: range.upperBound)
      return true
    }
  }

  /// Types a line.
  func type(_ line: String) {
    terminal.type(line + "\n")
  }

  /// Waits until the program ends by itself.
  /// - Returns: its exit status, or the negative number of the signal that ended it.
  func end() async throws -> Int32 {
    try await running.end().status
  }
}
