/// Every bound of the control API, in one place.
public enum ControlLimits {
  /// Longest line in either direction, its newline not counted, in bytes.
  public static let lineBytes = 1 << 20
  /// Longest post, in bytes of UTF-8.
  public static let postBytes = 64 << 10
  /// Most posts that one `posts.list` returns.
  public static let postsPerList = 1000
  /// Addresses of nodes that hold all of a feed, for each feed, in one `node.status`: with all of them, those of many connections and
  /// feeds would not fit a line.
  public static let holdersPerFeed = 16
  /// What one `posts.list` returns when `limit` is not given.
  public static let defaultPostsPerList = 20
  /// `posts.list` stops before its texts exceed this many bytes, so that the answer fits into a line:
  /// JSON needs at most six bytes for one of text.
  public static let textBytesPerList = lineBytes / 8
  /// Longest key of the database, in bytes.
  public static let keyBytes = 4096
  /// Longest value that `database.put` takes, in bytes.
  public static let valueBytes = 512 << 10
  /// Most keys or steps that one `database.list` or `database.history` returns.
  public static let entriesPerList = 1000
  /// `database.list` and `database.history` stop before their keys and values exceed this many bytes.
  public static let entryBytesPerList = lineBytes / 8
  /// Of the entries of one key, values are left out of an answer, the winner's never, once they exceed this many bytes in it:
  /// one of ``valueBytes`` in base 64, and some more.
  public static let valueBytesPerKey = lineBytes * 3 / 4
  /// Most connections to the socket at a time.
  public static let connections = 64
  /// Most requests of one connection that are being answered at a time.
  public static let requestsInFlight = 32
  /// Most event subscriptions of one connection.
  public static let subscriptions = 8
  /// A line that was begun must be complete after this many seconds.
  public static let partialLineSeconds: Int64 = 30
  /// Events that wait for one subscriber; a slower one is dropped.
  public static let queuedEvents = 1024
  /// Events of connections that are kept for those who subscribe from an earlier event on, and as many of others.
  public static let keptEvents = 256
  /// Addresses and kinds of what was not taken that `peers.list` tells of.
  public static let rejections = 64
  /// Longest that `node.wait` waits, in seconds.
  public static let waitSeconds = 86_400.0
  /// Most bytes of a backup in one `backup.read` or `restore.write`: base64 makes four bytes of three.
  public static let backupChunkBytes = 256 << 10
  /// A backup or restore that nobody has gone on with for so many seconds is given up.
  public static let backupIdleSeconds: Int64 = 60
  /// Fewest bytes of a backup's passphrase.
  public static let backupPassphraseBytes = 8
  /// Longest that `node.verify` waits, in seconds.
  public static let verifyWaitSeconds = 30.0
  /// Most ranges of each kind of damage that `node.verify` lists for a feed.
  public static let damagePerFeed = 1000
  /// How long a request to be let in can be answered, in seconds: 7 days at most.
  public static let requestSeconds = 1...604_800
  /// Longest request id that is a string, in bytes.
  public static let requestIDBytes = 256
}
