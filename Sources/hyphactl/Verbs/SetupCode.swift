import ArgumentParser
import HyphaControlAPI

struct SetupCode: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the code with which an owner can claim this node.",
    discussion:
      "The code is on standard output, and a link that opens the setup page with it on standard error.")

  @OptionGroup var shared: SharedOptions

  @Argument(
    help: "This node's domain, for the link. Left out: the one in the settings, or a link for this machine.")
  var domain: String?

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(SetupCodeShow.self, .init(domain: domain))
      if shared.json { return try Console.printJSON(result) }
      Console.print(result.code.text)
      Console.note("To set it up in a browser: \(result.link.text)")
    }
  }
}
