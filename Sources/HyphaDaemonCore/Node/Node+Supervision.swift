import Hypercore
import HyphaControlAPI

extension Node {
  /// What the node is and does, for one line of `systemctl status`. Its answer is a sign that the node's own loop runs.
  func summary() -> String {
    if isStopping { return "stopping" }
    guard let record else { return "waits to be set up: hyphactl init, or hyphactl setup-code" }
    let kind =
      switch record.role {
      case .alwaysOn: "always-on node"
      case .origin: "origin"
      default: "device"
      }
    let peers = connections.count == 1 ? "1 node connected" : "\(connections.count) nodes connected"
    let room =
      switch room.state {
      case .enough: ""
      case .low: ", DISK FULL"
      case .quotaReached: ", quota reached"
      }
    return "\(kind), \(peers)\(room)"
  }

  /// Takes over what may change while the node runs.
  func reconfigure(_ new: Configuration) {
    settings.dat = new.dat
    settings.storage = new.storage
    lookAtRoom()
  }
}
