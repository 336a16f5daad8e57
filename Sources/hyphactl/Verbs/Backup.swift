import ArgumentParser
import FoundationEssentials
import Glibc
import HyphaControlAPI

struct Backup: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a consistent copy of the node into a file, while it runs.",
    discussion: """
      With it, “hyphactl restore” makes the same node on another machine. It has the secret key with which this device \
      writes: who has the file can post in your name, so only root and the daemon's own user may make one, and the file \
      can be read by its owner only. --encrypt protects it with a passphrase, which is asked for on a terminal. A file that \
      is there stays as it is, unless --force is given.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The file, or “-” for standard output.", completion: .file())
  var file: String

  @Flag(help: "Encrypt it to a passphrase.")
  var encrypt = false

  @Option(
    help: ArgumentHelp(
      "With --encrypt: take the passphrase from a file, or from standard input for “-”.", valueName: "file"),
    completion: .file())
  var passphraseFile: String?

  @Flag(help: "Replace the file if it is there.")
  var force = false

  private struct Output: Encodable {
    var file: String
    var bytes: UInt64
    var encrypted: Bool
    var hyphalink: String
    var feeds: Int
    var blocks: UInt64
    var hasWriter: Bool
  }

  func validate() throws {
    if passphraseFile != nil, !encrypt { throw ValidationError("--passphrase-file needs --encrypt.") }
    if encrypt, passphraseFile == nil, !Console.canAsk {
      throw ValidationError("Without a terminal, give --passphrase-file FILE.")
    }
    if file == "-", shared.json { throw ValidationError("With “-”, the backup itself is what is printed.") }
    if file == "-", isatty(STDOUT_FILENO) == 1 {
      throw ValidationError("A backup has secrets, and is not written to a terminal: redirect it.")
    }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      do {
        let passphrase = try passphrase()
        let output = try BackupFile(file, mayReplace: force)
        let begun = try daemon.call(BackupBegin.self, .init(passphrase: passphrase))
        let bytes: UInt64
        do { bytes = try read(begun, daemon, to: output) } catch {
          _ = try? daemon.call(BackupEnd.self, .init(id: begun.id))
          throw error
        }
        try output.finish()
        try tell(begun, bytes)
      } catch let error as InputError {
        throw error.exit
      }
    }
  }

  private func read(
    _ begun: BackupBegin.Result, _ daemon: ControlClient, to output: BackupFile
  ) throws -> UInt64 {
    let progress = Progress("backup")
    defer { progress.end() }
    var bytes: UInt64 = 0
    while true {
      let next = try daemon.call(BackupRead.self, .init(id: begun.id))
      guard let chunk = Data(base64Encoded: next.base64) else {
        throw InputError("what the daemon sent is not base64")
      }
      try output.write([UInt8](chunk))
      bytes += UInt64(chunk.count)
      progress.show(bytes, of: begun.bytes)
      if next.last { return bytes }
    }
  }

  private func tell(_ begun: BackupBegin.Result, _ bytes: UInt64) throws {
    if shared.json {
      return try Console.printJSON(
        Output(
          file: file, bytes: bytes, encrypted: encrypt, hyphalink: begun.hyphalink, feeds: begun.feeds,
          blocks: begun.blocks, hasWriter: begun.hasWriter))
    }
    Console.note(
      "\(Console.count(begun.feeds, "feed")) with \(begun.blocks) blocks, \(Status.size(bytes))"
        + (file == "-" ? "." : ": \(file)"))
    if begun.hasWriter, !encrypt {
      Console.note("It has this device's secret key, unencrypted: whoever reads it can post in your name.")
    }
  }

  /// Asked for twice: what is mistyped could never be opened.
  private func passphrase() throws -> Secret? {
    guard encrypt else { return nil }
    if let passphraseFile { return Secret(try Input.secret(passphraseFile)) }
    while true {
      guard let first = Console.ask("Passphrase for the backup: ", hidden: true), !first.isEmpty else {
        throw InputError("no passphrase was given; nothing was done")
      }
      guard first.utf8.count >= ControlLimits.backupPassphraseBytes else {
        Console.note("At least \(ControlLimits.backupPassphraseBytes) characters.")
        continue
      }
      guard let second = Console.ask("Once more: ", hidden: true) else {
        throw InputError("no passphrase was given; nothing was done")
      }
      if first == second { return Secret(first) }
      Console.note("That was not the same.")
    }
  }
}
