import ArgumentParser
import HyphaControlAPI

struct SignOut: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Have this device forget its keys, for good.",
    discussion: """
      It can write no longer, nor see who asks to be let in. What it wrote stays. Other devices still list it: where it \
      may have been in other hands, “hyphactl revoke” there.
      """)

  @OptionGroup var shared: SharedOptions

  @Flag(name: .shortAndLong, help: "Do not ask.")
  var yes = false

  func validate() throws {
    if !yes, !Console.canAsk { throw ValidationError("Without a terminal, give --yes.") }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      let status = try daemon.status()
      if !yes, status.hyphalink != nil {
        Console.note(Self.consequences(status))
        guard Console.confirm("Forget the keys?") else {
          Console.complain("nothing was changed")
          throw SharedOptions.Status.refused
        }
      }
      let result = try daemon.call(NodeSignOut.self, Nothing())
      if shared.json { return try Console.printJSON(result) }
      if yes { Console.note(Self.consequences(status)) }
      Console.note("This device has forgotten its keys.")
    }
  }

  /// What can no longer be done afterwards.
  private static func consequences(_ status: NodeInfo) -> String {
    switch status.role {
    case .origin:
      """
      Without its keys, this device can no longer post, approve or revoke. To write again, it has to sign in as a new \
      device and be approved by another one: make sure that there is one. If not, only the passphrase helps, on a node \
      that holds no hypha yet.
      """
    case .uninitialised, .alwaysOn, .authorised, .reader, .revoked:
      """
      Without its keys, this device can no longer post, approve or revoke, and its writer's key is gone for good: to write \
      again, it has to sign in as a new device and be approved.
      """
    }
  }
}
