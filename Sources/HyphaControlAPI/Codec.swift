import FoundationEssentials

/// What a caller names a request with, to tell answers apart: a whole number or a string.
public enum CallID: Hashable, Codable, Sendable {
  case number(Int64)
  case string(String)

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Int64.self) {
      self = .number(number)
    } else {
      self = .string(try container.decode(String.self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .number(let number): try container.encode(number)
    case .string(let text): try container.encode(text)
    }
  }
}

/// A line that is no request, and the answer that it gets.
public struct RefusedLine: Error, Equatable {
  /// The request's id, as far as it could be read.
  public var id: CallID?
  public var error: ControlError
}

/// A request as read off its line; the params wait until the method is known.
public struct ControlRequest: Sendable {
  /// `nil` for a notification, which gets no answer.
  public let id: CallID?
  public let method: String
  private let line: [UInt8]

  /// - Parameter line: one line without its newline.
  public init(line: [UInt8]) throws(RefusedLine) {
    guard String(validating: line, as: UTF8.self) != nil else {
      throw RefusedLine(error: ControlError(.parseError, "the line is not UTF-8"))
    }
    let first = line.first { !ControlRequest.isSpace($0) }
    let envelope: Envelope
    do {
      if first == UInt8(ascii: "[") {
        // Read it, so that what is no JSON at all is called so.
        _ = try JSONDecoder().decode(JSONValue.self, from: Data(line))
        throw RefusedLine(
          error: ControlError(.invalidRequest, "batches are not taken: send one request a line"))
      }
      envelope = try JSONDecoder().decode(Envelope.self, from: Data(line))
    } catch let refused as RefusedLine {
      throw refused
    } catch DecodingError.dataCorrupted(let context) where context.codingPath.isEmpty {
      throw RefusedLine(error: ControlError(.parseError, "the line is not JSON"))
    } catch {
      throw RefusedLine(error: ControlError(.invalidRequest, "the line is JSON, but not an object"))
    }
    if let problem = envelope.problem {
      throw RefusedLine(id: envelope.id, error: ControlError(.invalidRequest, problem))
    }
    id = envelope.id
    method = envelope.method
    self.line = line
  }

  /// The params as those of one method; missing ones count as `{}`.
  public func params<P: Decodable>(as _: P.Type) throws(ControlError) -> P {
    do {
      if let params = try JSONDecoder().decode(ParamsOf<P>.self, from: Data(line)).params { return params }
      return try JSONDecoder().decode(P.self, from: Data("{}".utf8))
    } catch DecodingError.dataCorrupted(let context) where context.codingPath.isEmpty {
      throw numberError()
    } catch let error as DecodingError {
      throw ControlError(params: error)
    } catch {
      throw ControlError(.internalError, "the params cannot be read")
    }
  }

  /// A number that does not fit where it is: FoundationEssentials does not say which one.
  private func numberError() -> ControlError {
    var suspects: [String] = []
    if case .object(let members) = try? JSONDecoder().decode(ParamsOf<JSONValue>.self, from: Data(line))
      .params
    {
      for (name, value) in members {
        switch value {
        case .number: suspects.append(name)
        case .integer(let number) where number < 0: suspects.append(name)
        default: break
        }
      }
    }
    let field = suspects.count == 1 ? suspects.first : nil
    return ControlError(
      .invalidParams, "\(field ?? "a number in params") must be a whole number within its range", field: field
    )
  }

  static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || (0x09...0x0D).contains(byte)
  }

  /// Everything but the params. What is wrong with it is noted, not thrown, so that the answer can carry the id.
  private struct Envelope: Decodable {
    var id: CallID?
    var method = ""
    var problem: String?

    enum CodingKeys: String, CodingKey {
      case jsonrpc, id, method
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      if container.contains(.id) {
        id = try? container.decode(CallID.self, forKey: .id)
        switch id {
        case nil: problem = "id must be a whole number or a string"
        case .string(let text) where text.utf8.count > ControlLimits.requestIDBytes:
          id = nil
          problem = "id is longer than \(ControlLimits.requestIDBytes) bytes"
        default: break
        }
      }
      if (try? container.decode(String.self, forKey: .jsonrpc)) != "2.0" {
        problem = problem ?? "jsonrpc must be \"2.0\""
      }
      if let method = try? container.decode(String.self, forKey: .method) {
        self.method = method
      } else {
        problem = problem ?? "method must be a string"
      }
    }
  }

  private struct ParamsOf<P: Decodable>: Decodable {
    var params: P?
  }
}

extension ControlError {
  /// Names the parameter that did not fit.
  init(params error: DecodingError) {
    func path(_ context: DecodingError.Context, _ last: (any CodingKey)? = nil) -> String {
      var path = ""
      for key in context.codingPath.dropFirst(context.codingPath.first?.stringValue == "params" ? 1 : 0)
        + (last.map { [$0] } ?? [])
      {
        path += key.intValue.map { "[\($0)]" } ?? (path.isEmpty ? key.stringValue : ".\(key.stringValue)")
      }
      return path
    }
    let field: String
    let problem: String
    switch error {
    case .keyNotFound(let key, let context):
      field = path(context, key)
      problem = "is missing"
    case .valueNotFound(_, let context):
      field = path(context)
      problem = "must not be null"
    case .typeMismatch(let type, let context):
      field = path(context)
      problem = "must be \(Self.name(of: type))"
    case .dataCorrupted(let context):
      field = path(context)
      problem = "is wrong: \(context.debugDescription)"
    @unknown default:
      field = ""
      problem = "cannot be read"
    }
    self.init(
      .invalidParams, field.isEmpty ? "params \(problem)" : "\(field) \(problem)",
      field: field.isEmpty ? nil : field)
  }

  private static func name(of type: Any.Type) -> String {
    switch type {
    case is String.Type: "a string"
    case is Bool.Type: "true or false"
    case is Double.Type: "a number"
    case is any FixedWidthInteger.Type: "a whole number"
    case is any CodableArray.Type: "an array"
    default: "an object"
    }
  }
}

/// Tells arrays from other types.
private protocol CodableArray {}
extension Array: CodableArray {}

/// Makes the lines of the protocol, without their newline.
public enum ControlCodec {
  public static func request<P: Encodable>(id: CallID, method: String, params: P) throws(ControlError)
    -> [UInt8]
  {
    try line(Request(id: id, method: method, params: params))
  }

  public static func notification<P: Encodable>(method: String, params: P) throws(ControlError) -> [UInt8] {
    try line(Request(id: nil, method: method, params: params))
  }

  public static func response<R: Encodable>(id: CallID, result: R) throws(ControlError) -> [UInt8] {
    let line = try line(Response(id: id, result: result))
    guard line.count <= ControlLimits.lineBytes else {
      throw ControlError(
        .answerTooLong,
        "the answer would be \(line.count) bytes long, at most \(ControlLimits.lineBytes) fit: ask for less")
    }
    return line
  }

  /// - Parameter id: `nil` if the request's could not be read.
  public static func response(id: CallID?, error: ControlError) -> [UInt8] {
    // Strings and integers always encode.
    (try? line(Refusal(id: id, error: error))) ?? []
  }

  private static func line<T: Encodable>(_ message: T) throws(ControlError) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return [UInt8](try encoder.encode(message))
    } catch {
      throw ControlError(.internalError, "the message cannot be written as JSON")
    }
  }

  private struct Request<P: Encodable>: Encodable {
    var jsonrpc = "2.0"
    var id: CallID?
    var method: String
    var params: P
  }

  private struct Response<R: Encodable>: Encodable {
    var jsonrpc = "2.0"
    var id: CallID
    var result: R
  }

  private struct Refusal: Encodable {
    var id: CallID?
    var error: ControlError

    enum CodingKeys: String, CodingKey {
      case jsonrpc, id, error
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode("2.0", forKey: .jsonrpc)
      if let id {
        try container.encode(id, forKey: .id)
      } else {
        try container.encodeNil(forKey: .id)
      }
      try container.encode(error, forKey: .error)
    }
  }
}

/// A line from the daemon, as a client sees it.
struct ServerLine: Decodable {
  var id: CallID?
  var method: String?
  var error: ControlError?

  /// The result, of a line that is a response and no error.
  static func result<R: Decodable>(of line: [UInt8], as _: R.Type) throws -> R {
    try JSONDecoder().decode(ResultOf<R>.self, from: Data(line)).result
  }

  static func params<P: Decodable>(of line: [UInt8], as _: P.Type) throws -> P {
    try JSONDecoder().decode(ParamsOf<P>.self, from: Data(line)).params
  }

  static func read(_ line: [UInt8]) throws -> ServerLine {
    try JSONDecoder().decode(ServerLine.self, from: Data(line))
  }

  private struct ResultOf<R: Decodable>: Decodable {
    var result: R
  }
  private struct ParamsOf<P: Decodable>: Decodable {
    var params: P
  }
}
