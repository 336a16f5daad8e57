import ArgumentParser
import HyphaControlAPI

struct Wait: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Wait until the node is ready, or in sync with its peers.",
    discussion: "Exit status 1 says that it was not in time.")

  @OptionGroup var shared: SharedOptions

  @Flag(help: "Wait until everything is here that peers have, and one of them has everything that is here.")
  var synced = false

  @Option(help: ArgumentHelp("Give up after so many seconds.", valueName: "seconds"))
  var timeout: Double?

  func validate() throws {
    if let timeout, !(timeout > 0 && timeout <= ControlLimits.waitSeconds) {
      throw ValidationError("--timeout must be more than 0 and at most \(Int(ControlLimits.waitSeconds)).")
    }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      let status = try daemon.wait(for: synced ? .synced : .ready, timeoutSeconds: timeout)
      if shared.json { try Console.printJSON(status) }
    }
  }
}
