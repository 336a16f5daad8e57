public import Hypercore
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Where a hypha can be asked for: `example.org`, `example.org:8443`, `https://example.org`, or `http://` on loopback;
/// `wss://` and `ws://` mean the same.
public struct HyphaAddress: Hashable, Sendable, CustomStringConvertible {
  /// To connect to the node there.
  public let url: ReplicationURL

  /// The host: what a hypha's keys are derived from, unless it was made with another domain.
  public var domain: String { url.host }
  /// What is asked.
  public var description: String {
    "\(url.kind == .wss ? "https" : "http")://\(url.authority)/.well-known/dat"
  }

  public init(_ text: String) throws(LookupError) {
    let parts = text.firstRange(of: "://").map {
      (text[..<$0.lowerBound].lowercased(), text[$0.upperBound...])
    }
    let scheme: String
    switch parts?.0 {
    case "https", "wss", nil: scheme = "wss"
    case "http", "ws": scheme = "ws"
    case "dat":
      throw LookupError(
        .badAddress, "That is a hyphalink: give the domain, or the URL of a node that has the hypha.")
    default: throw LookupError(.badAddress, "Write the address as example.org or https://example.org.")
    }
    do throws(ReplicationURL.ParseError) {
      url = try ReplicationURL("\(scheme)://\(parts?.1 ?? text[...])")
    } catch {
      // In the words of whoever wrote it.
      let reason = error.description
      throw LookupError(
        .badAddress,
        scheme == parts?.0
          ? reason : reason.replacing("wss://", with: "https://").replacing("ws://", with: "http://"))
    }
    guard url.target == .hypha else {
      throw LookupError(.badAddress, "The address has a path: leave it out, as in https://example.org.")
    }
  }
}

/// Why it is not known which hypha is at an address.
public struct LookupError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// The text is no address.
    case badAddress
    /// No connection: name, network or TLS; or no whole answer.
    case unreachable
    /// There is no hypha: status 404.
    case notFound
    /// Another status, or not what DEP-0005 says.
    case badAnswer
  }

  public var code: Code
  /// Which address, what happened, and what to do where that is known.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  public var description: String { context }
}

/// Asks domains which hypha they have, over HTTPS, and remembers the answer for as long as it says.
///
/// Source: DEP-0005, the part about `/.well-known/dat`. Its DNS records are not asked: they prove nothing without DNS over
/// HTTPS, and so a third party. That there is no hypha is not remembered: whoever asks again has just made one.
public final class WellKnownLookup: Sendable {
  private struct Known {
    var key: PublicKey
    var until: ContinuousClock.Instant
  }

  private let connector: ReplicationConnector
  /// For connecting, asking and the whole answer together, however slowly that comes.
  private let patience: TimeAmount
  private let known = Mutex<[HyphaAddress: Known]>([:])

  /// - Parameter connector: its event loops and its TLS are used.
  public convenience init(_ connector: ReplicationConnector) {
    self.init(connector, patience: .seconds(ReplicationLimits.openingSeconds))
  }

  init(_ connector: ReplicationConnector, patience: TimeAmount) {
    self.connector = connector
    self.patience = patience
  }

  /// The public key of the hypha at an address.
  /// - Parameter now: for tests.
  public func key(
    of address: HyphaAddress, now: ContinuousClock.Instant = .now
  ) async throws(LookupError) -> PublicKey {
    if let known = known.withLock({ $0[address] }), now < known.until { return known.key }
    let (status, body) = try await ask(address)
    switch status {
    case 200: break
    case 404:
      throw LookupError(
        .notFound, "\(address) is not there (404): no hypha is kept at this address, or not yet. Is it right?"
      )
    case 301, 302, 303, 307, 308:
      throw LookupError(
        .badAnswer, "\(address) says to look elsewhere (\(status)): give that address instead.")
    default:
      throw LookupError(.badAnswer, "\(address) answered with status \(status) instead of a hyphalink.")
    }
    guard let answer = WellKnownDat(file: body) else {
      throw LookupError(
        .badAnswer, "\(address) answered, but not with a hyphalink: dat:// and 64 hexadecimal digits.")
    }
    known.withLock { known in
      known[address] = nil
      known = known.filter { now < $0.value.until }
      guard answer.ttl > 0, known.count < ReplicationLimits.rememberedAddresses else { return }
      known[address] = Known(
        key: answer.key, until: now + .seconds(min(answer.ttl, ReplicationLimits.rememberedSeconds)))
    }
    return answer.key
  }

  private func ask(_ address: HyphaAddress) async throws(LookupError) -> (status: Int, body: [UInt8]) {
    let loop = connector.group.next()
    let promise = loop.makePromise(of: (Int, [UInt8]).self)
    let timeout = loop.scheduleTask(in: patience) { [patience] in
      promise.fail(ChannelError.connectTimeout(patience))
    }
    let bootstrap = ClientBootstrap(group: loop).connectTimeout(patience)
      .channelInitializer { [connector] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if address.url.kind == .wss { try pipeline.addHandler(connector.tlsHandler(for: address.url)) }
          var limits = NIOHTTPDecoderLimitConfiguration()
          limits.maxHeaderFieldSize = EdgeLimits.headerBytes
          limits.maxHeaderListSize = EdgeLimits.headerBytes
          try pipeline.addHTTPClientHandlers(
            leftOverBytesStrategy: .dropBytes, enableOutboundHeaderValidation: true,
            encoderConfiguration: .init(), decoderLimitConfiguration: limits, withClientUpgrade: nil)
          try pipeline.addHandler(WellKnownHandler(address, promise))
        }
      }
    bootstrap.connect(host: address.url.host, port: address.url.port).whenComplete { result in
      switch result {
      case .failure(let error): promise.fail(error)
      case .success(let channel): promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
      }
    }
    defer { timeout.cancel() }
    do {
      return try await promise.futureResult.get()
    } catch let error as LookupError {
      throw error
    } catch HTTPParserError.invalidEOFState {
      throw LookupError(.unreachable, "\(address): the connection was closed before the whole answer.")
    } catch is HTTPParserError {
      throw LookupError(.badAnswer, "\(address): what answers does not speak HTTP.")
    } catch {
      throw LookupError(.unreachable, "\(address): \(NetworkError.text(error))")
    }
  }
}

extension WellKnownDat {
  /// Reads the file: the hyphalink, or the key alone, on the first line, and `TTL=` and seconds on the second, 3600 if
  /// there is none.
  init?(file bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
    var lines = text.split(whereSeparator: \.isWhitespace)[...]
    guard var link = lines.popFirst() else { return nil }
    if link.hasPrefix("dat://") { link = link.dropFirst("dat://".count) }
    if link.hasSuffix("/") { link = link.dropLast() }
    guard let key = PublicKey(hex: link) else { return nil }
    var ttl: UInt32 = 3600
    if let line = lines.popFirst() {
      let digits = line.dropFirst("TTL=".count)
      guard line.hasPrefix("TTL="), digits.allSatisfy({ $0.isASCII && $0.isNumber }) else { return nil }
      // No digits mean none given; too many, forever.
      if !digits.isEmpty { ttl = UInt32(digits) ?? .max }
    }
    guard lines.isEmpty else { return nil }
    self.init(key: key, ttl: ttl)
  }
}

/// Sends the request and gathers the answer.
private final class WellKnownHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let address: HyphaAddress
  private let promise: EventLoopPromise<(Int, [UInt8])>
  private var status = 0
  private var body: [UInt8] = []

  init(_ address: HyphaAddress, _ promise: EventLoopPromise<(Int, [UInt8])>) {
    self.address = address
    self.promise = promise
  }

  func channelActive(context: ChannelHandlerContext) {
    var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: "/.well-known/dat")
    head.headers.add(name: "Host", value: address.url.authority)
    head.headers.add(name: "Accept", value: "text/plain, */*")
    head.headers.add(name: "Connection", value: "close")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): status = Int(head.status.code)
    case .body(let bytes):
      body.append(contentsOf: bytes.readableBytesView)
      guard body.count > ReplicationLimits.wellKnownBytes else { return }
      promise.fail(
        LookupError(
          .badAnswer,
          "\(address) answered with over \(ReplicationLimits.wellKnownBytes) bytes instead of a hyphalink.")
      )
    case .end: promise.succeed((status, body))
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    promise.fail(ChannelError.eof)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    promise.fail(error)
    context.close(promise: nil)
  }
}
