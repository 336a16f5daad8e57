import FoundationEssentials
import Hypercore
import Hyperdb
import Hypha
public import HyphaControlAPI

/// The database itself, for scripts.
extension Node {
  public func databaseGet(_ params: DatabaseGet.Params) async throws(ControlError) -> KeyInfo {
    let hypha = try openHypha()
    return try Self.asking { () throws(HyperdbError) in
      let entries = try Self.state(hypha.database, at: params.at).get(params.key)
        .filter { params.feed == nil || params.feed == $0.feed.hex }
      var page = Page(limit: 1)
      guard !entries.isEmpty, let infos = page.take(entries, hypha.database) else {
        throw HyperdbError(
          .badVersion, "“\(params.key)” is not set\(params.feed == nil ? "" : " in that feed")")
      }
      return KeyInfo(entries, infos)
    }
  }

  public func databasePut(_ params: DatabasePut.Params) async throws(ControlError) -> WrittenInfo {
    let value: [UInt8]
    if let base64 = params.base64 {
      guard let data = Data(base64Encoded: base64) else {
        throw ControlError(.invalidParams, "base64 is not base 64", field: "base64")
      }
      value = [UInt8](data)
    } else {
      value = Array((params.text ?? "").utf8)
    }
    guard value.count <= ControlLimits.valueBytes else {
      throw ControlError(
        .invalidParams, "the value has \(value.count) bytes; the most is \(ControlLimits.valueBytes)",
        field: "text")
    }
    let change: Hyperdb<FileStorage>.Change =
      params.ifNotExists == true
      ? .create(key: params.key, value: value) : .put(key: params.key, value: value)
    return try await write(change, to: params.key)
  }

  public func databaseDelete(_ params: DatabaseDelete.Params) async throws(ControlError) -> WrittenInfo {
    let hypha = try openHypha()
    let isSet = try Self.asking { () throws(HyperdbError) in try !hypha.database.get(params.key).isEmpty }
    guard isSet else { throw ControlError(.notFound, "“\(params.key)” is not set", field: "key") }
    return try await write(.delete(key: params.key), to: params.key)
  }

  private func write(
    _ change: Hyperdb<FileStorage>.Change, to key: String
  ) async throws(ControlError) -> WrittenInfo {
    _ = try openHypha()
    return try await commit { (hypha) throws(HyphaError) in
      do throws(HyperdbError) {
        let seq = try hypha.database.batch([change]).lowerBound
        return WrittenInfo(
          key: key, feed: hypha.database.local?.key.hex ?? "", seq: seq,
          version: try hypha.database.snapshot().version.hex)
      } catch {
        throw HyphaError(error)
      }
    }
  }

  public func databaseList(_ params: DatabaseList.Params) async throws(ControlError) -> DatabaseList.Result {
    let hypha = try openHypha()
    return try Self.asking { () throws(HyperdbError) in
      let state = try Self.state(hypha.database, at: params.at)
      var page = Page(limit: params.limit)
      var keys: [KeyInfo] = []
      try state.forEach(prefix: params.prefix ?? "", after: params.after) { entries in
        guard let infos = page.take(entries, hypha.database) else { return false }
        keys.append(KeyInfo(entries, infos))
        return true
      }
      return DatabaseList.Result(keys: keys, more: page.isFull, version: state.version.hex)
    }
  }

  public func databaseHistory(
    _ params: DatabaseHistory.Params
  ) async throws(ControlError) -> DatabaseHistory.Result {
    let database = try openHypha().database
    return try Self.asking { () throws(HyperdbError) in
      var page = Page(limit: params.limit)
      var steps: [[EntryInfo]] = []
      if let key = params.key {
        var state = try Self.state(database, at: params.at)
        while let step = try state.historyStep(of: key) {
          guard let infos = page.take(step.entries, database) else {
            return DatabaseHistory.Result(steps: steps, next: state.version.hex)
          }
          steps.append(infos)
          state = step.earlier
        }
      } else {
        var history: History<FileStorage>
        if let rest = params.at {
          history = try History(database, rest: Self.version(rest))
        } else {
          history = try History(database.snapshot(), reversed: true)
        }
        while case let rest = history.rest, let entry = try history.entry() {
          guard let infos = page.take([entry], database) else {
            return DatabaseHistory.Result(steps: steps, next: rest.hex)
          }
          steps.append(infos)
        }
      }
      return DatabaseHistory.Result(steps: steps, next: nil)
    }
  }

  public func authorize(
    _ params: DatabaseAuthorize.Params
  ) async throws(ControlError) -> DatabaseAuthorize.Result {
    _ = try openHypha()
    guard let key = PublicKey(hex: params.key[...]) else {
      throw ControlError(.invalidParams, "a writer's key is 64 hexadecimal digits", field: "key")
    }
    let isNew = try await commit { (hypha) throws(HyphaError) in
      do throws(HyperdbError) { return try hypha.database.authorize(key) != nil } catch {
        throw HyphaError(error)
      }
    }
    return DatabaseAuthorize.Result(key: key.hex, new: isNew)
  }

  // MARK: - Helpers

  private func openHypha() throws(ControlError) -> Hypha<FileStorage> {
    guard record != nil, let hypha else { throw Self.notInitialised }
    return hypha
  }

  private static func asking<T>(_ body: () throws(HyperdbError) -> T) throws(ControlError) -> T {
    do throws(HyperdbError) { return try body() } catch { throw controlError(HyphaError(error)) }
  }

  private static func state(
    _ database: Hyperdb<FileStorage>, at version: String?
  ) throws(HyperdbError) -> Snapshot<FileStorage> {
    guard let version else { return try database.snapshot() }
    return try database.checkout(Self.version(version))
  }

  private static func version(_ text: String) throws(HyperdbError) -> Version {
    guard let version = Hex.decode(text).flatMap({ Version($0) }) else {
      throw HyperdbError(.badVersion, "“\(text.prefix(80))” is no version: hyphactl prints them")
    }
    return version
  }
}

/// How much fits into one answer.
private struct Page {
  private let limit: Int
  private var count = 0
  private var bytes = 0
  private(set) var isFull = false

  init(limit: Int?) {
    self.limit = limit ?? ControlLimits.entriesPerList
  }

  /// The entries of a key, or of a step, as they go into the answer; `nil` where they do not fit. The first always do.
  mutating func take(_ entries: [Entry], _ database: Hyperdb<FileStorage>) -> [EntryInfo]? {
    let values = entries.map { $0.value.map { ValueText($0) } }
    bytes += zip(entries, values).reduce(0) {
      $0 + $1.0.key.count + ($1.1?.byteCount ?? 0) + 128 * (1 + $1.0.clock.count)
    }
    isFull = count == limit || count > 0 && bytes > ControlLimits.entryBytesPerList
    guard !isFull else { return nil }
    count += 1
    let winner = Entry.winner(of: entries)
    var room = ControlLimits.valueBytesPerKey
    if let place = entries.firstIndex(where: { $0 == winner }) { room -= values[place]?.byteCount ?? 0 }
    return zip(entries, values).map { entry, value in
      guard let value, entry != winner else { return EntryInfo(entry, value, database) }
      guard value.byteCount <= room else { return EntryInfo(entry, nil, database) }
      room -= value.byteCount
      return EntryInfo(entry, value, database)
    }
  }
}

extension Version {
  fileprivate var hex: String { Hex.encode(bytes) }
}

extension KeyInfo {
  fileprivate init(_ entries: [Entry], _ infos: [EntryInfo]) {
    self.init(winner: Entry.winner(of: entries).flatMap { entries.firstIndex(of: $0) }, entries: infos)
  }
}

extension EntryInfo {
  /// - Parameter value: the entry's, if it is not left out.
  fileprivate init(_ entry: Entry, _ value: ValueText?, _ database: Hyperdb<FileStorage>) {
    var clock: [String: UInt64] = [:]
    for (key, count) in zip(database.writerKeys, entry.clock) where count > 0 { clock[key.hex] = count }
    self.init(
      key: entry.keyText, text: value?.text, base64: value?.base64,
      bytes: value == nil ? entry.value?.count : nil,
      deleted: entry.isDeleted, feed: entry.feed.hex, seq: entry.seq, clock: clock)
  }
}
