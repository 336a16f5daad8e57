import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

/// A device, and what it holds.
final class TestDevice {
  let store: FeedStore<MemoryStorage>
  private(set) var hypha: Hypha<MemoryStorage>
  private let source: PublicKey

  /// - Parameter number: a byte of which its writer's key is made.
  init(_ source: PublicKey, _ number: UInt8) throws {
    self.source = source
    store = FeedStore(secretKey: FeedStore.secretKey(number))
    hypha = try Self.open(source, store)
  }

  private static func open(_ source: PublicKey, _ store: FeedStore<MemoryStorage>) throws -> Hypha<
    MemoryStorage
  > {
    let own = try store.own.map { try store.feed($0) }
    return try Hypha(source: store.feed(source), local: own) { (key) throws(HyperdbError) in
      do { return try store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
    }
  }

  var writer: PublicKey {
    get throws { try #require(store.own) }
  }

  /// Opens everything anew.
  func restart() throws {
    try store.close()
    hypha = try Self.open(source, store)
  }

  /// Takes over what both go by and the other has.
  func pull(from other: TestDevice) throws {
    while true {
      let known = Set(try other.hypha.feeds().map(\.key))
      let keys = try hypha.feeds().map(\.key).filter(known.contains)
      var missing: [(key: PublicKey, index: UInt64)] = []
      for (key, index) in try store.missing(keys, from: other.store) {
        let limits = [try hypha.database.limit(of: key), try other.hypha.database.limit(of: key)]
        if limits.allSatisfy({ index < $0 ?? .max }) { missing.append((key, index)) }
      }
      if missing.isEmpty { return }
      for (key, index) in missing { try store.take(index, of: key, from: other.store) }
    }
  }

  /// An origin and others that it let in, all with the same blocks.
  static func make(_ count: Int) throws -> [TestDevice] {
    let source = try #require(PublicKey(FeedStore.secretKey(1)[32...]))
    let devices = try (0..<count).map { try TestDevice(source, UInt8($0) + 1) }
    for (place, device) in devices.enumerated().dropFirst() {
      try devices[0].hypha.admit(device.writer, name: "device \(place)", now: Int64(place))
    }
    try sync(devices)
    return devices
  }

  static func sync(_ devices: [TestDevice]) throws {
    for _ in 0..<2 {
      for device in devices { for other in devices where other !== device { try device.pull(from: other) } }
    }
  }
}
