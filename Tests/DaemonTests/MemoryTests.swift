import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// What a daemon's memory holds, read as a debugger would.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct MemoryTests {
  /// How often each text is in a process's memory, also where it may not look itself for the time being.
  private func count(_ texts: [String], in pid: pid_t) throws -> [Int] {
    try count(texts.map { Array($0.utf8) }, in: pid)
  }

  private func count(_ needles: [[UInt8]], in pid: pid_t) throws -> [Int] {
    var counts = [Int](repeating: 0, count: needles.count)
    try find(needles, in: pid) { place, _ in counts[place] += 1 }
    return counts
  }

  /// Where texts are, for who has to find out why: the mapping, and how far from its end.
  private func places(of texts: [String], in pid: pid_t) -> String {
    var places: Set<String> = []
    try? find(texts.map { Array($0.utf8) }, in: pid) { places.insert($1) }
    return places.sorted().joined(separator: "; ")
  }

  private func find(_ needles: [[UInt8]], in pid: pid_t, _ note: (Int, String) -> Void) throws {
    let file = open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw HarnessError("memory of \(pid): \(String(cString: strerror(errno)))") }
    defer { close(file) }
    for line in try kernelFile("/proc/\(pid)/maps").split(separator: "\n") {
      let fields = line.split(separator: " ")
      let ends = fields[0].split(separator: "-").compactMap { Int($0, radix: 16) }
      guard ends.count == 2, ends[1] - ends[0] < 1 << 30 else { continue }
      var memory = [UInt8](repeating: 0, count: ends[1] - ends[0])
      guard pread(file, &memory, memory.count, off_t(ends[0])) == memory.count else { continue }
      for (place, needle) in needles.enumerated() {
        memory.withUnsafeBytes { memory in
          guard var from = memory.baseAddress, memory.count >= needle.count else { return }
          let end = from + memory.count - needle.count + 1
          while from < end, let found = memchr(from, Int32(needle[0]), end - from) {
            if memcmp(found, needle, needle.count) == 0 {
              note(place, "\(line), \(end - UnsafeRawPointer(found)) before its end")
            }
            from = UnsafeRawPointer(found) + 1
          }
        }
      }
    }
  }

  /// Any three words in a row of the passphrase.
  private var parts: [String] {
    let words = String(decoding: HyphactlTests.passphrase, as: UTF8.self).split(
      whereSeparator: \.isWhitespace)
    return (0..<words.count - 2).map { words[$0..<$0 + 3].joined(separator: " ") }
  }

  private func expectNone(in node: TestNode) async throws {
    let pid = try #require(node.daemon?.pid)
    // The last answer is on its way before the memory of its request is given back.
    let counts = try await eventually(
      "the passphrase stays in the daemon's memory: \(places(of: parts, in: pid))"
    ) {
      // What a stack or a buffer of a connection still has is overwritten by what the daemon does next.
      _ = try node.client().call(NodeStatus.self, .init())
      let counts = try count(parts + [node.folder.path], in: pid)
      return counts.dropLast().allSatisfy { $0 == 0 } ? counts : nil
    }
    // That it looks at the right memory.
    #expect(counts.last ?? 0 > 0)
  }

  @Test func aBackupsPassphraseDoesNotStayInMemory() async throws {
    let laptop = try await HyphactlTests.origin()
    let passphrase = "remnant sandpaper tiptoeing unhook"
    let made = try await laptop.ctl(
      "backup", "\(laptop.folder.path)/backup", "--encrypt", "--passphrase-file", "-",
      input: Array("\(passphrase)\n".utf8))
    #expect(made.status == 0, "\(made.stderr)")
    let pid = try #require(laptop.daemon?.pid)
    let words = passphrase.split(separator: " ")
    let parts = [words[..<3], words[1...]].map { $0.joined(separator: " ") }
    try await eventually("the backup's passphrase stays in the daemon's memory") {
      try count(parts, in: pid).allSatisfy { $0 == 0 } ? true : nil
    }
  }

  @Test func keysDoNotStayInMemoryAfterSigningOut() async throws {
    let laptop = try await HyphactlTests.origin()
    let pid = try #require(laptop.daemon?.pid)
    let keys = [laptop.folder.read("state/secrets/writer"), laptop.folder.read("state/secrets/channel")].map {
      Array($0.prefix(32))
    }
    #expect(keys.allSatisfy { $0.count == 32 })
    let held = try count(keys, in: pid)
    #expect(held.allSatisfy { $0 > 0 }, "the keys are not looked for where they are: \(held)")
    let signedOut = try await laptop.ctl("sign-out", "--yes")
    #expect(signedOut.status == 0, "\(signedOut.stderr)")
    try await eventually("keys stay in the daemon's memory") {
      try count(keys, in: pid).allSatisfy { $0 == 0 } ? true : nil
    }
    #expect(laptop.daemon?.poll() == nil)
  }

  @Test func aPassphraseDoesNotStayInMemory() async throws {
    let laptop = try await HyphactlTests.fresh()
    let pid = try #require(laptop.daemon?.pid)
    let made = try await laptop.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: HyphactlTests.passphrase)
    #expect(made.status == 0)
    try await expectNone(in: laptop)
    _ = try await laptop.ctl("post", "a text that everybody may see, and that memory holds")
    #expect(try count(["a text that everybody may see"], in: pid)[0] > 0)

    let phone = try await HyphactlTests.fresh()
    for domain in ["example.com", "example.org"] {
      let signedIn = try await phone.ctl(
        "sign-in", "http://127.0.0.1:\(laptop.port)", "--domain", domain, "--passphrase-file", "-",
        input: HyphactlTests.passphrase)
      #expect(signedIn.status == (domain == "example.org" ? 0 : 1), "\(signedIn)")
      try await expectNone(in: phone)
    }
    // A new one, which the daemon makes up.
    let generated = try phone.client().call(PassphraseGenerate.self, .init()).passphrase.text
    let words = generated.split(separator: " ")
    let phonePID = try #require(phone.daemon?.pid)
    try await eventually("a generated passphrase stays in the daemon's memory") {
      try count([words.prefix(3).joined(separator: " ")], in: phonePID)[0] == 0 ? true : nil
    }
  }
}
