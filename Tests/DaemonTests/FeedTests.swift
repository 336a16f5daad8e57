import FoundationEssentials
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// `/feed.json` and `/feed.atom`, as a feed reader gets them from a real `hyphad`.
@Suite("Feeds of posts", .fewAtOnce, .timeLimit(.minutes(15))) struct FeedTests {
  private struct Answer {
    var head: String
    var body: [UInt8]

    var status: String { String(head.dropFirst("HTTP/1.1 ".count).prefix(3)) }
    func header(_ name: String) -> String? {
      head.split(separator: "\r\n").first { $0.hasPrefix("\(name): ") }.map {
        String($0.dropFirst(name.utf8.count + 2))
      }
    }
  }

  private static func get(
    _ node: TestNode, _ path: String, host: String = "example.org", method: String = "GET",
    _ extra: String = ""
  ) async throws -> Answer {
    let client = try RawClient(port: node.port)
    client.send("\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\(extra)\r\n")
    return Answer(head: try await client.readHeader(), body: try await client.readToEnd())
  }

  @Test func areConditional() async throws {
    let node = try await HyphactlTests.origin()
    let post = try node.client().call(PostsCreate.self, .init(text: "first"))
    for path in ["/feed.json", "/feed.atom"] {
      let answer = try await Self.get(node, path)
      #expect(answer.header("Cache-Control") == "no-cache")
      #expect(answer.header("Access-Control-Allow-Origin") == "*")
      let tag = try #require(answer.header("ETag"))
      for condition in [tag, "\"a\", W/\(tag)", "*"] {
        let same = try await Self.get(node, path, "If-None-Match: \(condition)\r\n")
        #expect(same.status == "304" && same.body.isEmpty && same.header("ETag") == tag)
        #expect(same.header("Access-Control-Allow-Origin") == "*")
      }
      // A date only once no later change can have the same, and only where no copy is named.
      let dated = try await eventually {
        let answer = try await Self.get(node, path)
        return answer.header("Last-Modified") == nil ? nil : answer
      }
      let date = try #require(dated.header("Last-Modified"))
      #expect(HTTPDate(date).map { "\($0)" } == date)
      for (condition, status) in [
        ("If-Modified-Since: \(date)", "304"), ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT", "304"),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "200"), ("If-Modified-Since: today", "200"),
        ("If-None-Match: \"a\"\r\nIf-Modified-Since: \(date)", "200"),
      ] {
        #expect(try await Self.get(node, path, "\(condition)\r\n").status == status, "\(condition)")
      }
      let head = try await Self.get(node, path, method: "HEAD")
      #expect(head.status == "200" && head.body.isEmpty && head.header("ETag") == tag)
      #expect(head.header("Content-Length") == "\(answer.body.count)")
      #expect(try await Self.get(node, path, method: "POST").status == "405")
    }

    // What changes is seen at once, though the newest post is an older one then.
    let before = try await Self.get(node, "/feed.json")
    _ = try node.client().call(PostsDelete.self, .init(id: post.id))
    let after = try await Self.get(
      node, "/feed.json",
      "If-Modified-Since: \(before.header("Last-Modified") ?? "")\r\n")
    #expect(after.status == "200" && after.header("ETag") != before.header("ETag"))
    #expect(!String(decoding: after.body, as: UTF8.self).contains("first"))

    // A title is short and turns nothing round, whatever the post is.
    _ = try node.client().call(PostsCreate.self, .init(text: "\u{202e}turned\u{2066} \u{200f}round"))
    let marks = "e" + String(repeating: "\u{301}", count: 10_000)
    _ = try node.client().call(PostsCreate.self, .init(text: marks))
    let atom = String(decoding: try await Self.get(node, "/feed.atom").body, as: UTF8.self)
    #expect(atom.contains("<title>turned round</title>"))
    #expect(
      atom.unicodeScalars.contains("…") && atom.utf8.count < 10_000 * 2 + 2000, "\(atom.utf8.count)")
  }

  @Test func sayWhatIsMissing() async throws {
    let node = try await HyphactlTests.fresh()
    for path in ["/feed.json", "/feed.atom"] {
      let none = try await Self.get(node, path)
      #expect(none.status == "404" && none.header("Access-Control-Allow-Origin") == "*")
    }
  }

  @Test func datesOfHTTP() {
    let text = "Sun, 06 Nov 1994 08:49:37 GMT"
    #expect(HTTPDate(text)?.seconds == 784_111_777 && HTTPDate(text)?.description == text)
    #expect("\(HTTPDate(Timestamp(milliseconds: 1_999)))" == "Thu, 01 Jan 1970 00:00:01 GMT")
    for wrong in [
      "", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 CET",
    ] {
      #expect(HTTPDate(wrong) == nil)
    }
  }
}
