import Hypercore
import HyphaWeb

extension VectorMethod {
  /// Decodes what one side sent, in chunks of a size, and encodes it again: the bytes that come out, and of each frame the
  /// channel and the kind.
  func recode(_ request: inout RequestReader, _ response: inout ResponseWriter) throws(WebError) {
    let (key, isEncrypted) = (try request.key(), try request.flag())
    let (bytes, size) = (try request.data(), try request.count())
    var decoder = FrameDecoder()
    var encoder = FrameEncoder()
    var kinds: [(channel: Int, name: String)] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      decoder.append(Array(rest.prefix(size)))
      rest = rest.dropFirst(size)
      do throws(WireError) {
        while let frame = try decoder.next() {
          guard let message = frame.message else { throw WireError(.malformed, "a frame of no known kind") }
          kinds.append((frame.channel, Self.name(message)))
          encoder.append(message, channel: frame.channel)
          if isEncrypted, case .feed(let feed) = message, let nonce = feed.nonce {
            decoder.decrypt(key: key, nonce: nonce)
            encoder.encrypt(key: key, nonce: nonce)
          }
        }
      } catch {
        throw WebError(error)
      }
    }
    response.append(encoder.output)
    response.append(count: kinds.count)
    for (channel, name) in kinds {
      response.append(count: channel)
      response.append(name)
    }
  }

  private static func name(_ message: Message) -> String {
    switch message {
    case .feed: "Feed"
    case .handshake: "Handshake"
    case .info: "Info"
    case .have: "Have"
    case .unhave: "Unhave"
    case .want: "Want"
    case .unwant: "Unwant"
    case .request: "Request"
    case .cancel: "Cancel"
    case .data: "Data"
    case .extension: "Extension"
    }
  }
}
