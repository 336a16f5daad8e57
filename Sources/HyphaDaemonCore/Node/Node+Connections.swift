import Hypercore
public import HyphaControlAPI

/// The nodes that this node stays connected to: those of the configuration, and those that were added and are kept
/// in the state folder.
extension Node {
  /// Connects to all that are configured or kept.
  func connectKept() async {
    guard record != nil, let outgoing else { return }
    if !configuredConnections.isEmpty {
      do throws(NodeError) { try catchUpWhereMadeBefore() } catch { return fail(error) }
    }
    for url in configuredConnections { await outgoing.add(url) }
    var kept: [String] = []
    do throws(ControlError) { kept = try keptConnections() } catch {
      logger.error("The kept connections cannot be read", metadata: ["reason": "\(error)"])
    }
    for text in kept {
      do throws(ReplicationURL.ParseError) {
        await outgoing.add(try ReplicationURL(text))
      } catch {
        logger.warning("A kept connection is no URL", metadata: ["reason": "\(error)"])
      }
    }
  }

  /// Those of the configuration, but for those that were ended since the daemon started.
  var configuredConnections: [ReplicationURL] {
    settings.connections.urls.filter { !endedConnections.contains($0) }
  }

  public func addConnection(_ params: ConnectionsAdd.Params) async throws(ControlError) -> ConnectionInfo {
    guard let key = record?.publicKey, let outgoing else { throw Self.notInitialised }
    let url = try Self.url(params.url)
    // Where they cannot be read, none is added in their place.
    let isKept = try keptConnections().contains(url.description) || configuredConnections.contains(url)
    if let code = params.setupCode {
      // A node that was set back after it had been claimed is claimed anew.
      if isKept, await outgoing.statuses.first(where: { $0.url == url.description })?.state == .connected {
        throw Self.alreadyConnected(url)
      }
      let transport = try await signUp(url, key, code)
      await outgoing.remove(url)
      await attach(transport)
      await outgoing.add(url, connected: transport)
      try keepConnection(url)
    } else {
      guard !isKept else { throw Self.alreadyConnected(url) }
      try keepConnection(url)
      // Before anything can be posted meanwhile. Who was just claimed has nothing of it.
      do throws(NodeError) { try catchUpWhereMadeBefore() } catch { throw Self.controlError(error) }
      await outgoing.add(url)
    }
    endedConnections.remove(url)
    return await outgoing.statuses.first { $0.url == url.description }
      ?? ConnectionInfo(url: url.description, state: .connecting)
  }

  private static func alreadyConnected(_ url: ReplicationURL) -> ControlError {
    ControlError(.alreadyExists, "This node is already connected to \(url).", field: "url")
  }

  public func removeConnection(
    _ params: ConnectionsRemove.Params
  ) async throws(ControlError) -> ConnectionsRemove.Result {
    let url = try Self.url(params.url)
    let kept = try keptConnections()
    let others = kept.filter { $0 != url.description }
    // First, so that where that fails it can be tried again.
    if others != kept { try keepConnections(others) }
    let isEnded = await outgoing?.remove(url) == true
    guard isEnded || others != kept else {
      throw ControlError(.notFound, "This node keeps no connection to \(url).", field: "url")
    }
    endedConnections.insert(url)
    return ConnectionsRemove.Result(url: url.description)
  }

  /// Claims an uninitialised always-on node for this node's hypha.
  private func signUp(
    _ url: ReplicationURL, _ key: PublicKey, _ code: Secret
  ) async throws(ControlError) -> ReplicationTransport {
    guard let connector else { throw Self.notInitialised }
    do throws(ConnectError) {
      return try await connector.connect(to: ReplicationURL(url, target: .signUp(key)), setupCode: code)
    } catch {
      if case .refused = error.code { throw ControlError(.setupCodeRefused, error.context) }
      throw ControlError(.connectionFailed, error.context)
    }
  }

  private static func url(_ text: String) throws(ControlError) -> ReplicationURL {
    do throws(ReplicationURL.ParseError) { return try ReplicationURL(text) } catch {
      throw ControlError(.invalidParams, error.description, field: "url")
    }
  }

  /// Connects to a node from now on.
  func keepConnection(_ url: ReplicationURL) throws(ControlError) {
    try keepConnections(keptConnections().filter { $0 != url.description } + [url.description])
  }

  func keptConnections() throws(ControlError) -> [String] {
    do throws(NodeError) { return try files.readConnections() } catch { throw Self.controlError(error) }
  }

  func keepConnections(_ urls: [String]) throws(ControlError) {
    do throws(NodeError) { try files.writeConnections(urls) } catch { throw Self.controlError(error) }
  }
}
