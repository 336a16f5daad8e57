import FoundationEssentials
import Glibc
import HyphaControlAPI
import Synchronization

/// Standard output, standard error and the terminal.
///
/// Nothing ends because one of them is gone: a verb does all that it was told, whoever reads of it.
enum Console {
  /// What standard output was lost to, an error's number; 0 while it is there.
  private static let outputError = Atomic<Int32>(0)

  /// What is printed is dropped: its reader has seen enough, or it cannot be written.
  static var outputIsGone: Bool { outputError.load(ordering: .relaxed) != 0 }

  /// Something that was printed is missing, though nobody said that it is not wanted.
  static var outputFailed: Bool { outputIsGone && outputError.load(ordering: .relaxed) != EPIPE }

  /// Writes a line of data.
  static func print(_ line: String) {
    emit(Array((line + "\n").utf8))
  }

  /// Writes data as it is; on a terminal, so that what follows is on a line of its own.
  static func print(bytes: [UInt8]) {
    let needsNewline = isatty(STDOUT_FILENO) == 1 && bytes.last != UInt8(ascii: "\n")
    emit(needsNewline ? bytes + [UInt8(ascii: "\n")] : bytes)
  }

  /// Writes a line for the person.
  static func note(_ line: String) {
    show(line + "\n")
  }

  /// Writes over the line that the cursor of the terminal is in.
  static func rewrite(_ line: String) {
    show("\r\(line)\u{1b}[K")
  }

  /// Says what went wrong.
  static func complain(_ reason: String) {
    note("hyphactl: \(reason)")
  }

  /// Prints a value as a line of JSON, with the version of its form.
  static func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var fields: [String: JSONValue] = ["schema": .number(Double(Program.schema))]
    if case .object(let own) = try JSONDecoder().decode(JSONValue.self, from: encoder.encode(value)) {
      fields.merge(own) { $1 }
    }
    print(String(decoding: try encoder.encode(JSONValue.object(fields)), as: UTF8.self))
  }

  static var inputIsTerminal: Bool { isatty(STDIN_FILENO) == 1 }
  static var errorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// Both a question and its answer have somebody to go to and come from.
  static var canAsk: Bool { inputIsTerminal && errorIsTerminal }

  /// Asks on the terminal.
  ///
  /// - Parameter hidden: what is typed is not shown.
  /// - Returns: the line, or `nil` at the end of input.
  static func ask(_ question: String, hidden: Bool = false) -> String? {
    guard hidden else {
      show(question)
      return readLine(strippingNewline: true)
    }
    while true {
      // Silent before the question shows: whoever sees it may type.
      let silent = SilentTerminal()
      show(question)
      let answer = silent.readLine()
      show("\n")
      guard let signal = silent.restore() else { return answer }
      // Ends or stops the program; after a stop, or where it is ignored, the question is still open.
      raise(signal)
    }
  }

  /// Asks a question of yes or no on the terminal; anything but yes is no.
  static func confirm(_ question: String) -> Bool {
    ["y", "yes"].contains((ask("\(question) [y/N] ") ?? "").lowercased())
  }

  /// A number and what it counts.
  static func count(_ number: Int, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
  }

  /// Text that comes from elsewhere, without control characters, by which it could do things to a terminal.
  static func printable(_ text: String) -> String {
    var view = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      let isControl = scalar.value < 0x20 && scalar != "\t" || (0x7f..<0xa0).contains(scalar.value)
      view.append(isControl ? "\u{fffd}" : scalar)
    }
    return String(view)
  }

  /// A name that somebody else chose, in quotes; nothing in it changes the direction of what follows.
  static func quoted(_ name: String) -> String {
    let turning: Set<Unicode.Scalar> = [
      "\u{61c}", "\u{200e}", "\u{200f}", "\u{202a}", "\u{202b}", "\u{202c}", "\u{202d}", "\u{202e}",
      "\u{2066}",
      "\u{2067}", "\u{2068}", "\u{2069}",
    ]
    var view = String.UnicodeScalarView()
    view.append(
      contentsOf: printable(name).unicodeScalars.lazy.map { turning.contains($0) ? "\u{fffd}" : $0 })
    return "“\(String(view))”"
  }

  /// Writes to standard output, until that is gone.
  private static func emit(_ bytes: [UInt8]) {
    guard !outputIsGone, let error = Output.write(bytes, to: STDOUT_FILENO) else { return }
    outputError.store(error, ordering: .relaxed)
    if error != EPIPE { complain("cannot write standard output: \(String(cString: strerror(error)))") }
  }

  /// Writes to standard error. Where that fails, there is nobody to tell.
  private static func show(_ text: String) {
    _ = Output.write(Array(text.utf8), to: STDERR_FILENO)
  }
}
