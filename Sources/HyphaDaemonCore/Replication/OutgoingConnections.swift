public import HyphaControlAPI
public import Logging

/// How long to wait before the next attempt: twice as long after each failure, up to a limit, and less by chance,
/// so that nodes that lost the same peer do not all come back at once.
public struct BackOff: Sendable {
  public var first: Duration
  public var limit: Duration
  /// A connection that stood this long makes the next failure count as the first.
  public var stable: Duration
  /// Failures in a row.
  public private(set) var failures = 0

  public init(first: Duration = .seconds(1), limit: Duration = .seconds(300), stable: Duration = .seconds(60))
  {
    self.first = first
    self.limit = limit
    self.stable = stable
  }

  /// Says how long a connection stood, zero if there was none.
  ///
  /// - Parameter chance: from 0 up to 1.
  /// - Returns: the time to wait, half of it by chance.
  public mutating func ended(after stood: Duration, chance: Double) -> Duration {
    failures = stood >= stable ? 1 : failures + 1
    var delay = first
    for _ in 1..<max(failures, 1) where delay < limit { delay *= 2 }
    return min(delay, limit) * (0.5 + chance / 2)
  }
}

/// Stays connected to a list of nodes.
public actor OutgoingConnections {
  private struct Entry {
    var info: ConnectionInfo
    var task: Task<Void, Never>?
    var transport: ReplicationTransport?
  }

  private let connector: ReplicationConnector
  private let delegate: any EdgeDelegate
  private let backOff: BackOff
  private let logger: Logger
  private var entries: [ReplicationURL: Entry] = [:]
  private var stopped = false

  public init(
    connector: ReplicationConnector, delegate: any EdgeDelegate, backOff: BackOff = BackOff(), logger: Logger
  ) {
    self.connector = connector
    self.delegate = delegate
    self.backOff = backOff
    self.logger = logger
  }

  /// Connects now, and again whenever the connection ends, until ``remove(_:)``. One that is there stays as it is.
  public func add(_ url: ReplicationURL) {
    guard !stopped, entries[url] == nil else { return }
    var entry = Entry(info: ConnectionInfo(url: url.description, state: .connecting))
    entry.task = Task { await self.keep(url) }
    entries[url] = entry
  }

  /// Takes over a connection that was made otherwise, a sign-up's; once it ends, `url` is connected to.
  public func add(_ url: ReplicationURL, connected transport: ReplicationTransport) {
    guard !stopped, entries[url] == nil else { return }
    var entry = Entry(info: ConnectionInfo(url: url.description, state: .connected))
    entry.transport = transport
    entry.task = Task { await self.keep(url, connected: transport) }
    entries[url] = entry
  }

  /// Closes the connection, and does not come back.
  ///
  /// - Returns: false if there is no such connection.
  @discardableResult
  public func remove(_ url: ReplicationURL) -> Bool {
    guard let entry = entries.removeValue(forKey: url) else { return false }
    entry.task?.cancel()
    entry.transport?.close(CloseReason(.normal, "This connection is no longer wanted."))
    return true
  }

  /// How each connection stands, sorted by URL.
  public var statuses: [ConnectionInfo] {
    entries.values.map(\.info).sorted { $0.url < $1.url }
  }

  /// Closes all, for good. What was sent has ``EdgeLimits/stopSeconds`` to leave: a peer that takes nothing must not keep this
  /// node from stopping, nor an attempt that hangs.
  public func stop() async {
    stopped = true
    let tasks = entries.values.compactMap(\.task)
    let transports = entries.values.compactMap(\.transport)
    for entry in entries.values {
      entry.task?.cancel()
      entry.transport?.close(CloseReason(.goingAway, "This node stops."))
    }
    entries = [:]
    let (ended, end) = AsyncStream.makeStream(of: Void.self)
    let all = Task {
      for task in tasks { await task.value }
      end.finish()
    }
    let late = Task {
      try await Task.sleep(for: .seconds(EdgeLimits.stopSeconds))
      for transport in transports { transport.abort() }
      end.finish()
    }
    for await _ in ended {}
    all.cancel()
    late.cancel()
  }

  private func keep(_ url: ReplicationURL, connected first: ReplicationTransport? = nil) async {
    var backOff = backOff
    var transport = first
    while !Task.isCancelled {
      let begun = ContinuousClock.now
      var stood = Duration.zero
      var problem: String?
      do throws(ConnectError) {
        if transport == nil {
          update(url) { $0.state = .connecting }
          let made = try await connector.connect(to: url)
          guard !Task.isCancelled else { return made.close(CloseReason(.normal, "No longer wanted.")) }
          await delegate.attach(made)
          // It may have been removed, and even added again, meanwhile: then it is nobody's to close.
          guard !Task.isCancelled else { return made.close(CloseReason(.normal, "No longer wanted.")) }
          transport = made
        }
        if let open = transport {
          entries[url]?.transport = open
          update(url) {
            $0.state = .connected
            $0.lastError = nil
          }
          logger.info("Connected", metadata: ["url": "\(url)"])
          let reason = await open.untilClosed()
          stood = begun.duration(to: .now)
          problem = reason.text
        }
      } catch {
        problem = error.context
      }
      transport = nil
      guard !Task.isCancelled else { return }
      entries[url]?.transport = nil
      let delay = backOff.ended(after: stood, chance: .random(in: 0..<1))
      let failures = backOff.failures
      update(url) {
        $0.state = .waiting
        $0.lastError = problem
        $0.failures = failures
      }
      // The first is told, the rest only to who looks closer: a peer that is away for a week fills no journal.
      logger.log(
        level: failures == 1 ? .notice : .debug, "Not connected",
        metadata: ["url": "\(url)", "reason": "\(problem ?? "")", "again": "\(delay)"])
      try? await Task.sleep(for: delay)
    }
  }

  private func update(_ url: ReplicationURL, _ change: (inout ConnectionInfo) -> Void) {
    guard var entry = entries[url], !Task.isCancelled else { return }
    change(&entry.info)
    entries[url] = entry
  }
}
