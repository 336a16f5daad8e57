import ArgumentParser
import HyphaControlAPI

struct Approve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Let a device in that asks to write.",
    discussion: """
      On a terminal, shows the request and asks whether its words are those on the device. Exit status: 3 no such request, \
      4 it has expired, 5 several fit, 6 it was answered already.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(
    help: "The request: its short id, its words, or the device's name where only one that asks has it.")
  var device: [String]

  @Flag(name: .shortAndLong, help: "Do not ask.")
  var yes = false

  func validate() throws {
    if !yes, !Console.canAsk {
      throw ValidationError("Without a terminal, give --yes; name the request by its words to be sure of it.")
    }
  }

  func run() throws {
    try shared.withDaemon(naming: true) { daemon in
      let request = try daemon.call(RequestsFind.self, .init(device: device.joined(separator: " ")))
      if !yes {
        Console.note("Device  \(Console.quoted(request.name)), asked \(request.created.age)")
        Console.note("Words   \(Console.printable(request.words))")
        guard Console.confirm("Does the device show the same words, all four? Let it in?") else {
          Console.complain("nothing was changed; “hyphactl deny” tells the device that it is not let in")
          throw SharedOptions.Status.refused
        }
      }
      // By its full id: another request that came meanwhile, of the same name, is another one.
      let approved = try daemon.call(RequestsApprove.self, .init(id: request.id))
      if shared.json { return try Console.printJSON(approved) }
      Console.note("\(Console.quoted(approved.name)) may write now.")
    }
  }
}
