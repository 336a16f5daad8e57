/// Something that is measured, in a process and a folder of its own.
struct Workload: Sendable {
  /// What is to be reached.
  enum Goal: Sendable {
    case none
    case atLeast(Double)
    case atMost(Double)
    /// A part of what the limit is on this machine.
    case ofLimit(Double)
  }

  /// Says what it does.
  let name: String
  /// Name of the workload that says what the machine can do at best.
  var limit: String?
  var goal = Goal.none
  /// The JavaScript reference with native libsodium, where libsodium signs 45,000/s and hashes 1 GB/s.
  var reference: Double?
  /// - Parameter folder: where its files go, on the disk that is measured; it is removed afterwards. What several
  ///   workloads use is beside it.
  let run: @Sendable (_ folder: String, _ scale: Double) throws -> Measurement

  static let all = Self.limits + Self.feed + Self.replication + Self.trie + Self.posts
}
