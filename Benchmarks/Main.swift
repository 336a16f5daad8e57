import Glibc

/// Measures feeds, replication and the trie, each workload in a process and a folder of its own, and sets
/// beside it what this machine can do at best.
@main
enum HyphaBench {
  private static let usage = """
    usage: hypha-bench [--json FILE] [--folder FOLDER] [--scale FACTOR] [WORDS]

      --json FILE      write the results there too, as JSON
      --folder FOLDER  put files there while measuring, on the disk that is to be measured (default: .)
      --scale FACTOR   how much of each workload to do (default: 1; 0.05 only shows that it works)
      WORDS            measure only workloads with these words in their name, and the limits

    Ends with status 1 where a goal is missed.
    """

  static func main() {
    do {
      exit(try run(Array(CommandLine.arguments.dropFirst())))
    } catch {
      complain("hypha-bench: \(error)")
      exit(70)
    }
  }

  private static func run(_ arguments: [String]) throws -> Int32 {
    // How this program calls itself for what needs a process of its own.
    switch (arguments.first, arguments.count) {
    case ("--measure", 4):
      guard let workload = Workload.all.first(where: { $0.name == arguments[1] }),
        let scale = Double(arguments[3])
      else { throw BenchError("no workload \(arguments[1])") }
      let measurement = try workload.run(arguments[2], scale)
      print(measurement.value, measurement.unit.rawValue, measurement.memory)
      return 0
    case ("--prepare", 3):
      print(try Workload.prepare(arguments[1], Int(arguments[2]) ?? 0))
      return 0
    case ("--database", 4):
      try SharedDatabase.make(
        arguments[1], keys: Int(arguments[2]) ?? 0, writers: Int(arguments[3]) ?? 0)
      return 0
    case ("--clone", 6):
      print(
        try Workload.clone(
          arguments[1], key: arguments[2], port: UInt16(arguments[3]) ?? 0, blocks: UInt64(arguments[4]) ?? 0,
          encrypted: arguments[5] == "1"))
      return 0
    default:
      return try measure(arguments)
    }
  }

  private static func measure(_ arguments: [String]) throws -> Int32 {
    var json: String?
    var parent = "."
    var scale = 1.0
    var words = ""
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      switch argument {
      case "--json": json = rest.popFirst()
      case "--folder": parent = rest.popFirst() ?? parent
      case "--scale": scale = rest.popFirst().flatMap(Double.init) ?? scale
      case _ where argument.hasPrefix("-"):
        complain(usage)
        return 64
      default: words = argument
      }
    }
    var template = Array((parent + "/hypha-bench-XXXXXX").utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchError(system: "make a folder in \(parent)") }
    let run = String(decoding: template.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer { remove(folder: run) }
    mkdir(run + "/shared", 0o700)
    var report = Report()
    print(Report.heading)
    for workload in Workload.all where isLimit(workload) || workload.name.contains(words) {
      report.add(workload, try measured(workload, in: run, scale))
      print(report.lastLine)
      fflush(nil)
    }
    if let json { try write(report.json, to: json) }
    return report.missed ? 1 : 0
  }

  private static func isLimit(_ workload: Workload) -> Bool {
    workload.name.hasPrefix("limit")
  }

  private static func measured(_ workload: Workload, in run: String, _ scale: Double) throws -> Measurement {
    let folder = run + "/workload"
    guard mkdir(folder, 0o700) == 0 else { throw BenchError(system: "make \(folder)") }
    defer { remove(folder: folder) }
    let output = try Child(["--measure", workload.name, folder, String(scale)]).output()
    let fields = output.split(separator: " ")
    guard fields.count == 3, let value = Double(fields[0]), let memory = Double(fields[2]),
      let unit = Measurement.Unit(rawValue: String(fields[1]))
    else { throw BenchError("\(workload.name): \(output)") }
    return Measurement(value, unit, memory: memory)
  }

  /// Removes a folder and all that is in it.
  private static func remove(folder: String) {
    if let entries = opendir(folder) {
      while let entry = readdir(entries) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name == "." || name == ".." { continue }
        let path = "\(folder)/\(name)"
        if unlink(path) != 0 { remove(folder: path) }
      }
      closedir(entries)
    }
    rmdir(folder)
  }

  private static func write(_ text: String, to path: String) throws {
    guard let file = fopen(path, "w") else { throw BenchError(system: "open \(path)") }
    fputs(text, file)
    guard fclose(file) == 0 else { throw BenchError(system: "write \(path)") }
  }

  private static func complain(_ text: String) {
    let line = Array((text + "\n").utf8)
    _ = Glibc.write(STDERR_FILENO, line, line.count)
  }
}
