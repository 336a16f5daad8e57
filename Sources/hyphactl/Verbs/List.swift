import ArgumentParser
import HyphaControlAPI

struct List: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the keys of the database.",
    discussion: """
      A key a line, in the database's own order, which is the same on every node. A key that devices set without knowing \
      of each other is marked with “!” behind it.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "Only keys below this one.")
  var prefix: String?

  @Flag(help: "Show values, too, each in one line behind a tab.")
  var values = false

  @Option(help: ArgumentHelp("List at most so many keys.", valueName: "n"))
  var limit: Int?

  @Option(
    help: ArgumentHelp(
      "Look at an earlier version, as “put” and “list --json” print it.", valueName: "version"))
  var at: String?

  func validate() throws {
    if let limit, limit < 1 { throw ValidationError("--limit must be at least 1.") }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      var keys: [KeyInfo] = []
      var version = at
      var count = 0
      var more = true
      var last: String?
      while more, count < limit ?? .max, !Console.outputIsGone {
        let page = try daemon.call(
          DatabaseList.self,
          DatabaseList.Params(
            prefix: prefix, after: last, at: version,
            limit: min((limit ?? .max) - count, ControlLimits.entriesPerList)))
        version = page.version
        count += page.keys.count
        last = page.keys.last?.key
        more = page.more && last != nil
        if shared.json { keys += page.keys } else { page.keys.forEach(show) }
      }
      if shared.json {
        try Console.printJSON(DatabaseList.Result(keys: keys, more: more, version: version ?? ""))
      }
    }
  }

  private func show(_ info: KeyInfo) {
    let name = Console.printable(info.key) + (info.entries.count > 1 ? "!" : "")
    Console.print(values ? "\(name)\t\(info.winningEntry?.printableValue ?? "(deleted)")" : name)
  }
}

extension KeyInfo {
  var key: String { entries.first?.key ?? "" }
}
