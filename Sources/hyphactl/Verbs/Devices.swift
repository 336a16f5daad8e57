import ArgumentParser
import HyphaControlAPI

struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the devices that may write to the hypha, and those that were revoked.")

  @OptionGroup var shared: SharedOptions

  func run() throws {
    try shared.withDaemon { daemon in
      let result = try daemon.call(DevicesList.self, Nothing())
      if shared.json { return try Console.printJSON(result) }
      for device in result.devices { Console.print(Self.line(device)) }
    }
  }

  private static func line(_ device: DeviceInfo) -> String {
    var facts: [String] = []
    if device.here { facts.append("this device") }
    if device.origin { facts.append("origin") }
    if let approved = device.approved {
      facts.append("approved \(approved)\(by(device.byName, device.by))")
    }
    if let revoked = device.revoked {
      facts.append(
        "revoked \(revoked.at)\(by(revoked.byName, revoked.by)), "
          + "\(Console.count(Int(clamping: revoked.blocks), "block")) of it count")
    }
    if device.letInByNobody == true { facts.append("may not write: who let it in was revoked") }
    return title(device) + (facts.isEmpty ? "" : "  " + facts.joined(separator: ", "))
  }

  private static func by(_ name: String?, _ writer: String?) -> String {
    if let name { return " by \(Console.quoted(name))" }
    return writer.map { " by \(Console.printable(String($0.prefix(8))))" } ?? ""
  }

  /// The start of its key, and its name.
  static func title(_ device: DeviceInfo) -> String {
    "\(Console.printable(String(device.writer.prefix(8))))  \(device.name.isEmpty ? "(no name)" : Console.quoted(device.name))"
  }
}
