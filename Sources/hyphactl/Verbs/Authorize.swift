import ArgumentParser
import HyphaControlAPI

struct Authorize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Let another device write to this hypha, by its writer's key.",
    discussion: """
      The key is what “hyphactl status” on the other device shows as its writer. Compare it in full: whoever has the \
      writer can post from then on.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The writer's key: 64 hexadecimal digits.")
  var key: String

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(DatabaseAuthorize.self, DatabaseAuthorize.Params(key: key))
      if shared.json { return try Console.printJSON(result) }
      Console.note(result.new ? "The device may post now." : "The device could post already.")
    }
  }
}
