package import Hypercore

/// A disk of which the power can be cut: what was written to a file since its last sync is then there or not, in any
/// order, sector by sector; and which can be told to fail.
package final class SimulatedDisk {
  /// What goes wrong at a call.
  package enum Fault: CaseIterable, Sendable {
    /// `EIO`: a read, a write or a truncation does nothing.
    case refused
    /// `ENOSPC`, after a part of a write; at a truncation or a sync, too, where a file system finds room only then.
    case full

    fileprivate var error: StorageError {
      switch self {
      case .refused: StorageError(.system(5), "the simulated disk refuses")
      case .full: StorageError(.full, "the simulated disk is full")
      }
    }
  }

  package static let sectorSize = 512

  fileprivate var files: [String: SimulatedFile] = [:]
  fileprivate var random = SeededRandom(0)
  /// Called before each write, truncation and sync.
  package var beforeCall: () -> Void = {}
  /// Calls that still succeed, and what then fails: one call, or all from then on.
  package var fault: (after: Int, kind: Fault, isLasting: Bool)?
  /// How many calls have failed.
  package private(set) var failures = 0

  package init() {}

  /// What a disk holds, by file.
  package typealias Contents = [String: [UInt8]]

  package init(_ contents: Contents) {
    for (name, bytes) in contents { files[name] = SimulatedFile(self, bytes) }
  }

  package func file(_ name: String) -> SimulatedFile {
    if let file = files[name] { return file }
    let file = SimulatedFile(self, [])
    files[name] = file
    return file
  }

  /// What the disk might hold if the power were cut now.
  package func cutPower(_ random: inout SeededRandom) -> Contents {
    var contents: Contents = [:]
    let names = files.keys.sorted()
    for name in names {
      // A bitfield that claims what never was is not told from one whose feed has lost it.
      let other = name.hasSuffix("bitfield") ? nil : files[names.randomElement(using: &random) ?? name]
      if let file = files[name] { contents[name] = file.cutPower(&random, stale: other?.stale ?? []) }
    }
    return contents
  }

  fileprivate func call(isRead: Bool = false) -> Fault? {
    if !isRead { beforeCall() }
    guard let fault, fault.kind == .refused || !isRead else { return nil }
    guard fault.after == 0 else {
      self.fault?.after -= 1
      return nil
    }
    if !fault.isLasting { self.fault = nil }
    failures += 1
    return fault.kind
  }
}

/// A file of a ``SimulatedDisk``.
package final class SimulatedFile: RandomAccessStorage {
  private enum Change {
    case write([UInt8], at: Int)
    case resize(Int)
  }

  private unowned let disk: SimulatedDisk
  private var durable: [UInt8]
  /// Since the last sync.
  private var changes: [Change] = []
  /// What the kernel shows.
  private let current: MemoryStorage

  fileprivate init(_ disk: SimulatedDisk, _ bytes: [UInt8]) {
    self.disk = disk
    durable = bytes
    current = MemoryStorage(bytes)
  }

  /// What may turn up in new sectors of another file.
  fileprivate var stale: [UInt8] { current.bytes }

  package var size: UInt64 {
    get throws(StorageError) { try current.size }
  }

  package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StorageError) {
    if let fault = disk.call(isRead: true) { throw fault.error }
    try current.read(into: buffer, at: offset)
  }

  package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StorageError) {
    let fault = disk.call()
    if let fault, fault == .refused { throw fault.error }
    let count = fault == .full ? Int.random(in: 0...bytes.count, using: &disk.random) : bytes.count
    let written = UnsafeRawBufferPointer(rebasing: bytes[..<count])
    try current.write(written, at: offset)
    changes.append(.write([UInt8](written), at: Int(offset)))
    if let fault { throw fault.error }
  }

  package func truncate(to size: UInt64) throws(StorageError) {
    if let fault = disk.call() { throw fault.error }
    try current.truncate(to: size)
    changes.append(.resize(Int(size)))
  }

  package func sync() throws(StorageError) {
    if let fault = disk.call() {
      failSync()
      throw fault.error
    }
    for change in changes { Self.apply(change, to: &durable) }
    changes = []
  }

  /// A sync that fails leaves any part of what was written, and the system takes the rest for written as well: no later sync makes
  /// up for it.
  package func failSync() {
    durable = cutPower(&disk.random, stale: [])
    changes = []
  }

  private static func apply(_ change: Change, to bytes: inout [UInt8]) {
    switch change {
    case .resize(let size):
      bytes.removeLast(max(0, bytes.count - size))
      bytes += repeatElement(0, count: size - bytes.count)
    case .write(let written, let offset):
      bytes += repeatElement(0, count: max(0, offset + written.count - bytes.count))
      bytes.replaceSubrange(offset..<offset + written.count, with: written)
    }
  }

  /// The changes in pieces that are there as a whole or not at all.
  private static func sectors(_ changes: [Change]) -> [Change] {
    var pieces: [Change] = []
    for change in changes {
      guard case .write(let written, let offset) = change else {
        pieces.append(change)
        continue
      }
      var start = 0
      while start < written.count {
        let rest = SimulatedDisk.sectorSize - (offset + start) % SimulatedDisk.sectorSize
        let end = min(written.count, start + rest)
        pieces.append(.write(Array(written[start..<end]), at: offset + start))
        start = end
      }
    }
    return pieces
  }

  fileprivate func cutPower(_ random: inout SeededRandom, stale: [UInt8]) -> [UInt8] {
    if changes.isEmpty { return durable }
    var bytes = durable
    if Int.random(in: 0..<4, using: &random) == 0 {
      // All up to somewhere, as where a disk keeps the order.
      let pieces = Self.sectors(changes)
      for piece in pieces.prefix(Int.random(in: 0...pieces.count, using: &random)) {
        Self.apply(piece, to: &bytes)
      }
      return bytes
    }
    // Nothing, all, or a part that is likelier to be all or nothing than the middle.
    let likelihoods: [Double] = [0, 1, 0.05, 0.5, 0.95]
    let likelihood = likelihoods.randomElement(using: &random) ?? 1
    let ordered = Bool.random(using: &random) ? changes : changes.shuffled(using: &random)
    for piece in Self.sectors(ordered) {
      if Double.random(in: 0..<1, using: &random) < likelihood {
        Self.apply(piece, to: &bytes)
      } else if case .write(let written, let place) = piece, place >= durable.count,
        Bool.random(using: &random)
      {
        // A sector that is new to the file may be in it before its contents are.
        var filling = Change.write(Array(repeating: 0, count: written.count), at: place)
        if place >= SimulatedDisk.sectorSize, stale.count > written.count, Bool.random(using: &random) {
          let start = Int.random(in: 0...stale.count - written.count, using: &random)
          filling = .write(Array(stale[start..<start + written.count]), at: place)
        }
        // What is there already stays.
        if place >= bytes.count { Self.apply(filling, to: &bytes) }
      }
    }
    return bytes
  }
}
