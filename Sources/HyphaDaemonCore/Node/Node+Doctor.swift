import Glibc
import Hypercore
import Hypha
public import HyphaControlAPI

/// Looks at the node's own set-up as somebody would who was asked why it does not work.
extension Node {
  private typealias Check = NodeDoctor.Check

  public func doctor() async throws(ControlError) -> NodeDoctor.Result {
    lookAtRoom()
    let status = try info()
    var checks = [hyphaCheck(status), diskCheck(), folderCheck()]
    if let check = forksCheck(status) { checks.append(check) }
    if let check = requestsCheck() { checks.append(check) }
    checks.append(webClientCheck())
    checks.append(await webAddressCheck())
    if let check = certificateCheck() { checks.append(check) }
    checks.append(await domainCheck())
    checks.append(await peersCheck(status))
    return NodeDoctor.Result(checks: checks)
  }

  private func hyphaCheck(_ status: NodeInfo) -> Check {
    if let reason = status.notReady {
      return Check(
        "hypha", .problem, reason,
        advice: record == nil
          ? "Make one with “hyphactl init”, claim this node from your own with “hyphactl connect”, or open its web "
            + "address with the link of “hyphactl setup-code”." : nil)
    }
    if status.feeds.contains(where: { $0.writable && $0.forkedAt != nil }) {
      return Check("hypha", .problem, "This device may not write any longer: see “forks”.")
    }
    let count = status.feeds.count == 1 ? "1 feed" : "\(status.feeds.count) feeds"
    switch status.role {
    case .revoked:
      return Check(
        "hypha", .problem, "This device was revoked: what it writes counts no longer.",
        advice: "To have it let in anew, “hyphactl sign-out” and then “hyphactl sign-in”.")
    case .origin where !status.canPost || record?.catchesUp == true,
      .authorised where !status.canPost:
      return Check(
        "hypha", .warning, "This node may not post before it has got back what it wrote before.",
        advice: "Connect it to a node that holds its feed: “hyphactl connect”.")
    case .reader:
      let request = status.request.map { " Its request to be let in is \($0.state.rawValue)." } ?? ""
      return Check(
        "hypha", .warning, "This node reads only.\(request)",
        advice: status.request?.state == .pending
          ? "Answer it on a device that may post: “hyphactl requests”."
          : "To post from here, “hyphactl sign-in”.")
    default:
      return Check(
        "hypha", .good, "\(status.canPost ? "May post" : "Keeps the hypha for your devices"); \(count).")
    }
  }

  private func diskCheck() -> Check {
    let free = room.freeBytes.map { "\($0 >> 20) MiB free" } ?? "free room unknown"
    switch room.state {
    case .low:
      return Check(
        "disk", .problem, "The disk is full (\(free)): nothing is posted or fetched.", advice: roomAdvice)
    case .quotaReached:
      return Check(
        "disk", .warning, "Other writers' feeds have reached their quota: no more of them is fetched.",
        advice: "Raise quota_bytes in [storage].")
    case .enough where room.freeBytes.map { $0 < 4 * settings.storage.reserveBytes } ?? false:
      return Check(
        "disk", .warning, "Little room is left (\(free)).",
        advice: "With less than \(settings.storage.reserveBytes >> 20) MiB nothing is posted or fetched.")
    case .enough:
      return Check("disk", room.freeBytes == nil ? .unknown : .good, "\(free).")
    }
  }

  /// Others must not be able to look into the state folder.
  private func folderCheck() -> Check {
    let path = files.folder.path
    for name in [path, "\(path)/secrets", "\(path)/secrets/writer", "\(path)/secrets/channel"] {
      var status = stat()
      guard lstat(name, &status) == 0 else { continue }
      guard status.st_mode & 0o077 == 0 else {
        return Check(
          "secrets", .problem, "Others on this machine may look into \(name).",
          advice: "chmod go= \(name); if others may have looked, revoke this device and sign in anew.")
      }
      guard status.st_uid == geteuid() else {
        return Check(
          "secrets", .problem, "\(name) belongs to another user (\(status.st_uid)).",
          advice: "chown -R hypha:hypha \(path), if hyphad runs as hypha.")
      }
    }
    let sealed = !settings.node.secretsCredential.isEmpty
    return Check("secrets", .good, sealed ? "Private, and sealed under a credential." : "Private.")
  }

  private func forksCheck(_ status: NodeInfo) -> Check? {
    let forked = status.feeds.filter { $0.forkedAt != nil }
    guard let feed = forked.first(where: { $0.writable }) ?? forked.first, let blocks = feed.forkedAt else {
      return nil
    }
    if feed.writable {
      return Check(
        "forks", .problem,
        "This device's feed was signed in two versions that have \(blocks) blocks in common: its state was copied or set back. "
          + "It may not write any longer.",
        advice: status.role == .origin
          ? "Post from another device of the hypha. Never run two nodes on one state folder, and never put an old copy in its "
            + "place; “hyphactl backup” and “hyphactl restore” are safe."
          : "“hyphactl sign-out” and then “hyphactl sign-in” give it a new feed. What was posted after these blocks is to be posted "
            + "anew.")
    }
    let others = forked.count == 1 ? "" : " So were \(forked.count - 1) others."
    return Check(
      "forks", .problem,
      "The feed \(feed.key.prefix(8))… was signed in two versions; only the first \(blocks) blocks count.\(others)",
      advice:
        "The device that it belongs to was copied or set back, or somebody has its key: “hyphactl devices” names it, “hyphactl "
        + "revoke” shuts it out, and it can sign in anew.")
  }

  private func requestsCheck() -> Check? {
    guard let membership, membership.canOpen else { return nil }
    let pending = membership.requests(now: Self.now().milliseconds).filter { $0.state == .pending }
    guard !pending.isEmpty else { return nil }
    return Check(
      "requests", .warning,
      pending.count == 1 ? "A device asks to be let in." : "\(pending.count) devices ask to be let in.",
      advice: "“hyphactl requests” shows them.")
  }

  private func webClientCheck() -> Check {
    do throws(WebFiles.Failure) {
      let files = try WebFiles(folder: settings.http.webFolder)
      return Check("page", .good, "The web client \(files.version) is as it was built.")
    } catch {
      return Check(
        "page", .problem, "The web client is not served: \(error.context).",
        advice: "Install the package hyphad anew.")
    }
  }

  /// Asks itself over its own web address.
  private func webAddressCheck() async -> Check {
    guard let connector, let address = ownAddress else {
      return Check("web", .unknown, "The web address is not one that this machine can ask by itself.")
    }
    do throws(LookupError) {
      let answer = try await HTTPFetch(connector).get(
        "/healthz", of: address, limit: ReplicationLimits.wellKnownBytes)
      return Check("web", .good, "\(address.address(of: "/")) answers (\(answer.status)).")
    } catch {
      return Check(
        "web", .problem, "The web address does not answer. \(error.context)",
        advice: "See what else uses the port: ss -ltnp.")
    }
  }

  /// Where this machine itself finds the plain web address, if that is not for another address of it alone.
  private var ownAddress: HyphaAddress? {
    guard let port = web.httpPort else { return nil }
    let host = settings.http.address.host
    let own = ["0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"][host] ?? host
    guard own.hasPrefix("127.") || own == "[::1]" || own == "localhost" else { return nil }
    do throws(LookupError) { return try HyphaAddress("http://\(own):\(port)") } catch { return nil }
  }

  private func certificateCheck() -> Check? {
    guard let certificates = web.https?.certificates else { return nil }
    let days = (certificates.expires.milliseconds - Self.now().milliseconds) / 86_400_000
    let names = certificates.names.joined(separator: ", ")
    if let domain = record?.domain ?? domain, domain != "localhost", !certificates.isFor(domain) {
      return Check(
        "certificate", .problem, "The certificate is for \(names), not for \(domain).",
        advice: "Get one for \(domain), and set certificate and key in [https].")
    }
    guard days >= 0 else {
      return Check(
        "certificate", .problem, "The certificate ended on \(certificates.expires).",
        advice: "Renew it, and then “systemctl reload hyphad”.")
    }
    guard days > CertificateStore.warningDays else {
      return Check(
        "certificate", .warning, "The certificate ends in \(days) days.",
        advice: "See why it was not renewed, for example with “certbot renew --dry-run”.")
    }
    return Check("certificate", .good, "For \(names), for \(days) days more.")
  }

  /// Asks the domain which hypha it has, as a new device would.
  private func domainCheck() async -> Check {
    guard let name = record?.domain ?? domain else {
      return Check(
        "domain", .unknown, "No domain is set, so nobody finds this hypha by one.",
        advice: "Set domain in [node] if it has one.")
    }
    guard let connector, let key = record?.publicKey else {
      return Check("domain", .unknown, "\(name) is asked once this node has a hypha.")
    }
    do throws(LookupError) {
      // Asked anew: what was remembered says nothing of now.
      let found = try await WellKnownLookup(connector).key(of: HyphaAddress(name))
      guard found == key else {
        return Check(
          "domain", .problem, "\(name) has another hypha, dat://\(found.hex).",
          advice: "See to which machine the name leads, and which node answers there.")
      }
      return Check("domain", .good, "\(name) leads to this hypha.")
    } catch {
      return Check(
        "domain", .problem, "New devices do not find the hypha at \(name). \(error.context)",
        advice:
          "The name must lead to an always-on node of the hypha that is reached at port 443, with a certificate "
          + "for it.")
    }
  }

  private func peersCheck(_ status: NodeInfo) async -> Check {
    let kept = await outgoing?.statuses ?? []
    if let failed = kept.first(where: { $0.state == .waiting }) {
      return Check(
        "peers", .problem,
        "No connection to \(failed.url) (\(failed.failures) attempts): \(failed.lastError ?? "no reason known").",
        advice: "It is tried again and again; if it is gone for good, “hyphactl disconnect \(failed.url)”.")
    }
    guard status.peers > 0 else {
      return Check(
        "peers", record == nil ? .unknown : .warning,
        "No other node is connected: what is here is nowhere else now.",
        advice: status.role == .alwaysOn || record == nil
          ? nil : "“hyphactl connect” connects this node to an always-on node.")
    }
    let keys = status.feeds.filter { $0.length > 0 }.compactMap { PublicKey(hex: $0.key) }
    let lonely = keys.filter { !replicator.isHeldElsewhere($0) || !replicator.isComplete($0) }
    guard lonely.isEmpty else {
      return Check(
        "peers", .warning,
        "Of \(lonely.count) of \(status.feeds.count) feeds, no connected node holds just what is here.",
        advice: "“hyphactl wait --synced” waits until one does.")
    }
    let gaps = keys.filter { !replicator.isWhole($0) }
    guard gaps.isEmpty else {
      return Check(
        "peers", .warning,
        "Of \(gaps.count) of \(status.feeds.count) feeds, blocks are missing that no connected node has.",
        advice: "Connect the device that wrote them, if it still has them; all else goes on without.")
    }
    return Check(
      "peers", .good,
      "\(status.peers == 1 ? "1 node is" : "\(status.peers) nodes are") connected, and all is held elsewhere, too."
    )
  }
}
