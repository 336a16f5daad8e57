import ArgumentParser
import HyphaControlAPI

struct Audit: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare the web client that a domain serves with the one installed here.",
    discussion: """
      Every file is fetched as browsers get it, with the headers that protect it, and compared. Exit status: 0 all is \
      the same, 1 something differs or cannot be compared.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The domain, such as example.org or https://example.org.")
  var address: String

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(WebAudit.self, .init(address: address))
      if shared.json {
        try Console.printJSON(result)
      } else {
        for difference in result.differences {
          Console.print(Console.printable("\(difference.path)  \(difference.problem)"))
        }
        Console.note(
          result.differences.isEmpty
            ? "\(result.url) serves version \(result.installedVersion) unaltered: \(result.files) files are the same."
            : "\(result.url) does not serve what is installed here. Sign in there only if you know why.")
      }
      if !result.differences.isEmpty { throw SharedOptions.Status.refused }
    }
  }
}
