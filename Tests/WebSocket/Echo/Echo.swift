import Glibc
import Hypercore
import HyphaDaemonCore
import Logging
import NIOPosix

/// Serves WebSocket on a port of 127.0.0.1 with the daemon's own handlers, and sends back what it is sent. For
/// `Tests/WebSocket/conformance.py`; it is in no package.
@main
struct Echo: EdgeDelegate {
  let group: MultiThreadedEventLoopGroup

  static func main() async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let server = try await EdgeServer.http(
      at: .address(ListenAddress(host: "127.0.0.1", port: 0)), group: group,
      limiter: ConnectionLimiter(total: 256, perAddress: 256), delegate: Echo(group: group),
      logger: Logger(label: "echo"))
    // Not printed, which would wait in a buffer.
    let line = "\(server.address?.port ?? 0)\n"
    guard write(STDOUT_FILENO, line, line.utf8.count) == line.utf8.count else { return }
    // Until whoever started it closes its standard input.
    while readLine() != nil {}
    await server.stop()
  }

  func wellKnownDat() async -> WellKnownDat? { nil }
  func publicPosts() async -> PublicPosts? { nil }
  func reject(_ kind: String, from address: String) {}
  func health() async -> Health { Health(ready: true, text: "Ready.") }
  func admit(_ request: ReplicationRequest) async -> Admission { .accept }

  func attach(_ transport: ReplicationTransport) async {
    transport.start(on: group.next()) { event in
      if case .bytes(let buffers) = event { for buffer in buffers { transport.send(buffer) } }
    }
  }
}
