import Hypercore

/// What was written since the page last took it, in order: records of a kind (0 write, 1 set the size), the file's name,
/// an offset or size, and the bytes.
final class Journal {
  private var records = ResponseWriter()

  func write(_ name: String, _ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
    records.append(byte: 0)
    records.append(name)
    records.append(offset)
    records.append(bytes)
  }

  func resize(_ name: String, to size: UInt64) {
    records.append(byte: 1)
    records.append(name)
    records.append(size)
    records.append(EmptyCollection<UInt8>())
  }

  func take() -> [UInt8] {
    defer { records = ResponseWriter() }
    return records.bytes
  }
}

/// A file in memory that notes in a journal what is done to it.
final class JournaledStorage: RandomAccessStorage {
  private let name: String
  private let journal: Journal
  private let memory: MemoryStorage

  init(_ name: String, _ bytes: [UInt8], _ journal: Journal) {
    self.name = name
    self.journal = journal
    memory = MemoryStorage(bytes)
  }

  var bytes: [UInt8] { memory.bytes }

  var size: UInt64 {
    get throws(StorageError) { try memory.size }
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StorageError) {
    try memory.read(into: buffer, at: offset)
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StorageError) {
    try memory.write(bytes, at: offset)
    journal.write(name, bytes, at: offset)
  }

  func truncate(to size: UInt64) throws(StorageError) {
    try memory.truncate(to: size)
    journal.resize(name, to: size)
  }

  /// Nothing: the page makes a whole commit durable at once.
  func sync() throws(StorageError) {}
}
