import Hypercore

/// A node's requests and mailbox as bytes: a version, the fields in order, and a hash by which damage is found.
struct MembershipRecord<Storage: RandomAccessStorage> {
  private static var version: UInt64 { 1 }

  var own: Membership<Storage>.Own?
  var entries: [RequestBook.Entry]
  var items: [Mailbox.Item]

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    func append(_ number: UInt64) { Varint.append(number, to: &bytes) }
    func append(_ time: Int64) { append(UInt64(bitPattern: time)) }
    func append(_ field: [UInt8]) {
      append(UInt64(field.count))
      bytes += field
    }
    func append(_ request: AuthorisationRequest) {
      append(request.id.bytes)
      append(request.writer.bytes)
      append(Array(request.name.utf8))
      append(request.created)
      append(request.expires)
    }
    append(Self.version)
    append(UInt64(own == nil ? 0 : 1))
    if let own {
      append(own.request)
      append(own.sealed)
      append(UInt64(own.isDenied ? 1 : 0))
      append(UInt64(own.told.code))
    }
    append(UInt64(entries.count))
    for entry in entries {
      append(entry.request)
      append(UInt64(entry.answer?.rawValue ?? 0))
    }
    append(UInt64(items.count))
    for item in items {
      append(item.message)
      append(Array(item.address.utf8))
      append(item.arrived)
    }
    return bytes + Digest.hash(bytes).bytes
  }

  /// - Returns: `nil` for bytes that are damaged, of a later version, or with times that no clock tells.
  static func decode(_ bytes: [UInt8]) -> MembershipRecord? {
    guard bytes.count > 32, Digest.hash(Array(bytes.dropLast(32))).bytes == Array(bytes.suffix(32)) else {
      return nil
    }
    var reader = ByteReader(bytes.dropLast(32))
    func field() -> [UInt8]? {
      guard let count = reader.varint(), let bytes = reader.bytes(Int(clamping: count)) else { return nil }
      return Array(bytes)
    }
    func time() -> Int64? {
      reader.varint().map { Int64(bitPattern: $0) }.flatMap { UTCTime.range.contains($0) ? $0 : nil }
    }
    func request() -> AuthorisationRequest? {
      guard let id = field().flatMap({ RequestID($0) }), let writer = field().flatMap({ PublicKey($0) }),
        let name = field(), let created = time(), let expires = time()
      else { return nil }
      return AuthorisationRequest(
        id: id, name: String(decoding: name, as: UTF8.self), writer: writer, created: created,
        expires: expires)
    }
    guard reader.varint() == version, let hasOwn = reader.varint() else { return nil }
    var record = MembershipRecord(own: nil, entries: [], items: [])
    if hasOwn == 1 {
      guard let request = request(), let sealed = field(), let isDenied = reader.varint(),
        let told = reader.varint().flatMap({ OwnRequest.State(code: $0) })
      else { return nil }
      record.own = Membership<Storage>.Own(
        request: request, sealed: sealed, isDenied: isDenied == 1, told: told)
    }
    guard let entryCount = reader.varint() else { return nil }
    for _ in 0..<min(entryCount, UInt64(HyphaLimits.rememberedRequests)) {
      guard let request = request(), let answer = reader.varint() else { return nil }
      record.entries.append(
        RequestBook.Entry(
          request: request, answer: AuthorisationAnswer.Kind(rawValue: UInt8(truncatingIfNeeded: answer))))
    }
    guard let itemCount = reader.varint() else { return nil }
    for _ in 0..<itemCount {
      guard let message = field(), let address = field(), let arrived = time() else { return nil }
      record.items.append(
        Mailbox.Item(
          serial: 0, message: message, hash: .zero, address: String(decoding: address, as: UTF8.self),
          arrived: arrived, peer: nil))
    }
    return reader.isAtEnd ? record : nil
  }
}

extension OwnRequest.State {
  fileprivate static var all: [OwnRequest.State] { [.pending, .authorised, .denied, .expired] }

  fileprivate var code: Int { Self.all.firstIndex(of: self) ?? 0 }

  fileprivate init?(code: UInt64) {
    guard code < UInt64(Self.all.count) else { return nil }
    self = Self.all[Int(code)]
  }
}
