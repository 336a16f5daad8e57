import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// A machine's clock that is set forward or back by a year, while the daemon runs and while it does not.
@Suite("A clock that is wrong", .fewAtOnce, .timeLimit(.minutes(15))) struct ClockTests {
  /// Loaded into a daemon, gives it another wall clock: the machine's and so many seconds as a file says. The monotonic clock and
  /// all timers stay as they are.
  private static let library = """
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdlib.h>
    #include <sys/syscall.h>
    #include <sys/time.h>
    #include <time.h>
    #include <unistd.h>
    static long offset(void) {
      char text[32] = {0};
      int file = open(getenv("HYPHA_TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
      if (file < 0) return 0;
      if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
      close(file);
      return atol(text);
    }
    int clock_gettime(clockid_t clock, struct timespec *now) {
      int result = syscall(SYS_clock_gettime, clock, now);
      if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
      return result;
    }
    int gettimeofday(struct timeval *restrict now, void *restrict zone) {
      struct timespec precise;
      int result = clock_gettime(CLOCK_REALTIME, &precise);
      now->tv_sec = precise.tv_sec;
      now->tv_usec = precise.tv_nsec / 1000;
      return result;
    }
    time_t time(time_t *now) {
      struct timespec precise;
      clock_gettime(CLOCK_REALTIME, &precise);
      if (now) *now = precise.tv_sec;
      return precise.tv_sec;
    }
    """

  private struct Skewed {
    let node: TestNode

    init(_ library: Preloaded, _ years: Int64 = 0) throws {
      node = try TestNode()
      node.environment = ["LD_PRELOAD": library.path, "HYPHA_TEST_CLOCK": "\(node.folder.path)/clock"]
      try set(years)
    }

    func set(_ years: Int64) throws {
      // As a whole, so that no half of it is read.
      let new = try node.folder.write("clock.new", "\(years * ClockTests.year / 1000)".utf8)
      #expect(rename(new, "\(node.folder.path)/clock") == 0)
    }

    func post(_ text: String) throws -> PostsCreate.Result {
      try node.client().call(PostsCreate.self, .init(text: text))
    }

    func texts() throws -> Set<String> {
      Set(try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text))
    }
  }

  private static let year: Int64 = 365 * 86_400_000

  private func expectYears(_ years: Int64, _ created: Timestamp) {
    let now = Int64(Date().timeIntervalSince1970 * 1000) + years * Self.year
    #expect(abs(created.milliseconds - now) < 3_600_000, "\(created) is not \(years) years from now")
  }

  @Test("Posts, replication, restarts and new devices go on")
  func jumps() async throws {
    let library = try await Preloaded(Self.library)
    let (laptop, phone) = (try Skewed(library), try Skewed(library))
    try await laptop.node.start()
    try await phone.node.start()
    let made = try await laptop.node.ctl(
      "init", "--domain", "example.org", "--passphrase-file", "-", input: HyphactlTests.passphrase)
    try #require(made.status == 0, "\(made.stderr)")
    let link = try laptop.node.client().call(NodeStatus.self, .init()).hyphalink
    let writer = try phone.node.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "phone", writer: true)
    ).writer
    _ = try phone.node.client().call(ConnectionsAdd.self, .init(url: laptop.node.url))
    _ = try laptop.node.client().call(DatabaseAuthorize.self, .init(key: try #require(writer)))
    try await eventually { try phone.node.client().call(NodeStatus.self, .init()).canPost ? true : nil }
    var all: Set<String> = []
    var ids: Set<String> = []
    // A device never dates a post before its own last one, so that they stay in order.
    func both(_ text: String, laptop years: Int64, phone phoneYears: Int64) async throws {
      for (device, name, years) in [(laptop, "laptop", years), (phone, "phone", phoneYears)] {
        let post = try device.post("\(text) on \(name)")
        expectYears(years, post.created)
        #expect(ids.insert(post.id).inserted)
        all.insert("\(text) on \(name)")
      }
      try await eventually("posts are missing after: \(text); \(laptop.node.log)") {
        try laptop.texts() == all && phone.texts() == all ? true : nil
      }
    }
    try await both("now", laptop: 0, phone: 0)
    try laptop.set(1)
    try await both("laptop ahead", laptop: 1, phone: 0)
    try phone.set(-1)
    try await both("two years apart", laptop: 1, phone: 0)
    try laptop.set(-1)
    try await both("both behind", laptop: 1, phone: 0)
    // And over a restart, in either direction.
    try await laptop.node.kill()
    try laptop.set(1)
    try await laptop.node.start()
    try await both("ahead again", laptop: 1, phone: 0)
    try await laptop.node.stop()
    try laptop.set(0)
    try phone.set(0)
    try await laptop.node.start()
    try await both("right again", laptop: 1, phone: 0)
    #expect(try await laptop.node.ctl("verify").status == 0)

    // A device whose clock is a year behind asks in vain: its request expired before it came. Then its clock is set.
    let tablet = try Skewed(library, -1)
    try await tablet.node.start()
    let asked = try await tablet.node.ctl(
      "sign-in", "http://127.0.0.1:\(laptop.node.port)", "--domain", "example.org", "--passphrase-file", "-",
      input: HyphactlTests.passphrase)
    #expect(asked.status == 0, "\(asked.stderr)")
    func pending() throws -> RequestInfo? {
      try laptop.node.client().call(RequestsList.self, .init()).requests.first { $0.state == .pending }
    }
    #expect(try pending() == nil)
    try tablet.set(0)
    let again = try await tablet.node.ctl("sign-in", "--again")
    #expect(again.status == 0, "\(again.stderr)")
    let request = try await eventually("the request does not come") { try pending() }
    _ = try laptop.node.client().call(RequestsApprove.self, .init(id: request.id))
    try await eventually { try tablet.node.client().call(NodeStatus.self, .init()).canPost ? true : nil }
    for device in [laptop, phone, tablet] { #expect(try await device.node.stop()?.status == 0) }
  }
}
