import Glibc
import Synchronization

/// The terminal at standard input, while it does not show what is typed.
///
/// A signal that ends or stops the program meanwhile waits for ``restore()``: else the shell would be left with a
/// terminal that shows nothing.
struct SilentTerminal {
  private static let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP]
  /// The signal that came; 0 if none did.
  private static let received = Atomic<Int32>(0)

  /// `nil` if standard input is no terminal.
  private let attributes: termios?
  private let mask: sigset_t
  private let actions: [sigaction]

  init() {
    Self.received.store(0, ordering: .relaxed)
    // Blocked but for the time that `readLine` waits, so that none comes unnoticed just before.
    var blocked = sigset_t()
    sigemptyset(&blocked)
    for signal in Self.signals { sigaddset(&blocked, signal) }
    var mask = sigset_t()
    pthread_sigmask(SIG_BLOCK, &blocked, &mask)
    self.mask = mask
    var noting = sigaction()
    noting.__sigaction_handler.sa_handler = { Self.received.store($0, ordering: .relaxed) }
    actions = Self.signals.map {
      var former = sigaction()
      sigaction($0, &noting, &former)
      return former
    }

    var attributes = termios()
    guard tcgetattr(STDIN_FILENO, &attributes) == 0 else {
      self.attributes = nil
      return
    }
    self.attributes = attributes
    attributes.c_lflag &= ~tcflag_t(ECHO)
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &attributes)
  }

  /// Waits for a line.
  ///
  /// - Returns: the line without its newline; `nil` at the end of input, or when a signal came.
  func readLine() -> String? {
    var line: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    var mask = mask
    while line.last != UInt8(ascii: "\n") {
      var input = fd_set()
      input.__fds_bits.0 = 1 << STDIN_FILENO
      guard pselect(STDIN_FILENO + 1, &input, nil, nil, nil, &mask) > 0 else { return nil }
      let count = read(STDIN_FILENO, &buffer, buffer.count)
      guard count > 0 else {
        if line.isEmpty { return nil }
        break
      }
      line += buffer[..<count]
    }
    if line.last == UInt8(ascii: "\n") { line.removeLast() }
    return String(decoding: line, as: UTF8.self)
  }

  /// Has the terminal show again what is typed.
  ///
  /// - Returns: the signal that came meanwhile; who restores the terminal raises it again.
  func restore() -> Int32? {
    if var attributes { tcsetattr(STDIN_FILENO, TCSADRAIN, &attributes) }
    for (signal, action) in zip(Self.signals, actions) {
      var action = action
      sigaction(signal, &action, nil)
    }
    var mask = mask
    pthread_sigmask(SIG_SETMASK, &mask, nil)
    let signal = Self.received.load(ordering: .relaxed)
    return signal == 0 ? nil : signal
  }
}
