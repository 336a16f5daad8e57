import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// A node that serves readers that come and go: what it takes of the machine stays the same.
///
/// `HYPHA_SOAK_SECONDS` says for how long.
@Suite("Readers that come and go", .fewAtOnce) struct SoakTests {
  private struct Sample: CustomStringConvertible {
    var kilobytes = 0
    var descriptors = 0
    var threads = 0
    var diskBytes = 0

    init(_ node: TestNode) throws {
      guard let pid = node.daemon?.pid else { throw HarnessError("no daemon") }
      let status = try kernelFile("/proc/\(pid)/status")
      func field(_ name: String) -> Int {
        let line = status.split(separator: "\n").first { $0.hasPrefix("\(name):") }
        return line.flatMap { Int($0.split(whereSeparator: \.isWhitespace)[1]) } ?? 0
      }
      kilobytes = field("VmRSS")
      threads = field("Threads")
      descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
      for file in try FileManager.default.subpathsOfDirectory(atPath: node.statePath) {
        var status = stat()
        if stat("\(node.statePath)/\(file)", &status) == 0 { diskBytes += Int(status.st_blocks) * 512 }
      }
    }

    var description: String {
      "\(kilobytes) kB, \(descriptors) descriptors, \(threads) threads, \(diskBytes) bytes on disk"
    }
  }

  /// What one visit of readers of all kinds is.
  private func visit(_ node: TestNode, _ reader: TestNode, count: Int) async throws {
    try await reader.start()
    try await eventually("the reader does not get the posts") {
      try reader.client().call(PostsList.self, .init(limit: 1000)).posts.count == count ? true : nil
    }
    for path in ["/", "/feed.json", "/.well-known/dat", "/no-such-page"] {
      let client = try RawClient(host: node.host, port: node.port)
      client.send("GET \(path) HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
      #expect(try await !client.readToEnd().isEmpty)
    }
    for _ in 0..<5 {
      let caller = try RawCaller(path: node.socket)
      try caller.send(#"{"jsonrpc":"2.0","id":1,"method":"node.status"}"#)
      #expect(try caller.line() != nil)
      try caller.send("no request")
    }
    try await reader.kill()
  }

  @Test("Memory, descriptors, threads and disk stay flat")
  func flat() async throws {
    let seconds = getenv("HYPHA_SOAK_SECONDS").flatMap { Double(String(cString: $0)) } ?? 20
    let node = try await HyphactlTests.origin()
    for number in 0..<50 { _ = try node.client().call(PostsCreate.self, .init(text: "post \(number)")) }
    let link = try node.client().call(NodeStatus.self, .init()).hyphalink
    let reader = try TestNode()
    try await reader.start()
    _ = try reader.client().call(NodeInitialise.self, .init(hyphalink: link))
    _ = try reader.client().call(ConnectionsAdd.self, .init(url: node.url))
    try await reader.kill()
    // What is made once, and kept.
    for _ in 0..<5 { try await visit(node, reader, count: 50) }
    let before = try Sample(node)
    let end = ContinuousClock.now + .seconds(seconds)
    var visits = 0
    while ContinuousClock.now < end || visits < 5 {
      try await visit(node, reader, count: 50)
      visits += 1
    }
    // Connections that were cut are noticed a little later.
    try await eventually("descriptors stay open") {
      try Sample(node).descriptors <= before.descriptors + 2 ? true : nil
    }
    let after = try Sample(node)
    print("\(visits) visits: before \(before); after \(after)")
    #expect(after.kilobytes < before.kilobytes * 5 / 4 + 4096, "\(before), then \(after)")
    #expect(after.threads <= before.threads, "\(before), then \(after)")
    #expect(after.diskBytes <= before.diskBytes + 8192, "\(before), then \(after)")
  }
}
