/// One method of the API, as a type: what a caller sends, what it gets, and which function of the service answers.
///
/// Params and results are structs, so that both are always JSON objects: fields can be added, and those that are
/// unknown are ignored.
public protocol ControlMethod: Sendable {
  associatedtype Params: Codable & Sendable
  associatedtype Result: Codable & Sendable
  /// As on the wire: `node.status`.
  static var name: String { get }
  /// What it does, in one sentence.
  static var summary: String { get }
  /// The application errors it may answer with, beside those that every method may.
  static var errors: [ControlError.Code] { get }
  /// Only root and the daemon's own user may call it: it gives out secrets.
  static var isOwnerOnly: Bool { get }
  /// Has `service` answer.
  static func call(_ params: Params, on service: some ControlService) async throws(ControlError) -> Result
}

extension ControlMethod {
  public static var errors: [ControlError.Code] { [] }
  public static var isOwnerOnly: Bool { false }
}

/// No params, or an empty result.
public struct Nothing: Codable, Equatable, Sendable {
  public init() {}

  /// Takes any object, and nothing else.
  public init(from decoder: any Decoder) throws {
    _ = try decoder.container(keyedBy: NoKey.self)
  }

  public func encode(to encoder: any Encoder) throws {
    _ = encoder.container(keyedBy: NoKey.self)
  }

  private enum NoKey: CodingKey {}
}

/// What answers the methods: the node. The control server calls it, from many tasks at a time.
///
/// `rpc.discover` and the subscriptions are the server's own; everything else is here.
public protocol ControlService: Sendable {
  func version() async throws(ControlError) -> NodeVersion.Result
  func status() async throws(ControlError) -> NodeInfo
  func generatePassphrase(_ params: PassphraseGenerate.Params) async throws(ControlError)
    -> PassphraseGenerate.Result
  func initialise(_ params: NodeInitialise.Params) async throws(ControlError) -> NodeInitialise.Result
  /// Returns once the keys are kept and the request is on its way.
  func signIn(_ params: NodeSignIn.Params) async throws(ControlError) -> NodeSignIn.Result
  func requestAgain(_ params: NodeRequestAgain.Params) async throws(ControlError) -> OwnRequestInfo
  /// Returns once the keys are gone from the disk.
  func signOut() async throws(ControlError) -> NodeSignOut.Result
  func setupCode(_ params: SetupCodeShow.Params) async throws(ControlError) -> SetupCodeShow.Result
  func doctor() async throws(ControlError) -> NodeDoctor.Result
  func auditWeb(_ params: WebAudit.Params) async throws(ControlError) -> WebAudit.Result
  /// Returns once the post is durable.
  func createPost(_ params: PostsCreate.Params) async throws(ControlError) -> PostsCreate.Result
  func listPosts(_ params: PostsList.Params) async throws(ControlError) -> PostsList.Result
  /// Returns once the deletion is durable.
  func deletePost(_ params: PostsDelete.Params) async throws(ControlError) -> PostsDelete.Result
  func databaseGet(_ params: DatabaseGet.Params) async throws(ControlError) -> KeyInfo
  /// Returns once the change is durable, as do the other two that write.
  func databasePut(_ params: DatabasePut.Params) async throws(ControlError) -> WrittenInfo
  func databaseDelete(_ params: DatabaseDelete.Params) async throws(ControlError) -> WrittenInfo
  func databaseList(_ params: DatabaseList.Params) async throws(ControlError) -> DatabaseList.Result
  func databaseHistory(_ params: DatabaseHistory.Params) async throws(ControlError) -> DatabaseHistory.Result
  func authorize(_ params: DatabaseAuthorize.Params) async throws(ControlError) -> DatabaseAuthorize.Result
  func listRequests() async throws(ControlError) -> RequestsList.Result
  func findRequest(_ params: RequestsFind.Params) async throws(ControlError) -> RequestInfo
  /// Returns once the device may write, durably, as do the others that change something about devices.
  func approveRequest(_ params: RequestsApprove.Params) async throws(ControlError) -> RequestInfo
  func denyRequest(_ params: RequestsDeny.Params) async throws(ControlError) -> RequestInfo
  func listDevices() async throws(ControlError) -> DevicesList.Result
  func findDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo
  func renameDevice(_ params: DevicesRename.Params) async throws(ControlError) -> DeviceInfo
  func revokeDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo
  func restoreDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo
  func listPeers() async throws(ControlError) -> PeersList.Result
  func addConnection(_ params: ConnectionsAdd.Params) async throws(ControlError) -> ConnectionInfo
  func removeConnection(_ params: ConnectionsRemove.Params) async throws(ControlError)
    -> ConnectionsRemove.Result
  func listConnections() async throws(ControlError) -> ConnectionsList.Result
  func beginBackup(_ params: BackupBegin.Params) async throws(ControlError) -> BackupBegin.Result
  func readBackup(_ params: BackupRead.Params) async throws(ControlError) -> BackupRead.Result
  func endBackup(_ params: BackupRead.Params) async
  func beginRestore(_ params: RestoreBegin.Params) async throws(ControlError) -> RestoreBegin.Result
  func writeRestore(_ params: RestoreWrite.Params) async throws(ControlError)
  /// Returns once the node is durably what the backup says.
  func finishRestore(_ params: BackupRead.Params) async throws(ControlError) -> RestoreFinish.Result
  func cancelRestore(_ params: BackupRead.Params) async
  func verify(_ params: NodeVerify.Params) async throws(ControlError) -> NodeVerify.Result
  /// Returns once what was dropped is durably not held.
  func repair(_ params: NodeRepair.Params) async throws(ControlError) -> NodeRepair.Result
  /// Waits until the condition holds, or throws `timedOut`. Its task is cancelled when the caller goes away.
  func wait(_ params: NodeWait.Params) async throws(ControlError) -> NodeInfo
  /// All events after the one with id `after` that are still kept, then those that follow, without a gap; with
  /// `nil`, those from now on. The stream ends by itself if its reader is too slow, or when the node stops.
  func events(after: UInt64?) async -> AsyncStream<ControlEvent>
}
