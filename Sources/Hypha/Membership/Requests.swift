public import Hypercore

/// This device's own request, and how it stands.
public struct OwnRequest: Equatable, Sendable {
  public enum State: Equatable, Sendable {
    case pending
    case authorised
    case denied
    case expired
  }

  public var id: RequestID
  public var name: String
  /// To be compared with those that the other device shows.
  public var words: [String]
  /// Milliseconds since 1970.
  public var created: Int64
  public var expires: Int64
  public var state: State
}

/// Another device's request, and how it stands.
public struct ReceivedRequest: Equatable, Sendable {
  public enum State: Equatable, Sendable {
    case pending
    case approved
    case denied
    case expired
  }

  public var id: RequestID
  /// What the device calls itself; anybody who has the passphrase can choose any name.
  public var name: String
  public var writer: PublicKey
  /// To be compared with those that the device itself shows.
  public var words: [String]
  /// Milliseconds since 1970.
  public var created: Int64
  public var expires: Int64
  public var state: State
}

/// Messages that were dropped, by reason.
public struct Drops: Equatable, Sendable {
  /// No sealed message, or not what belongs in one.
  public var malformed = 0
  /// Over ``HyphaLimits/messageBytes``.
  public var oversized = 0
  /// Sealed with another key, or altered.
  public var unopened = 0
  /// A request without a proof by the key that it asks for.
  public var forged = 0
  /// A request that nobody may answer any more, unless the clock here is ahead.
  public var expired = 0
  /// A request made in the future, unless the clock here is behind, or one that could be answered for longer than is allowed.
  public var mistimed = 0
  /// A request that was here before.
  public var repeated = 0
  /// More requests than are remembered.
  public var full = 0
  /// More messages than one sender may send, or all together.
  public var limited = 0
}

/// The requests that this node has opened. Every id is remembered until its request has expired, so that none is ever
/// taken for a new one.
struct RequestBook {
  struct Entry: Equatable {
    var request: AuthorisationRequest
    var answer: AuthorisationAnswer.Kind?
  }

  /// In the order in which they came.
  private(set) var entries: [Entry] = []
  private var places: [RequestID: Int] = [:]

  subscript(_ id: RequestID) -> Entry? { places[id].map { entries[$0] } }

  /// Whether there is room for a further request, after those that expired first have made some.
  mutating func hasRoom(now: Int64) -> Bool {
    if entries.count >= HyphaLimits.rememberedRequests {
      replace(entries.filter { $0.request.expires > now })
    }
    let pending = entries.count { $0.answer == nil && $0.request.expires > now }
    return entries.count < HyphaLimits.rememberedRequests && pending < HyphaLimits.pendingRequests
  }

  mutating func add(_ entry: Entry) {
    places[entry.request.id] = entries.count
    entries.append(entry)
  }

  mutating func answer(_ id: RequestID, _ answer: AuthorisationAnswer.Kind) {
    if let place = places[id] { entries[place].answer = answer }
  }

  /// Forgets what expired long ago.
  ///
  /// - Returns: whether there was any.
  mutating func expire(now: Int64) -> Bool {
    let kept = entries.filter { $0.request.expires + HyphaLimits.requestLifetime > now }
    guard kept.count < entries.count else { return false }
    replace(kept)
    return true
  }

  private mutating func replace(_ kept: [Entry]) {
    entries = []
    places = [:]
    for entry in kept { add(entry) }
  }
}
