import Glibc

/// Who is at the other end of a connection to the control socket, as the kernel tells (`SO_PEERCRED`).
struct Caller: Equatable, Sendable {
  var uid: uid_t
  /// Primary and supplementary groups.
  var groups: Set<gid_t>

  init(uid: uid_t, groups: Set<gid_t>) {
    self.uid = uid
    self.groups = groups
  }

  /// Adds the groups that the user database lists for the user.
  init(uid: uid_t, gid: gid_t) {
    self.init(uid: uid, groups: [gid])
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    var strings = [CChar](repeating: 0, count: 16 << 10)
    guard getpwuid_r(uid, &entry, &strings, strings.count, &found) == 0, found != nil else { return }
    var list = [gid_t](repeating: 0, count: 1024)
    var count = CInt(list.count)
    guard getgrouplist(entry.pw_name, gid, &list, &count) >= 0 else { return }
    groups.formUnion(list.prefix(Int(count)))
  }
}

/// Who may call: root, the daemon's own user, and members of its group.
struct CallerRule: Equatable, Sendable {
  /// The group whose members may call, if the system has it.
  static let groupName = "hypha"

  var ownUID: uid_t
  var group: gid_t?

  func permits(_ caller: Caller) -> Bool {
    caller.uid == 0 || caller.uid == ownUID || group.map(caller.groups.contains) ?? false
  }

  /// Whether it may have the node's secrets, too: group members may not.
  func isOwner(_ caller: Caller) -> Bool {
    caller.uid == 0 || caller.uid == ownUID
  }

  /// The rule for this process on this system.
  static func ofThisSystem() -> CallerRule {
    var entry = Glibc.group()
    var found: UnsafeMutablePointer<Glibc.group>?
    var strings = [CChar](repeating: 0, count: 64 << 10)
    let exists = getgrnam_r(groupName, &entry, &strings, strings.count, &found) == 0 && found != nil
    return CallerRule(ownUID: geteuid(), group: exists ? entry.gr_gid : nil)
  }
}

/// `struct ucred` of Linux.
struct PeerCredentials: Sendable {
  /// `SO_PEERCRED`
  static let option: CInt = 17

  var pid: pid_t = 0
  var uid: uid_t = 0
  var gid: gid_t = 0
}
