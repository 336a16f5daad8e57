import ArgumentParser
import FoundationEssentials
import HyphaControlAPI

struct Get: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what a key of the database is set to, byte for byte.",
    discussion: """
      Where devices set a key without knowing of each other, one value is printed, the same on every node; --all shows \
      all of them, and --feed prints another one.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The key, such as profile/name.")
  var key: String

  @Option(
    help: ArgumentHelp("Write the value to this file, or to standard output for “-”.", valueName: "file"),
    completion: .file())
  var file: String?

  @Flag(help: "Show every value that stands beside the others, with its writer.")
  var all = false

  @Option(
    help: ArgumentHelp(
      "Print the value that stands in this feed: as many of its digits as tell it from the others.",
      valueName: "digits"))
  var feed: String?

  @Option(
    help: ArgumentHelp(
      "Look at an earlier version, as “put” and “list --json” print it.", valueName: "version"))
  var at: String?

  func validate() throws {
    if file != nil, all || shared.json {
      throw ValidationError("--file takes one value: leave out --all and --json.")
    }
    if feed != nil, all { throw ValidationError("--feed takes one value: leave out --all.") }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      var info = try daemon.call(DatabaseGet.self, DatabaseGet.Params(key: key, at: at))
      if let feed {
        let feeds = info.entries.map(\.feed).filter { $0.hasPrefix(feed) }
        guard let only = feeds.first, feeds.count == 1 else {
          Console.complain(
            "\(feeds.count) values of “\(key)” stand in feeds that begin with “\(feed)”: --all shows which there are"
          )
          throw SharedOptions.Status.refused
        }
        info = try daemon.call(DatabaseGet.self, DatabaseGet.Params(key: key, at: at, feed: only))
      }
      if shared.json { return try Console.printJSON(info) }
      if all { return show(info) }
      guard let winner = info.winningEntry, let value = winner.value else {
        Console.complain("“\(key)” was deleted")
        throw SharedOptions.Status.refused
      }
      if info.entries.count > 1 {
        Console.note("“\(key)” has \(info.entries.count) values beside each other: --all shows them.")
      }
      if let file, file != "-" {
        do throws(InputError) { try Output.write(value, to: file) } catch { throw error.exit }
      } else {
        Console.print(bytes: value)
      }
    }
  }

  private func show(_ info: KeyInfo) {
    for entry in info.entries {
      Console.print(
        "\(entry == info.winningEntry ? "*" : " ") \(entry.feed.prefix(8)) \(entry.seq)  \(entry.printableValue)"
      )
    }
  }
}

extension EntryInfo {
  /// The value's bytes; `nil` for a deletion.
  var value: [UInt8]? {
    if let text { return Array(text.utf8) }
    return base64.flatMap { Data(base64Encoded: $0) }.map { [UInt8]($0) }
  }

  /// The value in one line, without what could do things to a terminal.
  var printableValue: String {
    if deleted { return "(deleted)" }
    if let bytes { return "(\(bytes) bytes that are left out here)" }
    guard let value else { return "(nothing)" }
    guard let text = String(validating: value, as: UTF8.self) else {
      return "(\(value.count) bytes that are no text)"
    }
    return Console.printable(
      text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "⏎"))
  }
}
