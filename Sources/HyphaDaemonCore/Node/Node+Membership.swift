public import HyphaControlAPI

/// Devices: how one asks to be let in, and how others answer.
extension Node {
  private static let notYet = ControlError(.internalError, "This version cannot authorise devices yet.")

  /// How this node's own request stands, if it made one.
  var ownRequestInfo: OwnRequestInfo? { nil }

  /// Messages that wait here for the hypha's devices.
  var sealedMessages: Int { 0 }

  public func signIn(_ params: NodeSignIn.Params) async throws(ControlError) -> NodeSignIn.Result {
    throw Self.notYet
  }

  public func requestAgain(_ params: NodeRequestAgain.Params) async throws(ControlError) -> OwnRequestInfo {
    throw Self.notYet
  }

  public func signOut() async throws(ControlError) -> NodeSignOut.Result {
    throw Self.notYet
  }

  public func listRequests() async throws(ControlError) -> RequestsList.Result {
    throw Self.notYet
  }

  public func findRequest(_ params: RequestsFind.Params) async throws(ControlError) -> RequestInfo {
    throw Self.notYet
  }

  public func approveRequest(_ params: RequestsApprove.Params) async throws(ControlError) -> RequestInfo {
    throw Self.notYet
  }

  public func denyRequest(_ params: RequestsDeny.Params) async throws(ControlError) -> RequestInfo {
    throw Self.notYet
  }

  public func listDevices() async throws(ControlError) -> DevicesList.Result {
    throw Self.notYet
  }

  public func findDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    throw Self.notYet
  }

  public func renameDevice(_ params: DevicesRename.Params) async throws(ControlError) -> DeviceInfo {
    throw Self.notYet
  }

  public func revokeDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    throw Self.notYet
  }

  public func restoreDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    throw Self.notYet
  }
}
