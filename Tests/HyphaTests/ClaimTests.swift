import Hypercore
import TestSupport
import Testing

@testable import Hypha

@Suite("Claiming an always-on node") struct ClaimTests {
  private let code = SetupCode(random: Array(0..<10))
  private let keys: [PublicKey]

  init() throws {
    keys = try (1...2).map { try #require(PublicKey(FeedStore.secretKey($0)[32...])) }
  }

  /// What a node answers that keeps nothing yet.
  private func answer(
    _ claim: inout Claim, _ key: PublicKey, _ text: String?, from place: UInt8 = 1, isBusy: Bool = false,
    now: Double = 1
  ) -> Claim.Answer {
    claim.answer(to: key, code: text, from: [place], holding: nil, isBusy: isBusy, now: now)
  }

  @Test("Who has the code claims it, once; of two the first, and the other once that came to nothing")
  func flow() {
    var claim = Claim(code: code)
    #expect(answer(&claim, keys[0], nil) == .refuse(.missingCode))
    #expect(answer(&claim, keys[0], "0123456788") == .refuse(.wrongCode))
    #expect(answer(&claim, keys[0], code.text, isBusy: true) == .refuse(.busy))
    #expect(answer(&claim, keys[0], code.text) == .begin)
    claim.begin(keys[0])
    #expect(answer(&claim, keys[0], code.text) == .accept)
    #expect(answer(&claim, keys[1], code.text) == .refuse(.otherOffer))
    #expect(claim.claimed(blocks: 0) == nil)
    #expect(claim.abandon() && !claim.abandon())
    #expect(claim.claimed(blocks: 1) == nil)
    #expect(answer(&claim, keys[1], code.text) == .begin)
    claim.begin(keys[1])
    #expect(claim.claimed(blocks: 1) == keys[1])
    claim.finish()
    #expect(claim.code == nil && claim.candidate == nil)
    #expect(answer(&claim, keys[1], code.text) == .refuse(.missingCode))
    for (key, expected) in zip(keys, [Claim.Answer.refuse(.otherHypha), .accept]) {
      #expect(
        claim.answer(to: key, code: nil, from: [], holding: keys[1], isBusy: false, now: 1) == expected)
    }
  }

  @Test("A code is read as people write it, and every character counts")
  func codes() throws {
    #expect(code.text == "01234-56789")
    let kept = try #require(SetupCode(kept: "7k2qd xm4pa\n"))
    #expect(kept.text == "7K2QD-XM4PA" && SetupCode(kept: "7K2QD-XM4P") == nil)
    #expect(code.isRight("o1234 56789") && code.isRight("OI23456789") && !code.isRight(""))
    for place in kept.text.indices where kept.text[place] != "-" {
      var other = kept.text
      other.replaceSubrange(place...place, with: "0")
      #expect(!kept.isRight(other))
    }
  }

  @Test("Many places help who guesses little, and who does keeps nobody else out")
  func attempts() {
    var claim = Claim(code: code)
    func attempt(_ text: String, _ place: Int, _ now: Double) -> Claim.Answer {
      claim.answer(
        to: keys[0], code: text, from: [UInt8(place >> 8), UInt8(place & 255)], holding: nil, isBusy: false,
        now: now)
    }
    func isLookedAt(_ place: Int, _ now: Double) -> Bool {
      attempt("wrong", place, now) == .refuse(.wrongCode)
    }
    let looked = (0..<20).map { _ in isLookedAt(0, 1000) }
    #expect(looked.count { $0 } == Int(SetupAttempts.perPlace))
    // The first attempt from each, and then those that all share.
    #expect((1..<600).allSatisfy { isLookedAt($0, 1000) })
    let left = Int(SetupAttempts.total - SetupAttempts.perPlace + 1)
    #expect((1..<600).count { isLookedAt($0, 1000) } == left)
    #expect(!isLookedAt(1, 1000.5))
    #expect(isLookedAt(2, 1002) && isLookedAt(3, 1002))
    #expect(attempt(code.text, 4, 1002) == .refuse(.tooManyAttempts))
    // Whoever has not guessed yet.
    #expect(attempt(code.text, 60_000, 1002) == .begin)
  }
}
