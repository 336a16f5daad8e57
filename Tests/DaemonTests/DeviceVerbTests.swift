import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// What the verbs for devices print and how they end, whatever the node may say: against the real control server with a
/// fake node behind it.
@Suite(.fewAtOnce, .timeLimit(.minutes(15))) struct DeviceVerbTests {
  private static let words = "gallery oxidant hush debrief"
  private static let now = Int64(time(nil)) * 1000

  private func request(
    _ number: Int, _ name: String, words: String = words, _ state: RequestInfo.State = .pending
  ) -> RequestInfo {
    RequestInfo(
      id: String(repeating: "\(number)", count: 32), name: name, writer: String(repeating: "ab", count: 32),
      words: words, created: Timestamp(milliseconds: Self.now - 300_000),
      expires: Timestamp(milliseconds: Self.now + 86_400_000 * 7), state: state)
  }

  private func own(_ state: OwnRequestInfo.State) -> OwnRequestInfo {
    let request = request(1, "phone")
    return OwnRequestInfo(
      id: request.id, name: "phone", words: Self.words, created: request.created, expires: request.expires,
      state: state)
  }

  /// Runs `hyphactl` against a node that `body` sets up.
  private func serve(
    _ body: (
      _ service: FakeService,
      _ ctl: (_ arguments: [String], _ input: [UInt8]) async throws -> Ended
    ) async throws -> Void
  ) async throws {
    try await ControlServerTests().serve { path, service, _ in
      try await body(service) { arguments, input in
        try await Running(
          try Programs.path("hyphactl"), arguments, input: input, environment: ["HYPHA_SOCKET": path]
        ).end()
      }
    }
  }

  @Test("Requests are listed with their words, the pending ones alone or all, without control characters")
  func requests() async throws {
    try await serve { service, ctl in
      var ended = try await ctl(["requests"], [])
      #expect(ended.status == 0 && ended.stdout.isEmpty && ended.stderr == "No device asks.\n")
      service.requests.withLock {
        $0.requests = [
          request(1, "phone"), request(2, "\u{1B}[2Jevil\n\u{9B}\u{202E}", words: "\u{7}one two three four"),
          request(3, "old", .expired), request(4, "other", .approved),
        ]
        $0.dropped = ["replayed": 2, "forged": 0]
      }
      ended = try await ctl(["requests"], [])
      let lines = ended.text.split(separator: "\n")
      #expect(lines.count == 4)
      #expect(lines[0] == "11111111  “phone”  pending, asked 5 minutes ago, expires in 7 days")
      #expect(lines[1] == "          \(Self.words)")
      #expect(
        ended.stdout.allSatisfy { $0 >= 32 || $0 == 10 } && !ended.text.contains("\u{9B}")
          && !ended.text.contains("\u{202E}"))
      #expect(ended.stderr.isEmpty)
      ended = try await ctl(["requests", "--all"], [])
      #expect(ended.text.contains("“old”  expired") && ended.text.contains("“other”  approved"))
      #expect(ended.stderr == "Dropped since the daemon started: replayed 2.\n")
      ended = try await ctl(["requests", "--json"], [])
      guard case .array(let listed) = try ended.json()["requests"] else { throw HarnessError("no requests") }
      #expect(listed.count == 2 && listed[0]["words"] == .string(Self.words))
      #expect(try ended.json()["canOpen"] == .bool(true) && ended.json()["schema"] == .integer(1))
    }
  }

  @Test("A node that cannot open requests says how much it holds")
  func sealed() async throws {
    try await serve { service, ctl in
      service.requests.withLock {
        $0.canOpen = false
        $0.sealedMessages = 3
        $0.sealedBytes = 1536
      }
      service.info.withLock { $0.sealedMessages = 3 }
      var ended = try await ctl(["requests"], [])
      #expect(ended.status == 0 && ended.stdout.isEmpty)
      #expect(ended.stderr.contains("cannot open") && ended.stderr.contains("3 sealed messages (1.5 KiB)"))
      ended = try await ctl(["requests", "--json"], [])
      #expect(try ended.json()["sealedMessages"] == .integer(3))
      ended = try await ctl(["status"], [])
      #expect(ended.text.contains("sealed      3 messages"))
    }
  }

  @Test(
    "A request is approved by id, name or words, and by its full id; what goes wrong has statuses of its own")
  func approves() async throws {
    try await serve { service, ctl in
      service.requests.withLock {
        $0.requests = [
          request(1, "phone"), request(2, "tablet", words: "one two three four"), request(3, "phone"),
          request(4, "old", .expired), request(5, "done", .denied),
        ]
      }
      func state(_ place: Int) -> RequestInfo.State { service.requests.withLock { $0.requests[place].state } }
      for (arguments, status, text) in [
        (["approve", "nobody", "--yes"], 3, "nobody asks"), (["approve", "old", "--yes"], 4, "expired"),
        (["approve", "phone", "--yes"], 5, "several"), (["approve", "--yes", "done"], 6, "was answered"),
        (["deny", "nobody"], 3, "nobody asks"), (["deny", "old"], 4, "expired"),
        (["deny", "phone"], 5, "several"), (["deny", "done"], 6, "was answered"),
        (["approve", "tablet"], 64, "--yes"),
      ] as [([String], Int32, String)] {
        let ended = try await ctl(arguments, [])
        #expect(ended.status == status && ended.stderr.contains(text), "\(arguments): \(ended)")
        #expect(ended.stdout.isEmpty)
      }
      #expect((0..<3).allSatisfy { state($0) == .pending })
      var ended = try await ctl(["approve", "one", "two", "three", "four", "--yes", "--json"], [])
      #expect(ended.status == 0 && state(1) == .approved, "\(ended)")
      #expect(try ended.json()["name"] == .string("tablet") && ended.json()["state"] == .string("approved"))
      ended = try await ctl(["approve", "11111111", "-y"], [])
      #expect(ended.status == 0 && ended.stderr == "“phone” may write now.\n" && ended.stdout.isEmpty)
      #expect(state(0) == .approved && state(2) == .pending)
      ended = try await ctl(["deny", "33333333"], [])
      #expect(ended.status == 0 && state(2) == .denied)
    }
  }

  @Test("Watching shows those who ask, and how they are answered")
  func watches() async throws {
    try await ControlServerTests().serve { path, service, _ in
      service.requests.withLock { $0.requests = [request(1, "phone")] }
      let people = try Running(
        try Programs.path("hyphactl"), ["requests", "--watch"], environment: ["HYPHA_SOCKET": path])
      let script = try Running(
        try Programs.path("hyphactl"), ["requests", "--watch", "--json"], environment: ["HYPHA_SOCKET": path])
      for running in [people, script] { try await eventually { running.stdout.isEmpty ? nil : true } }
      service.happen(.requested, id: 1) { $0.request = request(1, "phone") }
      service.happen(.requested, id: 2) { $0.request = request(2, "tablet") }
      service.happen(.answered, id: 3) { $0.request = request(2, "tablet", .denied) }
      try await eventually { people.stderr.isEmpty ? nil : true }
      #expect(people.stderr == "22222222  “tablet”: denied.\n")
      let shown = String(decoding: people.stdout, as: UTF8.self)
      #expect(shown.split(separator: "\n").count == 4 && shown.contains("22222222  “tablet”  pending"))
      let lines = try await eventually {
        let lines = try script.stdout.split(separator: 10).map {
          try JSONDecoder().decode(JSONValue.self, from: Data($0))
        }
        return lines.count == 3 ? lines : nil
      }
      #expect(
        lines.map { $0["request"]?["state"] } == ["pending", "pending", "denied"].map { .string($0) })
    }
  }

  @Test("Devices are listed, renamed, revoked and let write again")
  func devices() async throws {
    try await serve { service, ctl in
      let (laptop, phone) = (String(repeating: "a1", count: 32), String(repeating: "b2", count: 32))
      let time = Timestamp(milliseconds: 1_769_862_896_789)
      service.devices.withLock {
        $0 = [
          DeviceInfo(writer: laptop, name: "laptop", origin: true, here: true),
          DeviceInfo(
            writer: phone, name: "my\u{1B}phone", origin: false, here: false, approved: time, by: laptop,
            byName: "laptop"),
          DeviceInfo(
            writer: String(repeating: "c3", count: 32), name: "lost", origin: false, here: false,
            revoked: RevocationInfo(at: time, by: laptop, blocks: 7)),
          DeviceInfo(writer: String(repeating: "d4", count: 32), name: "laptop", origin: false, here: false),
        ]
      }
      var ended = try await ctl(["devices"], [])
      #expect(
        ended.text.split(separator: "\n") == [
          "a1a1a1a1  “laptop”  this device, origin",
          "b2b2b2b2  “my\u{fffd}phone”  approved 2026-01-31T12:34:56.789Z by “laptop”",
          "c3c3c3c3  “lost”  revoked 2026-01-31T12:34:56.789Z by a1a1a1a1, 7 blocks of it count",
          "d4d4d4d4  “laptop”",
        ])
      ended = try await ctl(["devices", "--json"], [])
      guard case .array(let listed) = try ended.json()["devices"] else { throw HarnessError("no devices") }
      #expect(listed.count == 4 && listed[2]["revoked"]?["blocks"] == .integer(7))
      for (arguments, status) in [
        (["rename", "nobody", "x"], 3), (["rename", "laptop", "x"], 5), (["rename", "lost", " "], 1),
        (["revoke", "nobody", "--yes"], 3), (["revoke", "laptop", "--yes"], 5), (["revoke", "lost"], 64),
      ] as [([String], Int32)] {
        let ended = try await ctl(arguments, [])
        #expect(ended.status == status && ended.stdout.isEmpty && !ended.stderr.isEmpty, "\(arguments)")
      }
      ended = try await ctl(["rename", "b2b2b2b2", "new name", "--json"], [])
      #expect(try ended.json()["name"] == .string("new name"))
      ended = try await ctl(["revoke", "b2b2b2b2", "--yes", "--json"], [])
      #expect(try ended.json()["revoked"]?["blocks"] == .integer(1))
      ended = try await ctl(["revoke", "lost", "--undo", "--yes"], [])
      #expect(ended.status == 0 && ended.stderr == "“lost” may write again.\n")
    }
  }

  @Test("Signing in prints name and words, and waits for the answer if asked to")
  func signsIn() async throws {
    try await serve { service, ctl in
      let passphrase = HyphactlTests.passphrase
      let signIn = ["sign-in", "example.org", "--passphrase-file", "-"]
      var ended = try await ctl(signIn, passphrase)
      #expect(ended.status == 1 && ended.stderr.contains("it is another one"))
      service.info.withLock {
        $0.canPost = false
        $0.request = own(.pending)
      }
      ended = try await ctl(signIn, passphrase)
      #expect(ended.status == 0, "\(ended)")
      #expect(ended.text == "device      phone\nwords       \(Self.words)")
      #expect(ended.stderr.contains("hyphactl approve") && ended.stderr.contains("hyphactl status"))
      ended = try await ctl(signIn + ["--json"], passphrase)
      #expect(try ended.json()["request"]?["words"] == .string(Self.words))
      #expect(try await ctl(["status"], []).text.contains("request     pending until"))
      for (state, status) in [(OwnRequestInfo.State.denied, 7), (.expired, 4), (.authorised, 0)] {
        service.info.withLock {
          $0.request = own(state)
          $0.canPost = state == .authorised
        }
        let ended = try await ctl(["sign-in", "--again", "--wait", "--timeout", "0.1", "--json"], [])
        #expect(ended.status == Int32(status), "\(ended)")
        let lines = ended.text.split(separator: "\n")
        #expect(lines.count == 2 && lines.allSatisfy { $0.contains("\"\(state.rawValue)\"") })
        #expect(try await ctl(["status"], []).text.contains("request     \(state.rawValue)"))
      }
      service.info.withLock {
        $0.hyphalink = "dat://h"
        $0.writer = "w"
      }
      ended = try await ctl(signIn, passphrase)
      #expect(ended.status == 1 && ended.stderr.contains("device of the hypha dat://h already"))
      ended = try await ctl(["sign-out", "--yes"], [])
      #expect(ended.status == 0 && ended.stderr.contains("can no longer post"))
      ended = try await ctl(["sign-out", "--yes", "--json"], [])
      #expect(try ended.json() == .object(["schema": .integer(1), "hyphalink": .string("dat://h")]))
    }
  }

  @Test("On a terminal, what is approved or revoked is shown and asked, and a passphrase is typed unseen")
  func asks() async throws {
    try await ControlServerTests().serve { path, service, _ in
      func start(_ arguments: String...) throws -> Terminal {
        try Terminal(try Programs.path("hyphactl"), arguments, environment: ["HYPHA_SOCKET": path])
      }
      service.requests.withLock { $0.requests = [request(1, "phone")] }
      for (answer, state) in [("", RequestInfo.State.pending), ("no", .pending), ("y", .approved)] {
        let approve = try start("approve", "phone")
        try await approve.expect("Device  “phone”, asked 5 minutes ago")
        try await approve.expect("Words   \(Self.words)")
        try await approve.expect("[y/N] ")
        approve.type(answer)
        #expect(try await approve.end() == (state == .approved ? 0 : 1))
        #expect(service.requests.withLock { $0.requests[0].state } == state)
      }
      service.devices.withLock {
        $0 = [DeviceInfo(writer: "a1b2c3d4e5", name: "old", origin: false, here: true)]
      }
      let revoke = try start("revoke", "a1b2c3d4")
      try await revoke.expect("a1b2c3d4  “old”  this device")
      try await revoke.expect("[y/N] ")
      revoke.type("yes")
      #expect(try await revoke.end() == 0)

      let signIn = try start("sign-in", "example.org")
      try await signIn.expect("Passphrase: ")
      signIn.type("some wrong words")
      try await signIn.expect("it is another one")
      try await signIn.expect("Passphrase: ")
      service.info.withLock { $0.request = own(.pending) }
      signIn.type("the right words")
      try await signIn.expect(Self.words)
      #expect(try await signIn.end() == 0)
      #expect(!signIn.shown.contains("wrong words") && !signIn.shown.contains("right words"))
      let none = try start("sign-in", "example.org")
      try await none.expect("Passphrase: ")
      none.type("")
      #expect(try await none.end() == 1)

      service.info.withLock { $0.hyphalink = "dat://h" }
      let signOut = try start("sign-out")
      try await signOut.expect("can no longer post")
      try await signOut.expect("[y/N] ")
      signOut.type("n")
      try await signOut.expect("nothing was changed")
      #expect(try await signOut.end() == 1)
    }
  }
}
