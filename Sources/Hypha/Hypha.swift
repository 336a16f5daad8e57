public import Hypercore
public import Hyperdb

/// One person's hypha: what they published, in a database that only they can write to.
///
/// It belongs to one isolation domain, as its feed does. Time and randomness come in as parameters. Changes are in
/// the feed when a call returns, and durable once the feed is flushed.
public final class Hypha<Storage: RandomAccessStorage> {
  public let database: Hyperdb<Storage>
  /// The newest id that this writer gave out, once it was looked up.
  private var lastID: PostID??

  /// Opens the hypha whose first feed is `source`; an empty feed that is writable becomes a new one.
  public init(source: Feed<Storage>) throws(HyphaError) {
    do throws(HyperdbError) { database = try Hyperdb(source: source) } catch { throw HyphaError(error) }
  }

  /// The feed that names the hypha.
  public var source: Feed<Storage> { database.source }

  /// Publishes a text.
  ///
  /// - Parameters:
  ///   - now: milliseconds since 1970.
  ///   - random: ten random bytes.
  public func post(_ text: String, device: String, now: Int64, random: [UInt8]) throws(HyphaError) -> Post {
    try checkWritable()
    guard text.utf8.contains(where: { $0 > 0x20 }) else {
      throw HyphaError(.textEmpty, "the text is empty: a post needs at least one character")
    }
    guard text.utf8.count <= HyphaLimits.postBytes else {
      throw HyphaError(
        .textTooLong, "the text has \(text.utf8.count) bytes; a post has at most \(HyphaLimits.postBytes)")
    }
    let id = PostID.next(after: try newestOwnID(), time: now, random: random)
    let post = Post(id: id, text: text, created: id.time, device: device, writer: source.key)
    let value = Post.encode(text: text, created: post.created, device: device)
    do throws(HyperdbError) { try database.put(Post.prefix + id.text, value) } catch {
      throw HyphaError(error)
    }
    lastID = .some(id)
    return post
  }

  /// Takes a post back; its block stays in history.
  public func delete(_ id: PostID) throws(HyphaError) {
    try checkWritable()
    guard try currentSeq(id) != nil else {
      throw HyphaError(.unknownPost, "there is no post \(id.text): it was never here, or is deleted")
    }
    do throws(HyperdbError) { try database.delete(Post.prefix + id.text) } catch { throw HyphaError(error) }
  }

  /// Posts, newest first, found by walking the feed back from its end.
  ///
  /// - Parameters:
  ///   - limit: stop after so many.
  ///   - since: only posts created at this time (milliseconds since 1970) or later.
  ///   - before: only posts older than this one.
  /// - Returns: the posts, and whether there are more that match.
  public func posts(
    limit: Int, since: Int64? = nil, before: PostID? = nil
  ) throws(HyphaError) -> (posts: [Post], more: Bool) {
    var posts: [Post] = []
    var seen: Set<PostID> = []
    var seq = try start(before)
    while seq > 1 {
      seq -= 1
      guard let (id, post) = try change(at: seq), seen.insert(id).inserted, let post else { continue }
      if let since, id.time < since { return (posts, false) }
      if let before {
        // What came after the start may have changed or deleted it.
        guard id < before, try currentSeq(id) == seq else { continue }
      }
      if posts.count == limit { return (posts, true) }
      posts.append(post)
    }
    return (posts, false)
  }

  /// What an entry of the history did to posts.
  public enum PostChange: Equatable, Sendable {
    case posted(Post)
    case deleted(PostID)
  }

  /// What entry `seq` did to posts.
  ///
  /// - Returns: `nil` where it is about something else, or not held.
  public func postChange(at seq: UInt64) throws(HyphaError) -> PostChange? {
    guard let (id, post) = try change(at: seq) else { return nil }
    return post.map { .posted($0) } ?? .deleted(id)
  }

  // MARK: - Looking up

  private func checkWritable() throws(HyphaError) {
    guard source.isWritable else {
      throw HyphaError(.readOnly, "this node holds the hypha but cannot write to it")
    }
  }

  /// The block behind the one to begin with.
  private func start(_ before: PostID?) throws(HyphaError) -> UInt64 {
    guard let before, let seq = try currentSeq(before) else { return source.length }
    return seq
  }

  /// An entry's post, or that it deletes one; `nil` where it is neither, not held, or cannot be read.
  private func change(at seq: UInt64) throws(HyphaError) -> (PostID, Post?)? {
    guard seq > 0, source.has(seq) else { return nil }
    let entry: Entry
    do throws(HyperdbError) {
      entry = try database.entry(seq, of: source.key)
    } catch {
      // One entry that cannot be read hides no other.
      if error.code == .badEntry { return nil }
      throw HyphaError(error)
    }
    let prefix = Array(Post.prefix.utf8)
    guard entry.key.starts(with: prefix),
      let id = PostID(String(decoding: entry.key.dropFirst(prefix.count), as: UTF8.self))
    else { return nil }
    if entry.isDeleted { return (id, nil) }
    guard let value = entry.value, let post = Post.decode(value, id: id, writer: entry.feed) else {
      return nil
    }
    return (id, post)
  }

  /// The block that a post is in now.
  private func currentSeq(_ id: PostID) throws(HyphaError) -> UInt64? {
    do throws(HyperdbError) {
      return try database.get(Post.prefix + id.text).first?.seq
    } catch {
      throw HyphaError(error)
    }
  }

  private func newestOwnID() throws(HyphaError) -> PostID? {
    if let lastID { return lastID }
    var newest: PostID?
    var seq = source.length
    while seq > 1, newest == nil {
      seq -= 1
      if case .posted(let post) = try postChange(at: seq) { newest = post.id }
    }
    lastID = .some(newest)
    return newest
  }
}
