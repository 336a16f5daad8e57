import Glibc
import HyphaControlAPI
import Testing

/// State folders as an administrator may have got them: read-only, another user's, on another disk.
@Suite("A state folder that cannot be used, or is elsewhere", .fewAtOnce, .timeLimit(.minutes(15)))
struct BadStateTests {
  @Test(
    "Read-only: the daemon says so and ends",
    .enabled(if: OwnMounts.isAllowed, "mounts nothing here"))
  func readOnly() async throws {
    let node = try await HyphactlTests.origin()
    #expect(try await node.ctl("post", "before").status == 0)
    try await node.stop()
    let path = node.statePath
    node.mounts = try await OwnMounts(
      "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; mount -t tmpfs tmpfs /mnt; touch /mnt/there",
      [path], mark: "/mnt/there")
    let ended = try await node.startInVain()
    #expect(ended.status > 0)
    #expect(
      ended.stderr.contains(
        "\(path)/lock: Read-only file system: mount that file system so that it can be written to"),
      "\(ended.stderr)")
    node.mounts = nil
    try await node.start()
    #expect(try await node.ctl("posts").text.contains("before"))
  }

  @Test(
    "Another user's: the daemon says whose, and what to do",
    .enabled(if: geteuid() == 0, "needs root, to give it away"))
  func anothers() async throws {
    let node = try await HyphactlTests.origin()
    try await node.stop()
    #expect(chown(node.statePath, 12345, 12345) == 0)
    let ended = try await node.startInVain()
    #expect(ended.status > 0)
    #expect(
      ended.stderr.contains("belongs to user 12345, and this process runs as user 0")
        && ended.stderr.contains("chown -R 0 \(node.statePath)"), "\(ended.stderr)")
    #expect(chown(node.statePath, 0, 0) == 0)
    try await node.start()
  }

  @Test(
    "A single file is another user's: the daemon says which, and changes nothing",
    .enabled(if: geteuid() == 0, "needs root, to give it away"))
  func oneFileIsAnothers() async throws {
    let node = try await HyphactlTests.origin()
    #expect(try await node.ctl("post", "before").status == 0)
    try await node.stop()
    // As root it could open anything.
    let user = "65534"
    for arguments in [["-R", "\(user):\(user)", node.folder.path]] {
      #expect(try await Running("/usr/bin/chown", arguments).end().status == 0)
    }
    let program = "\(node.folder.path)/hyphad"
    let copied = try await Running(
      "/usr/bin/install", ["-m", "755", try Programs.path("hyphad"), program]
    ).end()
    #expect(copied.status == 0, "\(copied.stderr)")
    func run() throws -> Running {
      try Running(
        "/usr/bin/setpriv",
        [
          "--reuid", user, "--regid", user, "--clear-groups", program, "--config",
          "\(node.folder.path)/hyphad.toml",
        ])
    }
    for file in [
      "lock", "version", "node.json", "secrets/writer", "secrets/channel", "hypha/source/data",
      "hypha/source/key",
    ] {
      let path = "\(node.statePath)/\(file)"
      #expect(chown(path, 0, 0) == 0)
      let ended = try await run().end(within: 15)
      #expect(ended.status == EXIT_FAILURE, "\(file): \(ended)")
      #expect(
        ended.stderr.contains(
          "\(path): Permission denied: everything in the state folder must belong to user \(user)"),
        "\(ended)")
      #expect(chown(path, 65534, 65534) == 0)
    }
    let daemon = try run()
    try await eventually("it does not start: \(daemon.stderr)") {
      try? await node.ctl("posts").text.contains("before") ? true : nil
    }
    daemon.send(SIGTERM)
    #expect(try await daemon.end().status == 0)
  }

  @Test("On another file system, by way of a link")
  func elsewhere() async throws {
    let node = try TestNode()
    let other = try TemporaryFolder(in: "/dev/shm")
    #expect(mkdir("\(other.path)/state", 0o700) == 0)
    #expect(symlink("\(other.path)/state", node.statePath) == 0)
    try await node.start()
    let made = try await node.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: HyphactlTests.passphrase)
    #expect(made.status == 0, "\(made.stderr)")
    #expect(try await node.ctl("post", "there").status == 0)
    let backup = "\(node.folder.path)/backup"
    #expect(try await node.ctl("backup", backup).status == 0)
    try await node.kill()
    try await node.start()
    #expect(try await node.ctl("posts").text.contains("there"))
    #expect(try await node.ctl("verify").status == 0)
  }
}
