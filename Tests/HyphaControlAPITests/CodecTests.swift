import FoundationEssentials
import HyphaControlAPI
import Testing

@Suite struct LineBufferTests {
  @Test func cutsLinesHoweverTheBytesArrive() throws {
    var random = SeededRandom(seed: 1)
    for _ in 0..<200 {
      let lines: [[UInt8]] = (0..<Int.random(in: 0..<20, using: &random)).map { _ in
        (0..<Int.random(in: 0...50, using: &random)).map { _ in
          UInt8.random(in: 11...255, using: &random)
        }
      }
      let stream: [UInt8] = lines.flatMap { (line: [UInt8]) in line + [10] }
      var buffer = LineBuffer(limit: 50)
      var found: [[UInt8]] = []
      var position = 0
      while position < stream.count {
        let end = min(stream.count, position + Int.random(in: 1...40, using: &random))
        buffer.append(stream[position..<end])
        position = end
        while let line = try buffer.next() { found.append(line) }
      }
      #expect(found == lines)
      #expect(!buffer.hasPartialLine)
    }
  }

  @Test func refusesALineThatIsTooLongBeforeItEnds() throws {
    var buffer = LineBuffer(limit: 10)
    buffer.append([UInt8](repeating: 65, count: 10))
    #expect(try buffer.next() == nil)
    #expect(buffer.hasPartialLine)
    buffer.append([65])
    #expect(throws: LineBuffer.TooLong.self) { try buffer.next() }
  }

  @Test func refusesALongLineThatCameWhole() throws {
    var buffer = LineBuffer(limit: 3)
    buffer.append(Array("abc\nabcd\n".utf8))
    #expect(try buffer.next() == Array("abc".utf8))
    #expect(throws: LineBuffer.TooLong.self) { try buffer.next() }
  }
}

@Suite struct RequestTests {
  static func code(of line: String) -> ControlError.Code? {
    do {
      _ = try ControlRequest(line: Array(line.utf8))
      return nil
    } catch {
      return error.error.code
    }
  }

  @Test func readsIDsOfBothKinds() throws {
    let number = try ControlRequest(line: Array(#"{"jsonrpc":"2.0","id":7,"method":"node.status"}"#.utf8))
    #expect(number.id == .number(7))
    #expect(number.method == "node.status")
    let text = try ControlRequest(
      line: Array(#"{"jsonrpc":"2.0","id":"7","method":"m","more":[1,{"a":null}],"params":{"x":1}}"#.utf8))
    #expect(text.id == .string("7"))
    let notification = try ControlRequest(line: Array(#"{"jsonrpc":"2.0","method":"m"}"#.utf8))
    #expect(notification.id == nil)
  }

  @Test(
    arguments: [
      ("", .parseError), ("{", .parseError), ("nonsense", .parseError), (#"{"jsonrpc":"2.0","#, .parseError),
      ("[1,", .parseError),
      ("[]", .invalidRequest), (#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#, .invalidRequest),
      ("{}", .invalidRequest), ("7", .invalidRequest), (#""text""#, .invalidRequest),
      ("null", .invalidRequest),
      (#"{"id":1,"method":"m"}"#, .invalidRequest),
      (#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, .invalidRequest),
      (#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, .invalidRequest),
      (#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, .invalidRequest),
      (#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, .invalidRequest),
      (#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, .invalidRequest),
      (#"{"jsonrpc":"2.0","id":1}"#, .invalidRequest),
      (#"{"jsonrpc":"2.0","id":1,"method":7}"#, .invalidRequest),
    ] as [(String, ControlError.Code)])
  func refuses(line: String, code: ControlError.Code) {
    #expect(Self.code(of: line) == code)
  }

  @Test func keepsTheIDOfARequestThatIsWrong() {
    #expect(throws: RefusedLine.self) { try ControlRequest(line: Array(#"{"id":5,"method":"m"}"#.utf8)) }
    do {
      _ = try ControlRequest(line: Array(#"{"id":5,"method":"m"}"#.utf8))
    } catch {
      #expect(error.id == .number(5))
    }
  }

  @Test func refusesWhatIsNotUTF8() {
    var line = Array(#"{"jsonrpc":"2.0","id":1,"method":"m?"}"#.utf8)
    line[line.count - 3] = 0xFF
    #expect(throws: RefusedLine.self) { try ControlRequest(line: line) }
  }

  @Test func refusesAnIDThatIsTooLong() {
    let id = String(repeating: "x", count: ControlLimits.requestIDBytes + 1)
    #expect(Self.code(of: #"{"jsonrpc":"2.0","id":"\#(id)","method":"m"}"#) == .invalidRequest)
  }

  @Test func survivesTruncatedChangedAndRandomLines() throws {
    let whole = Array(
      #"{"id":"a\u00e9","jsonrpc":"2.0","method":"posts.create","params":{"text":"hi\n","n":[1.5e3,true]}}"#
        .utf8)
    for length in 0..<whole.count {
      #expect(throws: RefusedLine.self) { try ControlRequest(line: Array(whole[..<length])) }
    }
    var random = SeededRandom(seed: 2)
    for _ in 0..<5000 {
      var line = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        line[Int.random(in: 0..<line.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if let request = try? ControlRequest(line: line) {
        _ = try? request.params(as: PostsCreate.Params.self)
      }
      let noise = (0..<Int.random(in: 0...60, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      #expect(throws: RefusedLine.self) { try ControlRequest(line: noise) }
    }
  }

  @Test func refusesDeepNesting() {
    for (open, close) in [("[", "]"), (#"{"a":"#, "}")] {
      let deep = String(repeating: open, count: 100_000) + "1" + String(repeating: close, count: 100_000)
      #expect(Self.code(of: #"{"jsonrpc":"2.0","id":1,"method":"m","params":\#(deep)}"#) != nil)
      #expect(Self.code(of: deep) != nil)
    }
  }
}

@Suite struct ParamsTests {
  static func error<P: Decodable>(_ params: String, as _: P.Type) throws -> ControlError? {
    let request = try ControlRequest(
      line: Array(#"{"jsonrpc":"2.0","id":1,"method":"m","params":\#(params)}"#.utf8))
    do {
      _ = try request.params(as: P.self)
      return nil
    } catch {
      return error
    }
  }

  @Test func namesTheFieldThatIsWrong() throws {
    #expect(
      try Self.error("{}", as: PostsCreate.Params.self)
        == ControlError(.invalidParams, "text is missing", field: "text"))
    #expect(
      try Self.error(#"{"text":7}"#, as: PostsCreate.Params.self)
        == ControlError(.invalidParams, "text must be a string", field: "text"))
    #expect(
      try Self.error(#"{"text":null}"#, as: PostsCreate.Params.self)
        == ControlError(.invalidParams, "text must not be null", field: "text"))
    #expect(
      try Self.error(#"{"limit":"many"}"#, as: PostsList.Params.self)
        == ControlError(.invalidParams, "limit must be a whole number", field: "limit"))
    #expect(
      try Self.error(#"{"limit":1.5}"#, as: PostsList.Params.self)
        == ControlError(.invalidParams, "limit must be a whole number within its range", field: "limit"))
    for number in ["-1", "1e40", "99999999999999999999", "0.5"] {
      #expect(
        try Self.error(#"{"after":\#(number)}"#, as: EventsSubscribe.Params.self)?.data?.field == "after")
    }
    #expect(try Self.error(#"{"since":"yesterday"}"#, as: PostsList.Params.self)?.data?.field == "since")
    #expect(
      try Self.error(#"{"kinds":["posted","x"]}"#, as: EventsSubscribe.Params.self)?.data?.field == "kinds[1]"
    )
    #expect(
      try Self.error(#"{"kinds":"posted"}"#, as: EventsSubscribe.Params.self)?.message
        == "kinds must be an array")
    #expect(
      try Self.error("[1]", as: PostsCreate.Params.self)
        == ControlError(.invalidParams, "params must be an object"))
    #expect(try Self.error("7", as: Nothing.self)?.code == .invalidParams)
  }

  @Test func takesMissingParamsAndUnknownFields() throws {
    #expect(try Self.error("null", as: Nothing.self) == nil)
    #expect(try Self.error(#"{"later":1}"#, as: PostsList.Params.self) == nil)
    let bare = try ControlRequest(line: Array(#"{"jsonrpc":"2.0","id":1,"method":"m"}"#.utf8))
    #expect(try bare.params(as: PostsList.Params.self) == PostsList.Params())
    #expect(throws: ControlError.self) { try bare.params(as: PostsCreate.Params.self) }
  }
}

@Suite struct ResponseTests {
  @Test func writesTheBytesOfTheProtocol() throws {
    func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
    #expect(
      text(try ControlCodec.response(id: .number(1), result: PostsDelete.Result(id: "a/b\n")))
        == #"{"id":1,"jsonrpc":"2.0","result":{"id":"a/b\n"}}"#)
    #expect(
      text(ControlCodec.response(id: nil, error: ControlError(.parseError, "no")))
        == #"{"error":{"code":-32700,"message":"no"},"id":null,"jsonrpc":"2.0"}"#)
    #expect(
      text(ControlCodec.response(id: .string("x"), error: ControlError(.readOnly, "no", field: "f")))
        == #"{"error":{"code":1004,"data":{"field":"f"},"message":"no"},"id":"x","jsonrpc":"2.0"}"#)
    #expect(
      text(
        try ControlCodec.notification(
          method: "events.ended", params: ControlNotification.EndedParams(subscription: 1, reason: "r")))
        == #"{"jsonrpc":"2.0","method":"events.ended","params":{"reason":"r","subscription":1}}"#)
  }

  @Test func writesDevicesAndRequestsAsTheyAre() throws {
    let time = Timestamp(milliseconds: 0)
    let request = RequestInfo(
      id: "i", name: "n\u{1B}", writer: "w", words: "a b c d", created: time, expires: time, state: .pending)
    let line = try ControlCodec.response(id: .number(1), result: request)
    #expect(
      String(decoding: line, as: UTF8.self)
        == #"{"id":1,"jsonrpc":"2.0","result":{"created":"1970-01-01T00:00:00.000Z","#
        + #""expires":"1970-01-01T00:00:00.000Z","id":"i","name":"n\u001b","state":"pending","#
        + #""words":"a b c d","writer":"w"}}"#)
    let device = DeviceInfo(writer: "w", name: "n", origin: true, here: false)
    let result = try ControlCodec.response(id: .number(1), result: DevicesList.Result(devices: [device]))
    #expect(
      String(decoding: result, as: UTF8.self)
        == #"{"id":1,"jsonrpc":"2.0","result":{"devices":[{"here":false,"name":"n","origin":true,"writer":"w"}]}}"#
    )
  }

  @Test func refusesAnAnswerThatIsTooLong() throws {
    let long = String(repeating: "x", count: ControlLimits.lineBytes)
    #expect(throws: ControlError.self) {
      try ControlCodec.response(id: .number(1), result: PostsDelete.Result(id: long))
    }
  }

  /// A page of posts at its limit fits into a line, whatever the texts are made of.
  @Test func aPageOfTheLongestTextsFits() throws {
    let text = String(repeating: "\u{1}", count: ControlLimits.postBytes)
    let count = ControlLimits.textBytesPerList / ControlLimits.postBytes
    let post = PostInfo(
      id: "id", text: text, created: Timestamp(milliseconds: 0), device: "d",
      writer: String(repeating: "0", count: 64))
    let line = try ControlCodec.response(
      id: .number(1), result: PostsList.Result(posts: Array(repeating: post, count: count), more: true))
    #expect(line.count <= ControlLimits.lineBytes)
  }

  @Test func errorCodesAreOutsideTheReservedRange() {
    for code in ControlError.Code.allCases where code.rawValue < 0 {
      #expect([-32700, -32600, -32601, -32602, -32603].contains(code.rawValue))
    }
    #expect(Set(ControlError.Code.allCases.map(\.meaning)).count == ControlError.Code.allCases.count)
  }

  @Test func secretsAreNotPrinted() {
    let params = NodeInitialise.Params(domain: "example.org", passphrase: Secret("correct horse"))
    #expect(!"\(params) \(String(reflecting: params))".contains("horse"))
    let signIn = NodeSignIn.Params(address: "example.org", passphrase: Secret("correct horse"))
    #expect(!"\(signIn) \(String(reflecting: signIn))".contains("horse"))
  }
}

/// SplitMix64: the same numbers from the same seed.
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
