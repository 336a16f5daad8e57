import FoundationEssentials
import Hypercore
import Hyperdb
import TestSupport
import Testing

/// Random schedules on up to eight replicas. `HYPHA_SCHEDULES` says how many, by default 2,000; the seed of one that
/// fails is its number.
@Suite("All replicas converge to what the model says")
struct ConvergenceTests {
  private static let shards = 8
  private static let count =
    ProcessInfo.processInfo.environment["HYPHA_SCHEDULES"].flatMap { UInt64($0) } ?? 2000

  private func failure(_ schedule: Schedule, ignoresDeletions: Bool = false) -> (any Error)? {
    do {
      try ScheduleRun(schedule, ignoresDeletions: ignoresDeletions).run(schedule)
      return nil
    } catch {
      return error
    }
  }

  @Test("whatever happens in whatever order", arguments: 0..<shards)
  func schedules(shard: Int) {
    for seed in stride(from: UInt64(shard), to: Self.count, by: Self.shards) {
      let schedule = Schedule(seed: seed)
      guard failure(schedule) != nil else { continue }
      let smallest = schedule.shrunk { failure($0) != nil }
      Issue.record("schedule \(seed) fails with \(failure(smallest) as Any), shrunk to \(smallest)")
      return
    }
  }

  @Test("a schedule that fails shrinks to the few steps that matter")
  func shrinking() throws {
    let seed = try #require(
      (UInt64(0)..<50).first { failure(Schedule(seed: $0), ignoresDeletions: true) != nil })
    let smallest = Schedule(seed: seed).shrunk { failure($0, ignoresDeletions: true) != nil }
    #expect(failure(smallest, ignoresDeletions: true) != nil)
    #expect(failure(smallest) == nil)
    #expect(smallest.steps.count <= 5, "\(smallest)")
  }
}
