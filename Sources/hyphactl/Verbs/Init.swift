import ArgumentParser
import Glibc
import HyphaControlAPI

struct Init: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a hypha here, or keep one that exists.",
    discussion: """
      With --domain, makes this the origin node: a passphrase is generated and shown once, or taken from a file. With \
      --hyphalink, makes this an always-on node, which keeps and serves a hypha but cannot write to it; with --writer too, \
      a device with a writer of its own, which can post once another device has authorised it. A passphrase that has made a \
      hypha already belongs into “hyphactl sign-in”: two nodes that are both the origin contradict each other. It is \
      refused if the domain has that hypha.
      """)

  @OptionGroup var shared: SharedOptions

  @Option(
    help: ArgumentHelp(
      "The hypha's domain; the keys are derived from it and the passphrase.", valueName: "domain"))
  var domain: String?

  @Option(
    help: ArgumentHelp("Take the passphrase from a file, or from standard input for “-”.", valueName: "file"),
    completion: .file())
  var passphraseFile: String?

  @Option(
    help: ArgumentHelp(
      "Generate the passphrase, and write it to a new file that only you can read.", valueName: "file"),
    completion: .file())
  var generatePassphraseTo: String?

  @Option(help: ArgumentHelp("Keep this hypha, which exists.", valueName: "key"))
  var hyphalink: String?

  @Flag(help: "With --hyphalink: make a writer for this device.")
  var writer = false

  @Option(help: ArgumentHelp("This device's name; the host's if not given.", valueName: "name"))
  var deviceName: String?

  func validate() throws {
    if hyphalink != nil, passphraseFile != nil || generatePassphraseTo != nil {
      throw ValidationError("--hyphalink has no passphrase: an always-on node holds no secret.")
    }
    if writer, hyphalink == nil {
      throw ValidationError("--writer needs --hyphalink: the node that makes a hypha is its first writer.")
    }
    if passphraseFile != nil, generatePassphraseTo != nil {
      throw ValidationError("Give either --passphrase-file or --generate-passphrase-to.")
    }
    if generatePassphraseTo == "-" {
      throw ValidationError("--generate-passphrase-to makes a new file, and takes no “-”.")
    }
    if hyphalink == nil, domain == nil {
      throw ValidationError("Give --domain (to make a hypha) or --hyphalink (to keep one that exists).")
    }
    if hyphalink == nil, passphraseFile == nil, generatePassphraseTo == nil, !Console.canAsk {
      throw ValidationError(
        "Without a terminal, give --passphrase-file FILE or --generate-passphrase-to FILE.")
    }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      // Asked first, so that nobody writes down a passphrase for nothing.
      if let link = try daemon.status().hyphalink {
        Console.complain("this node already keeps the hypha \(link), and keeps that one")
        throw SharedOptions.Status.refused
      }
      let isGenerated = hyphalink == nil && passphraseFile == nil
      let result = try daemon.call(
        NodeInitialise.self,
        NodeInitialise.Params(
          domain: domain, passphrase: try passphrase(daemon), generated: isGenerated ? true : nil,
          hyphalink: hyphalink, deviceName: deviceName, writer: writer ? true : nil))
      if shared.json { return try Console.printJSON(result) }
      Console.print(result.hyphalink)
      switch (result.role, result.writer) {
      case (.origin, _):
        Console.note("This node is the origin of its hypha: “hyphactl post” publishes.")
        if let reason = result.notAsked {
          Console.note(
            """
            Whether this passphrase has made a hypha before could not be asked: \(reason)
            If it has, post nothing before “hyphactl connect” to a node that has it, or all is frozen there.
            """)
        }
      case (_, let writer?):
        Console.note(
          """
          Connect this device to a node of the hypha, and let it in on one that may write:
              hyphactl authorize \(writer)
          """)
      case (_, nil):
        Console.note("This node keeps the hypha as soon as another node that has it is connected.")
      }
    }
  }

  private func passphrase(_ daemon: ControlClient) throws -> Secret? {
    if hyphalink != nil { return nil }
    if let passphraseFile {
      do throws(InputError) { return Secret(try Input.secret(passphraseFile)) } catch { throw error.exit }
    }
    let generated = try daemon.call(PassphraseGenerate.self, PassphraseGenerate.Params())
    if let generatePassphraseTo {
      try write(generated.passphrase, to: generatePassphraseTo)
    } else {
      try show(generated)
    }
    return generated.passphrase
  }

  /// Shows a new passphrase once, and has the person type two of its words.
  private func show(_ generated: PassphraseGenerate.Result) throws {
    let words = generated.passphrase.text.split(separator: " ")
    Console.note(
      """
      Your passphrase, \(Int(generated.bits)) bits strong. Write it down: it is the only key to your hypha, it is \
      stored nowhere, and nobody can give it back to you.

          \(generated.passphrase.text)

      """)
    for place in [Int.random(in: 0..<words.count / 2), Int.random(in: words.count / 2..<words.count)] {
      while true {
        guard let answer = Console.ask("Word \(place + 1) of \(words.count): ", hidden: false) else {
          Console.complain("not confirmed; nothing was made")
          throw SharedOptions.Status.refused
        }
        if answer.lowercased().split(separator: " ").joined() == words[place] { break }
        Console.note("That is not it; look at your notes.")
      }
    }
  }

  private func write(_ passphrase: Secret, to path: String) throws {
    do throws(InputError) {
      let target = try Target(path)
      guard target.found == nil else { throw NewFile.isThere(path) }
      let file = try NewFile(target.path, mode: 0o600, mayReplace: false)
      try file.write(Array((passphrase.text + "\n").utf8))
      try file.finish()
    } catch {
      throw error.exit
    }
  }
}
