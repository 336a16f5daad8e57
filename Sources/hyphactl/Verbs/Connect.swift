import ArgumentParser
import HyphaControlAPI

struct Connect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Stay connected to another node.",
    discussion: """
      An always-on node that holds no hypha yet is claimed for this one with its setup code, which “hyphactl \
      setup-code” shows there: from a file, or asked for on the terminal.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "wss://example.org; ws:// for this machine itself.")
  var url: String

  @Option(
    help: ArgumentHelp(
      "Claim the node with the setup code in a file, or on standard input for “-”.", valueName: "file"),
    completion: .file())
  var setupCodeFile: String?

  func run() throws {
    let code: Secret?
    do throws(InputError) { code = try setupCode() } catch { throw error.exit }
    try shared.withDaemon { daemon in
      let connection = try daemon.call(ConnectionsAdd.self, ConnectionsAdd.Params(url: url, setupCode: code))
      if shared.json { return try Console.printJSON(connection) }
      Console.print("\(connection.url)  \(connection.state.rawValue)")
    }
  }

  private func setupCode() throws(InputError) -> Secret? {
    if let setupCodeFile { return Secret(try Input.secret(setupCodeFile)) }
    guard Console.canAsk else { return nil }
    let answer =
      Console.ask("Setup code, if that node holds no hypha yet (else press Return): ", hidden: true) ?? ""
    return answer.isEmpty ? nil : Secret(answer)
  }
}
