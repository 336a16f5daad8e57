import FoundationEssentials
import Glibc
import HyphaControlAPI

/// Standard output, standard error and the terminal.
enum Console {
  /// Writes a line of data.
  static func print(_ line: String) {
    write(Array((line + "\n").utf8), to: STDOUT_FILENO)
  }

  /// Writes data as it is; on a terminal, so that what follows is on a line of its own.
  static func print(bytes: [UInt8]) {
    let needsNewline = isatty(STDOUT_FILENO) == 1 && bytes.last != UInt8(ascii: "\n")
    write(needsNewline ? bytes + [UInt8(ascii: "\n")] : bytes, to: STDOUT_FILENO)
  }

  /// Writes a line for the person.
  static func note(_ line: String) {
    write(Array((line + "\n").utf8), to: STDERR_FILENO)
  }

  /// Writes over the line that the cursor of the terminal is in.
  static func rewrite(_ line: String) {
    write(Array("\r\(line)\u{1b}[K".utf8), to: STDERR_FILENO)
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
    let bytes = Array(question.utf8)
    guard hidden else {
      write(bytes, to: STDERR_FILENO)
      return readLine(strippingNewline: true)
    }
    while true {
      // Silent before the question shows: whoever sees it may type.
      let silent = SilentTerminal()
      write(bytes, to: STDERR_FILENO)
      let answer = silent.readLine()
      write([UInt8(ascii: "\n")], to: STDERR_FILENO)
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

  private static func write(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        // Whoever read this has seen enough.
        if errno == EPIPE { exit(EXIT_SUCCESS) }
        exit(EX_IOERR)
      }
      rest = rest.dropFirst(count)
    }
  }
}
