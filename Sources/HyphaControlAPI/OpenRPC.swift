/// The OpenRPC document of this API, made from ``controlMethods``: their params and results are read off the Swift
/// types themselves.
public func openRPCDocument() -> JSONValue {
  .object([
    "openrpc": .string("1.3.2"),
    "info": .object([
      "title": .string("hyphad control API"), "version": .string("\(ControlAPI.version).0.0"),
    ]),
    "methods": .array(controlMethods.map { description(of: $0) }),
  ])
}

/// Errors that every method may answer with.
private let commonErrors: [ControlError.Code] = [
  .invalidParams, .internalError, .limitReached, .stopping, .answerTooLong,
]

private func description<M: ControlMethod>(of method: M.Type) -> JSONValue {
  let parameters = schema(of: M.Params.self)
  var required: Set<String> = []
  if case .array(let names) = parameters["required"] {
    for case .string(let name) in names { required.insert(name) }
  }
  var members: [String: JSONValue] = [:]
  if case .object(let properties) = parameters["properties"] { members = properties }
  return .object([
    "name": .string(M.name),
    "summary": .string(M.summary),
    "paramStructure": .string("by-name"),
    "params": .array(
      members.sorted { $0.key < $1.key }.map { name, schema in
        .object(["name": .string(name), "required": .bool(required.contains(name)), "schema": schema])
      }),
    "result": .object(["name": .string("result"), "schema": schema(of: M.Result.self)]),
    "errors": .array(
      (M.errors + commonErrors).map { code in
        .object(["code": .integer(Int64(code.rawValue)), "message": .string(code.meaning)])
      }),
  ])
}
