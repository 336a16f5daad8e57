import ArgumentParser
import HyphaControlAPI

struct Revoke: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "End a device's right to write.",
    discussion: """
      What it wrote beyond what this node has seen is shown no longer, on any node. It keeps what it could read, and its \
      owner the passphrase, if they have it. Exit status: 3 no such device, 5 several fit.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(
    help: "The device: 8 or more digits that its key begins with, or its name where only one has it.")
  var device: String

  @Flag(help: "Take a revocation back.")
  var undo = false

  @Flag(name: .shortAndLong, help: "Do not ask.")
  var yes = false

  func validate() throws {
    if !yes, !Console.canAsk { throw ValidationError("Without a terminal, give --yes.") }
  }

  func run() throws {
    try shared.withDaemon(naming: true) { daemon in
      let found = try daemon.call(DevicesFind.self, .init(device: device))
      if !yes {
        Console.note(Devices.title(found) + (found.here ? "  this device" : ""))
        guard Console.confirm(undo ? "Let it write again?" : "End its right to write?") else {
          Console.complain("nothing was changed")
          throw SharedOptions.Status.refused
        }
      }
      // By its full key: another device that was given the name meanwhile is another one.
      let device =
        undo
        ? try daemon.call(DevicesRestore.self, .init(device: found.writer))
        : try daemon.call(DevicesRevoke.self, .init(device: found.writer))
      if shared.json { return try Console.printJSON(device) }
      Console.note(
        "\(Console.quoted(device.name)) \(undo ? "may write again." : "may write no longer.")")
    }
  }
}
