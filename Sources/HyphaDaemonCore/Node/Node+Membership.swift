import Glibc
import Hypercore
import Hyperdb
import Hypha
public import HyphaControlAPI

/// Devices: how one asks to be let in, how others answer, and what passes between them.
extension Node {
  /// How often messages that only pass through are saved: at once as often as this, and then each so many milliseconds.
  private static let messageSavesAtOnce: Int64 = 12
  private static let messagesInterval: Int64 = 5_000

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
  static func sender(_ address: String) -> String { IPAddress(address)?.householdName ?? address }

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
    // With no room left they are remembered in memory, and written once there is.
    guard isMembershipDue, room.state != .low else { return }
    if !membership.hasPromises {
      messageSavesUntil = max(messageSavesUntil, monotonic) + Self.messagesInterval
    }
    try files.writeMembership(membership.encodeState())
  }

  /// Whether requests and messages are to be saved now: what this node has promised to remember always, what only passes through
  /// unless that was done too often of late, since strangers choose how often that changes.
  var isMembershipDue: Bool {
    guard let membership, membership.hasChanged else { return false }
    return membership.hasPromises || isStopping
      || messageSavesUntil - monotonic <= Self.messagesInterval * (Self.messageSavesAtOnce - 1)
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
    let (id, name) = try answering(params.id)
    return try await commit { (hypha) throws(HyphaError) in
      try hypha.nameOrigin(name)
      return RequestInfo(
        try self.currentMembership.approve(
          id, device: name, now: Self.now().milliseconds, random: Self.random(24)))
    }
  }

  public func denyRequest(_ params: RequestsDeny.Params) async throws(ControlError) -> RequestInfo {
    let (id, name) = try answering(params.id)
    return try await commit { (_) throws(HyphaError) in
      RequestInfo(
        try self.currentMembership.deny(
          id, device: name, now: Self.now().milliseconds, random: Self.random(24)))
    }
  }

  /// As it is when a change is carried out: the hypha may have been opened anew since it was asked for.
  private var currentMembership: Membership<FileStorage> {
    get throws(HyphaError) {
      guard let membership else { throw HyphaError(.readOnly, "the hypha is not open") }
      return membership
    }
  }

  private func answering(_ id: String) throws(ControlError) -> (RequestID, String) {
    guard membership != nil, let name = record?.deviceName else { throw Self.notInitialised }
    guard let id = RequestID(hex: id) else {
      throw ControlError(.invalidParams, "a request's id is 32 hexadecimal digits", field: "id")
    }
    return (id, name)
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
  var counts: [String: UInt64] {
    let all = [
      "malformed": malformed, "oversized": oversized, "unopened": unopened, "forged": forged,
      "expired": expired, "mistimed": mistimed, "repeated": repeated, "full": full, "limited": limited,
    ]
    return all.filter { $0.value > 0 }.mapValues { UInt64($0) }
  }
}
