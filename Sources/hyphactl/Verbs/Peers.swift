import ArgumentParser
import HyphaControlAPI

struct Peers: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the nodes that are connected, the connections that are kept, and who was turned away.")

  @OptionGroup var shared: SharedOptions

  private struct Output: Encodable {
    var peers: [PeerInfo]
    var connections: [ConnectionInfo]
    var rejected: [RejectedInfo]?
    var refusedConnections: UInt64?
    var droppedMessages: [String: UInt64]?
  }

  func run() throws {
    try shared.withDaemon { daemon in
      let list = try daemon.call(PeersList.self, Nothing())
      let output = Output(
        peers: list.peers, connections: try daemon.call(ConnectionsList.self, Nothing()).connections,
        rejected: list.rejected, refusedConnections: list.refusedConnections,
        droppedMessages: list.droppedMessages)
      if shared.json { return try Console.printJSON(output) }
      for peer in output.peers {
        Console.print(
          "\(peer.address)  \(peer.direction.rawValue), \(peer.transport), since \(peer.connected), "
            + "\(Status.size(peer.bytesReceived)) received, \(Status.size(peer.bytesSent)) sent, "
            + (peer.synced ? "in sync" : "not in sync"))
      }
      for connection in output.connections where connection.state != .connected {
        let reason = connection.lastError.map { ": \(Console.printable($0))" } ?? ""
        Console.print("\(connection.url)  not connected\(reason)")
      }
      for rejected in output.rejected ?? [] {
        Console.print(
          "\(Console.printable(rejected.address))  rejected: \(Console.printable(rejected.kind)), "
            + "\(rejected.count) times, last \(rejected.last)")
      }
      if let refused = output.refusedConnections, refused > 0 {
        Console.print("\(refused) connections turned away: too many at one time")
      }
      if let reasons = Requests.reasons(list.droppedMessages ?? [:]) {
        Console.print("messages to devices dropped: \(reasons)")
      }
    }
  }
}
