public import Hypercore
import Hyperdb

/// How devices get to write to a hypha: one that is new asks, one that may write says yes or no, and nodes between them
/// pass on what they cannot open.
///
/// It has no socket and no clock. Whoever connects nodes tells it of connections and messages, sends what
/// ``nextMessage(for:)`` gives, calls ``tick(now:)`` every second, and saves ``encodeState()`` when ``hasChanged``.
/// Changes to the hypha are to be durable before messages are taken: an answer must not go out for what could be lost.
///
/// Source of the messages: secure-ephemeral-messaging-channel 1.0.0, extension `secure-ephemeral`.
public final class Membership<Storage: RandomAccessStorage> {
  public enum Event: Equatable, Sendable {
    /// Another device asks to be let in; again where the clock went back to when its request could be answered.
    case requested(ReceivedRequest)
    /// Another device's request was answered, here or elsewhere, or has expired.
    case answered(ReceivedRequest)
    /// This device's own request was answered, or has expired; or can be answered again, where the clock went back.
    case ownAnswered(OwnRequest)
  }

  struct Own: Equatable {
    var request: AuthorisationRequest
    var sealed: [UInt8]
    var isDenied = false
    /// What was last said of it.
    var told = OwnRequest.State.pending
  }

  private struct Peer {
    /// Of the first message that it may not have.
    var serial: UInt64 = 0
  }

  private let hypha: Hypha<Storage>
  private let channel: SecureChannel?
  private(set) var own: Own?
  private(set) var book = RequestBook()
  /// Requests whose time is not now by this node's clock. That may be wrong, and be set right later: they would not come again on the
  /// same connection. The latest are last.
  private var untimely: [AuthorisationRequest] = []
  private(set) var mailbox: Mailbox
  private var peers: [ConnectionID: Peer] = [:]
  private var rates = MessageRates()
  private var events: [Event] = []
  /// Requests that are not answered, expired ones too, since a clock that jumped comes back; and what was last said of each.
  private var unanswered: [RequestID: ReceivedRequest.State] = [:]

  /// Messages dropped since this was made.
  public private(set) var drops = Drops()
  /// Whether there is something that this node promised to remember, or says itself, that ``encodeState()`` was not asked for
  /// since: it is to be saved before anything is sent.
  public private(set) var hasPromises = false
  /// Whether messages came or went that others only pass on here. To save them can wait: who sent them has them, too.
  private var hasOtherMessages = false
  /// Whether ``encodeState()`` has changed since it was last asked for.
  public var hasChanged: Bool { hasPromises || hasOtherMessages }
  /// Whether the state that was given could be read. If not, it was left aside: ids of earlier requests are not known.
  public let isStateIntact: Bool

  /// - Parameters:
  ///   - channelKey: 32 bytes; a node without it passes on messages that it cannot open.
  ///   - state: as ``encodeState()`` gave it.
  public init(
    _ hypha: Hypha<Storage>, channelKey: consuming SecretBytes?,
    mailbox limits: MailboxLimits = MailboxLimits(),
    state: [UInt8]? = nil
  ) {
    self.hypha = hypha
    mailbox = Mailbox(limits)
    if let channelKey { channel = SecureChannel(key: channelKey) } else { channel = nil }
    let decoded = state.flatMap { MembershipRecord<Storage>.decode($0) }
    isStateIntact = state == nil || decoded != nil
    guard let decoded else { return }
    own = decoded.own
    for entry in decoded.entries {
      book.add(entry)
      if entry.answer == nil { unanswered[entry.request.id] = .pending }
    }
    for item in decoded.items {
      _ = mailbox.add(item.message, from: nil, address: item.address, now: item.arrived)
    }
  }

  /// Whether this node has the channel key.
  public var canOpen: Bool {
    switch channel {
    case .some: true
    case .none: false
    }
  }

  /// Messages in the mailbox, and their bytes.
  public var sealed: (messages: Int, bytes: Int) { (mailbox.items.count, mailbox.bytes) }

  /// What happened since it was last asked.
  public func takeEvents() -> [Event] {
    let taken = events
    events = []
    return taken
  }

  // MARK: - Connections

  /// A peer that speaks the extension is connected.
  public func connected(_ peer: ConnectionID) {
    peers[peer] = Peer()
  }

  public func disconnected(_ peer: ConnectionID) {
    peers[peer] = nil
    mailbox.forget(peer: peer)
  }

  /// The next message for a peer, which counts as sent; call it when there is room for it.
  public func nextMessage(for peer: ConnectionID) -> [UInt8]? {
    guard let known = peers[peer], known.serial < mailbox.end else { return nil }
    let item = mailbox.message(from: known.serial, for: peer)
    // Where there is none, what is there is not looked at again.
    peers[peer]?.serial = item.map { $0.serial + 1 } ?? mailbox.end
    return item?.message
  }

  /// Takes a message; one that is not in order is dropped and counted.
  ///
  /// - Parameters:
  ///   - address: where it came from, as far as a stranger cannot choose that.
  ///   - now: milliseconds since 1970.
  public func receive(_ message: [UInt8], from peer: ConnectionID, address: String, now: Int64) {
    guard message.count <= HyphaLimits.messageBytes else {
      drops.oversized += 1
      return
    }
    guard SecureChannel.isSealed(message) else {
      drops.malformed += 1
      return
    }
    switch channel {
    case .some(let channel):
      guard let plaintext = channel.open(message) else {
        // Not counted for the rate: a node between passes on what it cannot open, and must not be kept from passing on what opens.
        drops.unopened += 1
        return
      }
      guard isWithinRate(address, now: now) else { return }
      open(plaintext, now: now)
    case .none:
      // What is here already comes again with each connection.
      guard !mailbox.contains(message), isWithinRate(address, now: now) else { return }
      if mailbox.add(message, from: peer, address: address, now: now) { hasOtherMessages = true }
    }
  }

  private func isWithinRate(_ address: String, now: Int64) -> Bool {
    let isWithin = rates.take(address, now: now)
    if !isWithin { drops.limited += 1 }
    return isWithin
  }

  private func open(_ plaintext: [UInt8], now: Int64) {
    var reader = JSONReader(plaintext)
    var fields: [String: String] = [:]
    guard reader.readObject(into: &fields) else {
      drops.malformed += 1
      return
    }
    if fields["action"] == AuthorisationRequest.action {
      guard let (request, proof) = AuthorisationRequest.decode(fields) else {
        drops.malformed += 1
        return
      }
      take(request, proof, now: now)
    } else if let kind = AuthorisationAnswer.Kind(action: fields["action"]) {
      guard let id = fields["id"].flatMap({ RequestID(hex: $0) }) else {
        drops.malformed += 1
        return
      }
      take(kind, id, now: now)
    } else {
      drops.malformed += 1
    }
  }

  private func take(_ request: AuthorisationRequest, _ proof: Signature, now: Int64) {
    // A node between has it, too, and gives it back on the next connection.
    if own?.request == request { return }
    guard Crypto.verify(proof, of: request.proven(of: hypha.source.key), by: request.writer) else {
      drops.forged += 1
      return
    }
    guard request.expires <= request.created + HyphaLimits.requestLifetime else {
      drops.mistimed += 1
      return
    }
    guard Self.isTimely(request, now: now) else {
      if request.expires > now { drops.mistimed += 1 } else { drops.expired += 1 }
      return keepUntimely(request)
    }
    take(request, now: now)
  }

  /// - Parameter request: one that its writer has proven.
  private func take(_ request: AuthorisationRequest, now: Int64) {
    guard book[request.id] == nil else {
      drops.repeated += 1
      return
    }
    guard book.hasRoom(now: now) else {
      drops.full += 1
      return
    }
    let entry = RequestBook.Entry(request: request, answer: hasWriter(request.writer) ? .authorised : nil)
    book.add(entry)
    hasPromises = true
    guard entry.answer == nil else { return }
    unanswered[request.id] = .pending
    events.append(.requested(received(entry, now: now)))
  }

  private static func isTimely(_ request: AuthorisationRequest, now: Int64) -> Bool {
    request.created <= now + HyphaLimits.clockSkew && request.expires > now
  }

  private func keepUntimely(_ request: AuthorisationRequest) {
    guard book[request.id] == nil, !untimely.contains(request), !hasWriter(request.writer) else { return }
    if untimely.count >= HyphaLimits.pendingRequests { untimely.removeFirst() }
    untimely.append(request)
  }

  private func take(_ answer: AuthorisationAnswer.Kind, _ id: RequestID, now: Int64) {
    // Who is let in is what the database says; the word of it is only an answer to who waits.
    guard answer == .denied else { return }
    untimely.removeAll { $0.id == id }
    if own?.request.id == id, own?.isDenied == false {
      own?.isDenied = true
      hasPromises = true
      look(now: now)
    }
    if unanswered[id] != nil { settle(id, .denied, now: now) }
  }

  private func settle(_ id: RequestID, _ answer: AuthorisationAnswer.Kind, now: Int64) {
    book.answer(id, answer)
    unanswered[id] = nil
    hasPromises = true
    if let entry = book[id] { events.append(.answered(received(entry, now: now))) }
  }

  // MARK: - The device that asks

  /// Asks to be let in. The request goes to every node that connects until it is answered or expires.
  ///
  /// - Parameters:
  ///   - lifetime: milliseconds in which it can be answered, at most ``HyphaLimits/requestLifetime``.
  ///   - now: milliseconds since 1970.
  ///   - random: 40 random bytes.
  /// - Throws: `.readOnly` without a writer or the channel key; `.requestPending` while another one can be answered;
  ///   `.isAuthorised`; `.revoked` or `.forked` for a device that was let in before: it needs a new writer.
  public func request(
    name: String, lifetime: Int64, now: Int64, random: [UInt8]
  ) throws(HyphaError) -> OwnRequest {
    precondition(random.count == RequestID.count + SecureChannel.nonceBytes)
    guard let local = hypha.database.local, let id = RequestID(random.prefix(RequestID.count)) else {
      throw HyphaError(.readOnly, "this node has no writer that could be let in: sign in first")
    }
    guard !(try hypha.canPost()) else { throw HyphaError(.isAuthorised, "this device may write already") }
    guard try !hypha.isRevoked(local.key) else {
      throw HyphaError(.revoked, "this device was revoked: sign out, and sign in anew")
    }
    guard hypha.frozen(local.key) == nil else {
      throw HyphaError(.forked, "this device's writer signed two feeds: sign out, and sign in anew")
    }
    if let own = ownRequest(now: now), own.state == .pending {
      throw HyphaError(
        .requestPending, "this device's request is not answered yet: \(own.words.joined(separator: " "))")
    }
    let name = try Device.checked(name: name)
    let lifetime = min(max(lifetime, 1), HyphaLimits.requestLifetime)
    let request = AuthorisationRequest(
      id: id, name: name, writer: local.key, created: now, expires: now + lifetime)
    let proof: Signature
    do throws(FeedError) { proof = try local.sign(request.proven(of: hypha.source.key)) } catch {
      throw HyphaError(.database(.feed(error.code)), error.context)
    }
    let sealed = try seal(request.encode(proof: proof), nonce: Array(random.suffix(SecureChannel.nonceBytes)))
    if let own { mailbox.remove(own.sealed) }
    let own = Own(request: request, sealed: sealed)
    self.own = own
    post(sealed, now: now)
    return state(own, .pending)
  }

  /// This device's request, if it made one.
  public func ownRequest(now: Int64) -> OwnRequest? {
    guard let own else { return nil }
    // Also one that was revoked since: it was let in.
    if hasWriter(own.request.writer) { return state(own, .authorised) }
    if own.isDenied { return state(own, .denied) }
    // One that was made while the clock was ahead cannot be answered by those whose clock is right.
    return state(own, Self.isTimely(own.request, now: now) ? .pending : .expired)
  }

  private func state(_ own: Own, _ state: OwnRequest.State) -> OwnRequest {
    OwnRequest(
      id: own.request.id, name: own.request.name, words: own.request.words(of: hypha.source.key),
      created: own.request.created, expires: own.request.expires, state: state)
  }

  // MARK: - The device that answers

  /// All requests that are remembered: pending ones first, newest first.
  public func requests(now: Int64) -> [ReceivedRequest] {
    look(now: now)
    let all = book.entries.reversed().map { received($0, now: now) }
    return all.filter { $0.state == .pending } + all.filter { $0.state != .pending }
  }

  /// The one pending request that a person means.
  ///
  /// - Parameter device: its id or the first eight digits of that, its words, or the device's name where only one pending
  ///   request has it. Case and spaces do not matter.
  /// - Throws: `.unknownRequest`, `.requestExpired`, `.requestAnswered`, `.ambiguousRequest`.
  public func find(_ device: String, now: Int64) throws(HyphaError) -> ReceivedRequest {
    let sought = Passphrase.split(device)
    let text = sought.joined(separator: " ")
    let areWords = sought.count == HyphaLimits.approvalWords && sought.allSatisfy { Passphrase.isListed($0) }
    // What can be words or an id is nothing else: a device could call itself as another one's are.
    let found = requests(now: now).filter { request in
      if areWords { return request.words == sought }
      if Device.isStartOfKey(text) { return request.id.hex.utf8.starts(with: text.utf8) }
      return Passphrase.split(request.name) == sought
    }
    let pending = found.filter { $0.state == .pending }
    if pending.count == 1 { return pending[0] }
    guard pending.isEmpty else {
      let ids = pending.map { String($0.id.hex.prefix(8)) }.joined(separator: ", ")
      throw HyphaError(
        .ambiguousRequest,
        "\(pending.count) requests match “\(device)”: say which by its id, one of \(ids), or its words")
    }
    guard let last = found.first else {
      throw HyphaError(.unknownRequest, "there is no request that matches “\(device)”")
    }
    throw unanswerable(last)
  }

  private func unanswerable(_ request: ReceivedRequest) -> HyphaError {
    switch request.state {
    case .expired:
      HyphaError(.requestExpired, "the request of “\(request.name)” has expired: have the device ask again")
    case .approved: HyphaError(.requestAnswered, "the request of “\(request.name)” was approved already")
    case .denied: HyphaError(.requestAnswered, "the request of “\(request.name)” was denied already")
    case .pending: HyphaError(.unknownRequest, "the request of “\(request.name)” is pending")
    }
  }

  /// Lets a device in. Its answer goes out with the next messages.
  ///
  /// - Parameters:
  ///   - device: this device's name.
  ///   - random: 24 random bytes.
  /// - Throws: `.unknownRequest`, `.requestExpired`, `.requestAnswered`, or why this node cannot write.
  public func approve(
    _ id: RequestID, device: String, now: Int64, random: [UInt8]
  ) throws(HyphaError) -> ReceivedRequest {
    let request = try pending(id, now: now)
    try hypha.admit(request.writer, name: request.name, now: now)
    return try answer(request, .authorised, device, now: now, random)
  }

  /// Tells a device that it is not let in.
  public func deny(
    _ id: RequestID, device: String, now: Int64, random: [UInt8]
  ) throws(HyphaError) -> ReceivedRequest {
    let request = try pending(id, now: now)
    guard try hypha.canPost() else {
      throw HyphaError(.readOnly, "this device may not write, so it may not answer for those that may")
    }
    return try answer(request, .denied, device, now: now, random)
  }

  private func pending(_ id: RequestID, now: Int64) throws(HyphaError) -> ReceivedRequest {
    look(now: now)
    guard let entry = book[id] else { throw HyphaError(.unknownRequest, "there is no request \(id.hex)") }
    let request = received(entry, now: now)
    guard request.state == .pending else { throw unanswerable(request) }
    return request
  }

  private func answer(
    _ request: ReceivedRequest, _ kind: AuthorisationAnswer.Kind, _ device: String, now: Int64,
    _ random: [UInt8]
  ) throws(HyphaError) -> ReceivedRequest {
    let answer = AuthorisationAnswer(kind: kind, id: request.id, name: device, time: now)
    post(try seal(answer.encoded, nonce: random), now: now)
    settle(request.id, kind, now: now)
    var answered = request
    answered.state = kind == .authorised ? .approved : .denied
    return answered
  }

  private func received(_ entry: RequestBook.Entry, now: Int64) -> ReceivedRequest {
    let state: ReceivedRequest.State =
      switch entry.answer {
      case .authorised: .approved
      case .denied: .denied
      case nil: entry.request.expires <= now ? .expired : .pending
      }
    return ReceivedRequest(
      id: entry.request.id, name: entry.request.name, writer: entry.request.writer,
      words: entry.request.words(of: hypha.source.key), created: entry.request.created,
      expires: entry.request.expires, state: state)
  }

  // MARK: - Time

  /// Forgets what is too old, and sees what has changed in the database.
  public func tick(now: Int64) {
    if mailbox.expire(now: now) { hasOtherMessages = true }
    if book.expire(now: now) { hasPromises = true }
    look(now: now)
  }

  /// Notes which requests can be answered now, were answered or have expired.
  private func look(now: Int64) {
    let timely = untimely.filter { Self.isTimely($0, now: now) }
    untimely.removeAll { timely.contains($0) }
    for request in timely { take(request, now: now) }
    for (id, told) in unanswered {
      guard let entry = book[id] else {
        unanswered[id] = nil
        continue
      }
      let request = received(entry, now: now)
      if (told == .pending || request.state == .pending) && hasWriter(request.writer) {
        settle(id, .authorised, now: now)
      } else if request.state != told {
        unanswered[id] = request.state
        events.append(request.state == .pending ? .requested(request) : .answered(request))
      }
    }
    // Where another device let it in at the same time, that counts.
    for entry in book.entries where entry.answer == .denied && wasLetIn(entry.request.writer) {
      settle(entry.request.id, .authorised, now: now)
    }
    guard let request = ownRequest(now: now), request.state != own?.told else { return }
    own?.told = request.state
    if let own {
      mailbox.remove(own.sealed)
      // The clock went back: who did not get it before is to get it now.
      if request.state == .pending { post(own.sealed, now: now) }
    }
    hasPromises = true
    events.append(.ownAnswered(request))
  }

  /// Whether a writer is in, and no request of it that is remembered says how.
  private func wasLetIn(_ writer: PublicKey) -> Bool {
    hasWriter(writer)
      && !book.entries.contains { $0.request.writer == writer && $0.answer == .authorised }
  }

  /// Whether a writer may write, or once might.
  private func hasWriter(_ key: PublicKey) -> Bool {
    ((try? hypha.database.isAuthorized(key)) ?? false) || ((try? hypha.isRevoked(key)) ?? false)
      || hypha.frozen(key) != nil
  }

  private func seal(_ plaintext: [UInt8], nonce: [UInt8]) throws(HyphaError) -> [UInt8] {
    switch channel {
    case .some(let channel): return channel.seal(plaintext, nonce: nonce)
    case .none:
      throw HyphaError(
        .readOnly, "this node has no key to seal messages with: it keeps the hypha for its devices")
    }
  }

  private func post(_ message: [UInt8], now: Int64) {
    _ = mailbox.add(message, from: nil, address: "", now: now)
    hasPromises = true
  }

  // MARK: - State

  /// What is to be remembered over a restart: the own request, ids of requests that were seen, the mailbox. It holds no
  /// secret.
  public func encodeState() -> [UInt8] {
    hasPromises = false
    hasOtherMessages = false
    return state
  }

  /// As ``encodeState()``, for a copy: what is not saved yet stays so.
  public var state: [UInt8] {
    MembershipRecord<Storage>(own: own, entries: book.entries, items: mailbox.items).encoded
  }
}
