import Glibc
import NIOPosix

/// The challenges that an ACME client such as certbot puts down for the authority to fetch (RFC 8555, section 8.3).
enum ACMEFolder {
  /// Of the URL, and below the folder.
  static let path = "/.well-known/acme-challenge/"

  /// The token that a path asks for; `nil` where it can be none, which is then not looked for.
  static func token(_ path: String) -> String? {
    guard path.hasPrefix(Self.path) else { return nil }
    let token = path.dropFirst(Self.path.count)
    let isToken =
      (1...EdgeLimits.acmeTokenBytes).contains(token.utf8.count) && token.utf8.allSatisfy(isLetter)
    return isToken ? String(token) : nil
  }

  /// RFC 8555 has them of base64url's letters.
  private static func isLetter(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// One thread, since strangers ask: NIO's own pool is one for each processor, and ends the process where there may be no more.
  private static let thread = {
    let thread = NIOThreadPool(numberOfThreads: 1)
    thread.start()
    return thread
  }()

  /// What is to be answered, read where that may wait for a disk.
  static func read(_ token: String, in folder: String) async -> [UInt8]? {
    try? await thread.runIfActive { readNow(token, in: folder) }
  }

  /// No link is followed below `folder`, and nothing but a small file is read: who may write there decides what a
  /// certificate's authority is told, and no more.
  private static func readNow(_ token: String, in folder: String) -> [UInt8]? {
    do throws(SystemError) {
      var place = try FileDescriptor(folder, O_RDONLY | O_DIRECTORY)
      for name in Self.path.split(separator: "/") {
        place = try open(String(name), in: place, O_DIRECTORY)
      }
      // Not one that would wait for a writer, such as a pipe.
      let file = try open(token, in: place, O_NONBLOCK)
      var status = stat()
      guard fstat(file.number, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
        status.st_size <= EdgeLimits.acmeFileBytes
      else { return nil }
      return try file.read(upTo: EdgeLimits.acmeFileBytes, token)
    } catch {
      return nil
    }
  }

  private static func open(
    _ name: String, in folder: borrowing FileDescriptor, _ flags: Int32
  ) throws(SystemError) -> FileDescriptor {
    let number = folder.number
    return FileDescriptor(
      owning: try retried(name) { openat(number, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | flags) })
  }
}
