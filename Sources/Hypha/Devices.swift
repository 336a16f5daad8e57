public import Hypercore
import Hyperdb

/// A device that may write to a hypha, or once might.
public struct Device: Equatable, Sendable {
  /// Its writer's public key.
  public var writer: PublicKey
  /// Empty where nobody gave it one.
  public var name: String
  /// The hypha was made on it, and its key comes from the passphrase.
  public var isOrigin: Bool
  /// When it was let in, in milliseconds since 1970, and by which writer; not known of the origin, nor of a writer
  /// that was let in by its key alone.
  public var approved: Int64?
  public var approvedBy: PublicKey?
  public var revocation: Revocation?
  /// Only devices let it in whose word counts no longer, and so what it writes does not either.
  public var isLetInByNobody = false
}

extension Device {
  /// Whether a text can be a device's name: 1 to ``HyphaLimits/deviceNameBytes`` bytes, no control characters.
  static func isName(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= HyphaLimits.deviceNameBytes
      && !text.unicodeScalars.contains { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) }
  }

  /// Whether a text is at least ``HyphaLimits/deviceKeyDigits`` hexadecimal digits, and so no name.
  static func isStartOfKey(_ text: String) -> Bool {
    text.utf8.count >= HyphaLimits.deviceKeyDigits
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0)
      }
  }

  /// The name itself, if it can be a device's.
  ///
  /// - Throws: `.badDeviceName`.
  public static func checked(name: String) throws(HyphaError) -> String {
    guard isName(name) else {
      throw HyphaError(
        .badDeviceName,
        "a device's name has 1 to \(HyphaLimits.deviceNameBytes) bytes and no control characters")
    }
    return name
  }
}

/// That a device may not write any longer.
public struct Revocation: Equatable, Sendable {
  /// Milliseconds since 1970.
  public var time: Int64
  /// The writer that said so.
  public var by: PublicKey
  /// How many blocks of the device's feed count: those that the revoker had seen.
  public var blocks: UInt64
}

extension Revocation {
  /// Of several, the one that leaves least; of those the oldest, so that all nodes show the same.
  fileprivate func precedes(_ other: Revocation) -> Bool {
    if blocks != other.blocks { return blocks < other.blocks }
    if time != other.time { return time < other.time }
    return by.bytes.lexicographicallyPrecedes(other.by.bytes)
  }
}

/// What the database says of a device: at `devices/<writer key>` a JSON object with `name`, `approved` (RFC 3339, UTC)
/// and `by` (writer key), at `devices/<writer key>/revoked` one with `revoked` (RFC 3339, UTC). Keys are 64
/// hexadecimal digits. How much of the device's feed counts is what the clock of the second entry says its writer had
/// seen of it.
enum DeviceRecord {
  static let prefix = "devices/"
  private static let revoked = "/revoked"

  static func key(of writer: PublicKey) -> String { prefix + writer.hex }
  static func revocationKey(of writer: PublicKey) -> String { prefix + writer.hex + revoked }

  /// The device that a key is about.
  static func writer(recordKey key: [UInt8]) -> PublicKey? {
    guard key.starts(with: Array(prefix.utf8)) else { return nil }
    return PublicKey(hex: String(decoding: key.dropFirst(prefix.utf8.count), as: UTF8.self))
  }

  static func writer(revocationKey key: [UInt8]) -> PublicKey? {
    key.suffix(revoked.utf8.count) == Array(revoked.utf8)[...]
      ? writer(recordKey: Array(key.dropLast(revoked.utf8.count))) : nil
  }

  static func encode(name: String, approved: Int64?, by: PublicKey?) -> [UInt8] {
    JSONText.object([
      ("name", name), ("approved", approved.map { UTCTime(milliseconds: $0).text }),
      ("by", by.map { $0.hex }),
    ])
  }

  static func encodeRevocation(time: Int64) -> [UInt8] {
    JSONText.object([("revoked", UTCTime(milliseconds: time).text)])
  }

  /// Takes over what an entry says; fields that are missing or cannot be read are left as they are.
  static func read(_ entry: Entry, into device: inout Device) {
    guard let fields = fields(entry) else { return }
    if let name = fields["name"], Device.isName(name) { device.name = name }
    device.approved = fields["approved"].flatMap { UTCTime($0) }?.milliseconds
    device.approvedBy = fields["by"].flatMap { PublicKey(hex: $0) }
  }

  /// - Parameter number: of the device's writer in entries' clocks; `nil` where it is unknown.
  /// - Returns: `nil` for an entry that takes a revocation back: a deletion, or anything that is none.
  static func revocation(_ entry: Entry, of number: Int?) -> Revocation? {
    guard let fields = fields(entry), let time = fields["revoked"].flatMap({ UTCTime($0) }) else {
      return nil
    }
    let blocks = number.map { $0 < entry.clock.count ? entry.clock[$0] : 0 } ?? 0
    return Revocation(time: time.milliseconds, by: entry.feed, blocks: blocks)
  }

  private static func fields(_ entry: Entry) -> [String: String]? {
    guard let value = entry.value, !entry.isDeleted, value.count <= HyphaLimits.deviceRecordBytes else {
      return nil
    }
    var reader = JSONReader(value)
    var fields: [String: String] = [:]
    return reader.readObject(into: &fields) ? fields : nil
  }
}

/// Who is revoked, worked out from all entries that say so.
///
/// - A statement is void if its author had seen that it was revoked itself, or if the origin revoked its author before
///   it. Two devices that revoke each other without knowing are both revoked.
/// - Of the statements about one device that no other has seen, the origin's counts; without one, a revocation does.
/// - So that all nodes know of both where two devices revoke each other, they go on replicating the feed of a device that
///   another one revoked for ``HyphaLimits/revokedTail`` blocks; what it says behind these is void. The origin's word
///   needs no such answer, and takes effect at once.
struct Revocations {
  private struct Statement {
    var about: PublicKey
    var author: PublicKey
    var seq: UInt64
    /// By writers' numbers.
    var clock: [UInt64]
    var revocation: Revocation?
  }

  private let origin: PublicKey
  private let numbers: [PublicKey: Int]
  private var valid: [PublicKey: [Statement]] = [:]

  /// - Parameters:
  ///   - entries: those below ``DeviceRecord/prefix``, older ones first.
  ///   - writers: in the order of the entries' clocks; the first is the origin.
  init(_ entries: [Entry], writers: [PublicKey]) {
    origin = writers[0]
    var numbers: [PublicKey: Int] = [:]
    for (number, key) in writers.enumerated() { numbers[key] = number }
    self.numbers = numbers
    var statements: [Statement] = []
    for entry in entries {
      guard let about = DeviceRecord.writer(revocationKey: entry.key), about != origin else { continue }
      statements.append(
        Statement(
          about: about, author: entry.feed, seq: entry.seq, clock: entry.clock,
          revocation: DeviceRecord.revocation(entry, of: numbers[about])))
    }
    // What is behind the tail of a feed may not be here: it must make no difference whether it is.
    var ends: [PublicKey: UInt64] = [:]
    for _ in 0...statements.count {
      judge(statements.filter { $0.seq < ends[$0.author] ?? .max })
      let found = cutoffs.mapValues { $0.end }
      if found == ends { break }
      ends = found
    }
  }

  private mutating func judge(_ statements: [Statement]) {
    valid = [:]
    for statement in statements where statement.author == origin {
      valid[statement.about, default: []].append(statement)
    }
    for statement in statements where statement.author != origin && !isVoid(statement) {
      valid[statement.about, default: []].append(statement)
    }
  }

  /// The revocation that counts, if the device is revoked.
  func revocation(of device: PublicKey) -> Revocation? {
    resolve(valid[device] ?? [])
  }

  /// Where each revoked device is cut off.
  var cutoffs: [PublicKey: Cutoff] {
    var cutoffs: [PublicKey: Cutoff] = [:]
    for (about, statements) in valid {
      guard let revocation = resolve(statements) else { continue }
      cutoffs[about] = Cutoff(
        block: revocation.blocks, tail: revocation.by == origin ? 0 : HyphaLimits.revokedTail)
    }
    return cutoffs
  }

  private func isVoid(_ statement: Statement) -> Bool {
    let about = valid[statement.author] ?? []
    if resolve(about.filter { hasSeen(statement, $0) }) != nil { return true }
    let last = about.filter { $0.author == origin }.max { $0.seq < $1.seq }
    return last?.revocation.map { statement.seq >= $0.blocks } ?? false
  }

  private func resolve(_ statements: [Statement]) -> Revocation? {
    let newest = statements.filter { statement in !statements.contains { hasSeen($0, statement) } }
    if let word = newest.first(where: { $0.author == origin }) { return word.revocation }
    var found: Revocation?
    for statement in newest {
      guard let revocation = statement.revocation else { continue }
      if let best = found, !revocation.precedes(best) { continue }
      found = revocation
    }
    return found
  }

  private func hasSeen(_ statement: Statement, _ other: Statement) -> Bool {
    guard let number = numbers[other.author], number < statement.clock.count else { return false }
    return statement.clock[number] > other.seq
      && !(statement.author == other.author && statement.seq == other.seq)
  }
}

extension Hypha {
  /// Decides from the database's entries who is revoked.
  static var revocationRule: CutoffRule {
    CutoffRule(
      prefix: DeviceRecord.prefix, key: { DeviceRecord.revocationKey(of: $0) },
      valueBytes: HyphaLimits.deviceRecordBytes,
      judge: { entries, writers in Revocations(entries, writers: writers).cutoffs })
  }

  /// All devices that may write or once might: the origin first, then in the order in which they were let in.
  public func devices() throws(HyphaError) -> [Device] {
    do throws(HyperdbError) {
      var devices: [Device] = []
      let revocations = Revocations(try database.statements(), writers: database.writerKeys)
      for feed in try database.feeds {
        var device = try record(feed.key)
        device.revocation = revocations.revocation(of: feed.key)
        let cutoff = try database.cutoff(of: feed.key)
        device.isLetInByNobody = device.revocation == nil && cutoff != nil
        devices.append(device)
      }
      return devices.sorted {
        ($0.isOrigin ? 0 : 1, $0.approved ?? .max) < ($1.isOrigin ? 0 : 1, $1.approved ?? .max)
      }
    } catch {
      throw HyphaError(error)
    }
  }

  private func record(_ writer: PublicKey) throws(HyperdbError) -> Device {
    var device = Device(writer: writer, name: "", isOrigin: writer == source.key)
    do throws(HyperdbError) {
      if let record = Entry.winner(of: try database.get(DeviceRecord.key(of: writer))) {
        DeviceRecord.read(record, into: &device)
      }
    } catch {
      // A device whose entries lead astray is to be seen and revoked all the same.
      guard error.code == .badEntry else { throw error }
    }
    return device
  }

  /// Whether a device that once might write may not any longer.
  public func isRevoked(_ writer: PublicKey) throws(HyphaError) -> Bool {
    do throws(HyperdbError) { return try database.cutoff(of: writer) != nil } catch {
      throw HyphaError(error)
    }
  }

  /// Has what a device wrote from a block on not count: it signed two feeds that are the same up to there.
  public func freeze(_ writer: PublicKey, at block: UInt64) {
    database.freeze(writer, at: block)
  }

  /// From which block on what a device wrote does not count because it signed two feeds that part there.
  ///
  /// - Returns: `nil` for a device that is not known to have.
  public func frozen(_ writer: PublicKey) -> UInt64? { database.frozen(writer) }

  /// How many blocks of a revoked device's feed are still of use: more need be neither stored nor passed on.
  ///
  /// - Returns: `nil` for a device that is not revoked.
  public func limit(of writer: PublicKey) throws(HyphaError) -> UInt64? {
    do throws(HyperdbError) { return try database.limit(of: writer) } catch { throw HyphaError(error) }
  }

  /// The one device that a text names: its writer's key or the first eight digits of it or more, or its name where no
  /// other device that may write has it. Eight hexadecimal digits or more are never taken for a name.
  ///
  /// - Throws: `.unknownDevice`, `.ambiguousDevice`.
  public func device(named text: String) throws(HyphaError) -> Device {
    let devices = try devices()
    if Device.isStartOfKey(text) {
      let digits = text.utf8.map { (UInt8(ascii: "A")...UInt8(ascii: "F")).contains($0) ? $0 + 32 : $0 }
      let found = devices.filter { $0.writer.hex.utf8.starts(with: digits) }
      if found.count == 1 { return found[0] }
      throw found.isEmpty
        ? HyphaError(.unknownDevice, "there is no device whose key begins with \(text)")
        : HyphaError(
          .ambiguousDevice, "the keys of \(found.count) devices begin with \(text): give more of it")
    }
    let named = devices.filter { $0.name == text }
    let current = named.count > 1 ? named.filter { $0.revocation == nil && !$0.isLetInByNobody } : named
    if current.count == 1 { return current[0] }
    guard named.isEmpty else {
      throw HyphaError(
        .ambiguousDevice, "\(named.count) devices are named “\(text)”: give the first digits of the one's key"
      )
    }
    throw HyphaError(.unknownDevice, "there is no device “\(text)”")
  }

  /// Lets a device write, under a name that all nodes see.
  ///
  /// - Parameter now: milliseconds since 1970.
  public func admit(_ writer: PublicKey, name: String, now: Int64) throws(HyphaError) {
    let value = DeviceRecord.encode(
      name: try Device.checked(name: name), approved: now, by: database.local?.key)
    do throws(HyperdbError) {
      try database.authorize(writer)
      try database.put(DeviceRecord.key(of: writer), value)
    } catch {
      throw HyphaError(error)
    }
  }

  /// Gives a device another name.
  public func rename(_ writer: PublicKey, to name: String) throws(HyphaError) {
    let name = try Device.checked(name: name)
    do throws(HyperdbError) {
      let device = try record(writer)
      let value = DeviceRecord.encode(name: name, approved: device.approved, by: device.approvedBy)
      try database.put(DeviceRecord.key(of: writer), value)
    } catch {
      throw HyphaError(error)
    }
  }

  /// Stops a device from writing: what this node has not seen of it by now does not count, on any node.
  ///
  /// - Throws: `.isOrigin` for the device that made the hypha.
  public func revoke(_ writer: PublicKey, now: Int64) throws(HyphaError) {
    guard writer != source.key else {
      throw HyphaError(
        .isOrigin, "the origin cannot be revoked: whoever has the passphrase has the hypha")
    }
    let change = Hyperdb<Storage>.Change.put(
      key: DeviceRecord.revocationKey(of: writer), value: DeviceRecord.encodeRevocation(time: now))
    // Its entries must not keep it from being revoked.
    do throws(HyperdbError) { try database.batch([change], suspecting: writer) } catch {
      throw HyphaError(error)
    }
  }

  /// Takes a revocation back: all that the device wrote counts again.
  public func restore(_ writer: PublicKey) throws(HyphaError) {
    do throws(HyperdbError) { try database.delete(DeviceRecord.revocationKey(of: writer)) } catch {
      throw HyphaError(error)
    }
  }
}
