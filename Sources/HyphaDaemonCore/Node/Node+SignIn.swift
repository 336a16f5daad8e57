import Hypercore
import Hypha
public import HyphaControlAPI

/// Signing in to a hypha as a new device, and out again.
extension Node {
  public func signIn(_ params: NodeSignIn.Params) async throws(ControlError) -> NodeSignIn.Result {
    try checkMaySignIn(nil)
    try checkRoom()
    guard let lookup else { throw ControlError(.stopping, "The daemon is starting or stopping.") }
    let name = try checkedDeviceName(params.deviceName)
    let address: HyphaAddress
    let key: PublicKey
    do throws(LookupError) {
      address = try HyphaAddress(params.address)
      key = try await lookup.key(of: address)
    } catch {
      if error.code == .badAddress { throw ControlError(.invalidParams, error.context, field: "address") }
      throw ControlError(.lookupFailed, error.context)
    }
    // Much may have happened meanwhile.
    try checkMaySignIn(key)
    let domain = try normalised(params.domain) ?? address.domain
    if params.asOrigin == true {
      return try await signInAsOrigin(params, key, address, domain: domain, name: name)
    }
    let keys = try keys(of: key, params.passphrase, domain: domain)
    let writer = KeyPair()
    do throws(NodeError) {
      try files.writeWriter(writer)
      try files.writeChannel(keys.channel)
    } catch {
      throw Self.controlError(error)
    }
    let record = NodeRecord(
      role: .reader, key: key.hex, domain: domain, deviceName: name,
      writer: writer.publicKey.hex)
    try becomeDevice(record, at: address.url)
    await connectKept()
    let request = try makeRequest(params.lifetimeSeconds)
    return NodeSignIn.Result(hyphalink: record.hyphalink, writer: writer.publicKey.hex, request: request)
  }

  /// Takes up the first writer's feed where it stopped, once it has come back from the other nodes.
  private func signInAsOrigin(
    _ params: NodeSignIn.Params, _ key: PublicKey, _ address: HyphaAddress, domain: String, name: String
  ) async throws(ControlError) -> NodeSignIn.Result {
    guard record == nil else {
      throw ControlError(
        .alreadyInitialised, "This node keeps the hypha already: be its origin again on a node that is new.")
    }
    let keys = try keys(of: key, params.passphrase, domain: domain)
    do throws(NodeError) { try files.writeSecrets(keys) } catch { throw Self.controlError(error) }
    var record = NodeRecord(role: .origin, key: key.hex, domain: domain, deviceName: name)
    record.catchesUp = true
    try becomeDevice(record, at: address.url)
    await connectKept()
    return NodeSignIn.Result(hyphalink: record.hyphalink, writer: key.hex)
  }

  /// Keeps the connection first: a device that has signed in and is connected to nobody can do neither anything nor that again.
  private func becomeDevice(_ record: NodeRecord, at url: ReplicationURL) throws(ControlError) {
    let kept = try keptConnections()
    try keepConnection(url)
    if hypha != nil { closeHypha(CloseReason(.goingAway, "This node signs in.")) }
    do throws(ControlError) { try become(record) } catch {
      try? keepConnections(kept)
      throw error
    }
  }

  /// Notes that all that this node wrote before is here again. Of its own feed nothing may be missing that it is known to have
  /// signed, whoever has it; of other feeds, what nobody has.
  func finishCatchUp() throws(NodeError) {
    guard var record, record.catchesUp == true, let hypha, hypha.source.length > 0,
      let local = hypha.database.local, replicator.isWhole(local.key), isInSyncWithAllKept,
      (try? hypha.feeds().contains { $0 === local }) == true
    else { return }
    // Nothing that it wrote is anywhere.
    if local.length == 0 { try begin(hypha, local) }
    record.catchesUp = nil
    if isSynced { record.mayBeKnown = nil }
    try files.write(record)
    self.record = record
    logger.notice(
      "All that this device wrote before is here: it may write again",
      metadata: ["length": "\(local.length)"])
  }

  /// Has an origin that has written nothing yet, and whose passphrase may have made its hypha before, be in sync first with the nodes
  /// that it is to stay connected to.
  func catchUpWhereMadeBefore() throws(NodeError) {
    guard var record, record.mayBeKnown == true, record.catchesUp != true, hypha?.source.length == 1 else {
      return
    }
    record.catchesUp = true
    try files.write(record)
    self.record = record
    askForLength()
  }

  private func begin(_ hypha: Hypha<FileStorage>, _ local: Feed<FileStorage>) throws(NodeError) {
    do throws(HyphaError) { try hypha.begin() } catch { throw NodeError(opening: error) }
    replicator.appended(0..<local.length, to: local.key)
    try flushFeeds()
  }

  /// Whether each node that this one stays connected to is there, and both have the same: one of them could have what the
  /// others lack. What strangers say that they have is waited for only where there is no such node.
  private var isInSyncWithAllKept: Bool {
    // Where they cannot be read now, it is not known which there are.
    guard let urls = try? files.readConnections() else { return false }
    let kept = Set(
      (urls.compactMap { try? ReplicationURL($0) } + configuredConnections)
        .map { ReplicationURL($0, target: .hypha).description })
    // Without any, an origin that only may have been made before is as it was before it had one.
    guard !kept.isEmpty else { return isSynced || record?.mayBeKnown == true && hypha?.source.length == 1 }
    var inSync: Set<String> = []
    for (id, attached) in connections where replicator.isSynced(id) {
      if let url = attached.transport.url { inSync.insert(ReplicationURL(url, target: .hypha).description) }
    }
    return kept.allSatisfy { inSync.contains($0) }
  }

  /// Derives the keys of a hypha that exists.
  private func keys(
    of key: PublicKey, _ passphrase: Secret, domain: String
  ) throws(ControlError) -> HyphaKeys {
    let keys: HyphaKeys
    do throws(HyphaError) { keys = try HyphaKeys(Passphrase(typed: passphrase.text), domain: domain) } catch {
      throw Self.controlError(error)
    }
    guard keys.writer.publicKey == key else {
      throw ControlError(
        .wrongPassphrase,
        "That is not the passphrase of this hypha, or it was made with another domain than \(domain).",
        field: "passphrase")
    }
    return keys
  }

  /// - Parameter key: of the hypha, once it is known.
  private func checkMaySignIn(_ key: PublicKey?) throws(ControlError) {
    guard let record else {
      guard claim.candidate == nil, restore == nil else {
        throw ControlError(.alreadyInitialised, "This node is just being set up.")
      }
      return
    }
    guard record.role == .reader, record.writer == nil, key.map({ $0.hex == record.key }) ?? true else {
      throw ControlError(
        .alreadyInitialised,
        record.writer == nil
          ? "This node already keeps the hypha \(record.hyphalink), and keeps that one."
          : "This device has signed in to \(record.hyphalink) already: “hyphactl sign-out” first.")
    }
  }

  public func requestAgain(_ params: NodeRequestAgain.Params) async throws(ControlError) -> OwnRequestInfo {
    guard record != nil else { throw Self.notInitialised }
    return try makeRequest(params.lifetimeSeconds)
  }

  func makeRequest(_ lifetimeSeconds: Int?) throws(ControlError) -> OwnRequestInfo {
    guard let membership, let name = record?.deviceName else { throw Self.notInitialised }
    let request: OwnRequest
    do throws(HyphaError) {
      request = try membership.request(
        name: name, lifetime: lifetimeSeconds.map { Int64($0) * 1000 } ?? HyphaLimits.requestLifetime,
        now: Self.now().milliseconds, random: Self.random(40))
    } catch {
      throw Self.controlError(error)
    }
    guard flushNow() else {
      throw ControlError(.storageFailed, "The request could not be saved: see the daemon's log.")
    }
    return OwnRequestInfo(request)
  }

  public func signOut() async throws(ControlError) -> NodeSignOut.Result {
    guard var record else { throw Self.notInitialised }
    let writer = hypha?.database.local?.key
    guard flushNow() else {
      throw ControlError(.storageFailed, "The last changes could not be made durable.")
    }
    closeHypha(CloseReason(.goingAway, "This node signs out."))
    if record.role != .alwaysOn { record.role = .reader }
    // Without a writer there is nothing to catch up.
    (record.writer, record.catchesUp, record.mayBeKnown) = (nil, nil, nil)
    do throws(NodeError) {
      try files.write(record)
      self.record = record
      try finishSignOut(record)
      try openHypha(record)
    } catch {
      fail(error)
      throw Self.controlError(error)
    }
    logger.notice("Signed out", metadata: ["writer": "\(writer?.hex ?? "none")"])
    recordEvent(.signedOut) { $0.hyphalink = record.hyphalink }
    return NodeSignOut.Result(hyphalink: record.hyphalink, writer: writer?.hex)
  }

  /// Forgets the keys of a node whose record says that it has none.
  func finishSignOut(_ record: NodeRecord) throws(NodeError) {
    guard record.role != .origin, record.writer == nil else { return }
    try files.removeSecrets()
    if try files.retireLocal() {
      logger.error(
        "A feed of this device that cannot be opened was set aside, into damaged/ in the state folder")
    }
    if record.role == .reader { try files.removeMembership() }
  }
}
