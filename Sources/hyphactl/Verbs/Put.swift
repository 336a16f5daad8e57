import ArgumentParser
import FoundationEssentials
import HyphaControlAPI

struct Put: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Set a key of the database; prints the version once the value is durable.",
    discussion: """
      Without a value, takes standard input or a file, byte for byte: values may be binary. A value has at most \
      \(ControlLimits.valueBytes / 1024) KiB.
      """)

  @OptionGroup var shared: SharedOptions

  @Argument(help: "The key, such as profile/name.")
  var key: String

  @Argument(help: "The value, as text.")
  var value: String?

  @Option(
    help: ArgumentHelp("Take the value from a file, or from standard input for “-”.", valueName: "file"),
    completion: .file())
  var file: String?

  @Flag(help: "Refuse if the key is set.")
  var ifNotExists = false

  func validate() throws {
    if value != nil, file != nil { throw ValidationError("Give either a value or --file.") }
  }

  func run() throws {
    let bytes: [UInt8]
    if let value {
      bytes = Array(value.utf8)
    } else {
      if file == nil, Console.inputIsTerminal { Console.note("Type the value; end it with Ctrl-D.") }
      do throws(InputError) {
        bytes = try Input.read(file ?? "-", limit: ControlLimits.valueBytes)
      } catch {
        throw error.exit
      }
    }
    let value = ValueText(bytes)
    try shared.withDaemon { daemon in
      let result = try daemon.call(
        DatabasePut.self,
        DatabasePut.Params(
          key: key, text: value.text, base64: value.base64, ifNotExists: ifNotExists ? true : nil))
      if shared.json { return try Console.printJSON(result) }
      Console.print(result.version)
    }
  }
}
