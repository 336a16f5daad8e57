import FoundationEssentials
import Hypercore
import HyphaControlAPI
import NIOCore
import NIOHTTP1

/// The newest posts for feed readers, at ``jsonPath`` and ``atomPath``.
enum PostFeeds {
  /// JSON Feed 1.1.
  static let jsonPath = "/feed.json"
  /// Atom, RFC 4287.
  static let atomPath = "/feed.atom"

  /// - Parameters:
  ///   - request: its `Host` says at which address the feed is; without a usable one, the feed has no links.
  ///   - now: what changed within this very second gets no date yet, by which a later change would be missed.
  static func answer(
    _ path: String, _ posts: PublicPosts, _ request: HTTPHeaders, now: Timestamp
  ) -> HTTPAnswer {
    let site = Self.site(request)
    let isJSON = path == jsonPath
    let (before, after) = isJSON ? json(posts, site) : atom(posts, site)
    var answer = HTTPAnswer(status: .ok, headers: [:], body: ByteBuffer())
    let tag = "\"\(WebFiles.sha256(Array("\(posts.entries.hash)\(before)\(after)".utf8)).prefix(32))\""
    answer.headers.add(name: "ETag", value: tag)
    answer.headers.add(name: "Cache-Control", value: "no-cache")
    answer.headers.add(name: "Vary", value: "Host")
    let changed = HTTPDate(posts.changed)
    if changed < HTTPDate(now) { answer.headers.add(name: "Last-Modified", value: "\(changed)") }
    if HTTPConditions.isCurrent(request, tag: tag, changed: changed) {
      answer.status = .notModified
      return answer
    }
    answer.headers.add(
      name: "Content-Type",
      value: isJSON ? "application/feed+json; charset=utf-8" : "application/atom+xml; charset=utf-8")
    let entries = isJSON ? posts.entries.json : posts.entries.atom
    answer.body.reserveCapacity(before.utf8.count + entries.count + after.utf8.count)
    answer.body.writeString(before)
    answer.body.writeBytes(entries)
    answer.body.writeString(after)
    return answer
  }

  // MARK: - Where

  private struct Site {
    /// Name to show: of bytes that stand for themselves in JSON, and in XML, as the address.
    var name: String
    /// Without a slash at the end; `nil` if it is not known.
    var url: String?
  }

  private static func site(_ request: HTTPHeaders) -> Site {
    guard let host = request.first(name: "Host"), (1...260).contains(host.utf8.count),
      host.utf8.allSatisfy({ isHostByte($0) })
    else { return Site(name: "Hypha") }
    let name = String(host.hasPrefix("[") ? host.prefix { $0 != "]" } + "]" : host.prefix { $0 != ":" })
    // Without TLS it is only reached from the machine itself: what is in front of it has TLS.
    let isHere = name == "localhost" || name == "[::1]" || name.hasPrefix("127.")
    return Site(name: name, url: "\(isHere ? "http" : "https")://\(host.lowercased())")
  }

  private static func isHostByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: "-.:[]".utf8.contains(byte)
    }
  }

  // MARK: - Posts

  /// The posts as they are in the feeds, whatever the address is at which somebody reads them.
  struct Entries: Equatable, Sendable {
    let json: [UInt8]
    let atom: [UInt8]
    /// By which others are known.
    let hash: String

    init(_ posts: [PublicPosts.Post], of key: PublicKey) {
      json = PostFeeds.jsonItems(posts, of: key)
      atom = posts.flatMap { PostFeeds.atomEntry($0, of: key).utf8 }
      hash = WebFiles.sha256(json + atom)
    }
  }

  private static func id(_ post: PublicPosts.Post, of key: PublicKey) -> String {
    "dat://\(key.hex)/posts/\(post.id)"
  }

  // MARK: - JSON Feed

  private struct Item: Encodable {
    var id: String
    var contentText: String
    var datePublished: String

    enum CodingKeys: String, CodingKey {
      case id
      case contentText = "content_text"
      case datePublished = "date_published"
    }
  }

  private static func jsonItems(_ posts: [PublicPosts.Post], of key: PublicKey) -> [UInt8] {
    let items = posts.map {
      Item(id: id($0, of: key), contentText: $0.text, datePublished: $0.created.description)
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Strings can always be encoded.
    return (try? encoder.encode(items)).map { [UInt8]($0) } ?? []
  }

  /// What stands before and after the items.
  private static func json(_ posts: PublicPosts, _ site: Site) -> (before: String, after: String) {
    let links = site.url.map { #""feed_url":"\#($0)\#(jsonPath)","home_page_url":"\#($0)/","# } ?? ""
    return (
      #"{"authors":[{"name":"\#(site.name)"}],"description":"dat://\#(posts.key.hex)",\#(links)"items":"#,
      #","title":"\#(site.name)","version":"https://jsonfeed.org/version/1.1"}"#
    )
  }

  // MARK: - Atom

  /// What stands before and after the entries.
  private static func atom(_ posts: PublicPosts, _ site: Site) -> (before: String, after: String) {
    var links = ""
    if let url = site.url {
      links = """
        <link rel="self" type="application/atom+xml" href="\(url)\(atomPath)"/>
        <link rel="alternate" type="text/html" href="\(url)/"/>

        """
    }
    let updated = posts.posts.map { $0.created }.max() ?? Timestamp(milliseconds: 0)
    let before = """
      <?xml version="1.0" encoding="utf-8"?>
      <feed xmlns="http://www.w3.org/2005/Atom">
      <id>dat://\(posts.key.hex)</id>
      <title>\(site.name)</title>
      <updated>\(updated)</updated>
      <author><name>\(site.name)</name></author>
      \(links)
      """
    return (before, "</feed>\n")
  }

  private static func atomEntry(_ post: PublicPosts.Post, of key: PublicKey) -> String {
    """
    <entry>
    <id>\(id(post, of: key))</id>
    <title>\(escaped(title(post.text)))</title>
    <published>\(post.created)</published>
    <updated>\(post.created)</updated>
    <content type="text">\(escaped(post.text))</content>
    </entry>

    """
  }

  /// The beginning of a post's first line that has something on it, without what changes the direction of whatever a reader
  /// puts after it.
  private static func title(_ text: String) -> String {
    let line = text.split(whereSeparator: \.isNewline).first { !$0.allSatisfy(\.isWhitespace) } ?? ""
    // One character may be of any number of scalars.
    let scalars = line.unicodeScalars.lazy.filter { !turning.contains($0) }
    var start = String.UnicodeScalarView()
    start.append(contentsOf: scalars.prefix(EdgeLimits.feedTitleScalars))
    return String(start) + (scalars.dropFirst(EdgeLimits.feedTitleScalars).isEmpty ? "" : "…")
  }

  private static let turning: Set<Unicode.Scalar> = [
    "\u{61c}", "\u{200e}", "\u{200f}", "\u{202a}", "\u{202b}", "\u{202c}", "\u{202d}", "\u{202e}",
    "\u{2066}", "\u{2067}", "\u{2068}", "\u{2069}",
  ]

  /// As text of XML 1.0: characters that it cannot have are replaced.
  private static func escaped(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result.append(contentsOf: "&amp;".unicodeScalars)
      case "<": result.append(contentsOf: "&lt;".unicodeScalars)
      case ">": result.append(contentsOf: "&gt;".unicodeScalars)
      case "\"": result.append(contentsOf: "&quot;".unicodeScalars)
      // As itself, it would be read as a line's end.
      case "\r": result.append(contentsOf: "&#13;".unicodeScalars)
      case "\t", "\n", "\u{20}"..."\u{FFFD}", "\u{10000}"...: result.append(scalar)
      default: result.append("\u{FFFD}")
      }
    }
    return String(result)
  }
}
