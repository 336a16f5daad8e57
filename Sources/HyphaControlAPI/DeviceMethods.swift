/// A request of this node to be let in, as it stands.
public struct OwnRequestInfo: Codable, Equatable, Sendable {
  public enum State: String, Codable, CaseIterable, Sendable {
    /// Nobody has answered yet.
    case pending
    /// This node may write.
    case authorised
    case denied
    /// Nobody answered in time.
    case expired
  }

  /// 32 hexadecimal digits.
  public var id: String
  /// This device's name.
  public var name: String
  /// Four words with a space between, to be compared with those that the approving device shows.
  public var words: String
  public var created: Timestamp
  public var expires: Timestamp
  public var state: State

  public init(
    id: String, name: String, words: String, created: Timestamp, expires: Timestamp, state: State
  ) {
    self.id = id
    self.name = name
    self.words = words
    self.created = created
    self.expires = expires
    self.state = state
  }
}

/// A request of another device to be let in.
public struct RequestInfo: Codable, Equatable, Sendable {
  public enum State: String, Codable, CaseIterable, Sendable {
    case pending, approved, denied, expired
  }

  /// 32 hexadecimal digits; the first 8 are its short id.
  public var id: String
  /// What the device calls itself: whoever has the passphrase may choose any name.
  public var name: String
  /// Public key of the feed that it would write, 64 hexadecimal digits.
  public var writer: String
  /// Four words with a space between, to be compared with those that the device itself shows.
  public var words: String
  public var created: Timestamp
  public var expires: Timestamp
  public var state: State

  public init(
    id: String, name: String, writer: String, words: String, created: Timestamp, expires: Timestamp,
    state: State
  ) {
    self.id = id
    self.name = name
    self.writer = writer
    self.words = words
    self.created = created
    self.expires = expires
    self.state = state
  }
}

/// That a device may write no longer.
public struct RevocationInfo: Codable, Equatable, Sendable {
  public var at: Timestamp
  /// Public key of the device that revoked it, 64 hexadecimal digits.
  public var by: String
  public var byName: String?
  /// So many blocks of its feed count still: what the revoking device had seen.
  public var blocks: UInt64

  public init(at: Timestamp, by: String, byName: String? = nil, blocks: UInt64) {
    self.at = at
    self.by = by
    self.byName = byName
    self.blocks = blocks
  }
}

/// A device that may write to the hypha, or once could.
public struct DeviceInfo: Codable, Equatable, Sendable {
  /// Public key of its feed, 64 hexadecimal digits.
  public var writer: String
  public var name: String
  /// The hypha was made with it: it has the passphrase's own feed.
  public var origin: Bool
  /// It is this node.
  public var here: Bool
  /// When it was let in, by a device that kept note of that.
  public var approved: Timestamp?
  /// Public key of the device that let it in, 64 hexadecimal digits.
  public var by: String?
  public var byName: String?
  /// None while it may write.
  public var revoked: RevocationInfo?
  /// Only devices let it in whose word counts no longer, since they were revoked: it may not write either.
  public var letInByNobody: Bool?

  public init(
    writer: String, name: String, origin: Bool, here: Bool, approved: Timestamp? = nil, by: String? = nil,
    byName: String? = nil, revoked: RevocationInfo? = nil, letInByNobody: Bool? = nil
  ) {
    self.writer = writer
    self.name = name
    self.origin = origin
    self.here = here
    self.approved = approved
    self.by = by
    self.byName = byName
    self.revoked = revoked
    self.letInByNobody = letInByNobody
  }
}

/// `node.signIn`
public enum NodeSignIn: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// The hypha's domain, or the URL of a node that has it.
    public var address: String
    public var passphrase: Secret
    /// The domain that the keys are derived from, where it is not that of `address`.
    public var domain: String?
    /// The host's name if not given.
    public var deviceName: String?
    /// How long the request can be answered: within ``ControlLimits/requestSeconds``, whose most it is if not given.
    public var lifetimeSeconds: Int?
    /// Be the origin again, instead of one more device: for when the node that made the hypha is gone for good.
    public var asOrigin: Bool?

    public init(
      address: String, passphrase: Secret, domain: String? = nil, deviceName: String? = nil,
      lifetimeSeconds: Int? = nil, asOrigin: Bool? = nil
    ) {
      self.asOrigin = asOrigin
      self.address = address
      self.passphrase = passphrase
      self.domain = domain
      self.deviceName = deviceName
      self.lifetimeSeconds = lifetimeSeconds
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    public var hyphalink: String
    /// Public key of this node's own feed, 64 hexadecimal digits.
    public var writer: String
    /// None for the origin, which needs nobody's leave.
    public var request: OwnRequestInfo?

    public init(hyphalink: String, writer: String, request: OwnRequestInfo? = nil) {
      self.hyphalink = hyphalink
      self.writer = writer
      self.request = request
    }
  }
  public static let name = "node.signIn"
  public static let summary =
    "Makes this a device of a hypha that exists, and asks its other devices to let it in."
  public static let errors: [ControlError.Code] = [
    .alreadyInitialised, .lookupFailed, .connectionFailed, .wrongPassphrase, .storageFailed,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try checkLifetime(params.lifetimeSeconds)
    return try await service.signIn(params)
  }
}

/// `node.requestAgain`
public enum NodeRequestAgain: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// As in `node.signIn`.
    public var lifetimeSeconds: Int?

    public init(lifetimeSeconds: Int? = nil) {
      self.lifetimeSeconds = lifetimeSeconds
    }
  }
  public static let name = "node.requestAgain"
  public static let summary = "Asks again to be let in, after a request that was denied or that expired."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .alreadyExists, .revoked, .storageFailed, .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> OwnRequestInfo {
    try checkLifetime(params.lifetimeSeconds)
    return try await service.requestAgain(params)
  }
}

/// `node.signOut`
public enum NodeSignOut: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    public var hyphalink: String
    /// Public key of the feed that this node can write no longer, 64 hexadecimal digits.
    public var writer: String?

    public init(hyphalink: String, writer: String? = nil) {
      self.hyphalink = hyphalink
      self.writer = writer
    }
  }
  public static let name = "node.signOut"
  public static let summary = "Has this node forget its keys for good."
  public static let errors: [ControlError.Code] = [.notInitialised, .storageFailed]

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.signOut()
  }
}

/// `requests.list`
public enum RequestsList: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    /// Pending ones first, newest first; then those that were answered or expired lately.
    public var requests: [RequestInfo]
    /// This node has the key for them; if not, `requests` is empty.
    public var canOpen: Bool
    /// Messages that this node keeps for its hypha's devices.
    public var sealedMessages: Int
    public var sealedBytes: UInt64
    /// How many messages were dropped since the daemon started, by reason; reasons without any may be missing.
    public var dropped: [String: UInt64]

    public init(
      requests: [RequestInfo], canOpen: Bool, sealedMessages: Int, sealedBytes: UInt64,
      dropped: [String: UInt64]
    ) {
      self.requests = requests
      self.canOpen = canOpen
      self.sealedMessages = sealedMessages
      self.sealedBytes = sealedBytes
      self.dropped = dropped
    }
  }
  public static let name = "requests.list"
  public static let summary = "Devices that ask to be let in, and what this node keeps but cannot open."
  public static let errors: [ControlError.Code] = [.notInitialised]

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.listRequests()
  }
}

/// `requests.find`
public enum RequestsFind: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// Its id or the first 8 digits of that, its words, or the device's name where only one pending request has it.
    public var device: String

    public init(device: String) {
      self.device = device
    }
  }
  public static let name = "requests.find"
  public static let summary = "The one pending request that a person means."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .notFound, .requestExpired, .ambiguous, .alreadyAnswered,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> RequestInfo {
    try checkDevice(params.device)
    return try await service.findRequest(params)
  }
}

/// `requests.approve`
public enum RequestsApprove: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// In full, 32 hexadecimal digits: exactly the request that a person was shown.
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }
  public static let name = "requests.approve"
  public static let summary = "Lets a device in, and answers once that is durable."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .behind, .notFound, .limitReached, .requestExpired, .alreadyAnswered, .forked,
    .revoked,
    .storageFailed,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> RequestInfo {
    try checkRequest(params.id)
    return try await service.approveRequest(params)
  }
}

/// `requests.deny`
public enum RequestsDeny: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// In full, 32 hexadecimal digits.
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }
  public static let name = "requests.deny"
  public static let summary = "Tells a device that it is not let in."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .notFound, .requestExpired, .alreadyAnswered, .revoked, .storageFailed,
    .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> RequestInfo {
    try checkRequest(params.id)
    return try await service.denyRequest(params)
  }
}

/// `devices.list`
public enum DevicesList: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    /// The origin first, then in the order in which they were let in.
    public var devices: [DeviceInfo]

    public init(devices: [DeviceInfo]) {
      self.devices = devices
    }
  }
  public static let name = "devices.list"
  public static let summary = "The devices that may write to the hypha, and those that were revoked."
  public static let errors: [ControlError.Code] = [.notInitialised, .storageFailed]

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.listDevices()
  }
}

/// `devices.find`
public enum DevicesFind: ControlMethod {
  public static let name = "devices.find"
  public static let summary = "The one device that a person means."
  public static let errors: [ControlError.Code] = [.notInitialised, .notFound, .ambiguous, .storageFailed]

  public static func call(
    _ params: DeviceParams, on service: some ControlService
  ) async throws(ControlError) -> DeviceInfo {
    try checkDevice(params.device)
    return try await service.findDevice(params)
  }
}

/// What names a device that is let in.
public struct DeviceParams: Codable, Equatable, Sendable {
  /// Its writer's key, a start of that with 8 digits or more that only one has, or its name where only one has that.
  public var device: String

  public init(device: String) {
    self.device = device
  }
}

/// `devices.rename`
public enum DevicesRename: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// As in ``DeviceParams``.
    public var device: String
    /// 1 to 128 bytes.
    public var name: String

    public init(device: String, name: String) {
      self.device = device
      self.name = name
    }
  }
  public static let name = "devices.rename"
  public static let summary = "Gives a device another name, and answers once that is durable."
  public static let errors: [ControlError.Code] = changingErrors

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> DeviceInfo {
    try checkDevice(params.device)
    guard !params.name.allSatisfy(\.isWhitespace) else {
      throw ControlError(.invalidParams, "the name is empty", field: "name")
    }
    return try await service.renameDevice(params)
  }
}

/// `devices.revoke`
public enum DevicesRevoke: ControlMethod {
  public static let name = "devices.revoke"
  public static let summary =
    "Ends a device's right to write: what it wrote beyond what this node has seen counts no longer, anywhere."
  public static let errors: [ControlError.Code] = changingErrors

  public static func call(
    _ params: DeviceParams, on service: some ControlService
  ) async throws(ControlError) -> DeviceInfo {
    try checkDevice(params.device)
    return try await service.revokeDevice(params)
  }
}

/// `devices.restore`
public enum DevicesRestore: ControlMethod {
  public static let name = "devices.restore"
  public static let summary = "Takes a revocation back."
  public static let errors: [ControlError.Code] = changingErrors

  public static func call(
    _ params: DeviceParams, on service: some ControlService
  ) async throws(ControlError) -> DeviceInfo {
    try checkDevice(params.device)
    return try await service.restoreDevice(params)
  }
}

private let changingErrors: [ControlError.Code] = [
  .notInitialised, .readOnly, .behind, .notFound, .ambiguous, .revoked, .storageFailed, .forked,
]

private func checkLifetime(_ seconds: Int?) throws(ControlError) {
  if let seconds, !ControlLimits.requestSeconds.contains(seconds) {
    throw ControlError(
      .invalidParams,
      "lifetimeSeconds must be \(ControlLimits.requestSeconds.lowerBound) to "
        + "\(ControlLimits.requestSeconds.upperBound)", field: "lifetimeSeconds")
  }
}

private func checkDevice(_ device: String) throws(ControlError) {
  guard !device.allSatisfy(\.isWhitespace), device.utf8.count <= ControlLimits.keyBytes else {
    throw ControlError(
      .invalidParams, "a device is named with 1 to \(ControlLimits.keyBytes) bytes", field: "device")
  }
}

private func checkRequest(_ id: String) throws(ControlError) {
  guard id.utf8.count == 32, id.utf8.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else {
    throw ControlError(
      .invalidParams, "a request's id is 32 hexadecimal digits, as requests.list gives it", field: "id")
  }
}
