import Glibc
import Hypercore
import Testing

@testable import HyphaDaemonCore

/// Somebody who speaks the protocol over a socket of its own, and says what a test has it say.
final class HostilePeer {
  let client: RawClient
  let session: Session
  let channel: Int

  /// Connects, shakes hands, and opens the hypha's feed.
  ///
  /// - Parameters:
  ///   - id: of the node that it says to be; another one each time if not given.
  ///   - address: where it says to come from, as a proxy would.
  init(port: Int, key: PublicKey, id: UInt8? = nil, from address: String? = nil) async throws {
    client = try RawClient(port: port)
    let headers = address.map { "X-Forwarded-For: \($0)\r\n" } ?? ""
    let answer = try await client.upgrade("/hypha", headers: headers)
    guard answer.hasPrefix("HTTP/1.1 101") else {
      throw HarnessError("the hostile peer is not let in: \(answer)")
    }
    let id = (0..<32).map { _ in id ?? UInt8.random(in: 0...255) }
    session = Session(Session.Configuration(id: id, extensions: [Node.extensionName]))
    channel = try session.open(key)
    flush()
  }

  /// - Parameter other: a channel that was opened besides the first.
  func say(_ messages: Message..., on other: Int? = nil) {
    for message in messages { session.send(message, on: other ?? channel) }
    flush()
  }

  private func flush() { client.frame(0x82, session.takeOutput()) }

  /// Sends the same bytes of the protocol over and over.
  func repeatedly(_ times: Int, _ bytes: [UInt8]) {
    let frame = RawClient.frame(0x82, bytes)
    for _ in 0..<times where !client.isEnded { client.send(frame) }
  }

  /// Sends a message of nearly 4 KiB to the hypha's devices that has the form of a sealed one, each number another.
  func say(sealed number: Int) {
    let nonce = (0..<24).map { UInt8(truncatingIfNeeded: number >> ($0 & 31)) }
    let message = [0x0A, 24] + nonce + [0x12, 0xA0, 0x1F] + [UInt8](repeating: 7, count: 4000)
    session.send(extension: Node.extensionName, message, on: channel)
    flush()
  }

  /// The bytes of messages, to be sent over and over.
  func bytes(_ messages: [Message]) -> [UInt8] {
    for message in messages { session.send(message, on: channel) }
    return session.takeOutput()
  }

  /// The bytes of messages to the hypha's devices.
  func bytes(toDevices messages: [[UInt8]]) async throws -> [UInt8] {
    while session.remoteHandshake == nil { _ = try await listen() }
    for message in messages { #expect(session.send(extension: Node.extensionName, message, on: channel)) }
    return session.takeOutput()
  }

  /// What the node says next.
  func listen() async throws -> [Message] {
    var messages: [Message] = []
    var pongs = 0
    while messages.isEmpty {
      let (first, payload) = try await client.readFrame()
      // The answer to a ping. So many of them take a while to read, in which the node is to hear something, too.
      if first == 0x8A {
        pongs += 1
        if pongs % 1000 == 0 { keepAlive() }
        continue
      }
      guard first == 0x82 else {
        throw HarnessError(
          "the node ended the connection: \(String(decoding: payload.dropFirst(2), as: UTF8.self))")
      }
      try session.receive(payload) { event in
        if case .message(let message, _) = event { messages.append(message) }
      }
    }
    return messages
  }

  /// Says that it is there.
  func keepAlive() { client.frame(0x82, [0]) }

  /// Asks for the first block, and waits for it.
  func fetch() async throws {
    say(.request(Message.Request(index: 0)))
    while true {
      for message in try await listen() { if case .data = message { return } }
    }
  }

  /// Waits until it is asked for a block.
  func untilAsked() async throws -> Message.Request {
    while true {
      for message in try await listen() { if case .request(let request) = message { return request } }
    }
  }
}

/// What a process takes, as the system tells.
struct ProcessUse {
  var kilobytes = 0
  /// Most so far.
  var peakKilobytes = 0
  var cpuSeconds = 0.0

  init(_ pid: pid_t) throws {
    let status = try kernelFile("/proc/\(pid)/status")
    for line in status.split(separator: "\n") {
      let number = Int(line.split { $0 == " " || $0 == "\t" }.dropFirst().first ?? "") ?? 0
      if line.hasPrefix("VmRSS:") { kilobytes = number }
      if line.hasPrefix("VmHWM:") { peakKilobytes = number }
    }
    let stat = try kernelFile("/proc/\(pid)/stat")
    let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
    try #require(fields.count > 12 && kilobytes > 0)
    cpuSeconds = Double((Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)) / Double(sysconf(Int32(_SC_CLK_TCK)))
    // With a sanitizer it takes several times as much of everything: seen is then only that there is an end to it.
    guard Sanitizer.isOn else { return }
    kilobytes /= 10
    peakKilobytes /= 10
    cpuSeconds /= 10
  }

  /// Expects that an attack took little: processor time since it began, and memory ever.
  func expectBounded(
    _ attack: String, since before: ProcessUse, cpuSeconds limit: Double,
    at location: SourceLocation = #_sourceLocation
  ) {
    let spent = cpuSeconds - before.cpuSeconds
    let figures = "\(attack): \(spent) s of processor time, \(peakKilobytes) KiB at most"
    print(figures)
    #expect(spent < limit && peakKilobytes < 150 << 10, "\(figures)", sourceLocation: location)
  }
}
