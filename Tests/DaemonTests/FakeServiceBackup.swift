import HyphaControlAPI

/// What tests of the socket do not ask for.
extension FakeService {
  private var none: ControlError { ControlError(.notFound, "there is none") }

  func beginBackup(_: BackupBegin.Params) async throws(ControlError) -> BackupBegin.Result { throw none }
  func readBackup(_: BackupRead.Params) async throws(ControlError) -> BackupRead.Result { throw none }
  func endBackup(_: BackupRead.Params) async {}
  func beginRestore(_: RestoreBegin.Params) async throws(ControlError) -> RestoreBegin.Result { throw none }
  func writeRestore(_: RestoreWrite.Params) async throws(ControlError) { throw none }
  func finishRestore(_: BackupRead.Params) async throws(ControlError) -> RestoreFinish.Result { throw none }
  func cancelRestore(_: BackupRead.Params) async {}
  func verify(_: NodeVerify.Params) async throws(ControlError) -> NodeVerify.Result { throw none }
  func repair(_: NodeRepair.Params) async throws(ControlError) -> NodeRepair.Result { throw none }
}
