import Glibc
import Hypercore
import Hyperdb
import Hypha
public import HyphaControlAPI

/// Devices: how one asks to be let in, how others answer, and what passes between them.
extension Node {
  /// How this node's own request stands, if it made one.
  var ownRequestInfo: OwnRequestInfo? {
    membership?.ownRequest(now: Self.now().milliseconds).map { OwnRequestInfo($0) }
  }

  /// Messages that wait here for the hypha's devices.
  var sealedMessages: Int { membership?.sealed.messages ?? 0 }

  // MARK: - Messages

  /// Takes up requests and messages where they stood.
  func openMembership() throws(NodeError) {
    guard let hypha else { return }
    let state = try files.readMembership()
    let limits = MailboxLimits(
      messages: settings.mailbox.messages, bytes: settings.mailbox.bytes,
      age: Int64(settings.mailbox.days) * 86_400_000)
    let membership = Membership(hypha, channelKey: try files.readChannel(), mailbox: limits, state: state)
    if !membership.isStateIntact {
      logger.error(
        "The file of devices' requests is damaged: those that were answered may be shown once more",
        metadata: ["file": "\(files.folder.path(of: "membership"))"])
    }
    self.membership = membership
  }

  func receive(message: [UInt8], _ id: ConnectionID) {
    guard let transport = connections[id]?.transport else { return }
    membership?.receive(
      message, from: id, address: Self.sender(transport.remoteAddress), now: Self.now().milliseconds)
    recordMembershipEvents()
  }

  /// Where a message comes from, as far as a stranger cannot choose that: an IPv4 address, or the network of an IPv6
  /// address, of which one household has 2^64.
  static func sender(_ address: String) -> String {
    var bytes = in6_addr()
    guard inet_pton(AF_INET6, address, &bytes) == 1 else { return address }
    return withUnsafeBytes(of: &bytes) { Hex.encode($0.prefix(8)) }
  }

  /// Hands the next message for a peer to its connection.
  ///
  /// - Returns: whether there was one.
  func sendMessage(_ id: ConnectionID) -> Bool {
    guard let key = hypha?.source.key, let message = membership?.nextMessage(for: id) else { return false }
    return replicator.send(extension: Self.extensionName, message, feed: key, on: id)
  }

  /// Sees what blocks that came or were made mean for devices, and saves what is to be remembered.
  func lookAtDevices() throws(NodeError) {
    guard let membership else { return }
    membership.tick(now: Self.now().milliseconds)
    recordMembershipEvents()
    try recordRevocations()
    if membership.hasChanged { try files.writeMembership(membership.encodeState()) }
  }

  func recordMembershipEvents() {
    for event in membership?.takeEvents() ?? [] {
      switch event {
      case .requested(let request):
        logger.notice(
          "A device asks to be let in", metadata: ["name": "\(request.name)", "id": "\(request.id.hex)"])
        recordEvent(.requested) { $0.request = RequestInfo(request) }
      case .answered(let request):
        recordEvent(.answered) { $0.request = RequestInfo(request) }
      case .ownAnswered(let request):
        logger.notice("This device's request was answered", metadata: ["state": "\(request.state)"])
        recordEvent(.ownAnswered) { $0.ownRequest = OwnRequestInfo(request) }
      }
    }
  }

  func revokedDevices() throws(NodeError) -> Set<PublicKey> {
    guard let hypha else { return [] }
    do throws(HyphaError) {
      var revoked: Set<PublicKey> = []
      for feed in try hypha.feeds() where try hypha.isRevoked(feed.key) { revoked.insert(feed.key) }
      return revoked
    } catch {
      throw NodeError(opening: error)
    }
  }

  private func recordRevocations() throws(NodeError) {
    let now = try revokedDevices()
    guard now != revoked else { return }
    let devices: [DeviceInfo]
    do throws(ControlError) { devices = try deviceInfos() } catch {
      throw NodeError(.damaged, error.message)
    }
    for device in devices {
      guard let key = PublicKey(hex: device.writer), now.contains(key) != revoked.contains(key) else {
        continue
      }
      logger.notice(
        now.contains(key) ? "A device was revoked" : "A device's revocation was taken back",
        metadata: ["name": "\(device.name)", "writer": "\(device.writer)"])
      recordEvent(now.contains(key) ? .revoked : .restored) { $0.device = device }
    }
    revoked = now
  }

  // MARK: - Signing in and out

  public func signIn(_ params: NodeSignIn.Params) async throws(ControlError) -> NodeSignIn.Result {
    try checkMaySignIn(nil)
    guard let lookup, let outgoing else {
      throw ControlError(.stopping, "The daemon is starting or stopping.")
    }
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
    let writer = KeyPair()
    try keepSecrets(of: key, params.passphrase, domain: domain, writer)
    let record = NodeRecord(
      role: .reader, key: key.hex, domain: domain, deviceName: name,
      writer: writer.publicKey.hex)
    if hypha != nil { closeHypha(CloseReason(.goingAway, "This node signs in.")) }
    do throws(NodeError) {
      try openHypha(record)
      try files.write(record)
      try files.removeSetupCode()
    } catch {
      fail(error)
      throw Self.controlError(error)
    }
    logger.notice(
      "Signed in", metadata: ["hyphalink": "\(record.hyphalink)", "writer": "\(writer.publicKey.hex)"])
    recordEvent(.initialised) { $0.hyphalink = record.hyphalink }
    let request = try makeRequest(params.lifetimeSeconds)
    await outgoing.add(address.url)
    try keepConnection(address.url)
    return NodeSignIn.Result(hyphalink: record.hyphalink, writer: writer.publicKey.hex, request: request)
  }

  /// Derives the hypha's keys from a passphrase, and keeps the one that this device needs, with its own writer's.
  private func keepSecrets(
    of key: PublicKey, _ passphrase: Secret, domain: String, _ writer: borrowing KeyPair
  ) throws(ControlError) {
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
    do throws(NodeError) {
      try files.writeWriter(writer)
      try files.writeChannel(keys.channel)
    } catch {
      throw Self.controlError(error)
    }
  }

  /// - Parameter key: of the hypha, once it is known.
  private func checkMaySignIn(_ key: PublicKey?) throws(ControlError) {
    guard let record else {
      guard candidate == nil else {
        throw ControlError(.alreadyInitialised, "This node is just being set up as an always-on node.")
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

  private func makeRequest(_ lifetimeSeconds: Int?) throws(ControlError) -> OwnRequestInfo {
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
    record.writer = nil
    do throws(NodeError) {
      try files.write(record)
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
    try files.retireLocal()
    if record.role == .reader { try files.removeMembership() }
  }

  // MARK: - Requests

  public func listRequests() async throws(ControlError) -> RequestsList.Result {
    guard record != nil, let membership else { throw Self.notInitialised }
    let sealed = membership.sealed
    return RequestsList.Result(
      requests: membership.requests(now: Self.now().milliseconds).map { RequestInfo($0) },
      canOpen: membership.canOpen, sealedMessages: sealed.messages, sealedBytes: UInt64(sealed.bytes),
      dropped: membership.drops.counts)
  }

  public func findRequest(_ params: RequestsFind.Params) async throws(ControlError) -> RequestInfo {
    guard record != nil, let membership else { throw Self.notInitialised }
    guard membership.canOpen else {
      throw ControlError(
        .readOnly,
        "This node cannot open requests: answer them on a device that may write to the hypha.")
    }
    do throws(HyphaError) {
      return RequestInfo(try membership.find(params.device, now: Self.now().milliseconds))
    } catch {
      throw Self.controlError(error)
    }
  }

  public func approveRequest(_ params: RequestsApprove.Params) async throws(ControlError) -> RequestInfo {
    let (id, membership, name) = try answering(params.id)
    return try await commit { (hypha) throws(HyphaError) in
      try hypha.nameOrigin(name)
      return RequestInfo(
        try membership.approve(id, device: name, now: Self.now().milliseconds, random: Self.random(24)))
    }
  }

  public func denyRequest(_ params: RequestsDeny.Params) async throws(ControlError) -> RequestInfo {
    let (id, membership, name) = try answering(params.id)
    return try await commit { (_) throws(HyphaError) in
      RequestInfo(
        try membership.deny(id, device: name, now: Self.now().milliseconds, random: Self.random(24)))
    }
  }

  private func answering(
    _ id: String
  ) throws(ControlError) -> (RequestID, Membership<FileStorage>, String) {
    guard let membership, let name = record?.deviceName else { throw Self.notInitialised }
    guard let id = RequestID(hex: id) else {
      throw ControlError(.invalidParams, "a request's id is 32 hexadecimal digits", field: "id")
    }
    return (id, membership, name)
  }

  // MARK: - Devices

  public func listDevices() async throws(ControlError) -> DevicesList.Result {
    guard record != nil else { throw Self.notInitialised }
    return DevicesList.Result(devices: try deviceInfos())
  }

  public func findDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    guard record != nil, let hypha else { throw Self.notInitialised }
    let found: PublicKey
    do throws(HyphaError) { found = try hypha.device(named: params.device).writer } catch {
      throw Self.controlError(error)
    }
    return try deviceInfo(found)
  }

  public func renameDevice(_ params: DevicesRename.Params) async throws(ControlError) -> DeviceInfo {
    try await change(params.device) { (hypha, device) throws(HyphaError) in
      try hypha.rename(device.writer, to: params.name)
    }
  }

  public func revokeDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    try await change(params.device) { (hypha, device) throws(HyphaError) in
      // Said by the origin, it is final; said again by the same device, it is nothing new.
      let author = device.revocation?.by
      guard author == nil || author != hypha.source.key && author != hypha.database.local?.key else { return }
      try hypha.revoke(device.writer, now: Self.now().milliseconds)
    }
  }

  public func restoreDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    try await change(params.device) { (hypha, device) throws(HyphaError) in
      if device.revocation != nil { try hypha.restore(device.writer) }
    }
  }

  private func change(
    _ text: String, _ body: @escaping (Hypha<FileStorage>, Device) throws(HyphaError) -> Void
  ) async throws(ControlError) -> DeviceInfo {
    guard record != nil else { throw Self.notInitialised }
    let writer = try await commit { (hypha) throws(HyphaError) in
      let device = try hypha.device(named: text)
      try body(hypha, device)
      return device.writer
    }
    return try deviceInfo(writer)
  }

  private func deviceInfo(_ writer: PublicKey) throws(ControlError) -> DeviceInfo {
    guard let info = try deviceInfos().first(where: { $0.writer == writer.hex }) else {
      throw ControlError(.notFound, "There is no device \(writer.hex).", field: "device")
    }
    return info
  }

  private func deviceInfos() throws(ControlError) -> [DeviceInfo] {
    guard let hypha else { return [] }
    do throws(HyphaError) {
      var devices = try hypha.devices()
      let here = hypha.database.local?.key
      if let name = record?.deviceName {
        for place in devices.indices where devices[place].writer == here && devices[place].name.isEmpty {
          devices[place].name = name
        }
      }
      func name(_ key: PublicKey?) -> String? {
        let name = devices.first { $0.writer == key }?.name
        return name == "" ? nil : name
      }
      return devices.map { device in
        DeviceInfo(
          writer: device.writer.hex, name: device.name, origin: device.isOrigin, here: device.writer == here,
          approved: device.approved.map { Timestamp(milliseconds: $0) }, by: device.approvedBy?.hex,
          byName: name(device.approvedBy),
          revoked: device.revocation.map {
            RevocationInfo(
              at: Timestamp(milliseconds: $0.time), by: $0.by.hex, byName: name($0.by), blocks: $0.blocks)
          })
      }
    } catch {
      throw Self.controlError(error)
    }
  }
}

extension Hypha {
  /// Gives the origin its name, if this is it and it has none.
  fileprivate func nameOrigin(_ name: String) throws(HyphaError) {
    guard database.local === source, try canPost(), let origin = try devices().first, origin.name.isEmpty
    else {
      return
    }
    try rename(source.key, to: name)
  }
}

extension OwnRequestInfo {
  init(_ request: OwnRequest) {
    let state: State =
      switch request.state {
      case .pending: .pending
      case .authorised: .authorised
      case .denied: .denied
      case .expired: .expired
      }
    self.init(
      id: request.id.hex, name: request.name, words: request.words.joined(separator: " "),
      created: Timestamp(milliseconds: request.created), expires: Timestamp(milliseconds: request.expires),
      state: state)
  }
}

extension RequestInfo {
  init(_ request: ReceivedRequest) {
    let state: State =
      switch request.state {
      case .pending: .pending
      case .approved: .approved
      case .denied: .denied
      case .expired: .expired
      }
    self.init(
      id: request.id.hex, name: request.name, writer: request.writer.hex,
      words: request.words.joined(separator: " "), created: Timestamp(milliseconds: request.created),
      expires: Timestamp(milliseconds: request.expires), state: state)
  }
}

extension Drops {
  /// By the names that people see.
  fileprivate var counts: [String: UInt64] {
    let all = [
      "malformed": malformed, "oversized": oversized, "unopened": unopened, "forged": forged,
      "expired": expired, "mistimed": mistimed, "repeated": repeated, "full": full, "limited": limited,
    ]
    return all.filter { $0.value > 0 }.mapValues { UInt64($0) }
  }
}
