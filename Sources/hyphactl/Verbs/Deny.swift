import ArgumentParser
import HyphaControlAPI

struct Deny: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Tell a device that asks to write that it is not let in.",
    discussion: """
      It can ask again. Exit status: 3 no such request, 4 it has expired, 5 several fit, 6 it was answered already.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(
    help: "The request: its short id, its words, or the device's name where only one that asks has it.")
  var device: [String]

  func run() throws {
    try shared.withDaemon(naming: true) { daemon in
      let request = try daemon.call(RequestsFind.self, .init(device: device.joined(separator: " ")))
      let denied = try daemon.call(RequestsDeny.self, .init(id: request.id))
      if shared.json { return try Console.printJSON(denied) }
      Console.note("\(Console.quoted(denied.name)) was denied.")
    }
  }
}
