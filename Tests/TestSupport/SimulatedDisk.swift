package import Hypercore

/// A disk of which the power can be cut: what was written to a file since its last sync is then there or not, in any
/// order, sector by sector; and which can be told to fail.
package final class SimulatedDisk {
  /// What goes wrong at a call.
  package enum Fault: CaseIterable, Sendable {
    /// `EIO`, with nothing done.
    case refused
    /// `ENOSPC`, after a part of a write.
    case full
  }

  package static let sectorSize = 512

  fileprivate var files: [String: SimulatedFile] = [:]
  /// Called before each write, truncation and sync.
  package var beforeCall: () -> Void = {}
  /// Calls that still succeed; then all fail with this.
  package var fault: (after: Int, kind: Fault)?

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
    // Nothing, all, or a part that is likelier to be all or nothing than the middle.
    let likelihoods: [Double] = [0, 1, 0.05, 0.5, 0.95]
    let likelihood = likelihoods.randomElement(using: &random) ?? 1
    let isInOrder = Bool.random(using: &random)
    var contents: Contents = [:]
    for name in files.keys.sorted() {
      if let file = files[name] { contents[name] = file.cutPower(&random, likelihood, isInOrder: isInOrder) }
    }
    return contents
  }

  fileprivate func call() -> Fault? {
    beforeCall()
    guard let fault else { return nil }
    if fault.after == 0 { return fault.kind }
    self.fault = (fault.after - 1, fault.kind)
    return nil
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

  package var size: UInt64 {
    get throws(StorageError) { try current.size }
  }

  package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StorageError) {
    try current.read(into: buffer, at: offset)
  }

  package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StorageError) {
    let fault = disk.call()
    if fault == .refused { throw Self.refused }
    let written = fault == .full ? UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)]) : bytes
    try current.write(written, at: offset)
    changes.append(.write([UInt8](written), at: Int(offset)))
    if fault == .full { throw StorageError(.full, "the simulated disk is full") }
  }

  package func truncate(to size: UInt64) throws(StorageError) {
    if disk.call() != nil { throw Self.refused }
    try current.truncate(to: size)
    changes.append(.resize(Int(size)))
  }

  package func sync() throws(StorageError) {
    // What a failed sync leaves is not known, and no later one makes up for it.
    if disk.call() != nil { throw Self.refused }
    durable = current.bytes
    changes = []
  }

  private static let refused = StorageError(.system(5), "the simulated disk refuses")

  fileprivate func cutPower(
    _ random: inout SeededRandom, _ likelihood: Double, isInOrder: Bool
  ) -> [UInt8] {
    var bytes = durable
    for change in isInOrder ? changes : changes.shuffled(using: &random) {
      switch change {
      case .resize(let size):
        guard Double.random(in: 0..<1, using: &random) < likelihood else { continue }
        bytes.removeLast(max(0, bytes.count - size))
        bytes += repeatElement(0, count: size - bytes.count)
      case .write(let written, let offset):
        var start = 0
        while start < written.count {
          let place = offset + start
          let end = min(
            written.count, start + SimulatedDisk.sectorSize - place % SimulatedDisk.sectorSize)
          defer { start = end }
          let isThere = Double.random(in: 0..<1, using: &random) < likelihood
          // A sector that is new to the file may be in it before its contents are.
          guard isThere || place >= durable.count && Bool.random(using: &random) else { continue }
          bytes += repeatElement(0, count: max(0, offset + end - bytes.count))
          if isThere { bytes.replaceSubrange(place..<offset + end, with: written[start..<end]) }
        }
      }
    }
    return bytes
  }
}
