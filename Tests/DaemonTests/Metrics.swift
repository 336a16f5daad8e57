import Testing

@testable import HyphaDaemonCore

/// What a daemon measures: each value by its name and labels.
///
/// - Parameter port: of its `[metrics]` address.
func metrics(_ port: Int) async throws -> [String: Double] {
  let answer = try await httpAnswer("/metrics", port)
  #expect(answer.hasPrefix("HTTP/1.1 200"))
  #expect(
    answer.contains("content-type: text/plain; version=0.0.4")
      || answer.contains("Content-Type: text/plain; version=0.0.4"))
  let body = try #require(answer.firstRange(of: "\r\n\r\n").map { answer[$0.upperBound...] })
  var values: [String: Double] = [:]
  var typed: Set<Substring> = []
  for line in body.split(separator: "\n") {
    let words = line.split(separator: " ")
    if line.hasPrefix("# TYPE ") {
      #expect(typed.insert(words[2]).inserted, "\(line) comes twice")
    } else if !line.hasPrefix("#") {
      let name = words[0].prefix { $0 != "{" }
      let base = ["_bucket", "_sum", "_count"].reduce(name) {
        $0.hasSuffix($1) ? $0.dropLast($1.count) : $0
      }
      #expect(typed.contains(name) || typed.contains(base), "\(line) has no type")
      #expect(
        MetricsNames.meanings[String(name)] ?? MetricsNames.meanings[String(base)] != nil,
        "\(line) has no meaning")
      #expect(
        values.updateValue(
          try #require(Double(words[words.count - 1])), forKey: words.dropLast().joined(separator: " "))
          == nil)
    }
  }
  return values
}

/// The whole answer to a GET request.
func httpAnswer(_ path: String, _ port: Int) async throws -> String {
  let client = try RawClient(port: port)
  client.send("GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
  return String(decoding: try await client.readToEnd(), as: UTF8.self)
}
