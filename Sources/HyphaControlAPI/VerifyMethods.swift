/// A row of numbers without a gap.
public struct NumberRange: Codable, Equatable, Sendable {
  public var first: UInt64
  public var last: UInt64

  public init(first: UInt64, last: UInt64) {
    self.first = first
    self.last = last
  }
}

/// What a check of a feed has found so far.
public struct FeedCheckInfo: Codable, Equatable, Sendable {
  /// Public key, 64 hexadecimal digits.
  public var key: String
  /// This node can append to it.
  public var writable: Bool
  /// Folder of its files.
  public var folder: String
  /// Blocks in the feed.
  public var length: UInt64
  /// Blocks that this node has; the others are with other nodes.
  public var heldBlocks: UInt64
  /// Blocks, tree nodes and signatures that were looked at.
  public var checkedBlocks: UInt64
  public var checkedNodes: UInt64
  public var checkedSignatures: UInt64
  /// Blocks whose bytes are not those that were signed, or that nothing here proves; at most
  /// ``ControlLimits/damagePerFeed`` ranges, as of those below.
  public var damagedBlocks: [NumberRange]
  /// Tree nodes, by their numbers, that do not fit those around them.
  public var damagedNodes: [NumberRange]
  /// Signatures, by the number of the block that they were made with, that are not the owner's over what is here.
  public var damagedSignatures: [NumberRange]
  /// How many blocks, tree nodes and signatures are damaged.
  public var damaged: UInt64

  public init(
    key: String, writable: Bool, folder: String, length: UInt64, heldBlocks: UInt64, checkedBlocks: UInt64,
    checkedNodes: UInt64, checkedSignatures: UInt64, damagedBlocks: [NumberRange],
    damagedNodes: [NumberRange], damagedSignatures: [NumberRange], damaged: UInt64
  ) {
    self.key = key
    self.writable = writable
    self.folder = folder
    self.length = length
    self.heldBlocks = heldBlocks
    self.checkedBlocks = checkedBlocks
    self.checkedNodes = checkedNodes
    self.checkedSignatures = checkedSignatures
    self.damagedBlocks = damagedBlocks
    self.damagedNodes = damagedNodes
    self.damagedSignatures = damagedSignatures
    self.damaged = damaged
  }
}

/// `node.verify`
public enum NodeVerify: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// Of a check that is under way or done; left out, one begins.
    public var id: String?
    /// Answer after so many seconds, done or not: at most ``ControlLimits/verifyWaitSeconds``, and that if left out.
    public var waitSeconds: Double?

    public init(id: String? = nil, waitSeconds: Double? = nil) {
      self.id = id
      self.waitSeconds = waitSeconds
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    /// Names the check in the calls that follow.
    public var id: String
    /// Everything was looked at.
    public var done: Bool
    /// Blocks and places of signatures that were looked at, of `total`.
    public var checked: UInt64
    public var total: UInt64
    public var feeds: [FeedCheckInfo]

    public init(id: String, done: Bool, checked: UInt64, total: UInt64, feeds: [FeedCheckInfo]) {
      self.id = id
      self.done = done
      self.checked = checked
      self.total = total
      self.feeds = feeds
    }
  }

  public static let name = "node.verify"
  public static let summary =
    "Checks every block, hash and signature that the node holds, in slices, while it goes on serving."
  public static let errors: [ControlError.Code] = [.notInitialised, .notFound, .storageFailed]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    if let seconds = params.waitSeconds {
      guard seconds >= 0, seconds <= ControlLimits.verifyWaitSeconds else {
        throw ControlError(
          .invalidParams, "waitSeconds must be 0 to \(Int(ControlLimits.verifyWaitSeconds))",
          field: "waitSeconds")
      }
    }
    return try await service.verify(params)
  }
}

/// `node.repair`
public enum NodeRepair: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// Of a check that is done.
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }

  /// What became of one feed's damage.
  public struct Feed: Codable, Equatable, Sendable {
    public var key: String
    /// Blocks that are not held any longer, and are fetched anew.
    public var droppedBlocks: UInt64
    /// Tree nodes that were worked out from those around them.
    public var rebuiltNodes: UInt64
    /// Signatures of this node's own that were made anew, over the same.
    public var resigned: UInt64
    /// The feed begins anew: nothing that is here proves any of it.
    public var begunAnew: Bool
    /// Blocks that this node held before.
    public var heldBlocks: UInt64

    public init(
      key: String, droppedBlocks: UInt64, rebuiltNodes: UInt64, resigned: UInt64, begunAnew: Bool,
      heldBlocks: UInt64
    ) {
      self.key = key
      self.droppedBlocks = droppedBlocks
      self.rebuiltNodes = rebuiltNodes
      self.resigned = resigned
      self.begunAnew = begunAnew
      self.heldBlocks = heldBlocks
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    /// Those that were damaged.
    public var feeds: [Feed]

    public init(feeds: [Feed]) {
      self.feeds = feeds
    }
  }

  public static let name = "node.repair"
  public static let summary =
    "Mends what a check found damaged: works out what it can, and drops the rest, to fetch it anew from other nodes."
  public static let errors: [ControlError.Code] = [.notInitialised, .notFound, .diskFull, .storageFailed]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.repair(params)
  }
}
