extension Configuration {
  /// Settings in which another configuration differs, and which are read at the start alone: `[tcp] address`.
  func changesForTheNextStart(_ new: Configuration) -> [String] {
    let compared: [(String, Bool)] = [
      ("[node] state_folder", node.stateFolder == new.node.stateFolder),
      ("[node] device_name", node.deviceName == new.node.deviceName),
      ("[node] domain", node.domain == new.node.domain),
      ("[node] secrets_credential", node.secretsCredential == new.node.secretsCredential),
      ("[http] address", http.address == new.http.address),
      ("[http] web_folder", http.webFolder == new.http.webFolder),
      ("[https] address", https.address == new.https.address),
      ("[tcp] enabled", tcp.enabled == new.tcp.enabled), ("[tcp] address", tcp.address == new.tcp.address),
      ("[control] socket", control.socket == new.control.socket),
      ("[metrics] address", metrics.address == new.metrics.address),
      ("[connections] urls", connections == new.connections), ("[mailbox]", mailbox == new.mailbox),
    ]
    return compared.filter { !$0.1 }.map(\.0)
  }
}
