public import Hypercore
public import Hyperdb

/// One person's hypha: what they published from all their devices, in a database that only these can write to.
///
/// It belongs to one isolation domain, as its feeds do. Time and randomness come in as parameters. Changes are in
/// the feed when a call returns, and durable once all feeds are flushed.
public final class Hypha<Storage: RandomAccessStorage> {
  public let database: Hyperdb<Storage>
  /// The newest id that this writer gave out, once it was looked up.
  private var lastID: PostID??
  private var postless: [PublicKey: PostlessRuns] = [:]

  /// Opens a hypha; an empty feed that is writable becomes a new one, or a new writer of it.
  ///
  /// - Parameters:
  ///   - source: the feed that names the hypha.
  ///   - local: this node's own feed, authorised or not; not needed where that is `source`.
  ///   - begins: see ``Hyperdb``; without, this node's own feed is to come from elsewhere.
  ///   - openFeed: called for each further feed as it becomes known that its writer is authorised.
  public init(
    source: Feed<Storage>, local: Feed<Storage>? = nil, begins: Bool = true,
    openFeed: @escaping Hyperdb<Storage>.FeedOpener
  ) throws(HyphaError) {
    do throws(HyperdbError) {
      database = try Hyperdb(
        source: source, local: local, begins: begins, cutoffs: Self.revocationRule, openFeed: openFeed)
    } catch {
      throw HyphaError(error)
    }
  }

  /// See ``Hyperdb/begin()``.
  public func begin() throws(HyphaError) {
    do throws(HyperdbError) { try database.begin() } catch { throw HyphaError(error) }
  }

  /// The feed that names the hypha.
  public var source: Feed<Storage> { database.source }

  /// The feeds of all writers that are authorised, the first one's first.
  public func feeds() throws(HyphaError) -> [Feed<Storage>] {
    do throws(HyperdbError) { return try database.feeds } catch { throw HyphaError(error) }
  }

  /// Whether this node may post.
  public func canPost() throws(HyphaError) -> Bool {
    do throws(HyperdbError) { return try database.isWritable } catch { throw HyphaError(error) }
  }

  /// Publishes a text.
  ///
  /// - Parameters:
  ///   - now: milliseconds since 1970.
  ///   - random: ten random bytes.
  public func post(_ text: String, device: String, now: Int64, random: [UInt8]) throws(HyphaError) -> Post {
    guard text.utf8.contains(where: { $0 > 0x20 }) else {
      throw HyphaError(.textEmpty, "the text is empty: a post needs at least one character")
    }
    guard text.utf8.count <= HyphaLimits.postBytes else {
      throw HyphaError(
        .textTooLong, "the text has \(text.utf8.count) bytes; a post has at most \(HyphaLimits.postBytes)")
    }
    guard let writer = database.local?.key else {
      throw HyphaError(.readOnly, "this node holds the hypha but cannot write to it")
    }
    let id = PostID.next(after: try newestOwnID(), time: now, random: random)
    let post = Post(id: id, text: text, created: id.time, device: device, writer: writer)
    let value = Post.encode(text: text, created: post.created, device: device)
    do throws(HyperdbError) { try database.put(Post.prefix + id.text, value) } catch {
      throw HyphaError(error)
    }
    lastID = .some(id)
    return post
  }

  /// Takes a post back; its block stays in history.
  public func delete(_ id: PostID) throws(HyphaError) {
    guard try canPost() else {
      throw HyphaError(.readOnly, "this node holds the hypha but cannot write to it")
    }
    guard try versions(of: id).shown != nil else {
      throw HyphaError(.unknownPost, "there is no post \(id.text): it was never here, or is deleted")
    }
    do throws(HyperdbError) { try database.delete(Post.prefix + id.text) } catch { throw HyphaError(error) }
  }

  /// Posts, newest first by id, found by walking the writers' feeds back from their ends.
  ///
  /// Where devices changed one post without knowing of each other, one version is shown, the same on every node; a post
  /// that one of them deleted is not shown.
  ///
  /// - Parameters:
  ///   - limit: stop after so many.
  ///   - since: only posts created at this time (milliseconds since 1970) or later.
  ///   - before: only posts older than this one.
  ///   - all: also the versions that are not shown otherwise, each behind the one that is.
  /// - Returns: the posts, and whether there are more that match.
  public func posts(
    limit: Int, since: Int64? = nil, before: PostID? = nil, all: Bool = false
  ) throws(HyphaError) -> (posts: [Post], more: Bool) {
    var posts: [Post] = []
    var count = 0
    var walk = try PostWalk(self, before: before)
    while let id = try walk.next() {
      // The ids of all writers only go down from here.
      if let since, id.time < since { return (posts, false) }
      let (shown, others) = try versions(of: id)
      guard shown != nil || all && !others.isEmpty else { continue }
      if count == limit { return (posts, true) }
      count += 1
      if let shown { posts.append(shown) }
      if all { posts += others }
    }
    return (posts, false)
  }

  /// What an entry of the history did to posts.
  public enum PostChange: Equatable, Sendable {
    case posted(Post)
    case deleted(PostID)
  }

  /// What entry `seq` of a writer's feed did to posts.
  ///
  /// - Returns: `nil` where it is about something else, or cannot be read.
  public func postChange(at seq: UInt64, of feed: PublicKey) throws(HyphaError) -> PostChange? {
    guard let entry = try entry(seq, feed), let id = Self.postID(entry) else { return nil }
    if entry.isDeleted { return .deleted(id) }
    return Self.post(entry, id).map { .posted($0) }
  }

  // MARK: - Looking up

  /// The versions of a post that no other version has replaced: the one that is shown, if any, and the others.
  private func versions(of id: PostID) throws(HyphaError) -> (shown: Post?, others: [Post]) {
    let entries: [Entry]
    do throws(HyperdbError) { entries = try database.get(Post.prefix + id.text) } catch {
      // One post that cannot be read hides no other.
      if error.code == .badEntry { return (nil, []) }
      throw HyphaError(error)
    }
    // What was deleted on one device does not come back because another one changed it meanwhile.
    let winner = entries.contains(where: { $0.isDeleted }) ? nil : Entry.winner(of: entries)
    var others: [Post] = []
    for entry in entries where entry != winner {
      guard var post = Self.post(entry, id) else { continue }
      post.isShown = false
      others.append(post)
    }
    return (winner.flatMap { Self.post($0, id) }, others)
  }

  /// How many blocks of each writer's feed count.
  public func lengths() throws(HyphaError) -> [(PublicKey, UInt64)] {
    var lengths: [(PublicKey, UInt64)] = []
    do throws(HyperdbError) {
      for feed in try database.feeds { lengths.append((feed.key, try database.visibleLength(of: feed.key))) }
    } catch {
      throw HyphaError(error)
    }
    return lengths
  }

  /// Looks back from a block for an entry that is the first of a post, as far as its writer knew.
  ///
  /// - Parameter first: the last block to look at.
  func newestPost(
    before end: UInt64, downTo first: UInt64 = 1, of feed: PublicKey
  ) throws(HyphaError) -> (seq: UInt64, id: PostID)? {
    var (seq, runEnd) = (end, end)
    while seq > first {
      if let start = postless[feed]?.start(of: seq - 1) {
        seq = max(start, first)
        continue
      }
      seq -= 1
      guard try setsPost(seq, feed) else { continue }
      postless[feed, default: PostlessRuns()].note(seq + 1..<runEnd)
      runEnd = seq
      if let id = try firstPut(at: seq, of: feed) { return (seq, id) }
    }
    if seq < runEnd { postless[feed, default: PostlessRuns()].note(seq..<runEnd) }
    return nil
  }

  private func setsPost(_ seq: UInt64, _ feed: PublicKey) throws(HyphaError) -> Bool {
    do throws(HyperdbError) { return try database.sets(keyBelow: Self.postPrefix, at: seq, of: feed) } catch {
      if error.code == .badEntry { return false }
      throw HyphaError(error)
    }
  }

  private func firstPut(at seq: UInt64, of feed: PublicKey) throws(HyphaError) -> PostID? {
    guard let entry = try entry(seq, feed), let id = Self.postID(entry) else { return nil }
    do throws(HyperdbError) { return try database.isFirst(entry) ? id : nil } catch {
      if error.code == .badEntry { return nil }
      throw HyphaError(error)
    }
  }

  /// - Returns: `nil` where it cannot be read, which hides no other.
  private func entry(_ seq: UInt64, _ feed: PublicKey) throws(HyphaError) -> Entry? {
    guard seq > 0 else { return nil }
    do throws(HyperdbError) { return try database.entry(seq, of: feed) } catch {
      if error.code == .badEntry { return nil }
      throw HyphaError(error)
    }
  }

  private static var postPrefix: [UInt8] { Array(Post.prefix.utf8) }

  private static func postID(_ entry: Entry) -> PostID? {
    let prefix = postPrefix
    guard entry.key.starts(with: prefix) else { return nil }
    return PostID(String(decoding: entry.key.dropFirst(prefix.count), as: UTF8.self))
  }

  private static func post(_ entry: Entry, _ id: PostID) -> Post? {
    entry.value.flatMap { Post.decode($0, id: id, writer: entry.feed) }
  }

  private func newestOwnID() throws(HyphaError) -> PostID? {
    if let lastID { return lastID }
    let newest = try database.local.flatMap { (local) throws(HyphaError) in
      try newestPost(before: local.length, of: local.key)
    }
    lastID = .some(newest?.id)
    return newest?.id
  }
}
