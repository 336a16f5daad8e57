public import Hypercore

/// How a node that holds no hypha yet comes to keep one: whoever has its setup code offers a hypha, and once a block of it is
/// verified and durable, the node keeps that one, and no other.
///
/// It has no socket, clock or file. The node asks ``answer(to:code:from:holding:isBusy:now:)`` for each offer, opens what it then
/// takes up with ``begin(_:)``, looks at ``claimed(blocks:)`` after every sync, and ends an offer of which nothing came with
/// ``abandon()``.
public struct Claim: Sendable {
  /// What an offer comes to.
  public enum Answer: Equatable, Sendable {
    /// The offer of a hypha that is held here, or taken up already.
    case accept
    /// The first offer of a hypha: open it, and call ``Claim/begin(_:)``.
    case begin
    case refuse(Refusal)
  }

  public enum Refusal: Equatable, Sendable {
    /// This node keeps another hypha.
    case otherHypha
    case missingCode
    /// So many codes were wrong that this one is not looked at.
    case tooManyAttempts
    case wrongCode
    /// The node is about to become something else.
    case busy
    /// Another hypha is taken up, of which no block has come yet.
    case otherOffer
  }

  /// What the owner has to know; `nil` where the node cannot be claimed, because it holds a hypha.
  public var code: SetupCode?
  /// The hypha that is taken up, until a block of it is durable.
  public private(set) var candidate: PublicKey?
  private var attempts = SetupAttempts()

  public init(code: SetupCode? = nil) {
    self.code = code
  }

  /// Decides about an offer.
  ///
  /// - Parameters:
  ///   - key: of the hypha that is offered.
  ///   - text: the setup code, as the owner gave it.
  ///   - place: where the offer comes from, as far as a stranger cannot choose that.
  ///   - held: the hypha that this node keeps.
  ///   - now: seconds on a clock that only goes forward.
  public mutating func answer(
    to key: PublicKey, code text: String?, from place: [UInt8], holding held: PublicKey?, isBusy: Bool,
    now: Double
  ) -> Answer {
    if let held { return held == key ? .accept : .refuse(.otherHypha) }
    guard let text, let code else { return .refuse(.missingCode) }
    guard attempts.isAllowed(place, now: now) else { return .refuse(.tooManyAttempts) }
    guard code.isRight(text) else {
      attempts.failed(place, now: now)
      return .refuse(.wrongCode)
    }
    if isBusy { return .refuse(.busy) }
    guard let candidate else { return .begin }
    return candidate == key ? .accept : .refuse(.otherOffer)
  }

  /// Takes up a hypha, whose feed is open.
  public mutating func begin(_ key: PublicKey) {
    candidate = key
  }

  /// The hypha that this node keeps from now on: remember that durably, and call ``finish()``.
  ///
  /// - Parameter blocks: how many of its first feed are here, verified and durable.
  /// - Returns: `nil` where none is taken up, or nothing of it is here yet.
  public func claimed(blocks: UInt64) -> PublicKey? {
    blocks > 0 ? candidate : nil
  }

  /// The node keeps a hypha: the code is used up.
  public mutating func finish() {
    candidate = nil
    code = nil
  }

  /// The last connection ended before a block came.
  ///
  /// - Returns: whether anything was taken up; clear it away then. The code stays valid.
  public mutating func abandon() -> Bool {
    defer { candidate = nil }
    return candidate != nil
  }
}
