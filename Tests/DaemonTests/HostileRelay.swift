import Hypercore
import HyphaControlAPI
import Logging
import NIOCore
import Synchronization
import Testing

@testable import HyphaDaemonCore

/// An always-on node that is not to be trusted: stands before a real one, passes feeds on, and does with the messages of
/// the secure channel as a test tells it.
final class HostileRelay: EdgeDelegate {
  enum Deed {
    case pass
    case drop
    /// Changes one bit of each.
    case tamper
    /// Sends each three times.
    case multiply
    /// Keeps them until ``release()``, which sends them the other way round.
    case hold
  }

  /// A message on its way.
  private struct Passing {
    var pipe: Pipe
    var channel: Int
    var message: Message.Extension
  }

  private struct State {
    var deed = Deed.pass
    var pipes: [Pipe] = []
    var held: [Passing] = []
    /// Every message that ever passed, each once.
    var recorded: [Message.Extension] = []
    var random = UInt64(1)
  }

  private let key: PublicKey
  private let target: ReplicationURL
  private let state = Mutex(State())
  private let server = Mutex<EdgeServer?>(nil)
  private let loop: any EventLoop

  private init(_ hyphalink: String, before node: TestNode) throws {
    key = try #require(PublicKey(hex: hyphalink.dropFirst("dat://".count)))
    target = try ReplicationURL(node.url)
    loop = Edge.group.next()
  }

  /// Listens.
  /// - Returns: the relay, and its port on 127.0.0.1.
  static func start(_ hyphalink: String, before node: TestNode) async throws -> (HostileRelay, port: Int) {
    let relay = try HostileRelay(hyphalink, before: node)
    let server = try await EdgeServer.http(
      at: .address(ListenAddress(host: "127.0.0.1", port: try freePorts(1)[0])), group: Edge.group,
      limiter: ConnectionLimiter(total: 100, perAddress: 100), delegate: relay,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    relay.server.withLock { $0 = server }
    return (relay, try #require(server.address?.port))
  }

  func stop() async {
    await server.withLock { $0 }?.stop()
  }

  func become(_ deed: Deed) {
    state.withLock { $0.deed = deed }
  }

  /// How many different messages have passed, or would have.
  var seen: Int { state.withLock { $0.recorded.count } }

  /// Sends what was held, last first.
  func release() {
    let held = state.withLock { state in
      defer { state.held = [] }
      return state.held
    }
    for passing in held.reversed() { passing.pipe.send(passing.message, on: passing.channel) }
  }

  /// Sends every message that ever passed to everybody again, answers too.
  func replay() {
    let (pipes, recorded) = state.withLock { ($0.pipes, $0.recorded) }
    for pipe in pipes { for message in recorded { pipe.send(message, on: 0) } }
  }

  func publicPosts() async -> PublicPosts? { nil }
  func wellKnownDat() async -> WellKnownDat? { WellKnownDat(key: key, ttl: 60) }
  func reject(_ kind: String, from address: String) {}
  func health() async -> Health { Health(ready: true, text: "ready") }
  func admit(_: ReplicationRequest) async -> Admission { .accept }

  func attach(_ incoming: ReplicationTransport) async {
    guard
      let outgoing = try? await ReplicationConnector(group: Edge.group).connect(
        to: ReplicationURL(target, target: incoming.target))
    else { return incoming.close(CloseReason(.goingAway, "The node behind is away.")) }
    for (from, to) in [(incoming, outgoing), (outgoing, incoming)] {
      let pipe = Pipe(to)
      state.withLock { $0.pipes.append(pipe) }
      from.start(on: loop) { [self] event in
        switch event {
        case .bytes(let buffers):
          for buffer in buffers {
            pipe.take(Array(buffer.readableBytesView)) { message, channel in
              judge(Passing(pipe: pipe, channel: channel, message: message))
            }
          }
        case .writable: break
        case .closed(let reason):
          to.close(reason)
          state.withLock { $0.pipes.removeAll { $0 === pipe } }
        }
      }
    }
  }

  /// - Returns: what to send in a message's place.
  private func judge(_ passing: Passing) -> [Message.Extension] {
    state.withLock { state in
      if !state.recorded.contains(passing.message) { state.recorded.append(passing.message) }
      switch state.deed {
      case .pass: return [passing.message]
      case .drop: return []
      case .multiply: return [passing.message, passing.message, passing.message]
      case .hold:
        state.held.append(passing)
        return []
      case .tamper:
        var message = passing.message
        state.random = state.random &* 6_364_136_223_846_793_005 &+ 1
        let bit = Int(state.random >> 33) % (message.payload.count * 8)
        message.payload[bit / 8] ^= 1 << UInt8(bit % 8)
        return [message]
      }
    }
  }

  /// One direction of a connection: frames in, frames out.
  private final class Pipe: Sendable {
    private let to: ReplicationTransport
    private struct Codec {
      var decoder = FrameDecoder()
      var encoder = FrameEncoder()
    }

    private let codec = Mutex(Codec())

    init(_ to: ReplicationTransport) {
      self.to = to
    }

    func take(_ bytes: [UInt8], _ judge: (Message.Extension, Int) -> [Message.Extension]) {
      codec.withLock { codec in
        codec.decoder.append(bytes)
        while let frame = try? codec.decoder.next() {
          switch frame.message {
          case .extension(let message):
            for message in judge(message, frame.channel) {
              codec.encoder.append(.extension(message), channel: frame.channel)
            }
          case let message?: codec.encoder.append(message, channel: frame.channel)
          case nil: codec.encoder.appendKeepAlive()
          }
        }
        to.send(codec.encoder.takeOutput())
      }
    }

    func send(_ message: Message.Extension, on channel: Int) {
      codec.withLock { codec in
        codec.encoder.append(.extension(message), channel: channel)
        to.send(codec.encoder.takeOutput())
      }
    }
  }
}
