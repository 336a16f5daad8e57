import ArgumentParser
import FoundationEssentials
import Glibc
import HyphaControlAPI

struct Restore: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make this new node what a backup says.",
    discussion: """
      Only on a node that holds no hypha: nothing is ever overwritten. Everything is checked, every block, hash and \
      signature, before any of it counts; a backup that is cut off or altered leaves nothing behind. A device that may write \
      can do so again once it is in sync with the nodes that it stays connected to: they may have what it wrote after the \
      backup was made. Never restore a writer whose node still runs. Where that is not sure, --new-writer drops its \
      key and asks the other devices to let this one in anew.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The backup, or “-” for standard input.", completion: .file())
  var file: String

  @Option(
    help: ArgumentHelp(
      "Take the backup's passphrase from a file, or from standard input for “-”.", valueName: "file"),
    completion: .file())
  var passphraseFile: String?

  @Flag(help: "Make another writer, which has to be let in, and drop that of the backup.")
  var newWriter = false

  @Option(help: ArgumentHelp("With --new-writer: another name for this device.", valueName: "name"))
  var deviceName: String?

  func validate() throws {
    if file == "-", passphraseFile == "-" {
      throw ValidationError("Standard input cannot be both the backup and its passphrase.")
    }
    if deviceName != nil, !newWriter { throw ValidationError("--device-name needs --new-writer.") }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      do {
        let input = try InputFile(file)
        // What says whether it is encrypted: “hypha backup 1”, newline, and a byte.
        let start = try input.read(ControlLimits.backupChunkBytes)
        let isEncrypted = start.count > 15 && start[15] == 1
        let begun = try daemon.call(
          RestoreBegin.self,
          .init(
            passphrase: try passphrase(isEncrypted), newWriter: newWriter ? true : nil,
            deviceName: deviceName))
        let result: RestoreFinish.Result
        do { result = try hand(input, start, to: daemon, begun.id) } catch {
          _ = try? daemon.call(RestoreCancel.self, .init(id: begun.id))
          throw error
        }
        try tell(result)
      } catch let error as InputError {
        throw error.exit
      }
    }
  }

  private func hand(
    _ input: InputFile, _ start: [UInt8], to daemon: ControlClient, _ id: String
  ) throws -> RestoreFinish.Result {
    let progress = Progress("restore", isShown: Console.errorIsTerminal && input.size != nil)
    defer { progress.end() }
    var chunk = start
    var bytes: UInt64 = 0
    while !chunk.isEmpty {
      _ = try daemon.call(
        RestoreWrite.self, .init(id: id, base64: Data(chunk).base64EncodedString()))
      bytes += UInt64(chunk.count)
      progress.show(bytes, of: input.size ?? bytes)
      chunk = try input.read(ControlLimits.backupChunkBytes)
    }
    progress.end()
    if Console.errorIsTerminal { Console.note("Checking every block, hash and signature.") }
    return try daemon.call(RestoreFinish.self, .init(id: id))
  }

  private func passphrase(_ isEncrypted: Bool) throws -> Secret? {
    if let passphraseFile { return Secret(try Input.secret(passphraseFile)) }
    guard isEncrypted else { return nil }
    guard Console.canAsk else {
      throw InputError("the backup is encrypted: give --passphrase-file FILE")
    }
    guard let typed = Console.ask("Passphrase of the backup: ", hidden: true), !typed.isEmpty else {
      throw InputError("no passphrase was given; nothing was done")
    }
    return Secret(typed)
  }

  private func tell(_ result: RestoreFinish.Result) throws {
    if shared.json { return try Console.printJSON(result) }
    Console.print(result.hyphalink)
    Console.note(
      "Restored as of \(result.created): \(Console.count(result.feeds, "feed")) with \(result.blocks) blocks, all checked."
    )
    if let request = result.request {
      Console.print("words       \(Console.printable(request.words))")
      Console.note(
        "This device has a new writer, and has asked to be let in: compare these words on a device that may write "
          + "(“hyphactl requests”), and approve it there.")
    } else if result.catchesUp {
      Console.note(
        "It may write once it is in sync with the nodes that it stays connected to: “hyphactl wait --synced”. They have "
          + "what it wrote after the backup was made.")
    } else if newWriter, let writer = result.writer {
      Console.note("Let this device in on one that may write:\n    hyphactl authorize \(writer)")
    }
  }
}

/// A file, or standard input, that is read piece by piece.
final class InputFile {
  private let name: String
  private let descriptor: Int32
  /// Bytes, where that is known before.
  let size: UInt64?

  init(_ path: String) throws(InputError) {
    name = path == "-" ? "standard input" : path
    descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Output.failure("cannot read \(name)")
    }
    var status = stat()
    size =
      fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? UInt64(status.st_size) : nil
  }

  deinit {
    if descriptor != STDIN_FILENO { close(descriptor) }
  }

  /// - Returns: `count` bytes, or fewer at the end.
  func read(_ count: Int) throws(InputError) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: count)
    while bytes.count < count {
      let read = Glibc.read(descriptor, &buffer, count - bytes.count)
      if read < 0, errno == EINTR { continue }
      guard read >= 0 else { throw Output.failure("cannot read \(name)") }
      if read == 0 { break }
      bytes += buffer[..<read]
    }
    return bytes
  }
}
