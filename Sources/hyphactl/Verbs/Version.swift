import ArgumentParser
import HyphaControlAPI

struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the versions of this program and of the daemon.")

  @OptionGroup var shared: SharedOptions

  private struct Output: Encodable {
    var hyphactl = ControlAPI.release
    var daemon: NodeVersion.Result?
  }

  func run() throws {
    var output = Output()
    var failure: ControlFailure?
    do throws(ControlFailure) {
      output.daemon = try ControlClient(path: shared.socket).call(
        NodeVersion.self, Nothing(), timeoutSeconds: ControlClient.patience)
    } catch {
      failure = error
    }
    if shared.json {
      try Console.printJSON(output)
    } else {
      Console.print("hyphactl \(output.hyphactl)")
      if let daemon = output.daemon { Console.print("\(daemon.name) \(daemon.version)") }
    }
    if let failure { throw SharedOptions.exit(failure) }
  }
}
