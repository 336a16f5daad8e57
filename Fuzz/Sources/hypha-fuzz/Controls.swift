import FoundationEssentials

@testable import HyphaControlAPI

/// What callers of the control socket send, and what a daemon answers.
let controlTargets = [
  Target(
    name: "rpc",
    seeds: {
      [
        #"{"jsonrpc":"2.0","id":1,"method":"posts.create","params":{"text":"x"}}"# + "\n",
        #"{"jsonrpc":"2.0","id":"a","method":"node.wait","params":{"condition":"synced","timeout":1.5}}"#
          + "\n\n[1]\n",
        #"{"jsonrpc":"2.0","method":"database.put","params":{"key":"a/b","value":"AAE="}}"# + "\r\n",
        #"{"jsonrpc":"2.0","id":null,"method":7,"params":[{"a":{}}, 1e400, -0, "\ud800"]}"# + "\n",
      ].map { [5] + Array($0.utf8) }
    }, run: fuzzLines),
  Target(
    name: "params",
    seeds: {
      controlMethods.indices.filter { $0 % 4 == 0 }.map {
        [UInt8($0)]
          + Array(
            #"{"text":"x","key":"k","name":"n","limit":1,"before":"2026-01-31","id":"i","code":"c"}"#.utf8)
      }
    }, run: fuzzParams),
]

private func fuzzLines(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let stream = Array(bytes.dropFirst())
  let whole = lines(stream, pieces: max(stream.count, 1))
  let cut = lines(stream, pieces: Int(first) + 1)
  expect(whole == cut, "a stream in pieces is the same lines as in one")
  for line in whole {
    do throws(RefusedLine) {
      let request = try ControlRequest(line: line)
      if let method = controlMethods.first(where: { $0.name == request.method }) { params(method, request) }
      if let id = request.id {
        let answer = try? ControlCodec.response(id: id, result: Nothing())
        expect((answer.flatMap { try? ServerLine.read($0) })?.id == id, "an answer has the request's id")
      }
    } catch {
      expect(
        (try? ServerLine.read(ControlCodec.response(id: error.id, error: error.error))) != nil,
        "an error is a line")
    }
    _ = try? ServerLine.read(line)
    _ = try? ServerLine.result(of: line, as: NodeInfo.self)
    if let value = try? JSONDecoder().decode(JSONValue.self, from: Data(line)) { write(value) }
  }
}

private func lines(_ bytes: [UInt8], pieces: Int) -> [[UInt8]] {
  var buffer = LineBuffer(limit: 4096)
  var found: [[UInt8]] = []
  do {
    for start in stride(from: 0, to: bytes.count, by: pieces) {
      buffer.append(bytes[start..<min(start + pieces, bytes.count)])
      while let line = try buffer.next() { found.append(line) }
    }
  } catch {
    found.append([0])
  }
  return found
}

private func write(_ value: JSONValue) {
  guard let encoded = try? JSONEncoder().encode(value) else { return }
  let again = try? JSONDecoder().decode(JSONValue.self, from: encoded)
  expect(again == value, "JSON is read as it was written: \(String(decoding: encoded, as: UTF8.self))")
}

private func fuzzParams(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let method = controlMethods[Int(first) % controlMethods.count]
  let line =
    Array(#"{"jsonrpc":"2.0","id":1,"method":"m","params":"#.utf8) + bytes.dropFirst() + Array("}".utf8)
  guard let request = try? ControlRequest(line: line) else { return }
  params(method, request)
}

private func params<M: ControlMethod>(_: M.Type, _ request: ControlRequest) {
  let params: M.Params
  do throws(ControlError) {
    params = try request.params(as: M.Params.self)
  } catch {
    expect(error.code == .invalidParams, "params that do not fit are the caller's fault: \(error.message)")
    return
  }
  guard let line = try? ControlCodec.request(id: .number(1), method: M.name, params: params) else { return }
  let again = (try? ControlRequest(line: line)).flatMap { try? $0.params(as: M.Params.self) }
  let second = again.flatMap { try? ControlCodec.request(id: .number(1), method: M.name, params: $0) }
  expect(second == line, "\(M.name): params are read as they were written")
}
