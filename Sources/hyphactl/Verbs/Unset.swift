import ArgumentParser
import HyphaControlAPI

struct Unset: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Unset a key of the database; prints the version once that is durable.",
    discussion: "What the key was set to stays in its history. For a post, use “hyphactl delete”.")

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The key.")
  var key: String

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(DatabaseDelete.self, DatabaseDelete.Params(key: key))
      if shared.json { return try Console.printJSON(result) }
      Console.print(result.version)
    }
  }
}
