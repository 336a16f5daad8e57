import Glibc
import Hypercore
import HyphaDaemonCore

/// One end of a connection over loopback, driven as the daemon drives it: read, hand in, take out, write.
private final class LoopbackPeer {
  private let socket: Int32
  private let replicator = Replicator<FileStorage>()
  private let feed: Feed<FileStorage>
  private var output: [UInt8] = []
  private var sent = 0
  private var input = [UInt8](repeating: 0, count: 256 << 10)

  init(_ socket: Int32, _ feed: Feed<FileStorage>, downloads: Bool, encrypted: Bool) throws {
    self.socket = socket
    self.feed = feed
    guard fcntl(socket, F_SETFL, O_NONBLOCK) == 0 else { throw BenchError(system: "fcntl") }
    try replicator.share(feed, downloads: downloads)
    let byte: UInt8 = downloads ? 1 : 2
    try replicator.connect(
      0,
      Session.Configuration(
        id: [UInt8](repeating: byte, count: 32), nonce: encrypted ? [UInt8](repeating: byte, count: 24) : nil),
      first: feed.key)
  }

  /// Serves until the other side closes, or downloads until `blocks` are here.
  func run(until blocks: UInt64?) throws {
    while true {
      try write()
      if let blocks, feed.heldBlocks >= blocks { break }
      let events = Int16(POLLIN) | (sent < output.count ? Int16(POLLOUT) : 0)
      var poller = pollfd(fd: socket, events: events, revents: 0)
      guard poll(&poller, 1, 30_000) > 0 else { throw BenchError("nothing moved for 30 seconds") }
      if poller.revents & Int16(POLLIN | POLLHUP) != 0, try !read() { break }
    }
    try feed.flush(durable: false)
  }

  private func read() throws -> Bool {
    let count = Glibc.read(socket, &input, input.count)
    if count == 0 || (count < 0 && errno == ECONNRESET) { return false }
    guard count > 0 else {
      if errno == EAGAIN { return true }
      throw BenchError(system: "read")
    }
    try replicator.receive(Array(input[..<count]), from: 0, now: 1)
    for case .downloaded in replicator.takeEvents() { continue }
    return true
  }

  private func write() throws {
    while true {
      if sent == output.count {
        try replicator.setUnsent(0, on: 0)
        output = replicator.takeOutput(of: 0)
        sent = 0
        if output.isEmpty { return }
      }
      let count = output.withUnsafeBytes {
        send(socket, $0.baseAddress.map { $0 + sent }, $0.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count < 0 {
        if errno == EAGAIN || errno == ECONNRESET || errno == EPIPE { return }
        throw BenchError(system: "send")
      }
      sent += count
      try replicator.setUnsent(output.count - sent, on: 0)
    }
  }
}

extension Workload {
  static let replication: [Workload] = [
    replicate("100-byte blocks", smallBlock, 1_000_000, .atLeast(100_000), reference: 6_000),
    replicate("100-byte blocks, encrypted", smallBlock, 500_000, .none, reference: nil, encrypted: true),
    replicate("64 KiB blocks", largeBlock, 8_000, .atLeast(400), reference: 100),
    replicate("64 KiB blocks, encrypted", largeBlock, 8_000, .none, reference: nil, encrypted: true),
  ]

  private static func replicate(
    _ what: String, _ block: [UInt8], _ blocks: Int, _ goal: Goal, reference: Double?, encrypted: Bool = false
  ) -> Workload {
    let isSmall = block.count < 1000
    return Workload(
      name: "replicate over loopback, both sides on disk: \(what)",
      limit: isSmall
        ? "limit: BLAKE2b of 100-byte blocks and their parents" : "limit: BLAKE2b of 64 KiB blocks",
      goal: goal, reference: reference
    ) { folder, scale in
      let blocks = max(1000, Int(Double(blocks) * scale) / 1000 * 1000)
      let source = try Feed.create(in: folder + "/source")
      let batch = [[UInt8]](repeating: block, count: isSmall ? 1000 : 20)
      for _ in 0..<blocks / batch.count { try source.append(contentsOf: batch) }
      try source.flush(durable: false)
      let (listener, port) = try Loopback.listen()
      let clone = try Child([
        "--clone", folder + "/clone", source.key.hex, String(port), String(blocks), encrypted ? "1" : "0",
      ])
      let socket = accept(listener, nil, nil)
      guard socket >= 0 else { throw BenchError(system: "accept") }
      try LoopbackPeer(socket, source, downloads: false, encrypted: encrypted).run(until: nil)
      let answer = try clone.output().split(separator: " ").compactMap { Double($0) }
      guard answer.count == 2 else { throw BenchError("the clone said nothing") }
      let rate = Double(blocks) / answer[0]
      return Measurement(
        isSmall ? rate : rate * Double(block.count) / 1e6, isSmall ? .perSecond : .megabytes,
        memory: max(Memory.peak(), answer[1]))
    }
  }

  /// The other process of a replication: downloads a feed, and says how long it took and what memory.
  static func clone(_ folder: String, key: String, port: UInt16, blocks: UInt64, encrypted: Bool) throws
    -> String
  {
    guard let key = PublicKey(hex: key) else { throw BenchError("not a key: \(key)") }
    let feed = try Feed(files: Feed<FileStorage>.files(in: folder), key: key)
    let socket = try Loopback.connect(port)
    let elapsed = try seconds {
      try LoopbackPeer(socket, feed, downloads: true, encrypted: encrypted).run(until: blocks)
    }
    close(socket)
    return "\(elapsed) \(Memory.peak())"
  }
}

private enum Loopback {
  /// - Returns: a listening socket and its port.
  static func listen() throws -> (Int32, UInt16) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = address(port: 0)
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, size) == 0 && Glibc.listen(listener, 1) == 0
          && getsockname(listener, $0, &size) == 0
      }
    }
    guard isBound else { throw BenchError(system: "listen on loopback") }
    return (listener, UInt16(bigEndian: address.sin_port))
  }

  static func connect(_ port: UInt16) throws -> Int32 {
    let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = address(port: port)
    let isConnected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isConnected else { throw BenchError(system: "connect to port \(port) on loopback") }
    var one: Int32 = 1
    setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    return connection
  }

  private static func address(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr = in_addr(s_addr: INADDR_LOOPBACK.bigEndian)
    address.sin_port = port.bigEndian
    return address
  }
}
