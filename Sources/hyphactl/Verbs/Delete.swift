import ArgumentParser
import HyphaControlAPI

struct Delete: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Take a post back.",
    discussion: "It is shown no longer, on any node; its block stays in the history of those who have it.")

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The post's id, as “hyphactl posts” shows it.")
  var id: String

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(PostsDelete.self, PostsDelete.Params(id: id))
      if shared.json { try Console.printJSON(result) }
    }
  }
}
