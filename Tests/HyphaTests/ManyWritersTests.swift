import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

extension Hypha<MemoryStorage> {
  /// A hypha with one writer.
  static func alone(_ source: Feed<MemoryStorage>) throws -> Hypha {
    try Hypha(source: source) { (key) throws(HyperdbError) in
      throw HyperdbError(.unopened, "there is one writer, not \(key.hex)")
    }
  }
}

@Suite("Posts of several devices")
struct ManyWritersTests {
  @Test("are merged newest first, the same on every device, though their clocks differ")
  func merge() throws {
    var random = SeededRandom(3)
    let devices = try TestDevice.make(4)
    var model: [PostID: String] = [:]
    let skews: [Int64] = [0, 40_000, -90_000, 3]
    for step in 0..<240 {
      let place = Int.random(in: 0..<devices.count, using: &random)
      let hypha = devices[place].hypha
      switch Int.random(in: 0..<10, using: &random) {
      case 0:
        try devices[place].pull(from: devices[Int.random(in: 0..<devices.count, using: &random)])
      case 1:
        guard let post = try hypha.posts(limit: 10).posts.randomElement(using: &random) else { continue }
        try hypha.delete(post.id)
        model[post.id] = nil
      case 2: try hypha.database.put("profile/\(place)", random.bytes(3))
      default:
        let now = 1_700_000_000_000 + Int64(step) * 1000 + skews[place]
        let post = try hypha.post("post \(step)", device: "d\(place)", now: now, random: random.bytes(10))
        model[post.id] = post.text
      }
    }
    try TestDevice.sync(devices)
    let expected = model.keys.sorted(by: >)
    for device in devices {
      let (posts, more) = try device.hypha.posts(limit: 1000)
      #expect(!more)
      #expect(posts.map(\.id) == expected)
      #expect(posts.allSatisfy { model[$0.id] == $0.text })
      var paged: [Post] = []
      while case let page = try device.hypha.posts(limit: 7, before: paged.last?.id), !page.posts.isEmpty {
        paged += page.posts
        if !page.more { break }
      }
      #expect(paged == posts)
      let middle = posts[posts.count / 2]
      #expect(
        try device.hypha.posts(limit: 1000, since: middle.id.time).posts
          == posts.filter { $0.id.time >= middle.id.time })
    }
  }

  @Test("of two versions one is shown, the same everywhere; what one device deleted is not")
  func conflicts() throws {
    let devices = try TestDevice.make(3)
    func bytes(_ number: UInt8) -> [UInt8] { [UInt8](repeating: number, count: 10) }
    let post = try devices[0].hypha.post("first", device: "d", now: 1000, random: bytes(1))
    let other = try devices[1].hypha.post("other", device: "d", now: 2000, random: bytes(2))
    try TestDevice.sync(devices)
    for (place, device) in devices.enumerated() {
      let value = Post.encode(text: "edit \(place)", created: 1000, device: "d")
      try device.hypha.database.put("posts/\(post.id.text)", value)
    }
    try devices[2].hypha.delete(other.id)
    try devices[0].hypha.database.put(
      "posts/\(other.id.text)", Post.encode(text: "kept?", created: 2000, device: "d"))
    try TestDevice.sync(devices)
    let shown = try devices[0].hypha.posts(limit: 10).posts
    #expect(shown.map(\.id) == [post.id])
    let all = try devices[0].hypha.posts(limit: 10, all: true).posts
    #expect(all.filter { $0.id == post.id }.map(\.text).sorted() == ["edit 0", "edit 1", "edit 2"])
    #expect(all.filter { $0.id == other.id }.map(\.text) == ["kept?"])
    #expect(all.filter(\.isShown) == shown)
    for device in devices { #expect(try device.hypha.posts(limit: 10).posts == shown) }
    // A later version, by one who saw the others, takes their place.
    let value = Post.encode(text: "settled", created: 1000, device: "d")
    try devices[1].hypha.database.put("posts/\(post.id.text)", value)
    try TestDevice.sync(devices)
    #expect(try devices[2].hypha.posts(limit: 10, all: true).posts.map(\.text) == ["kept?", "settled"])
  }

  @Test("a device that is not authorised reads and cannot post")
  func unauthorised() throws {
    let source = try #require(PublicKey(FeedStore.secretKey(1)[32...]))
    let (first, second) = (try TestDevice(source, 1), try TestDevice(source, 2))
    let random = [UInt8](repeating: 0, count: 10)
    let post = try first.hypha.post("x", device: "d", now: 1, random: random)
    try second.pull(from: first)
    #expect(try second.hypha.posts(limit: 5).posts == [post])
    #expect(try !second.hypha.canPost())
    let error = #expect(throws: HyphaError.self) {
      try second.hypha.post("y", device: "d", now: 2, random: random)
    }
    #expect(error?.code == .readOnly)
    #expect(try first.hypha.database.authorize(try #require(second.store.own)) != nil)
    #expect(try first.hypha.database.authorize(try #require(second.store.own)) == nil)
    try second.pull(from: first)
    #expect(try second.hypha.canPost())
    _ = try second.hypha.post("y", device: "d", now: 2, random: random)
    try first.pull(from: second)
    #expect(try first.hypha.posts(limit: 5).posts.map(\.text) == ["y", "x"])
  }
}
