import Hypercore
import Hypha
public import HyphaControlAPI

/// The devices that may write to the hypha, and those that were revoked.
extension Node {
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
    // Also where room is low: it may be the one who takes it up.
    try await change(params.device, isUrgent: true) { (hypha, device) throws(HyphaError) in
      // Said by the origin, it is final; said again by the same device, it is nothing new.
      let author = device.revocation?.by
      guard author == nil || author != hypha.source.key && author != hypha.database.local?.key else { return }
      try hypha.revoke(device.writer, now: Self.now().milliseconds)
    }
  }

  public func restoreDevice(_ params: DeviceParams) async throws(ControlError) -> DeviceInfo {
    try await change(params.device) { (hypha, device) throws(HyphaError) in
      if device.revocation != nil { try hypha.restore(device.writer) }
      guard try !hypha.isRevoked(device.writer) else {
        throw HyphaError(.needsNewWriter, "only devices let it in that were revoked")
      }
    }
  }

  private func change(
    _ text: String, isUrgent: Bool = false,
    _ body: @escaping (Hypha<FileStorage>, Device) throws(HyphaError) -> Void
  ) async throws(ControlError) -> DeviceInfo {
    guard record != nil else { throw Self.notInitialised }
    let writer = try await commit(isUrgent: isUrgent) { (hypha) throws(HyphaError) in
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
          }, letInByNobody: device.isLetInByNobody ? true : nil)
      }
    } catch {
      throw Self.controlError(error)
    }
  }

  // MARK: - Revocations

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

  /// Notes who was revoked or restored since this was last called.
  func recordRevocations() throws(NodeError) {
    let now = try revokedDevices()
    guard now != revoked else { return }
    let before = revoked
    revoked = now
    let devices: [DeviceInfo]
    do throws(ControlError) { devices = try deviceInfos() } catch {
      // It counts all the same; only who it was is not told.
      logger.warning("Who was revoked cannot be read", metadata: ["reason": "\(error.message)"])
      return
    }
    for device in devices {
      guard let key = PublicKey(hex: device.writer), now.contains(key) != before.contains(key) else {
        continue
      }
      logger.notice(
        now.contains(key) ? "A device was revoked" : "A device's revocation was taken back",
        metadata: ["name": "\(device.name)", "writer": "\(device.writer)"])
      recordEvent(now.contains(key) ? .revoked : .restored) { $0.device = device }
    }
  }
}
