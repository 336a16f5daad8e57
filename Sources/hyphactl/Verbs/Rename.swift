import ArgumentParser
import HyphaControlAPI

struct Rename: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Give a device another name, on all nodes.",
    discussion: "Posts keep the name that the device had. Exit status: 3 no such device, 5 several fit.")

  @OptionGroup var shared: SharedOptions

  @Argument(
    help: "The device: 8 or more digits that its key begins with, or its name where only one has it.")
  var device: String

  @Argument(help: "Its new name.")
  var name: String

  func run() throws {
    try shared.withDaemon(naming: true) { daemon in
      let device = try daemon.call(DevicesRename.self, .init(device: device, name: name))
      if shared.json { return try Console.printJSON(device) }
      Console.note(Devices.title(device))
    }
  }
}
