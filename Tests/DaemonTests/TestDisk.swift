import Glibc
import Testing

/// The disk of a daemon that a test stands before: it can be made to wait, to fail, and to do less than it was asked; what is
/// done to it is noted in order, with what leaves the process by its sockets.
struct TestDisk {
  /// Loaded into a daemon. Its files are in the folder `HYPHA_TEST_DISK`, it notes what is done below `HYPHA_TEST_STATE`.
  ///
  /// A call is noted after it was done, and output before it leaves: so that whatever is noted before an output was done by then.
  static let library = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdarg.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <unistd.h>

    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    static char *control(char *path, const char *name) {
      snprintf(path, 4096, "%s/%s", getenv("HYPHA_TEST_DISK"), name);
      return path;
    }
    static int has(const char *name) {
      char path[4096];
      return access(control(path, name), F_OK) == 0;
    }
    /// The text in a file of the test's; what is not there is empty.
    static char *text(const char *name, char *into) {
      char path[4096];
      int file = syscall(SYS_open, control(path, name), O_RDONLY | O_CLOEXEC, 0);
      ssize_t count = file < 0 ? 0 : syscall(SYS_read, file, into, 255);
      into[count > 0 ? count : 0] = 0;
      if (file >= 0) syscall(SYS_close, file);
      return into;
    }
    /// The path within the state folder, or none.
    static const char *inside(const char *path) {
      const char *state = getenv("HYPHA_TEST_STATE");
      size_t count = strlen(state);
      if (strncmp(path, state, count) || (path[count] && path[count] != '/')) return 0;
      const char *end = strrchr(path, ' ');
      if (end && !strcmp(end, " (deleted)")) return 0;
      return path[count] ? path + count + 1 : "";
    }
    static const char *named(int file, char *into) {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", file);
      ssize_t count = readlink(link, into, 4095);
      if (count < 0) return 0;
      into[count] = 0;
      return inside(into);
    }
    /// Notes a call; where the test wants that, it is the process's last.
    static void note(char kind, const char *path, uint64_t number, const void *bytes, size_t count) {
      static int file = -1;
      static long left;
      static char which, end[256];
      char name[4096];
      if (!path) return;
      pthread_mutex_lock(&lock);
      if (file < 0) {
        file = syscall(SYS_open, control(name, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        sscanf(text("kill", name), "%ld %c %255s", &left, &which, end);
      }
      struct { char kind; uint8_t reserved[3]; uint32_t path; uint64_t number; uint64_t count; } head =
        { kind, {0}, strlen(path), number, count };
      struct iovec parts[] = { { &head, sizeof head }, { (void *)path, head.path }, { (void *)bytes, count } };
      syscall(SYS_writev, file, parts, 3);
      size_t tail = strlen(end);
      if (kind != 'o' && left > 0 && (which == '*' || which == kind) && tail <= head.path
          && !strcmp(path + head.path - tail, end) && --left == 0)
        syscall(SYS_kill, getpid(), SIGKILL);
      pthread_mutex_unlock(&lock);
    }
    /// Now and then a number of bytes that is smaller, or a signal.
    static int isCut(size_t *count) {
      static uint64_t random = 88172645463325252;
      if (!has("short")) return 0;
      pthread_mutex_lock(&lock);
      random ^= random << 13; random ^= random >> 7; random ^= random << 17;
      uint64_t now = random;
      pthread_mutex_unlock(&lock);
      if (now % 4 == 0) { errno = EINTR; return 1; }
      if (now % 4 < 3 && *count > 1) *count = 1 + now / 4 % (*count - 1);
      return 0;
    }

    /// One call that would change something fails, once, where the test wants that: one of so many, with this error.
    static int fails(const char *path) {
      static long left = -1;
      static int error;
      char plan[256];
      pthread_mutex_lock(&lock);
      if (left < 0) {
        left = 0;
        sscanf(text("fault", plan), "%ld %d", &left, &error);
      }
      int isNow = left > 0 && --left == 0;
      pthread_mutex_unlock(&lock);
      if (!isNow) return 0;
      char name[4096];
      int file = syscall(SYS_open, control(name, "faulted"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      syscall(SYS_write, file, path, strlen(path));
      syscall(SYS_close, file);
      errno = error;
      return 1;
    }
    /// As the kernel does it to a file system with errors: also for files that are open.
    static int isReadOnly(const char *path) {
      if (!path) return 0;
      if (fails(path)) return 1;
      if (!has("readonly")) return 0;
      errno = EROFS;
      return 1;
    }
    static int isRefused(const char *path) {
      char wanted[256];
      if (isReadOnly(path)) return 1;
      if (!path || !*text("full", wanted) || !strstr(path, wanted)) return 0;
      errno = ENOSPC;
      return 1;
    }

    int open(const char *path, int flags, ...) {
      va_list rest;
      va_start(rest, flags);
      mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
      va_end(rest);
      struct stat before;
      int isNew = flags & O_CREAT && lstat(path, &before) != 0;
      if ((isNew || flags & (O_WRONLY | O_RDWR | O_TRUNC)) && isRefused(inside(path))) return -1;
      int file = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
      if (file >= 0 && isNew) note('c', inside(path), 0, 0, 0);
      if (file >= 0 && !isNew && flags & O_TRUNC) note('t', inside(path), 0, 0, 0);
      return file;
    }
    ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
      char name[4096];
      const char *path = named(file, name);
      if (isRefused(path) || (path && isCut(&count))) return -1;
      ssize_t done = syscall(SYS_pwrite64, file, bytes, count, at);
      if (done > 0) note('w', path, at, bytes, done);
      return done;
    }
    ssize_t pread(int file, void *bytes, size_t count, off_t at) {
      char name[4096];
      if (named(file, name) && isCut(&count)) return -1;
      return syscall(SYS_pread64, file, bytes, count, at);
    }
    int ftruncate(int file, off_t size) {
      char name[4096];
      if (isRefused(named(file, name))) return -1;
      int result = syscall(SYS_ftruncate, file, size);
      if (result == 0) note('t', named(file, name), size, 0, 0);
      return result;
    }
    /// Waits while the test names the file's end in `block`; fails once where it names it in `fail`.
    static int synced(int call, int file) {
      char name[4096], wanted[256];
      const char *path = named(file, name);
      if (path) {
        size_t size = strlen(path);
        for (int first = 1; *text("block", wanted); first = 0) {
          size_t end = strlen(wanted);
          if (end > size || strcmp(path + size - end, wanted)) break;
          if (first) close(syscall(SYS_open, control(name, "blocked"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
          usleep(1000);
        }
        path = named(file, name);
        size_t end = strlen(text("fail", wanted));
        if (end && end <= size && !strcmp(path + size - end, wanted)) {
          char own[4096];
          syscall(SYS_unlink, control(own, "fail"));
          note('f', path, 0, 0, 0);
          errno = EIO;
          return -1;
        }
      }
      if (path && fails(path)) {
        note('f', path, 0, 0, 0);
        return -1;
      }
      int result = syscall(call, file);
      if (result == 0) note('s', path, 0, 0, 0);
      return result;
    }
    int fdatasync(int file) { return synced(SYS_fdatasync, file); }
    int fsync(int file) { return synced(SYS_fsync, file); }
    int rename(const char *old, const char *new) {
      if (isRefused(inside(new))) return -1;
      int result = syscall(SYS_rename, old, new);
      const char *to = inside(new);
      if (result == 0 && to) note('r', inside(old), 0, to, strlen(to));
      return result;
    }
    int unlink(const char *path) {
      if (isReadOnly(inside(path))) return -1;
      int result = syscall(SYS_unlink, path);
      if (result == 0) note('u', inside(path), 0, 0, 0);
      return result;
    }
    int rmdir(const char *path) {
      if (isReadOnly(inside(path))) return -1;
      int result = syscall(SYS_rmdir, path);
      if (result == 0) note('u', inside(path), 0, 0, 0);
      return result;
    }
    int mkdir(const char *path, mode_t mode) {
      struct stat before;
      if (lstat(path, &before) != 0 && isRefused(inside(path))) return -1;
      int result = syscall(SYS_mkdir, path, mode);
      if (result == 0) note('m', inside(path), 0, 0, 0);
      return result;
    }
    static int isSocket(int file) {
      struct stat status;
      return fstat(file, &status) == 0 && S_ISSOCK(status.st_mode);
    }
    ssize_t write(int file, const void *bytes, size_t count) {
      if (isSocket(file)) note('o', "", 0, bytes, count);
      return syscall(SYS_write, file, bytes, count);
    }
    ssize_t writev(int file, const struct iovec *parts, int count) {
      if (isSocket(file)) for (int part = 0; part < count; part++)
        note('o', "", 0, parts[part].iov_base, parts[part].iov_len);
      return syscall(SYS_writev, file, parts, count);
    }
    """

  private let library: Preloaded
  private let folder: TemporaryFolder

  /// - Parameter node: not started yet.
  init(of node: TestNode) async throws {
    library = try await Preloaded(Self.library)
    folder = try TemporaryFolder()
    node.environment = [
      "LD_PRELOAD": library.path, "HYPHA_TEST_DISK": folder.path,
      "HYPHA_TEST_STATE": node.statePath,
    ]
  }

  /// What was done so far.
  var calls: [DiskCall] { DiskCall.decode(folder.read("log")) }

  /// Has syncs of files whose path ends so wait, until ``release()``.
  func block(_ end: String) throws {
    try set("block", end)
  }

  /// Whether a sync waits.
  var isBlocked: Bool { access("\(folder.path)/blocked", F_OK) == 0 }

  func release() {
    unlink("\(folder.path)/block")
    unlink("\(folder.path)/blocked")
  }

  /// Has the next sync of a file whose path ends so fail with `EIO`.
  func fail(_ end: String) throws {
    try set("fail", end)
  }

  /// Whether that failure came.
  var hasFailed: Bool { access("\(folder.path)/fail", F_OK) != 0 }

  /// Has the daemon that starts next be killed after so many calls of a kind, by the letter it is noted with, for files whose path ends
  /// so; without, of any.
  func kill(after calls: Int, _ kind: Character = "*", _ end: String = "") throws {
    try set("kill", "\(calls) \(kind) \(end)")
  }

  func killNoMore() {
    unlink("\(folder.path)/kill")
  }

  /// Has one call that changes something fail once, in the daemon that starts next: one of so many, with this error.
  func fail(after calls: Int, _ error: CInt) throws {
    unlink("\(folder.path)/faulted")
    try set("fault", "\(calls) \(error)")
  }

  /// What that call was for; `nil` if it did not come.
  var fault: String? {
    guard access("\(folder.path)/faulted", F_OK) == 0 else { return nil }
    return String(decoding: folder.read("faulted"), as: UTF8.self)
  }

  /// Has the next daemon's calls be done.
  func failNoMore() {
    unlink("\(folder.path)/fault")
  }

  /// Has the file system refuse to be written to.
  func becomeReadOnly() throws {
    try set("readonly", "")
  }

  func becomeWritable() {
    unlink("\(folder.path)/readonly")
  }

  /// Has there be no room for files and folders with this in their path.
  func fill(_ part: String) throws {
    try set("full", part)
  }

  func empty() {
    unlink("\(folder.path)/full")
  }

  /// Has reads and writes do less than they were asked, now and then, or be interrupted.
  func shorten() throws {
    try set("short", "")
  }

  private func set(_ name: String, _ text: String) throws {
    // As a whole, so that no half of it is read.
    let new = try folder.write("\(name).new", text.utf8)
    #expect(rename(new, "\(folder.path)/\(name)") == 0)
  }
}

/// Something that a daemon had the system do.
struct DiskCall {
  enum Kind: Equatable {
    case created
    case written(at: Int)
    case resized(to: Int)
    case synced
    /// What was not synced is there or not; the system takes it for written.
    case syncFailed
    case renamed(to: String)
    case removed
    case madeFolder
    /// Bytes that leave the process by a socket.
    case output
  }

  var kind: Kind
  /// Within the state folder, which is empty.
  var path: String
  var bytes: ArraySlice<UInt8>

  var folder: String { path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "" }
  var name: String { path.split(separator: "/").last.map(String.init) ?? "" }

  fileprivate static func decode(_ log: [UInt8]) -> [DiskCall] {
    var calls: [DiskCall] = []
    var rest = log[...]
    func number(_ place: Int, _ count: Int) -> Int {
      rest.dropFirst(place).prefix(count).reversed().reduce(0) { $0 << 8 | Int($1) }
    }
    while rest.count >= 24 {
      let (path, position, count) = (number(4, 4), number(8, 8), number(16, 8))
      guard rest.count >= 24 + path + count else { break }
      let letter = rest[rest.startIndex]
      let name = String(decoding: rest.dropFirst(24).prefix(path), as: UTF8.self)
      let bytes = rest.dropFirst(24 + path).prefix(count)
      rest = rest.dropFirst(24 + path + count)
      let kind: Kind =
        switch letter {
        case UInt8(ascii: "c"): .created
        case UInt8(ascii: "w"): .written(at: position)
        case UInt8(ascii: "t"): .resized(to: position)
        case UInt8(ascii: "s"): .synced
        case UInt8(ascii: "f"): .syncFailed
        case UInt8(ascii: "r"): .renamed(to: String(decoding: bytes, as: UTF8.self))
        case UInt8(ascii: "u"): .removed
        case UInt8(ascii: "m"): .madeFolder
        default: .output
        }
      calls.append(DiskCall(kind: kind, path: name, bytes: bytes))
    }
    return calls
  }
}
