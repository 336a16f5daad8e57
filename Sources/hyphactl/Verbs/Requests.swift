import ArgumentParser
import HyphaControlAPI

struct Requests: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the devices that ask to be let in.",
    discussion: """
      Each with its short id, name and words. Compare the words with those on the device itself before “hyphactl approve”: \
      anybody who has the passphrase can ask, under any name.
      """)

  @OptionGroup var shared: SharedOptions

  @Flag(help: "Go on as devices ask and are answered.")
  var watch = false

  @Flag(help: "Also requests that were answered or have expired lately.")
  var all = false

  func run() throws {
    try shared.withDaemon { daemon in
      if watch {
        _ = try daemon.call(EventsSubscribe.self, EventsSubscribe.Params(kinds: [.requested, .answered]))
      }
      var result = try daemon.call(RequestsList.self, Nothing())
      if !all { result.requests.removeAll { $0.state != .pending } }
      if shared.json {
        if !watch { return try Console.printJSON(result) }
        for request in result.requests { try Console.printJSON(["request": request]) }
      } else {
        for request in result.requests { Self.print(request) }
        Self.note(result, all: all)
      }
      if watch { try follow(daemon, shown: result.requests) }
    }
  }

  /// What the list does not say.
  private static func note(_ result: RequestsList.Result, all: Bool) {
    if !result.canOpen {
      return Console.note(
        "This node cannot open requests: it does not have the key. It holds "
          + "\(Console.count(result.sealedMessages, "sealed message")) (\(Status.size(result.sealedBytes))) for devices that do."
      )
    }
    if result.requests.isEmpty { Console.note(all ? "No device has asked lately." : "No device asks.") }
    if all, let reasons = reasons(result.dropped) {
      Console.note("Dropped since the daemon started: \(reasons).")
    }
  }

  /// Why messages were dropped, and how many; `nil` where none was.
  static func reasons(_ dropped: [String: UInt64]) -> String? {
    let dropped = dropped.filter { $0.value > 0 }.sorted { $0.key < $1.key }
    guard !dropped.isEmpty else { return nil }
    return dropped.map { "\(Console.printable($0.key)) \($0.value)" }.joined(separator: ", ")
  }

  private func follow(_ daemon: ControlClient, shown: [RequestInfo]) throws {
    try daemon.follow { params in
      // Those that came between subscribing and listing are known already.
      guard let request = params.event.request, !shown.contains(request) else { return }
      if shared.json {
        try Console.printJSON(["request": request])
      } else if request.state == .pending {
        Self.print(request)
      } else {
        Console.note("\(Self.title(request)): \(request.state.rawValue).")
      }
    }
  }

  static func print(_ request: RequestInfo) {
    let deadline = request.state == .pending ? ", expires \(request.expires.age)" : ""
    Console.print("\(title(request))  \(request.state.rawValue), asked \(request.created.age)\(deadline)")
    Console.print("          \(Console.printable(request.words))")
  }

  /// Short id and name.
  static func title(_ request: RequestInfo) -> String {
    "\(Console.printable(String(request.id.prefix(8))))  \(Console.quoted(request.name))"
  }
}
