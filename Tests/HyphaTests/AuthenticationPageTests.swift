import FoundationEssentials
import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

/// The example of docs/authentication.md, which is the text between the two marks.
@Suite("The page on authentication")
struct AuthenticationPageTests {
  @Test("has an example that does what it says")
  func example() throws {
    let source = try #require(PublicKey(FeedStore.secretKey(1)[32...]))
    let (laptop, phone) = (try TestDevice(source, 1), try TestDevice(source, 2))
    func random(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }
    func carry() throws {
      try laptop.pull(from: phone)
      try phone.pull(from: laptop)
    }
    let (laptopsHypha, phonesHypha) = (laptop.hypha, phone.hypha)
    var shown: [String] = []
    func compareAndAsk(_ request: ReceivedRequest) -> Bool {
      shown.append("\(request.name): \(request.words.joined(separator: " "))")
      return true
    }
    let now: Int64 = 1_700_000_000_000
    // --8<--
    // Both have typed the passphrase; the keys are the same on both.
    let text = "abacus zoom t-shirt yo-yo lunchbox dolphin unicycle parsnip"
    let mine = try HyphaKeys(Passphrase(typed: text), domain: "example.org").takeChannel()
    let theirs = try HyphaKeys(Passphrase(typed: text), domain: "example.org").takeChannel()
    let owner = Membership(laptopsHypha, channelKey: mine)
    let device = Membership(phonesHypha, channelKey: theirs)
    // A connection between them, which each knows by a number of its own.
    owner.connected(1)
    device.connected(1)
    // The phone asks, and shows its words.
    let own = try device.request(name: "phone", lifetime: 3_600_000, now: now, random: random(40))
    while let message = device.nextMessage(for: 1) {
      owner.receive(message, from: 1, address: "192.0.2.7", now: now)
    }
    // The laptop shows them, too. A person compares, and says yes.
    for case .requested(let request) in owner.takeEvents() where compareAndAsk(request) {
      _ = try owner.approve(request.id, device: "laptop", now: now, random: random(24))
    }
    // Once the feeds have been replicated, the phone may write.
    try carry()
    let mayWrite = device.ownRequest(now: now)?.state == .authorised
    // --8<--
    #expect(mayWrite && shown == ["phone: \(own.words.joined(separator: " "))"])
    #expect(try phonesHypha.canPost())
  }

  @Test("shows the same lines")
  func page() throws {
    let own = try String(contentsOfFile: #filePath, encoding: .utf8)
    let lines = own.components(separatedBy: "    // --8<--\n")
    let example = try #require(lines.count == 3 ? lines[1] : nil)
      .split(separator: "\n").map { $0.dropFirst(4) }.joined(separator: "\n")
    let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(
      separator: "/")
    let page = try String(contentsOfFile: root + "/docs/authentication.md", encoding: .utf8)
    #expect(page.contains("```swift\n\(example)\n```"))
  }
}
