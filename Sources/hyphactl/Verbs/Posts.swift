import ArgumentParser
import HyphaControlAPI

struct Posts: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show posts, newest first.",
    discussion: "With --follow, the newest at the end, and further ones as they come.")

  @OptionGroup var shared: SharedOptions

  @Option(help: ArgumentHelp("Show at most so many.", valueName: "n"))
  var limit = ControlLimits.defaultPostsPerList

  @Option(
    help: ArgumentHelp(
      "Only posts made at this time or later: 2026-01-31, or 2026-01-31T12:34:56Z.", valueName: "time"))
  var since: String?

  @Flag(help: "Also versions that lost against another of the same post, and versions of deleted posts.")
  var all = false

  @Flag(help: "Go on with posts as they come.")
  var follow = false

  func validate() throws {
    guard limit >= (follow ? 0 : 1) else { throw ValidationError("--limit must be at least 1.") }
    if let since, Timestamp(since) == nil {
      throw ValidationError("--since must be a time such as 2026-01-31 or 2026-01-31T12:34:56Z.")
    }
  }

  func run() throws {
    try shared.withDaemon { daemon in
      if follow {
        _ = try daemon.call(EventsSubscribe.self, EventsSubscribe.Params(kinds: [.posted, .deleted]))
      }
      let (posts, more) = try list(daemon)
      guard follow else {
        if shared.json { return try Console.printJSON(PostsList.Result(posts: posts, more: more)) }
        for post in posts { print(post) }
        return
      }
      for post in posts.reversed() { try show(post) }
      // Those that came between subscribing and listing are known already.
      let known = Set(posts.map(\.id))
      try daemon.follow { params in
        if let post = params.event.post, !known.contains(post.id) { try show(post) }
        if let id = params.event.postID { try showDeleted(id) }
      }
    }
  }

  /// As many pages as it takes.
  private func list(_ daemon: ControlClient) throws(ControlFailure) -> ([PostInfo], more: Bool) {
    var posts: [PostInfo] = []
    var more = limit > 0
    while more, posts.count < limit {
      let page = try daemon.call(
        PostsList.self,
        PostsList.Params(
          limit: min(limit - posts.count, ControlLimits.postsPerList), since: since.flatMap { Timestamp($0) },
          before: posts.last?.id, all: all ? true : nil))
      posts += page.posts
      more = page.more && !page.posts.isEmpty
    }
    return (posts, more)
  }

  private func show(_ post: PostInfo) throws {
    if shared.json { try Console.printJSON(["post": post]) } else { print(post) }
  }

  private func showDeleted(_ id: String) throws {
    if shared.json { try Console.printJSON(["deleted": id]) } else { Console.note("\(id) was deleted.") }
  }

  private func print(_ post: PostInfo) {
    let mark = post.shown ? "" : "  (not shown)"
    Console.print("\(post.id)  \(post.created)  \(Console.printable(post.device))\(mark)")
    for line in post.text.split(separator: "\n", omittingEmptySubsequences: false) {
      Console.print("    \(Console.printable(String(line)))")
    }
    Console.print("")
  }
}
