import Glibc

/// How many descriptors this process may have: six files for each writer's feed, and one for each connection.
enum DescriptorLimit {
  /// What the most writers, the most connections and the rest need.
  private static let wanted: rlim_t = 16_384

  /// Raises the limit to what is wanted, or as far as it may be raised.
  ///
  /// - Returns: the limit now, if that is less than is wanted.
  static func raise() -> UInt64? {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
    guard limit.rlim_cur < wanted else { return nil }
    limit.rlim_cur = min(wanted, limit.rlim_max)
    guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
    return limit.rlim_cur < wanted ? UInt64(limit.rlim_cur) : nil
  }
}
