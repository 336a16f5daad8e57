import Glibc
import HyphaControlAPI
public import Logging
import NIOCore
import NIOPosix
import UnixSignals

/// The whole program: opens the state folder, listens, tells systemd, and stops cleanly when it is told to.
public struct Daemon: Sendable {
  /// Why it ended.
  public enum End: Sendable {
    /// It was told to: SIGTERM or SIGINT.
    case signal
    /// The disk failed; the next start recovers from what is on it.
    case failure(NodeError)
  }

  private static let edgeThreads = 2

  let configuration: Configuration
  private let file: String
  private let metrics: MetricsRegistry?
  private let log: LogThreshold?
  let logger: Logger

  /// - Parameters:
  ///   - file: where the configuration was read from, and is read again.
  ///   - metrics: what the process counts with.
  public init(
    _ configuration: Configuration, file: String, metrics: MetricsRegistry? = nil,
    log: LogThreshold? = nil, logger: Logger
  ) {
    self.configuration = configuration
    self.file = file
    self.metrics = metrics
    self.log = log
    self.logger = logger
  }

  /// Runs until it is told to stop.
  ///
  /// - Throws: what keeps it from starting, in one sentence that says what to do.
  public func run() async throws -> End {
    // Taken before anything else, so that a signal during start-up is not lost.
    let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup)
    if let limit = DescriptorLimit.raise() {
      logger.warning(
        "This process may open few files: a hypha with many devices needs more; raise LimitNOFILE",
        metadata: ["limit": "\(limit)"])
    }
    let inherited = try InheritedSockets(ServiceManager.inheritedSockets())
    let certificates = try certificates(inherited)
    let (failures, failed) = AsyncStream.makeStream(of: NodeError.self)
    let folder = try StateFolder(configuration.node.stateFolder)
    let nodeLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let edgeLoops = MultiThreadedEventLoopGroup(numberOfThreads: Self.edgeThreads)
    let node = Node(folder: folder, settings: configuration, loop: nodeLoops.next(), logger: logger) {
      failed.yield($0)
    }
    let servers: Servers
    do {
      try await node.open()
      servers = try await listen(node, edgeLoops, inherited, certificates)
    } catch {
      await node.stop()
      try? await edgeLoops.shutdownGracefully()
      try? await nodeLoops.shutdownGracefully()
      throw error
    }
    let places = servers.edge.compactMap(Self.name).joined(separator: " and ")
    logger.notice(
      "Serving on \(places)", metadata: ["state": "\(folder.path)", "version": "\(ControlAPI.release)"])
    ServiceManager.ready(status: "Serving on \(places)")
    let supervision = Task { await Supervision(node: node, places: places).run() }
    let reminder = certificates.map { Self.remind($0) }
    let reload = reload(node, servers)
    let end = await Self.untilEnd(signals, failures, reload)
    supervision.cancel()
    reminder?.cancel()
    ServiceManager.stopping(status: "Finishing what was begun")
    logger.notice("Stopping")
    await node.stop()
    await withDiscardingTaskGroup { group in
      for server in servers.edge { group.addTask { await server.stop() } }
    }
    await servers.metrics?.stop()
    await servers.control.stop()
    try? await edgeLoops.shutdownGracefully()
    try? await nodeLoops.shutdownGracefully()
    return end
  }

  private struct Servers {
    var control: ControlServer<Node>
    var edge: [EdgeServer]
    var metrics: MetricsServer?
    /// What a reload may change.
    var policy: EdgePolicy
    var certificates: CertificateStore?
    var limiter: ConnectionLimiter
  }

  /// Opens every socket, those that systemd passes on first.
  private func listen(
    _ node: Node, _ loops: MultiThreadedEventLoopGroup, _ inherited: InheritedSockets,
    _ certificates: CertificateStore?
  ) async throws -> Servers {
    let connector = ReplicationConnector(group: loops)
    let outgoing = OutgoingConnections(connector: connector, delegate: node, logger: logger)
    let limiter = ConnectionLimiter(
      total: configuration.replication.maxConnections,
      perAddress: configuration.replication.maxConnectionsPerAddress)
    let policy = EdgePolicy(configuration)
    let (web, places) = try await serveWeb(
      inherited, certificates, node, webFiles(), policy, limiter, loops)
    var edge = web
    if configuration.tcp.enabled {
      edge.append(
        try await EdgeServer.tcp(
          at: .address(configuration.tcp.address), group: loops, limiter: limiter, delegate: node,
          logger: logger))
    }
    await node.serve(outgoing: outgoing, connector: connector, web: places, limiter: limiter)
    let control: ControlServer<Node>
    if let descriptor = inherited.control {
      control = try await ControlServer.start(
        descriptor: descriptor, service: node, eventLoops: loops, logger: logger)
    } else {
      control = try await ControlServer.start(
        path: configuration.control.socket, service: node, eventLoops: loops, logger: logger)
    }
    return Servers(
      control: control, edge: edge, metrics: try await serveMetrics(node, loops), policy: policy,
      certificates: certificates, limiter: limiter)
  }

  /// Prometheus's view of the node, where the settings have an address for it.
  private func serveMetrics(
    _ node: Node, _ loops: MultiThreadedEventLoopGroup
  ) async throws -> MetricsServer? {
    guard let address = configuration.metrics.address, let metrics else { return nil }
    return try await MetricsServer.start(at: address, group: loops) { await node.writeMetrics(to: metrics) }
  }

  /// The web client, if it is there as it was built: another one is not served.
  private func webFiles() -> WebFiles? {
    do throws(WebFiles.Failure) { return try WebFiles(folder: configuration.http.webFolder) } catch {
      logger.error(
        "The web client is not served: install the package hyphad anew",
        metadata: ["reason": "\(error.context)"])
      return nil
    }
  }

  /// What SIGHUP does.
  private func reload(_ node: Node, _ servers: Servers) -> Reload {
    Reload(file: file, begun: configuration, logger: logger) { [log] new in
      log?.level = new.log.level
      servers.policy.apply(new)
      servers.limiter.change(
        total: new.replication.maxConnections, perAddress: new.replication.maxConnectionsPerAddress)
      // One that is taken out of the settings is served until the next start.
      if !new.https.certificate.isEmpty { servers.certificates?.reload(new.https) }
      await node.reconfigure(new)
    }
  }

  private static func untilEnd(
    _ signals: UnixSignalsSequence, _ failures: AsyncStream<NodeError>, _ reload: Reload
  ) async -> End {
    let isInTerminal = isatty(STDIN_FILENO) == 1
    return await withTaskGroup(of: End?.self) { group in
      group.addTask {
        for await signal in signals {
          // A terminal that is closed sends SIGHUP too, and then nobody is left to stop the node.
          guard signal == .sighup, !isInTerminal else { return .signal }
          await reload()
        }
        return nil
      }
      group.addTask {
        for await failure in failures { return .failure(failure) }
        return nil
      }
      defer { group.cancelAll() }
      for await end in group {
        if let end { return end }
      }
      return .signal
    }
  }
}
