import ArgumentParser
import HyphaControlAPI

struct Disconnect: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Stay connected to another node no longer.")

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The URL that was given to “hyphactl connect”.")
  var url: String

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(ConnectionsRemove.self, ConnectionsRemove.Params(url: url))
      if shared.json { try Console.printJSON(result) }
    }
  }
}
