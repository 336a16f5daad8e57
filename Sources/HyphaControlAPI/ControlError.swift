/// Why a request was refused: the `error` of a JSON-RPC response.
///
/// `message` says what is wrong and what to do next, and never contains a secret.
public struct ControlError: Error, Codable, Equatable, Sendable, CustomStringConvertible {
  /// Codes are stable: none is ever reused for another meaning. Those below zero are JSON-RPC's own; those of this
  /// API are above zero, and so outside the range that JSON-RPC reserves (-32768 to -32000).
  public enum Code: Int, Codable, CaseIterable, Sendable {
    /// The line is not JSON, or not UTF-8.
    case parseError = -32700
    /// The line is JSON, but no request: no method, a bad id, a batch.
    case invalidRequest = -32600
    /// There is no method of this name.
    case methodNotFound = -32601
    /// A parameter is missing or wrong; `data.field` names it.
    case invalidParams = -32602
    /// A fault of the daemon's own; its log says more.
    case internalError = -32603

    /// The caller is neither root, nor the daemon's user, nor in its group.
    case notPermitted = 1001
    /// The node holds no hypha yet.
    case notInitialised = 1002
    /// The node already holds a hypha, and keeps that one.
    case alreadyInitialised = 1003
    /// The node has no writer that is authorised, so it cannot post or delete.
    case readOnly = 1004
    /// The text of a post is empty, or only white space.
    case textEmpty = 1005
    /// The text of a post is longer than 64 KiB of UTF-8.
    case textTooLong = 1006
    /// There is no such post, key, version, device, request, connection or subscription.
    case notFound = 1007
    /// A limit is reached: requests in flight, subscriptions, connections.
    case limitReached = 1008
    /// What was waited for did not happen in time.
    case timedOut = 1009
    /// The setup code was refused by the other node, or is needed and missing.
    case setupCodeRefused = 1010
    /// The other node could not be reached, or answered wrongly.
    case connectionFailed = 1011
    /// There is already such a connection, or such a key.
    case alreadyExists = 1012
    /// The state folder could not be written or read; the log says more.
    case storageFailed = 1013
    /// The daemon is stopping.
    case stopping = 1014
    /// The answer would be longer than a line may be: ask for less.
    case answerTooLong = 1015
    /// Entries that this node's own newest ones refer to are missing; they have to come back from another node first.
    case behind = 1016
    /// A device's request to be let in has expired.
    case requestExpired = 1017
    /// Several devices or requests fit what was given.
    case ambiguous = 1018
    /// A device's request to be let in was approved or denied already.
    case alreadyAnswered = 1019
    /// The keys that come from the passphrase and the domain are not those of the hypha.
    case wrongPassphrase = 1020
    /// This device was revoked: what it writes counts no longer.
    case revoked = 1021
    /// The address could not be asked which hypha it has, or answered wrongly.
    case lookupFailed = 1022
    /// There is no room on the disk: what is here can be read, and nothing can be written until there is.
    case diskFull = 1023
    /// This device's feed was signed in two versions, which contradict each other: it may not write any longer.
    case forked = 1024
    /// The caller may use this node, but is neither root nor the daemon's user, who alone may have its secrets.
    case ownerOnly = 1030
    /// The backup is cut off, was altered, or is none.
    case badBackup = 1031
    /// The backup is encrypted, and its passphrase is missing or wrong.
    case backupPassphrase = 1032

    /// The code's meaning in one sentence, as `rpc.discover` gives it.
    public var meaning: String {
      switch self {
      case .parseError: "The line is not JSON in UTF-8."
      case .invalidRequest: "The line is JSON, but not a request."
      case .methodNotFound: "There is no method of this name."
      case .invalidParams: "A parameter is missing or wrong; data.field names it."
      case .internalError: "A fault of the daemon's own; its log says more."
      case .notPermitted: "The caller is neither root, nor the daemon's user, nor in its group."
      case .notInitialised: "The node holds no hypha yet."
      case .alreadyInitialised: "The node already holds a hypha, and keeps that one."
      case .readOnly: "The node has no authorised writer, so it cannot post or delete."
      case .textEmpty: "The text is empty, or only white space."
      case .textTooLong: "The text is longer than 64 KiB of UTF-8."
      case .notFound: "There is no such post, key, version, device, request, connection or subscription."
      case .limitReached: "Too many requests, subscriptions or connections at a time."
      case .timedOut: "What was waited for did not happen in time."
      case .setupCodeRefused: "The setup code is missing or wrong."
      case .connectionFailed: "The other node could not be reached, or answered wrongly."
      case .alreadyExists: "There is already such a connection, key or hypha."
      case .storageFailed: "The state folder could not be read or written; the log says more."
      case .stopping: "The daemon is stopping."
      case .behind: "Entries that this node's own refer to are missing; they have to come back first."
      case .requestExpired: "The request to be let in has expired; the device has to ask again."
      case .ambiguous: "Several devices or requests fit; name one by its id or words."
      case .alreadyAnswered: "The request to be let in was answered already."
      case .wrongPassphrase: "The passphrase and domain do not give the keys of this hypha."
      case .revoked: "This device was revoked; what it writes counts no longer."
      case .lookupFailed: "The address could not be asked which hypha it has, or did not say so rightly."
      case .diskFull: "There is no room on the disk; nothing can be written until there is."
      case .forked: "This device's feed was signed in two versions; it may not write any longer."
      case .ownerOnly: "Only root and the daemon's own user may have the node's secrets."
      case .badBackup: "The backup is cut off, was altered, or is none."
      case .backupPassphrase: "The backup is encrypted, and its passphrase is missing or wrong."
      case .answerTooLong: "The answer would be longer than a line may be: ask for less."
      }
    }
  }

  /// More about an error, for programs.
  public struct Details: Codable, Equatable, Sendable {
    /// The parameter that is wrong, as a path: `text`, `hyphalink`.
    public var field: String?
    /// What the caller may have meant: the nearest method's name.
    public var suggestion: String?
  }

  /// A ``Code``'s raw value; a client may meet one that is newer than it.
  public var rawCode: Int
  public var message: String
  public var data: Details?

  public var code: Code? { Code(rawValue: rawCode) }

  public init(_ code: Code, _ message: String, field: String? = nil, suggestion: String? = nil) {
    rawCode = code.rawValue
    self.message = message
    data = field == nil && suggestion == nil ? nil : Details(field: field, suggestion: suggestion)
  }

  public var description: String { "\(message) (error \(rawCode))" }

  private enum CodingKeys: String, CodingKey {
    case rawCode = "code"
    case message, data
  }
}
