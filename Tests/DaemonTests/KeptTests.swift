import HyphaControlAPI
import NIOCore
import Testing

@testable import HyphaDaemonCore

/// What is kept of what happened.
@Suite struct KeptTests {
  @Test("Connections without end push no other event out, and what is kept comes in order")
  func events() async {
    var log = EventLog()
    let now = Timestamp(milliseconds: 0)
    log.record(.forked, at: now) { _ in }
    for _ in 0..<1000 {
      log.record(.peerConnected, at: now) { _ in }
      log.record(.peerDisconnected, at: now) { _ in }
    }
    log.record(.requested, at: now) { _ in }
    let stream = log.follow(after: 0)
    log.close()
    var events: [ControlEvent] = []
    for await event in stream { events.append(event) }
    #expect(events.count == ControlLimits.keptEvents + 2)
    #expect(events.first?.kind == .forked && events.last?.kind == .requested)
    #expect(events.map(\.id) == events.map(\.id).sorted())
  }

  @Test("A household counts as one, so that its addresses push nobody else out of what is told")
  func rejections() {
    var rejections = Rejections()
    rejections.count("badFrame", of: "192.0.2.1", at: Timestamp(milliseconds: 0))
    for number in 1..<1000 {
      rejections.count("badFrame", of: "2001:db8::\(number)", at: Timestamp(milliseconds: Int64(number)))
    }
    let infos = rejections.infos
    #expect(infos.map(\.address) == ["2001:db8::/64", "192.0.2.1"] && infos.map(\.count) == [999, 1])
  }

  @Test("Of lines that strangers bring about, a minute has some, and the next tells how many were left out")
  func lines() {
    let limit = LineLimit()
    let start = NIODeadline.now()
    let first = (0..<100).map { _ in limit.take(now: start) }
    #expect(first == [Int?](repeating: 0, count: LineLimit.perMinute) + [Int?](repeating: nil, count: 80))
    #expect(limit.take(now: start + .seconds(59)) == nil)
    #expect(limit.take(now: start + .seconds(60)) == 81)
    #expect(limit.take(now: start + .seconds(61)) == 0)
  }
}
