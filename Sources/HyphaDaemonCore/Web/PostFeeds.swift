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
    let body = isJSON ? json(posts, site) : Array(atom(posts, site).utf8)
    var answer = HTTPAnswer(status: .ok, headers: [:], body: ByteBuffer())
    let tag = "\"\(WebFiles.sha256(body).prefix(32))\""
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
    answer.body = ByteBuffer(bytes: body)
    return answer
  }

  // MARK: - Where

  private struct Site {
    /// Name to show.
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

  private static func id(_ post: PublicPosts.Post, _ posts: PublicPosts) -> String {
    "dat://\(posts.key.hex)/posts/\(post.id)"
  }

  // MARK: - JSON Feed

  private struct Feed: Encodable {
    struct Author: Encodable {
      var name: String
    }

    struct Item: Encodable {
      var id: String
      var contentText: String
      var datePublished: String

      enum CodingKeys: String, CodingKey {
        case id
        case contentText = "content_text"
        case datePublished = "date_published"
      }
    }

    let version = "https://jsonfeed.org/version/1.1"
    var title: String
    var homePageURL: String?
    var feedURL: String?
    var description: String
    var authors: [Author]
    var items: [Item]

    enum CodingKeys: String, CodingKey {
      case version, title, description, authors, items
      case homePageURL = "home_page_url"
      case feedURL = "feed_url"
    }
  }

  private static func json(_ posts: PublicPosts, _ site: Site) -> [UInt8] {
    let feed = Feed(
      title: site.name, homePageURL: site.url.map { "\($0)/" }, feedURL: site.url.map { $0 + jsonPath },
      description: "dat://\(posts.key.hex)", authors: [Feed.Author(name: site.name)],
      items: posts.posts.map {
        Feed.Item(id: id($0, posts), contentText: $0.text, datePublished: $0.created.description)
      })
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Strings can always be encoded.
    return (try? encoder.encode(feed)).map { [UInt8]($0) } ?? []
  }

  // MARK: - Atom

  private static func atom(_ posts: PublicPosts, _ site: Site) -> String {
    var links = ""
    if let url = site.url.map(escaped) {
      links = """
        <link rel="self" type="application/atom+xml" href="\(url)\(atomPath)"/>
        <link rel="alternate" type="text/html" href="\(url)/"/>

        """
    }
    let updated = posts.posts.map { $0.created }.max() ?? Timestamp(milliseconds: 0)
    let entries = posts.posts.map { post in
      """
      <entry>
      <id>\(id(post, posts))</id>
      <title>\(escaped(title(post.text)))</title>
      <published>\(post.created)</published>
      <updated>\(post.created)</updated>
      <content type="text">\(escaped(post.text))</content>
      </entry>

      """
    }
    return """
      <?xml version="1.0" encoding="utf-8"?>
      <feed xmlns="http://www.w3.org/2005/Atom">
      <id>dat://\(posts.key.hex)</id>
      <title>\(escaped(site.name))</title>
      <updated>\(updated)</updated>
      <author><name>\(escaped(site.name))</name></author>
      \(links)\(entries.joined())</feed>

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
