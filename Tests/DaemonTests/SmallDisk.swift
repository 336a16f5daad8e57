import FoundationEssentials
import Glibc

/// A view of the file system of its own, for the programs that are started in it.
final class OwnMounts {
  private let keeper: Running

  /// Whether this system lets the user have one.
  static let isAllowed: Bool = {
    guard let tried = try? Running("/usr/bin/unshare", shell + ["sh", "-c", "mount -t tmpfs tmpfs /mnt"])
    else {
      return false
    }
    var status: Int32 = 1
    waitpid(tried.pid, &status, 0)
    return status == 0
  }()

  private static var shell: [String] {
    (geteuid() == 0 ? [] : ["--user", "--map-root-user"]) + ["--mount", "--"]
  }

  /// - Parameters:
  ///   - script: for the shell, mounts what is to be seen; `$1` and so on are `arguments`.
  ///   - mark: a path that is there once it has.
  init(_ script: String, _ arguments: [String], mark: String) async throws {
    keeper = try Running(
      "/usr/bin/unshare", Self.shell + ["sh", "-c", "set -e; \(script); exec sleep 3600", "sh"] + arguments)
    try await eventually("no mounts: \(keeper.stderr)") { access(outside(mark), F_OK) == 0 ? true : nil }
  }

  /// A program and its arguments, to be run there.
  func running(_ program: String, _ arguments: [String]) -> (program: String, arguments: [String]) {
    let user = geteuid() == 0 ? [] : ["--user", "--preserve-credentials"]
    return (
      "/usr/bin/nsenter", ["--target", "\(keeper.pid)", "--mount"] + user + ["--", program] + arguments
    )
  }

  /// The path of a file there, for who is not there.
  func outside(_ path: String) -> String { "/proc/\(keeper.pid)/root\(path)" }
}

/// A file system of a few megabytes in memory, for a node's state.
final class SmallDisk {
  let mounts: OwnMounts
  private let outside: String

  init(at path: String, megabytes: Int, files: Int = 0) async throws {
    mkdir(path, 0o700)
    mounts = try await OwnMounts(
      "mount -t tmpfs -o mode=700,size=$2m,nr_inodes=$3 tmpfs \"$1\"; touch \"$1/.there\"",
      [path, "\(megabytes)", "\(files)"], mark: "\(path)/.there")
    outside = mounts.outside(path)
  }

  /// Takes all room but so many bytes.
  func fill(leaving bytes: Int = 0) throws {
    var status = statvfs()
    guard statvfs(outside, &status) == 0 else { throw HarnessError("statvfs: \(errno)") }
    let size = Int(status.f_bavail) * Int(status.f_frsize) - bytes
    let file = open("\(outside)/.filler", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw HarnessError("open: \(errno)") }
    defer { close(file) }
    let zeros = [UInt8](repeating: 0, count: 1 << 16)
    var rest = size
    while rest > 0 {
      let count = write(file, zeros, min(rest, zeros.count))
      guard count > 0 else { return }
      rest -= count
    }
  }

  /// Takes all files that there may be.
  func fillFiles() throws {
    for number in 0... {
      let file = open("\(outside)/.file\(number)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
      guard file >= 0 else { return }
      close(file)
    }
  }

  /// Gives it back.
  func empty() throws {
    unlink("\(outside)/.filler")
    var number = 0
    while unlink("\(outside)/.file\(number)") == 0 { number += 1 }
  }
}
