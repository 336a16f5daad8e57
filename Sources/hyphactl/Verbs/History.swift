import ArgumentParser
import HyphaControlAPI

struct History: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what was written to the database, or to one key of it, newest first.",
    discussion: """
      A line for each entry: its block, the first digits of its feed, what was done, the key, and the value. Entries that \
      stood beside each other are joined by a “+” before all but the first.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "Only what was written to this key.")
  var key: String?

  @Option(help: ArgumentHelp("Show at most so many steps.", valueName: "n"))
  var limit = 20

  func validate() throws {
    guard limit >= 1 else { throw ValidationError("--limit must be at least 1.") }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      var steps: [[EntryInfo]] = []
      var next: String?
      repeat {
        let page = try daemon.call(
          DatabaseHistory.self,
          DatabaseHistory.Params(
            key: key, at: next, limit: min(limit - steps.count, ControlLimits.entriesPerList)))
        next = page.next
        steps += page.steps
      } while next != nil && steps.count < limit
      if shared.json { return try Console.printJSON(DatabaseHistory.Result(steps: steps, next: next)) }
      for step in steps {
        for (place, entry) in step.enumerated() {
          Console.print((place == 0 ? "  " : "+ ") + Self.line(entry))
        }
      }
    }
  }

  private static func line(_ entry: EntryInfo) -> String {
    let name = "\(entry.seq) \(entry.feed.prefix(8))"
    if entry.key.isEmpty, !entry.deleted { return "\(name) authorised a writer" }
    let key = Console.printable(entry.key)
    return entry.deleted ? "\(name) deleted \(key)" : "\(name) put \(key)  \(entry.printableValue)"
  }
}
