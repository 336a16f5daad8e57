import NIOCore

/// A peer broke RFC 6455, or sent what this node does not take.
struct WebSocketViolation: Error, Equatable {
  /// Close code to answer with.
  var code: UInt16
  var text: String
}

/// Reads WebSocket frames without waiting for the whole of one: a binary message is part of a byte stream, so
/// what is there of it is handed on at once and takes no memory here.
///
/// Sans-I/O: bytes in, events out. After an error it must not be used again.
struct WebSocketParser: ~Copyable {
  enum Event: Equatable {
    /// The next bytes of binary messages; where one ends does not matter.
    case bytes(ByteBuffer)
    /// A whole text message in one frame.
    case text(ByteBuffer)
    case ping(ByteBuffer)
    case pong
    /// Close frame; 1005 stands for none given.
    case close(code: UInt16, reason: String)
  }

  private enum Opcode: UInt8 {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10
  }

  private struct Frame {
    var opcode: Opcode
    var remaining: Int
    var mask: UInt32?
    /// Bytes of the payload unmasked so far.
    var offset = 0
  }

  /// The other side is a client: all its frames are masked, and none of a server's is.
  private let masked: Bool
  private var header: [UInt8] = []
  private var frame: Frame?
  /// Payload of a control or text frame so far.
  private var whole = ByteBuffer()
  /// In a binary message whose last fragment has not begun.
  private var fragmented = false

  init(masked: Bool) {
    self.masked = masked
    header.reserveCapacity(14)
  }

  /// - Parameter input: what it takes is removed.
  /// - Returns: `nil` once `input` is used up.
  mutating func next(_ input: inout ByteBuffer) throws(WebSocketViolation) -> Event? {
    while true {
      if frame == nil {
        guard let found = try readHeader(&input) else { return nil }
        frame = found
      }
      guard var current = frame else { return nil }
      let count = min(current.remaining, input.readableBytes)
      guard count > 0 || current.remaining == 0 else { return nil }
      var part = input.readSlice(length: count) ?? ByteBuffer()
      if let mask = current.mask { WebSocketMask.apply(mask, to: &part, offset: current.offset) }
      current.remaining -= count
      current.offset += count
      let ended = current.remaining == 0
      frame = ended ? nil : current
      switch current.opcode {
      case .binary, .continuation:
        if count > 0 { return .bytes(part) }
      case .text, .close, .ping, .pong:
        whole.writeBuffer(&part)
        guard ended else { continue }
        let payload = whole
        whole = ByteBuffer()
        return try event(current.opcode, payload)
      }
    }
  }

  private func event(_ opcode: Opcode, _ payload: ByteBuffer) throws(WebSocketViolation) -> Event {
    switch opcode {
    case .text: return .text(payload)
    case .ping: return .ping(payload)
    case .close:
      var payload = payload
      guard payload.readableBytes > 0 else { return .close(code: 1005, reason: "") }
      guard let code = payload.readInteger(as: UInt16.self) else {
        throw WebSocketViolation(code: 1002, text: "A close frame with one byte.")
      }
      guard Self.isCloseCode(code) else {
        throw WebSocketViolation(code: 1002, text: "A close frame with the code \(code), which none has.")
      }
      guard let reason = String(validating: payload.readableBytesView, as: UTF8.self) else {
        throw WebSocketViolation(code: 1007, text: "A close frame whose reason is not UTF-8.")
      }
      return .close(code: code, reason: reason)
    case .pong, .binary, .continuation: return .pong
    }
  }

  /// Whether a frame may have it (RFC 6455, section 7.4).
  private static func isCloseCode(_ code: UInt16) -> Bool {
    switch code {
    case 1000...1003, 1007...1014, 3000...4999: true
    default: false
    }
  }

  private mutating func readHeader(_ input: inout ByteBuffer) throws(WebSocketViolation) -> Frame? {
    while header.count < headerSize {
      guard let byte = input.readInteger(as: UInt8.self) else { return nil }
      header.append(byte)
    }
    defer { header.removeAll(keepingCapacity: true) }
    return try parseHeader()
  }

  /// Bytes of the header, as far as those that came tell.
  private var headerSize: Int {
    guard header.count >= 2 else { return 2 }
    let mask = header[1] & 0x80 == 0 ? 0 : 4
    switch header[1] & 0x7F {
    case 126: return 4 + mask
    case 127: return 10 + mask
    default: return 2 + mask
    }
  }

  private mutating func parseHeader() throws(WebSocketViolation) -> Frame {
    func violation(_ text: String) -> WebSocketViolation { WebSocketViolation(code: 1002, text: text) }
    let final = header[0] & 0x80 != 0
    guard header[0] & 0x70 == 0, let opcode = Opcode(rawValue: header[0] & 0x0F) else {
      throw violation("A frame of an unknown kind.")
    }
    guard (header[1] & 0x80 != 0) == masked else {
      throw violation(masked ? "A client's frame without a mask." : "A server's frame with a mask.")
    }
    var position = 2
    let size: UInt64
    switch header[1] & 0x7F {
    case 126: size = UInt64(header[2]) << 8 | UInt64(header[3])
    case 127: size = header[2..<10].reduce(0) { $0 << 8 | UInt64($1) }
    default: size = UInt64(header[1] & 0x7F)
    }
    if header[1] & 0x7F == 126 { position += 2 }
    if header[1] & 0x7F == 127 { position += 8 }
    switch opcode {
    case .close, .ping, .pong:
      guard final, size <= 125 else { throw violation("A control frame in fragments or above 125 bytes.") }
    case .text:
      guard final, !fragmented else {
        throw violation("A text message in fragments, or within another message.")
      }
      guard size <= UInt64(ReplicationLimits.preambleBytes) else {
        throw WebSocketViolation(
          code: 1009, text: "A text frame above \(ReplicationLimits.preambleBytes) bytes.")
      }
    case .binary:
      guard !fragmented else { throw violation("A new message before the last fragment of another one.") }
      fragmented = !final
    case .continuation:
      guard fragmented else { throw violation("A fragment of no message.") }
      fragmented = !final
    }
    guard size <= UInt64(ReplicationLimits.frameBytes) else {
      throw WebSocketViolation(code: 1009, text: "A frame above \(ReplicationLimits.frameBytes) bytes.")
    }
    // In memory order, as the payload is.
    let mask =
      masked
      ? header[position..<position + 4].enumerated().reduce(UInt32(0)) {
        $0 | UInt32($1.element) << (8 * $1.offset)
      }
      : nil
    return Frame(opcode: opcode, remaining: Int(size), mask: mask)
  }
}

/// Frames as they are sent.
enum WebSocketFrame {
  static let text: UInt8 = 1
  static let binary: UInt8 = 2
  static let close: UInt8 = 8
  static let pong: UInt8 = 10

  /// The header of a message in one frame.
  ///
  /// - Parameter mask: a client's, its low byte first; `nil` for a server.
  static func header(_ opcode: UInt8, size: Int, mask: UInt32?, allocator: ByteBufferAllocator) -> ByteBuffer
  {
    var header = allocator.buffer(capacity: 14)
    header.writeInteger(0x80 | opcode)
    let masked: UInt8 = mask == nil ? 0 : 0x80
    switch size {
    case 0..<126:
      header.writeInteger(masked | UInt8(size))
    case 126...0xFFFF:
      header.writeInteger(masked | 126)
      header.writeInteger(UInt16(size))
    default:
      header.writeInteger(masked | 127)
      header.writeInteger(UInt64(size))
    }
    if let mask { header.writeInteger(mask, endianness: .little) }
    return header
  }

  /// A small frame as a whole.
  static func whole(
    _ opcode: UInt8, _ payload: ByteBuffer, mask: UInt32?, allocator: ByteBufferAllocator
  ) -> ByteBuffer {
    var payload = payload
    var frame = header(opcode, size: payload.readableBytes, mask: mask, allocator: allocator)
    if let mask { WebSocketMask.apply(mask, to: &payload, offset: 0) }
    frame.writeBuffer(&payload)
    return frame
  }
}

/// The XOR of RFC 6455, section 5.3.
enum WebSocketMask {
  /// - Parameters:
  ///   - mask: its low byte is for the payload's first byte.
  ///   - offset: of the buffer in the payload.
  static func apply(_ mask: UInt32, to buffer: inout ByteBuffer, offset: Int) {
    let shift = UInt32(offset & 3) * 8
    let turned = shift == 0 ? mask : mask >> shift | mask << (32 - shift)
    let wide = (UInt64(turned) << 32 | UInt64(turned)).littleEndian
    buffer.withUnsafeMutableReadableBytes { bytes in
      let words = bytes.count / 8 * 8
      var position = 0
      while position < words {
        let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
        bytes.storeBytes(of: word ^ wide, toByteOffset: position, as: UInt64.self)
        position += 8
      }
      while position < bytes.count {
        bytes[position] ^= UInt8(truncatingIfNeeded: turned >> (UInt32(position & 3) * 8))
        position += 1
      }
    }
  }
}
