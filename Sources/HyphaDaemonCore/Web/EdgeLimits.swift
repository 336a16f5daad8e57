/// Bounds on what one client of the web side may take.
public enum EdgeLimits {
  /// Bytes of a request's or an answer's header, all fields together.
  static let headerBytes = 16 << 10
  static let headerFields = 64
  /// Bytes of a request's path.
  static let pathBytes = 512
  /// Bytes of a request's body; none is used.
  static let bodyBytes = 16 << 10
  /// Bytes that came since the last whole request: a header, a body, what TLS had kept back and what was read with them.
  static let requestBytes = 64 << 10
  /// Bytes of requests that are read at once: one that waits for the answer to the one before takes a dozen times its own.
  static let receiveBytes = 8 << 10
  /// Items of a list in a header that are looked at; browsers send some five.
  static let headerItems = 16
  /// Seconds for a whole request, from the connection or the last answer on, and for taking more of the answer to it.
  static let requestSeconds: Int64 = 30
  /// Bytes of an answer that are to be taken in that time, unless it is over: half a kilobyte a second. The system takes some hundred
  /// kilobytes at a time, if a connection is fast, before it tells that any were taken.
  static let answerBytes = 16 << 10
  /// Bytes of an answer that are written at once: TLS keeps all that was, encrypted, until it is taken.
  static let pieceBytes = 64 << 10
  /// Milliseconds that a connection over TLS waits for the other side's goodbye: nothing depends on it, and it goes on taking up
  /// memory and a descriptor, where nobody counts it any more.
  static let goodbyeMilliseconds: Int64 = 300
  /// Files of the web client, and bytes of all of them with their compressed copies.
  static let webFiles = 256
  static let webBytes = 16 << 20
  /// Posts in a feed for feed readers, bytes of their texts, and characters of an entry's title.
  static let feedPosts = 50
  static let feedBytes = 512 << 10
  static let feedTitleScalars = 80
  /// Seconds for comparing all that another node serves; bytes of the list of files there, and characters that are shown of
  /// what it wrote.
  static let auditSeconds: Int64 = 120
  static let manifestBytes = 256 << 10
  static let auditTextScalars = 400
  /// Connections that fetch metrics, at one time.
  static let metricsConnections = 8
  /// Connections of one IPv6 /48, as a multiple of those of one address: a provider's customers share one, but who rents one has
  /// 65,536 addresses that count by themselves.
  static let networkAddresses = 4
  /// Of how many places one is for those that have not shaken hands, so that newcomers who come together do not take each other's.
  static let silentShare = 4
  /// Addresses in a proxy's header that are looked at, from the right.
  static let forwardedHops = 16
  /// Bytes of a challenge's name, and of what its file holds: RFC 8555 has 43 and some 90.
  static let acmeTokenBytes = 128
  static let acmeFileBytes = 4096
  /// Bytes of the file with the certificate's chain, and of its key's.
  static let certificateBytes = 256 << 10
  /// Connections that wait to be taken: a second's worth of a flood, so that a good peer's first packet is not dropped.
  static let backlog: Int32 = 1024
  /// Seconds that open connections have to end by themselves at a stop.
  static let stopSeconds: Int64 = 3
}
