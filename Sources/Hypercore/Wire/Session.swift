/// One connection's protocol state, without a socket, clock or randomness of its own: bytes and commands in,
/// messages and bytes out.
///
/// - ``open(_:)`` and ``send(_:on:)`` add bytes to be sent, which the caller takes by ``takeOutput()`` whenever it can send.
/// - ``receive(_:_:)`` is called with each piece that arrives, of any size, and hands on whole messages.
/// - ``tick(now:)`` is called at least once a second.
///
/// After an error from any of them the connection must be closed.
///
/// Source: hypercore-protocol 6.9.0 `index.js`, `feed.js`; DEP-0010.
public final class Session {
  /// What this side says of itself.
  public struct Configuration: Sendable {
    /// Names this node while it runs: 32 random bytes.
    public var id: [UInt8]
    public var live: Bool
    public var extensions: [String]
    /// 24 random bytes encrypt the connection under the key of its first feed; `nil` leaves it in plain.
    public var nonce: [UInt8]?

    public init(id: [UInt8], live: Bool = true, extensions: [String] = [], nonce: [UInt8]? = nil) {
      self.id = id
      self.live = live
      self.extensions = extensions
      self.nonce = nonce
    }
  }

  /// What the peer sent.
  public enum Event: Equatable, Sendable {
    /// It wants this feed. On an encrypted connection the first must be opened by ``open(_:)`` before the handler
    /// returns, since all that follows is encrypted under its key.
    case wants(DiscoveryKey)
    case handshake(Message.Handshake)
    /// A message on a channel that ``open(_:)`` gave.
    case message(Message, channel: Int)
    /// An extension that both sides speak.
    case `extension`(name: String, payload: [UInt8], channel: Int)
  }

  private struct Channel {
    let discoveryKey: DiscoveryKey
    /// This side's number for it, once open.
    var local: Int?
    /// Messages that came before this side opened it.
    var waiting: [(message: Message, bytes: Int)] = []
  }

  private let configuration: Configuration
  /// Channels by discovery key, as places in ``channels``.
  private var places: [DiscoveryKey: Int] = [:]
  private var channels: [Channel] = []
  /// Places in ``channels`` by the peer's numbers.
  private var remote: [Int?] = []
  /// Places in ``channels`` by this side's numbers.
  private var local: [Int] = []
  private var firstKey: PublicKey?
  private var remoteFirst: Message.Feed?
  /// Bytes of all messages that wait for their channel to be opened.
  private var waitingBytes = 0
  private var encoder = FrameEncoder()
  private var decoder = FrameDecoder()
  private var lastSent: UInt64 = 0
  private var lastReceived: UInt64?
  private var begun: UInt64?
  private var hasSent = false
  private var hasReceived = false
  /// What the peer said of itself, once it has.
  public private(set) var remoteHandshake: Message.Handshake?

  public init(_ configuration: Configuration) {
    self.configuration = configuration
  }

  /// Number of bytes to be sent.
  public var outputCount: Int { encoder.output.count }

  /// Bytes that have come of a message that is not whole yet.
  var inputCount: Int { decoder.unreadCount }

  /// Takes the bytes to be sent, and leaves none.
  public func takeOutput() -> [UInt8] {
    encoder.takeOutput()
  }

  // MARK: - Commands

  /// Opens the feed's channel, and takes up what the peer has sent on it so far.
  ///
  /// - Returns: the channel's number; the same one if it is open already.
  /// - Throws: `.tooLarge` over ``WireLimits/channels``; `.violation` where the peer began with another feed.
  public func open(_ key: PublicKey) throws(WireError) -> Int {
    let discoveryKey = Crypto.discoveryKey(key)
    let place = place(of: discoveryKey)
    if let number = channels[place].local { return number }
    guard local.count < WireLimits.channels else {
      throw WireError(.tooLarge, "over \(WireLimits.channels) feeds on a connection")
    }
    let number = local.count
    local.append(place)
    channels[place].local = number
    var message = Message.Feed(discoveryKey: discoveryKey)
    guard firstKey == nil else {
      append(.feed(message), channel: number)
      return number
    }
    firstKey = key
    message.nonce = configuration.nonce
    append(.feed(message), channel: number)
    if let nonce = configuration.nonce { encoder.encrypt(key: key, nonce: nonce) }
    append(
      .handshake(
        Message.Handshake(
          id: configuration.id, live: configuration.live, extensions: configuration.extensions)),
      channel: number)
    try checkFirst()
    return number
  }

  /// Sends a message on an open channel.
  public func send(_ message: Message, on channel: Int) {
    append(message, channel: channel)
  }

  /// Sends an extension's message, if the peer speaks it.
  ///
  /// - Returns: whether it does.
  @discardableResult
  public func send(extension name: String, _ payload: [UInt8], on channel: Int) -> Bool {
    guard let id = configuration.extensions.firstIndex(of: name), remoteSupports(name) else { return false }
    append(.extension(Message.Extension(id: UInt64(id), payload: payload)), channel: channel)
    return true
  }

  /// Whether both sides speak an extension.
  public func remoteSupports(_ name: String) -> Bool {
    configuration.extensions.contains(name) && remoteHandshake?.extensions.contains(name) == true
  }

  private func append(_ message: Message, channel: Int) {
    encoder.append(message, channel: channel)
    hasSent = true
  }

  private func place(of discoveryKey: DiscoveryKey) -> Int {
    if let place = places[discoveryKey] { return place }
    channels.append(Channel(discoveryKey: discoveryKey))
    places[discoveryKey] = channels.count - 1
    return channels.count - 1
  }

  /// Both sides must begin with the same feed; under its key the connection is encrypted.
  private func checkFirst() throws(WireError) {
    guard let firstKey, let remoteFirst else { return }
    guard remoteFirst.discoveryKey == Crypto.discoveryKey(firstKey) else {
      throw WireError(.unknownFeed, "the peer begins with another feed, \(remoteFirst.discoveryKey.hex)")
    }
    guard configuration.nonce != nil, !decoder.isDecrypting else { return }
    guard let nonce = remoteFirst.nonce else {
      throw WireError(.violation, "the peer does not encrypt, which this connection asks for")
    }
    decoder.decrypt(key: firstKey, nonce: nonce)
  }

  // MARK: - Receiving

  /// Takes the next bytes of the connection, and calls `handle` with each message that is whole.
  public func receive(
    _ bytes: [UInt8], _ handle: (Event) throws(WireError) -> Void
  ) throws(WireError) {
    hasReceived = true
    decoder.append(bytes)
    while let frame = try decoder.next() { try take(frame, handle) }
  }

  private func take(
    _ frame: Frame, _ handle: (Event) throws(WireError) -> Void
  ) throws(WireError) {
    if case .feed(let feed) = frame.message {
      try takeFeed(feed, on: frame.channel)
      try handle(.wants(feed.discoveryKey))
      if configuration.nonce != nil, !decoder.isDecrypting {
        throw WireError(.unknownFeed, "no feed \(feed.discoveryKey.hex) here")
      }
      return try handleWaiting(frame.channel, handle)
    }
    guard frame.channel < remote.count, let place = remote[frame.channel] else {
      throw WireError(.violation, "a message on channel \(frame.channel), which is not open")
    }
    guard let message = frame.message else { return }
    if case .handshake(let handshake) = message {
      guard remoteHandshake == nil else { return }
      remoteHandshake = handshake
      return try handle(.handshake(handshake))
    }
    guard let number = channels[place].local else {
      waitingBytes += frame.size
      guard channels[place].waiting.count < WireLimits.unopenedMessages,
        waitingBytes <= WireLimits.unopenedBytes
      else {
        throw WireError(.violation, "too many messages for a feed that is not open here")
      }
      channels[place].waiting.append((message, frame.size))
      return
    }
    try hand(message, number, handle)
  }

  private func takeFeed(_ feed: Message.Feed, on channel: Int) throws(WireError) {
    while remote.count <= channel { remote.append(nil) }
    guard remote[channel] == nil else {
      throw WireError(.violation, "channel \(channel) was opened twice")
    }
    remote[channel] = place(of: feed.discoveryKey)
    if remoteFirst == nil {
      remoteFirst = feed
      try checkFirst()
    }
  }

  /// Hands on what came before this side opened the channel.
  private func handleWaiting(_ channel: Int, _ handle: (Event) throws(WireError) -> Void) throws(WireError) {
    guard let place = remote[channel], let number = channels[place].local else { return }
    for message in takeWaiting(place) { try hand(message, number, handle) }
  }

  /// Hands on what the peer sent on a feed's channel before ``open(_:)``: to be called after opening a feed
  /// outside of a handler.
  public func receiveWaiting(
    on channel: Int, _ handle: (Event) throws(WireError) -> Void
  ) throws(WireError) {
    guard channel < local.count else { return }
    for message in takeWaiting(local[channel]) { try hand(message, channel, handle) }
  }

  private func takeWaiting(_ place: Int) -> [Message] {
    let waiting = channels[place].waiting
    channels[place].waiting = []
    waitingBytes = waiting.reduce(waitingBytes) { $0 - $1.bytes }
    return waiting.map { $0.message }
  }

  private func hand(
    _ message: Message, _ channel: Int, _ handle: (Event) throws(WireError) -> Void
  ) throws(WireError) {
    guard case .extension(let sent) = message else { return try handle(.message(message, channel: channel)) }
    guard let names = remoteHandshake?.extensions, sent.id < UInt64(names.count) else { return }
    let name = names[Int(sent.id)]
    guard configuration.extensions.contains(name) else { return }
    try handle(.extension(name: name, payload: sent.payload, channel: channel))
  }

  // MARK: - Time

  /// Keeps the connection alive, and notices that the peer is gone, or does not come to say who it is.
  ///
  /// - Parameter now: milliseconds on a clock that only goes forward.
  public func tick(now: UInt64) throws(WireError) {
    if hasReceived || lastReceived == nil { lastReceived = now }
    if hasSent { lastSent = now }
    hasReceived = false
    hasSent = false
    if let lastReceived, now - lastReceived > WireLimits.timeOutMilliseconds {
      throw WireError(.timedOut, "nothing received for \((now - lastReceived) / 1000) seconds")
    }
    let begun = begun ?? now
    self.begun = begun
    if remoteHandshake == nil, now - begun > WireLimits.openingMilliseconds {
      throw WireError(.timedOut, "no handshake within \((now - begun) / 1000) seconds")
    }
    if firstKey != nil, now - lastSent >= WireLimits.keepAliveMilliseconds {
      encoder.appendKeepAlive()
      hasSent = true
    }
  }
}
