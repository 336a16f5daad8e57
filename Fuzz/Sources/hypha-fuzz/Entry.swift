import Glibc

/// What libFuzzer is to call: one of the targets, which `FUZZ_TARGET` names.
struct Target: Sendable {
  var name: String
  /// What is worth trying first, from real encodings: written out with `FUZZ_SEEDS`.
  var seeds: @Sendable () throws -> [[UInt8]]
  /// Takes any bytes, and stops the process where something is not as it must be.
  var run: @Sendable ([UInt8]) -> Void
}

let targets: [Target] =
  wireTargets + feedTargets + forkTargets + databaseTargets + membershipTargets + textTargets + controlTargets
  + backupTargets + edgeTargets

/// Stops the process: what must hold does not.
func expect(_ condition: Bool, _ what: @autoclosure () -> String) {
  if !condition { fatalError("not so: \(what())") }
}

private let chosen: Target = {
  let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
  guard let target = targets.first(where: { $0.name == name }) else {
    let names = targets.map { $0.name }.joined(separator: " ")
    print("FUZZ_TARGET is to be one of: \(names)")
    exit(64)
  }
  return target
}()

/// libFuzzer's own loop.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The program's start, by the name that the package manager has for it: without one it would link no main at all.
@_cdecl("hypha_fuzz_main")
public func start(
  _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> CInt {
  if getenv("FUZZ_LIST") != nil {
    for target in targets { print(target.name) }
    return 0
  }
  if let folder = getenv("FUZZ_SEEDS").map({ String(cString: $0) }) {
    do { try writeSeeds(folder) } catch { fatalError("\(error)") }
    return 0
  }
  _ = chosen
  var (count, arguments) = (count, arguments)
  return runDriver(&count, &arguments) { start, count in
    chosen.run(Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
  }
}

private func writeSeeds(_ folder: String) throws {
  for target in targets {
    mkdir("\(folder)/\(target.name)", 0o755)
    for (number, seed) in try target.seeds().enumerated() {
      let path = "\(folder)/\(target.name)/seed-\(number)"
      guard let file = fopen(path, "w") else { fatalError("cannot write \(path)") }
      fwrite(seed, 1, seed.count, file)
      fclose(file)
    }
  }
}
