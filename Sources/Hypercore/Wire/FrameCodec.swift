/// A message and the sender's number for its channel.
public struct Frame: Equatable, Sendable {
  public var channel: Int
  /// Bytes of the header and the message.
  public var size: Int
  /// `nil` for a type that is not known, which the reference ignores too.
  public var message: Message?
}

/// Cuts a stream of bytes into frames: a length, a header of channel and type, a message.
public struct FrameDecoder {
  private var input: [UInt8] = []
  /// Where the first byte is that was not read yet.
  private var start = 0
  private var cipher: StreamCipher?

  public init() {}

  /// Bytes that were not read yet.
  var unreadCount: Int { input.count - start }

  /// Whether ``decrypt(key:nonce:)`` was called.
  public var isDecrypting: Bool { cipher != nil }

  /// Takes all bytes that were not read yet, and all that follow, for encrypted.
  ///
  /// - Parameter nonce: 24 bytes.
  public mutating func decrypt(key: PublicKey, nonce: [UInt8]) {
    var cipher = StreamCipher(key: key, nonce: nonce)
    input.withMutableBytes { cipher.apply(UnsafeMutableRawBufferPointer(rebasing: $0[start...])) }
    self.cipher = cipher
  }

  /// Adds the bytes that arrived.
  public mutating func append(_ bytes: [UInt8]) {
    if start == input.count {
      input = bytes
      start = 0
    } else {
      if start > 64 << 10 {
        input.removeFirst(start)
        start = 0
      }
      input.append(contentsOf: bytes)
    }
    guard cipher != nil else { return }
    let first = input.count - bytes.count
    input.withMutableBytes { cipher?.apply(UnsafeMutableRawBufferPointer(rebasing: $0[first...])) }
  }

  /// The next whole frame, or `nil` where more bytes are needed.
  public mutating func next() throws(WireError) -> Frame? {
    while start < input.count {
      let (frame, size) = try input.withBytes { (bytes) throws(WireError) in
        try Self.first(UnsafeRawBufferPointer(rebasing: bytes[start...]))
      }
      if size == 0 { return nil }
      start += size
      if let frame { return frame }
    }
    return nil
  }

  /// - Returns: the frame that `bytes` begins with, if it means anything, and its size: 0 where it is not whole.
  private static func first(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> (Frame?, Int) {
    var reader = RawReader(bytes)
    guard let length = reader.varint() else {
      // Four bytes hold the longest length; ten that do not end are none.
      guard bytes.count < 10 else { throw WireError(.malformed, "a message without a length") }
      return (nil, 0)
    }
    guard length <= UInt64(WireLimits.messageBytes) else {
      throw WireError(.tooLarge, "a message of \(length) bytes")
    }
    guard let body = reader.bytes(Int(length)) else { return (nil, 0) }
    // An empty message keeps the connection alive; the reference ignores one too short to mean anything.
    if length < 2 { return (nil, reader.position) }
    var contents = RawReader(body)
    guard let header = contents.varint(), header >> 4 < UInt64(WireLimits.channels) else {
      throw WireError(.malformed, "a message for a channel over \(WireLimits.channels - 1)")
    }
    let message = try Message.decode(type: UInt8(header & 15), contents.rest)
    return (Frame(channel: Int(header >> 4), size: body.count, message: message), reader.position)
  }
}

/// Makes frames of messages.
public struct FrameEncoder {
  /// Bytes to be sent.
  public private(set) var output: [UInt8] = []
  private var cipher: StreamCipher?

  public init() {}

  /// Encrypts all that is appended from here on.
  ///
  /// - Parameter nonce: 24 bytes.
  public mutating func encrypt(key: PublicKey, nonce: [UInt8]) {
    cipher = StreamCipher(key: key, nonce: nonce)
  }

  public mutating func append(_ message: Message, channel: Int) {
    let start = output.count
    message.appendFrame(channel: UInt64(channel), to: &output)
    encrypt(from: start)
  }

  /// An empty message, which says only that this side is there.
  public mutating func appendKeepAlive() {
    output.append(0)
    encrypt(from: output.count - 1)
  }

  /// Takes the bytes to be sent, and leaves none.
  public mutating func takeOutput() -> [UInt8] {
    let bytes = output
    output = []
    return bytes
  }

  private mutating func encrypt(from start: Int) {
    guard cipher != nil else { return }
    output.withMutableBytes { cipher?.apply(UnsafeMutableRawBufferPointer(rebasing: $0[start...])) }
  }
}
