import ArgumentParser
import HyphaControlAPI

struct SignIn: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make this a device of your hypha, and ask your other devices to let it in.",
    discussion: """
      Prints this device's name and four words. “hyphactl requests” on a device that may write already shows the same \
      words if, and only if, it is this device that asks; “hyphactl approve” lets it in. --again asks once more after a \
      request that was denied or has expired. --as-origin takes the place of the node that made the hypha, when that is \
      gone for good and no other device may approve.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(
    help: ArgumentHelp(
      "Where the hypha is: its domain, or the URL of a node that has it.", valueName: "domain-or-url"))
  var address: String?

  @Option(
    help: ArgumentHelp(
      "The domain that the hypha was made with, if the address has another.", valueName: "domain"))
  var domain: String?

  @Option(
    help: ArgumentHelp("Take the passphrase from a file, or from standard input for “-”.", valueName: "file"),
    completion: .file())
  var passphraseFile: String?

  @Option(help: ArgumentHelp("This device's name; the host's if not given.", valueName: "name"))
  var name: String?

  @Option(
    help: ArgumentHelp("Have the request expire after so many seconds; 7 days at most.", valueName: "seconds")
  )
  var lifetime: Int?

  @Flag(help: "Ask again, after a request that was denied or has expired.")
  var again = false

  @Flag(help: "Take the place of the node that made the hypha, which is gone for good.")
  var asOrigin = false

  @Flag(name: .shortAndLong, help: "With --as-origin: do not ask.")
  var yes = false

  @Flag(help: "Wait until the request is answered.")
  var wait = false

  @Option(help: ArgumentHelp("Wait at most so many seconds.", valueName: "seconds"))
  var timeout: Double?

  private struct Output: Encodable {
    var request: OwnRequestInfo
  }

  func validate() throws {
    if again, address != nil || domain != nil || passphraseFile != nil || name != nil {
      throw ValidationError("--again takes no address, domain, passphrase or name: this device has them.")
    }
    if asOrigin, again || wait || lifetime != nil {
      throw ValidationError("--as-origin asks nobody, so it takes no --again, --wait or --lifetime.")
    }
    if asOrigin, !yes, !Console.canAsk { throw ValidationError("Without a terminal, give --yes.") }
    if yes, !asOrigin { throw ValidationError("--yes needs --as-origin.") }
    if !again, address == nil {
      throw ValidationError("Give the hypha's domain, or the URL of a node that has it.")
    }
    if !again, passphraseFile == nil, !Console.canAsk {
      throw ValidationError("Without a terminal, give --passphrase-file FILE.")
    }
    if let lifetime, !ControlLimits.requestSeconds.contains(lifetime) {
      throw ValidationError(
        "--lifetime must be \(ControlLimits.requestSeconds.lowerBound) to \(ControlLimits.requestSeconds.upperBound)."
      )
    }
    if let timeout {
      guard wait else { throw ValidationError("--timeout needs --wait.") }
      guard timeout > 0, timeout <= ControlLimits.waitSeconds else {
        throw ValidationError("--timeout must be more than 0 and at most \(Int(ControlLimits.waitSeconds)).")
      }
    }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      let request: OwnRequestInfo
      if again {
        request = try daemon.call(
          NodeRequestAgain.self, .init(lifetimeSeconds: lifetime), timeoutSeconds: ControlClient.patience)
        if shared.json { try Console.printJSON(Output(request: request)) }
      } else {
        // Asked first, so that nobody types a passphrase for nothing.
        let status = try daemon.status()
        if let link = status.hyphalink, status.writer != nil {
          Console.complain(
            "this is a device of the hypha \(link) already; to ask again to be let in: hyphactl sign-in --again"
          )
          throw SharedOptions.Status.refused
        }
        if asOrigin, !yes { try confirmOrigin() }
        let result = try signIn(daemon)
        if shared.json { try Console.printJSON(result) }
        guard let made = result.request else {
          if !shared.json { Console.print(result.hyphalink) }
          return Console.note(
            "This node is the origin, and may write once all that the origin wrote is here: “hyphactl wait --synced”."
          )
        }
        request = made
      }
      if !shared.json { show(request) }
      if wait { try follow(daemon) }
    }
  }

  private func confirmOrigin() throws {
    Console.note(
      "Two nodes that are both the origin contradict each other, and what the other one has not yet passed on is lost."
    )
    guard Console.confirm("Is the node that made the hypha gone for good?") else {
      Console.complain("nothing was done; sign in without --as-origin, and have another device approve")
      throw SharedOptions.Status.refused
    }
  }

  /// On a terminal, a passphrase that cannot be right may be typed again.
  private func signIn(_ daemon: ControlClient) throws -> NodeSignIn.Result {
    while true {
      let passphrase = try passphrase()
      do throws(ControlFailure) {
        return try daemon.call(
          NodeSignIn.self,
          .init(
            address: address ?? "", passphrase: passphrase, domain: domain, deviceName: name,
            lifetimeSeconds: lifetime, asOrigin: asOrigin ? true : nil))
      } catch {
        guard passphraseFile == nil, case .refused(let refusal) = error.code,
          refusal.code == .wrongPassphrase || refusal.data?.field == "passphrase"
        else { throw error }
        Console.complain(error.context)
      }
    }
  }

  private func passphrase() throws -> Secret {
    if let passphraseFile {
      do throws(InputError) { return Secret(try Input.secret(passphraseFile)) } catch { throw error.exit }
    }
    guard let typed = Console.ask("Passphrase: ", hidden: true), !typed.isEmpty else {
      Console.complain("no passphrase was given; nothing was done")
      throw SharedOptions.Status.refused
    }
    return Secret(typed)
  }

  private func show(_ request: OwnRequestInfo) {
    Console.print("device      \(Console.printable(request.name))")
    Console.print("words       \(Console.printable(request.words))")
    Console.note(
      """
      On a device that may write already, “hyphactl requests” shows who asks. Compare these words with those there, all \
      four, and let this device in with “hyphactl approve”. The request expires \(request.expires.age).
      """)
    if !wait { Console.note("“hyphactl status” shows how it stands.") }
  }

  private func follow(_ daemon: ControlClient) throws {
    let status = try answered(daemon)
    if shared.json, let request = status.request { try Console.printJSON(Output(request: request)) }
    if status.canPost { return Console.note("This device may write now.") }
    switch status.request?.state {
    case .denied:
      Console.complain("the request was denied; to ask again: hyphactl sign-in --again")
      throw SharedOptions.Status.denied
    case .expired:
      Console.complain("the request expired without an answer; to ask again: hyphactl sign-in --again")
      throw SharedOptions.Status.expired
    default:
      Console.complain("the request was answered, but this device may not write: see “hyphactl status”")
      throw SharedOptions.Status.refused
    }
  }

  /// Without a time-out, waits as long as it takes: longer than one call may.
  private func answered(_ daemon: ControlClient) throws(ControlFailure) -> NodeInfo {
    while true {
      do throws(ControlFailure) {
        return try daemon.wait(for: .answered, timeoutSeconds: timeout)
      } catch {
        guard timeout == nil, case .refused(let refusal) = error.code, refusal.code == .timedOut else {
          throw error
        }
      }
    }
  }
}
