import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// What `hyphactl` asks and shows on a terminal.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct TerminalTests {
  // MARK: - The passphrase

  /// The words of the passphrase that is shown, and the place from 0 of the one that is asked for.
  private func question(_ number: Int, on terminal: PseudoTerminal) async throws -> (
    words: [String], place: Int
  ) {
    try await eventually("no question: \(terminal.shown)") {
      let shown = terminal.shown.split(separator: "\r\n", omittingEmptySubsequences: false)
      let asked = shown.filter { $0.hasPrefix("Word ") && $0.contains(": ") }
      guard asked.count == number, let place = asked.last?.split(separator: " ")[1] else { return nil }
      let words = shown.first { $0.hasPrefix("    ") }?.split(separator: " ").map(String.init)
      return (words ?? [], try #require(Int(place)) - 1)
    }
  }

  @Test func initShowsThePassphraseOnceAndHasItConfirmed() async throws {
    let node = try await HyphactlTests.fresh()
    let terminal = try PseudoTerminal()
    let running = try node.startCtl(["init", "--domain", "example.org"], terminal: terminal)

    let (words, first) = try await question(1, on: terminal)
    #expect(words.count >= 6)
    #expect(terminal.echoes)
    try #require(words.indices.contains(first))
    terminal.type("nonsense\n")
    let again = try await question(2, on: terminal)
    #expect(terminal.shown.contains("That is not it"))
    #expect(again.place == first)
    // As people type: capitals and spaces do not matter.
    terminal.type(" \(words[first].uppercased()) \n")
    let (_, second) = try await question(3, on: terminal)
    #expect(second > first)
    try #require(words.indices.contains(second))
    #expect(try await node.ctl("status", "--json").json()["role"] == .string("uninitialised"))
    terminal.type(words[second] + "\n")

    let ended = try await running.end()
    #expect(ended.status == 0)
    #expect(ended.text.hasPrefix("dat://"))
    #expect(!ended.text.contains("\n"))
    let passphrase = words.joined(separator: " ")
    #expect(terminal.shown.components(separatedBy: passphrase).count == 2)
    #expect(!node.log.contains(passphrase))

    // What was shown is the hypha's key: it makes the same hypha elsewhere.
    let other = try await HyphactlTests.fresh()
    let same = try await other.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: Array(passphrase.utf8))
    #expect(same.text == ended.text)
  }

  @Test func initMakesNothingWithoutConfirmation() async throws {
    let node = try await HyphactlTests.fresh()
    for key in ["\u{4}", "nonsense\n\u{4}"] {
      let terminal = try PseudoTerminal()
      let running = try node.startCtl(["init", "--domain", "example.org"], terminal: terminal)
      _ = try await question(1, on: terminal)
      terminal.type(key)
      let ended = try await running.end()
      #expect(ended.status == 1)
      #expect(ended.stdout.isEmpty)
      #expect(terminal.shown.contains("nothing was made"))
    }
    #expect(try await node.ctl("status", "--json").json()["role"] == .string("uninitialised"))
    // A node that has a hypha shows no passphrase for nothing.
    _ = try await node.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: HyphactlTests.passphrase)
    let terminal = try PseudoTerminal()
    let refused = try await node.startCtl(["init", "--domain", "example.org"], terminal: terminal).end()
    #expect(refused.status == 1)
    #expect(terminal.shown.contains("already keeps"))
    #expect(!terminal.shown.contains("passphrase"))
  }

  // MARK: - The setup code

  private static let codeQuestion = "(else press Return): "

  @Test func connectAsksForTheSetupCodeWithoutShowingIt() async throws {
    let laptop = try await HyphactlTests.origin()
    let server = try await HyphactlTests.fresh()
    let code = try await server.ctl("setup-code").text
    let terminal = try PseudoTerminal()
    let before = terminal.localModes

    let wrong = try laptop.startCtl(["connect", server.url], terminal: terminal)
    try await terminal.shows(Self.codeQuestion)
    #expect(!terminal.echoes)
    terminal.type("00000-00000\n")
    #expect(try await wrong.end().status == 1)
    #expect(!terminal.shown.contains("00000-00000"))
    #expect(terminal.localModes == before)

    let right = try laptop.startCtl(["connect", server.url], terminal: terminal)
    try await terminal.shows(Self.codeQuestion, times: 2)
    #expect(!terminal.echoes)
    terminal.type(code + "\n")
    let ended = try await right.end()
    #expect(ended.status == 0, "\(terminal.shown)")
    #expect(ended.text.contains(server.url))
    #expect(!terminal.shown.contains(code))
    #expect(terminal.localModes == before)
    #expect(try await laptop.ctl("wait", "--synced", "--timeout", "30").status == 0)
    #expect(try await server.ctl("status", "--json").json()["role"] == .string("alwaysOn"))
  }

  @Test(arguments: ["\n", "\u{4}"]) func connectNeedsNoSetupCode(key: String) async throws {
    let node = try await HyphactlTests.origin()
    let terminal = try PseudoTerminal()
    let before = terminal.localModes
    let running = try node.startCtl(
      ["connect", "ws://127.0.0.1:\(try freePorts(1)[0])"], terminal: terminal)
    try await terminal.shows(Self.codeQuestion)
    terminal.type(key)
    #expect(try await running.end().status == 0)
    #expect(terminal.localModes == before)
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGQUIT, SIGHUP])
  func aSignalLeavesTheTerminalAsItWas(signal: Int32) async throws {
    let node = try await HyphactlTests.origin()
    let terminal = try PseudoTerminal()
    let before = terminal.localModes
    // Else Swift's runtime takes SIGQUIT for a crash, and looks for its cause.
    let running = try node.startCtl(
      ["connect", "ws://127.0.0.1:1"], environment: ["SWIFT_BACKTRACE": "enable=no"], terminal: terminal)
    try await terminal.shows(Self.codeQuestion)
    #expect(!terminal.echoes)
    running.send(signal)
    #expect(try await running.end().status == -signal)
    #expect(terminal.localModes == before)
    #expect(try await node.ctl("peers").text == "")
  }

  @Test func keysThatStopOrEndLeaveTheTerminalAsItWas() async throws {
    let node = try await HyphactlTests.origin()
    let terminal = try PseudoTerminal()
    let shell = try Running(
      "/bin/sh",
      [
        "-c",
        """
        set -m
        trap : INT
        "$0" connect ws://127.0.0.1:1
        echo "stopped: $? $(stty -a | grep -ow -e -*echo)"
        fg >/dev/null
        echo "ended: $? $(stty -a | grep -ow -e -*echo)"
        read last
        """, try Programs.path("hyphactl"),
      ], environment: ["HYPHA_SOCKET": node.socket], terminal: terminal, use: .session)
    try await terminal.shows(Self.codeQuestion)
    terminal.type("\u{1A}")  // Ctrl-Z
    try await terminal.shows("stopped: \(128 + SIGTSTP) echo\r\n")
    // Back in the foreground it asks again.
    try await terminal.shows(Self.codeQuestion, times: 2)
    #expect(!terminal.echoes)
    terminal.type("\u{3}")  // Ctrl-C
    try await terminal.shows("ended: \(128 + SIGINT) echo\r\n")
    terminal.type("\n")
    _ = try await shell.end()
  }

  // MARK: - Values

  @Test func valuesAreTypedAndShown() async throws {
    let node = try await HyphactlTests.origin()
    let terminal = try PseudoTerminal()
    let put = try node.startCtl(["put", "typed"], terminal: terminal)
    try await terminal.shows("Ctrl-D")
    terminal.type("one\ntwo\n\u{4}")
    #expect(try await put.end().status == 0)
    #expect(try await node.ctl("get", "typed").stdout == Array("one\ntwo\n".utf8))

    // What follows a value is on a line of its own, and nothing is between.
    _ = try await node.ctl("put", "short", "three")
    let screen = try PseudoTerminal()
    let shell = try Running(
      "/bin/sh",
      ["-c", "\"$0\" get typed; \"$0\" get short; echo four; read last", try Programs.path("hyphactl")],
      environment: ["HYPHA_SOCKET": node.socket], terminal: screen, use: .session)
    try await screen.shows("four\r\n")
    #expect(screen.shown == "one\r\ntwo\r\nthree\r\nfour\r\n")
    screen.type("\n")
    _ = try await shell.end()
  }

  // MARK: - Completion

  /// A shell for which there is a completion script.
  struct Shell: CustomTestStringConvertible, Sendable {
    var name: String
    /// Where the package puts the script, below a folder that the shell looks in.
    var script: String
    /// - Parameter folder: that folder.
    var arguments: @Sendable (_ folder: String) -> [String]

    var testDescription: String { name }
    var path: String { "/usr/bin/\(name)" }
  }

  static let shells = [
    Shell(name: "bash", script: "bash-completion/completions/hyphactl.bash") {
      ["--noprofile", "--rcfile", "\($0)/bashrc", "-i"]
    },
    Shell(name: "zsh", script: "zsh/_hyphactl") { _ in ["-i"] },
    Shell(name: "fish", script: "fish/vendor_completions.d/hyphactl.fish") { _ in ["-i"] },
  ]

  /// What is typed, with Tab as a person presses it, and the arguments that the program then gets.
  static let typed: [(keys: String, arguments: [String])] = [
    ("hyphactl setu\t\n", ["setup-code"]),
    ("hyphactl aut\tabc\n", ["authorize", "abc"]),
    ("hyphactl posts --fol\t\n", ["posts", "--follow"]),
    ("hyphactl put key 1 --if-n\t\n", ["put", "key", "1", "--if-not-exists"]),
    ("hyphactl put key --file val\t\n", ["put", "key", "--file", "value.bin"]),
    ("hyphactl init --passphrase-f\tval\t\n", ["init", "--passphrase-file", "value.bin"]),
  ]

  @Test(arguments: shells) func theShellCompletes(shell: Shell) async throws {
    try #require(
      access(shell.path, X_OK) == 0, "\(shell.path) is not there: “scripts/setup test” installs it")
    let folder = try TemporaryFolder()
    let made = try await Running(
      try Programs.path("hyphactl"), ["--generate-completion-script", shell.name]
    ).end()
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/\(shell.script.prefix { $0 != "/" })/completions",
      withIntermediateDirectories: true)
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/fish/vendor_completions.d", withIntermediateDirectories: true)
    _ = try folder.write(shell.script, made.stdout)
    _ = try folder.write("value.bin", [])
    // In the program's place: completion asks it nothing, and what was typed is seen.
    // Another process writes it: one that is just being started by another test could have it open else, and a file that is
    // open for writing cannot be executed.
    _ = try await Running(
      "/bin/sh", ["-c", "cat >\"$0\"; chmod 755 \"$0\"", "\(folder.path)/hyphactl"],
      input: Array("#!/bin/sh\nprintf '<%s>' \"$@\"; echo .\n".utf8)
    ).end()
    _ = try folder.write(
      "bashrc",
      Array(
        """
        if [ -e /usr/share/bash-completion/bash_completion ]; then
          . /usr/share/bash-completion/bash_completion
        else
          . \(folder.path)/\(shell.script)
        fi
        bind 'set enable-bracketed-paste off'
        PS1='ready> '

        """.utf8))
    _ = try folder.write(
      ".zshrc",
      Array("fpath=(\(folder.path)/zsh $fpath)\nautoload -U compinit && compinit -u\nPS1='ready> '\n".utf8))

    let terminal = try PseudoTerminal()
    let running = try Running(
      "/usr/bin/env", ["-C", folder.path, shell.path] + shell.arguments(folder.path),
      environment: [
        "HOME": folder.path, "ZDOTDIR": folder.path, "XDG_DATA_DIRS": folder.path, "XDG_CONFIG_HOME": nil,
        "XDG_DATA_HOME": nil, "TERM": "xterm", "LC_ALL": "C.UTF-8",
        "PATH": "\(folder.path):/usr/bin:/bin",
      ], terminal: terminal, use: .session)
    if shell.name == "fish" { terminal.type("function fish_prompt; echo -n 'ready> '; end\n") }
    for (keys, arguments) in Self.typed {
      try await terminal.takesKeys()
      terminal.type(keys)
      try await terminal.shows(arguments.map { "<\($0)>" }.joined() + ".")
    }
    running.send(SIGHUP)
    try await running.kill()
  }
}
