import ArgumentParser
import Glibc
import HyphaControlAPI

@main
struct Hyphactl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "hyphactl",
    abstract: "Set up, use and watch a hypha node.",
    discussion: """
      Talks to hyphad on this machine over its control socket. Data goes to standard output, messages to standard \
      error. Exit status: 0 done, 1 refused or not ready, 2 no daemon, 3 to 7 as the verbs for devices tell, 64 wrong \
      usage, 65 wrong input, 74 output that could not be written. See hyphactl(1).
      """,
    version: "hyphactl \(ControlAPI.release)",
    subcommands: [
      Init.self, SetupCode.self, Status.self, Post.self, Posts.self, Delete.self, Get.self, Put.self,
      Unset.self, List.self, History.self, SignIn.self, SignOut.self, Requests.self, Approve.self, Deny.self,
      Devices.self, Rename.self, Revoke.self, Authorize.self, Peers.self, Connect.self, Disconnect.self,
      Events.self, Wait.self, Audit.self, Doctor.self, Backup.self, Restore.self, Verify.self, Repair.self,
      Version.self,
    ])

  static func main() {
    StandardStreams.hold()
    // A reader that has gone away is noticed when writing to it.
    signal(SIGPIPE, SIG_IGN)
    // What `CommandLine.arguments` holds was repaired, so a post would not be what was given.
    for (number, argument) in CommandLine.arguments.indices.map({ ($0, CommandLine.unsafeArgv[$0]) }) {
      guard let argument, String(validatingCString: argument) == nil else { continue }
      Console.complain("argument \(number) is not UTF-8")
      Glibc.exit(EX_DATAERR)
    }
    main(nil)
    // The verb has done its work, but not told of it.
    if Console.outputFailed { Glibc.exit(EX_IOERR) }
  }
}

enum Program {
  /// Version of the JSON that verbs print; grows when a change could break a reader.
  static let schema = 1
}
