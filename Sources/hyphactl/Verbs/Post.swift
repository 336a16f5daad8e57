import ArgumentParser
import HyphaControlAPI

struct Post: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Publish a text; prints the post's id once the post is durable.",
    discussion: """
      Without a text, takes standard input, newlines and all, but for the one that ends its last line: uptime | \
      hyphactl post
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The text: UTF-8, up to 64 KiB.")
  var text: String?

  func run() throws {
    let text: String
    do throws(InputError) { text = try given() } catch { throw error.exit }
    try shared.withDaemon { daemon in
      let result = try daemon.call(PostsCreate.self, PostsCreate.Params(text: text))
      if shared.json { return try Console.printJSON(result) }
      Console.print(result.id)
    }
  }

  private func given() throws(InputError) -> String {
    if let text {
      try Input.check(text.utf8.count, limit: ControlLimits.postBytes, of: "the text")
      return text
    }
    if Console.inputIsTerminal { Console.note("Type the post; end it with Ctrl-D on a line of its own.") }
    return try Input.text("-", limit: ControlLimits.postBytes)
  }
}
