import FoundationEssentials
import NIOHTTP1
import Testing

@testable import HyphaDaemonCore

@Suite("The web client's files", .fewAtOnce) struct WebFilesTests {
  /// A folder with a page, a script with compressed copies (which need not be such), and their manifest.
  static func folder() throws -> WebFolder {
    let folder = try WebFolder()
    var files: [String: WebFiles.Manifest.File] = [:]
    for (path, name, type, copies) in [
      ("/", "index.html", "text/html; charset=utf-8", [:]),
      ("/assets/ab/page.js", "assets/ab/page.js", "text/javascript", ["br": "br", "gzip": "gz"]),
    ] as [(String, String, String, [String: String])] {
      let contents = "contents of \(name)"
      try folder.write(name, contents)
      for copy in copies.values { try folder.write("\(name).\(copy)", copy) }
      files[path] = WebFiles.Manifest.File(
        file: name, type: type, size: contents.utf8.count, sha256: WebFiles.sha256(Array(contents.utf8)),
        encodings: copies.mapValues { WebFiles.sha256(Array($0.utf8)) })
    }
    try folder.write("integrity.json", files)
    return folder
  }

  @Test func served() async throws {
    let folder = try Self.folder()
    let edge = try await Edge(web: try WebFiles(folder: folder.path))
    func get(_ path: String, _ headers: String = "", method: String = "GET") async throws -> (String, String)
    {
      let client = try RawClient(port: edge.port)
      client.send("\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(headers)\r\n")
      return (try await client.readHeader(), String(decoding: try await client.readToEnd(), as: UTF8.self))
    }
    var (head, body) = try await get("/?x=1", "Accept-Encoding: br, gzip\r\n")
    #expect(head.hasPrefix("HTTP/1.1 200") && body == "contents of index.html")
    #expect(head.contains("script-src 'self' 'wasm-unsafe-eval'") && !head.contains("unsafe-inline"))
    #expect(
      head.contains("Cache-Control: no-cache") && head.contains("Content-Type: text/html; charset=utf-8"))
    #expect(head.contains("Permissions-Policy: ") && head.contains("Referrer-Policy: no-referrer"))
    #expect(!head.contains("Content-Encoding") && !head.contains("Vary"))
    let tag = try #require(head.split(separator: "\r\n").first { $0.hasPrefix("ETag: ") }).dropFirst(6)
    for condition in ["\(tag)", "\"a\", W/\(tag)", "*"] {
      (head, body) = try await get("/", "If-None-Match: \(condition)\r\n")
      #expect(head.hasPrefix("HTTP/1.1 304") && body.isEmpty && head.contains("ETag: \(tag)"))
    }
    #expect(try await get("/", "If-None-Match: \"a\"\r\n").0.hasPrefix("HTTP/1.1 200"))

    for (accepted, encoding, contents) in [
      ("br, gzip", "br", "br"), ("gzip, deflate", "gzip", "gz"), ("br;q=0, gzip;q=0.1", "gzip", "gz"),
      ("br;q=0.5, gzip;q=0.8", "gzip", "gz"), ("identity", nil, "contents of assets/ab/page.js"),
      ("*", "br", "br"), ("*;q=0", nil, "contents of assets/ab/page.js"), ("BR", "br", "br"),
      ("gzip;q=0.5, identity", nil, "contents of assets/ab/page.js"),
      // So many are looked at.
      (String(repeating: "a,", count: 15) + "br", "br", "br"),
      (String(repeating: "a,", count: 16) + "br", nil, "contents of assets/ab/page.js"),
    ] {
      (head, body) = try await get("/assets/ab/page.js", "Accept-Encoding: \(accepted)\r\n")
      #expect(body == contents, "\(accepted)")
      #expect(head.contains("Content-Encoding: \(encoding ?? "-")") == (encoding != nil), "\(accepted)")
      #expect(head.contains("Vary: Accept-Encoding") && head.contains("max-age=31536000, immutable"))
    }
    (head, body) = try await get("/assets/ab/page.js", method: "HEAD")
    #expect(head.contains("Content-Length: 29") && body.isEmpty)
    (head, body) = try await get("/integrity.json")
    #expect(try JSONDecoder().decode(WebFiles.Manifest.self, from: Data(body.utf8)).files.count == 2)
    #expect(try await get("/assets/ab/other.js").0.hasPrefix("HTTP/1.1 404"))
    #expect(try await get("/index.html").0.hasPrefix("HTTP/1.1 404"))
    #expect(try await get("/", method: "POST").0.hasPrefix("HTTP/1.1 405"))
    // What is not of the web client keeps the policy under which nothing runs.
    #expect(try await get("/healthz").0.contains("Content-Security-Policy: default-src 'none'; base-uri"))
    await edge.server.stop()
  }

  @Test func refused() throws {
    func failure(_ damage: (WebFolder) throws -> Void) throws -> String {
      let folder = try Self.folder()
      try damage(folder)
      do throws(WebFiles.Failure) { _ = try WebFiles(folder: folder.path) } catch { return error.context }
      return "nothing"
    }
    #expect(
      try failure { try $0.write("index.html", "contents of another") }.contains("/index.html is not the"))
    #expect(
      try failure { try $0.write("index.html", "contents of index.htm!") }.contains("/index.html is not"))
    // Browsers get the compressed copies.
    #expect(
      try failure { try $0.write("assets/ab/page.js.br", "bR") }.contains("/page.js.br is not the file"))
    #expect(try failure { try $0.remove("assets/ab/page.js.gz") }.contains("no file"))
    #expect(try failure { try $0.write("integrity.json", "{}") }.contains("integrity.json is not a list"))
    #expect(try failure { try $0.remove("integrity.json") }.contains("no file"))
    #expect(
      try failure {
        try $0.write(
          "integrity.json",
          ["/a": .init(file: "../x", type: "text/plain", size: 1, sha256: "", encodings: [:])])
      }.contains("leads elsewhere"))
  }
}

/// A folder for a web client.
struct WebFolder {
  private let folder: TemporaryFolder
  var path: String { folder.path }

  init() throws {
    folder = try TemporaryFolder()
  }

  /// A web client of one file, larger than what the system takes for a connection that is not read.
  static func large() throws -> WebFolder {
    let folder = try WebFolder()
    let text = String(repeating: "a", count: 12 << 20)
    try folder.write("index.html", text)
    let file = WebFiles.Manifest.File(
      file: "index.html", type: "text/html", size: text.utf8.count, sha256: WebFiles.sha256(Array(text.utf8)),
      encodings: [:])
    try folder.write("integrity.json", ["/": file])
    return folder
  }

  func write(_ name: String, _ text: String) throws {
    let file = "\(path)/\(name)"
    try FileManager.default.createDirectory(
      atPath: String(file[..<(file.lastIndex(of: "/") ?? file.endIndex)]), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: URL(filePath: file))
  }

  func write(_ name: String, _ files: [String: WebFiles.Manifest.File], version: String = "1.2.3") throws {
    let manifest = WebFiles.Manifest(format: 1, version: version, files: files)
    try write(name, String(decoding: try JSONEncoder().encode(manifest), as: UTF8.self))
  }

  func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(name)") }
}
