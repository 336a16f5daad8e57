/// The six files of one feed.
public struct FeedFiles<Storage: RandomAccessStorage> {
  /// The public key, 32 bytes.
  public let key: Storage
  /// The secret key, 64 bytes, or empty where it is not kept beside the feed.
  public let secretKey: Storage
  /// All blocks, one after the other.
  public let data: Storage
  /// A SLEEP header, then 40 bytes a merkle node: hash and byte size.
  public let tree: Storage
  /// A SLEEP header, then 64 bytes a block: zeros, or the signature of the roots with that block as the last.
  public let signatures: Storage
  /// A SLEEP header, then pages of 3,584 bytes.
  public let bitfield: Storage

  /// - Parameter make: called with `key`, `secret_key`, `data`, `tree`, `signatures`, `bitfield`.
  public init(_ make: (_ name: String) throws(StorageError) -> Storage) throws(StorageError) {
    key = try make("key")
    secretKey = try make("secret_key")
    data = try make("data")
    tree = try make("tree")
    signatures = try make("signatures")
    bitfield = try make("bitfield")
  }
}

/// The 32 bytes at the start of a SLEEP file.
///
/// Source: DEP-0009, "SLEEP files"; hypercore 6.26.0 `lib/storage.js` `header`.
struct SleepHeader: Equatable {
  static let size = 32
  var type: UInt8
  var entrySize: UInt16
  var algorithm: String

  static let bitfield = SleepHeader(type: 0, entrySize: UInt16(FeedBitfield.pageSize), algorithm: "")
  static let signatures = SleepHeader(type: 1, entrySize: 64, algorithm: "Ed25519")
  static let tree = SleepHeader(type: 2, entrySize: 40, algorithm: "BLAKE2b")

  var bytes: [UInt8] {
    var bytes: [UInt8] = [5, 2, 87, type, 0, UInt8(entrySize >> 8), UInt8(entrySize & 255)]
    bytes.append(UInt8(algorithm.utf8.count))
    bytes.append(contentsOf: algorithm.utf8)
    bytes.append(contentsOf: repeatElement(0, count: Self.size - bytes.count))
    return bytes
  }

  /// Whether the file begins with this header; an empty or shorter file is given it.
  ///
  /// - Parameter rewrites: write it anew where it is there, since it may not be durable.
  func isAt<Storage: RandomAccessStorage>(_ file: Storage, rewrites: Bool = false) throws(FeedError) -> Bool {
    if try file.byteCount() >= UInt64(Self.size) {
      guard try file.bytes(Self.size, at: 0) == bytes else { return false }
      guard rewrites else { return true }
    }
    try file.put(bytes, at: 0)
    return true
  }
}

/// The storage's calls with a feed's error type.
extension RandomAccessStorage {
  func byteCount() throws(FeedError) -> UInt64 {
    do throws(StorageError) { return try size } catch { throw FeedError(error) }
  }

  func fill(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(FeedError) {
    do throws(StorageError) { try read(into: buffer, at: offset) } catch { throw FeedError(error) }
  }

  func bytes(_ count: Int, at offset: UInt64) throws(FeedError) -> [UInt8] {
    do throws(StorageError) {
      return try [UInt8](count: count) { (buffer) throws(StorageError) in try read(into: buffer, at: offset) }
    } catch {
      throw FeedError(error)
    }
  }

  func put(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FeedError) {
    do throws(StorageError) { try write(bytes, at: offset) } catch { throw FeedError(error) }
  }

  func put(_ bytes: [UInt8], at offset: UInt64) throws(FeedError) {
    try bytes.withBytes { (buffer) throws(FeedError) in try put(buffer, at: offset) }
  }

  func cut(to size: UInt64) throws(FeedError) {
    do throws(StorageError) { try truncate(to: size) } catch { throw FeedError(error) }
  }

  func settle() throws(FeedError) {
    do throws(StorageError) { try sync() } catch { throw FeedError(error) }
  }
}
