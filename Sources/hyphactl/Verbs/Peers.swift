import ArgumentParser
import HyphaControlAPI

struct Peers: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the nodes that are connected, and the connections that are kept.")

  @OptionGroup var shared: SharedOptions

  private struct Output: Encodable {
    var peers: [PeerInfo]
    var connections: [ConnectionInfo]
  }

  func run() throws {
    try shared.withDaemon { daemon in
      let output = Output(
        peers: try daemon.call(PeersList.self, Nothing()).peers,
        connections: try daemon.call(ConnectionsList.self, Nothing()).connections)
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
    }
  }
}
