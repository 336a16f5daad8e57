/// What is known of one peer's share of one feed, and what the two sides owe each other.
final class RemoteFeed {
  let connection: ConnectionID
  let channel: Int
  /// Shared by all feeds of the connection.
  let budget: PeerBudget
  /// Blocks that the peer says it holds.
  let held = SparseBitfield()
  /// Tree nodes that the peer, by its digests, holds.
  let tree = SparseBitfield()
  /// One more than the highest block that the peer says it holds.
  var length: UInt64 = 0
  /// The peer asked to be told what this side holds.
  var isTold = false
  /// The peer has not said that it is done downloading.
  var downloads = true
  /// Number of regions of 2^20 blocks, from the first, that this side asked about.
  var wantedRegions: UInt64 = 0
  var openWants = 0
  /// Blocks asked for.
  var requested: Set<UInt64> = []
  /// Where to look for the next block to ask for: all before are held, asked for, or not with the peer.
  var cursor: UInt64 = 0
  /// All that the peer says it holds of the blocks before this one is here.
  var allFetchedBelow: UInt64 = 0
  /// When something asked for last arrived, or was first asked for.
  var lastProgress: UInt64 = 0
  /// The block whose proof is to show whether the peer has another feed that the same owner signed; nothing else is asked for
  /// meanwhile.
  var probe: UInt64?
  /// That is known, as far as the peer shows it.
  var isProbed = false
  /// Steps of the search for where the two feeds part, and what the last one showed.
  var probeSteps = 0
  var shown: (fork: Fork, common: UInt64)?
  /// The peer has shown, by a signature, how long a feed it knows.
  var hasShownLength = false
  /// A block was asked for already, and this side's nodes were named with it.
  var wasAsked = false
  /// It did not send what it said it had, neither soon nor later: what else it says counts for less.
  var isDoubtful = false
  /// Others where it comes from did not send what they said they had, and it has sent nothing yet.
  var isDistrusted: Bool
  /// Something was not asked for because too much waits to be sent.
  var isHeldUp = false
  /// From which block on the peer has another feed that the same owner signed; what it says of blocks from there on is of
  /// no use.
  private var parted = UInt64.max
  /// The peer's wants and requests that wait to be answered.
  private var questions: [Question] = []
  private var firstQuestion = 0
  /// This side said that it is done downloading.
  var saidDone = false

  /// What the peer asks, answered in the order in which it came.
  enum Question {
    case want(Message.Want)
    case request(Message.Request)
  }

  init(
    connection: ConnectionID, channel: Int, budget: PeerBudget = PeerBudget(), isDistrusted: Bool = false
  ) {
    self.connection = connection
    self.channel = channel
    self.budget = budget
    self.isDistrusted = isDistrusted
  }

  /// The peer has said what it holds, as far as it was asked.
  var isAnswered: Bool { wantedRegions > 0 && openWants == 0 }

  /// Requests and wants that wait to be answered.
  var waitingQuestions: Int { questions.count - firstQuestion }

  /// Keeps a question until there is room for its answer.
  func ask(_ question: Question) throws(WireError) {
    guard waitingQuestions < WireLimits.waitingRequests else {
      throw WireError(.tooLarge, "over \(WireLimits.waitingRequests) requests that are not answered yet")
    }
    questions.append(question)
  }

  func nextQuestion() -> Question? {
    guard firstQuestion < questions.count else { return nil }
    let question = questions[firstQuestion]
    firstQuestion += 1
    if firstQuestion == questions.count || firstQuestion >= WireLimits.waitingRequests {
      questions.removeSubrange(..<firstQuestion)
      firstQuestion = 0
    }
    return question
  }

  /// Takes back requests for a block.
  func cancel(_ cancel: Message.Cancel) throws(WireError) {
    try budget.spend(UInt64(waitingQuestions))
    questions.removeSubrange(..<firstQuestion)
    firstQuestion = 0
    questions.removeAll {
      guard case .request(let request) = $0 else { return false }
      return request.index == cancel.index && (request.bytes ?? 0) == (cancel.bytes ?? 0)
    }
  }

  /// Forgets what the peer says it holds from a block on, for good.
  func part(at block: UInt64) {
    parted = min(parted, block)
    drop(parted..<max(parted, (held.last ?? 0) + 1))
  }

  /// Takes in what the peer says it holds.
  func note(_ have: Message.Have) throws(WireError) {
    defer { if parted < length { part(at: parted) } }
    let count = have.length ?? 1
    guard have.start <= Limits.feedBlocks, count <= Limits.feedBlocks - have.start else {
      throw WireError(.tooLarge, "a have of \(count) blocks from \(have.start)")
    }
    guard count <= WireLimits.haveBlocks else {
      throw WireError(.tooLarge, "a have of \(count) blocks, over \(WireLimits.haveBlocks)")
    }
    let before = held.memory
    defer { budget.hold(held.memory, insteadOf: before) }
    guard let bitfield = have.bitfield else {
      try makeRoom(count)
      try budget.spend(count)
      held.set(have.start..<have.start + count)
      length = max(length, have.start + count)
      cursor = min(cursor, have.start)
      return
    }
    guard have.start & 7 == 0 else {
      throw WireError(.malformed, "a have with a bitfield from block \(have.start), not a multiple of eight")
    }
    let covered = Self.covered(by: have)
    try makeRoom(covered)
    var start = have.start
    // Paid for afterwards: it is as much as one message can be about, at most.
    var work: UInt64 = 0
    do throws(RunLengthBitfield.Malformed) {
      try RunLengthBitfield.forEachPiece(of: bitfield, limit: Int((covered + 7) / 8)) { piece in
        switch piece {
        case .run(let bytes, let ones):
          held.set(start..<start + 8 * UInt64(bytes), to: ones)
          start += 8 * UInt64(bytes)
          if ones {
            length = max(length, start)
            work += 8 * UInt64(bytes)
          }
        case .literal(let bytes):
          for byte in bytes {
            for bit in UInt64(0)..<8 where byte & (128 >> UInt8(bit)) != 0 {
              held.set(start + bit)
              length = max(length, start + bit + 1)
            }
            start += 8
          }
          work += 8 * UInt64(bytes.count)
        }
      }
    } catch {
      throw WireError(.malformed, "a have with a bitfield that is malformed or too long")
    }
    cursor = min(cursor, have.start)
    try budget.spend(work)
  }

  /// How many blocks a message is about. A length of 0 or 1 with a bitfield stands for all that the bitfield has.
  static func covered(by have: Message.Have) -> UInt64 {
    let count = have.length ?? 1
    return have.bitfield == nil || count > 1 ? count : WireLimits.haveBlocks
  }

  private func makeRoom(_ count: UInt64) throws(WireError) {
    guard UInt64(budget.heldBytes) + count / 8 <= UInt64(WireLimits.remoteBitfieldBytes) else {
      throw WireError(.tooLarge, "the peer says it holds more than is kept track of")
    }
  }

  /// Whether the peer says that it holds the first `length` blocks.
  func holds(first length: UInt64) -> Bool {
    held.count >= length && held.first(false, in: 0..<length) == nil
  }

  /// Takes in what the peer holds no longer.
  func note(_ unhave: Message.Unhave) throws(WireError) {
    let count = unhave.length ?? 1
    guard unhave.start <= Limits.feedBlocks, count <= Limits.feedBlocks - unhave.start else {
      throw WireError(.tooLarge, "an unhave of \(count) blocks from \(unhave.start)")
    }
    drop(unhave.start..<unhave.start + count)
  }

  private func drop(_ range: Range<UInt64>) {
    let before = held.memory
    held.set(range, to: false)
    budget.hold(held.memory, insteadOf: before)
    length = held.last.map { $0 + 1 } ?? 0
  }
}
