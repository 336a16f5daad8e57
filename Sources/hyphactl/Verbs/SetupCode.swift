import ArgumentParser
import HyphaControlAPI

struct SetupCode: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the code with which an owner can claim this node.")

  @OptionGroup var shared: SharedOptions

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(SetupCodeShow.self, Nothing())
      if shared.json { return try Console.printJSON(result) }
      Console.print(result.code.text)
    }
  }
}
