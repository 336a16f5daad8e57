import Glibc
import Hypercore
import Hyperdb
import HyphaDaemonCore

extension Workload {
  private static func key(_ number: Int) -> String {
    let digits = String(number)
    return "posts/" + String(repeating: "0", count: 10 - digits.count) + digits
  }

  private static let value = Array(
    #"{"text":"what a short post says, of about a hundred bytes in all"}"#.utf8)

  static let trie: [Workload] = [
    Workload(
      name: "trie puts one by one", limit: "limit: Ed25519 sign", goal: .atLeast(15_000), reference: 2_400
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let database = try Hyperdb(source: feed)
      var number = 0
      let rate = try rate(atLeast: 2 * scale) {
        number += 1
        try database.put(key(number), value)
        try feed.flush(durable: false)
      }
      return Measurement(rate, .perSecond)
    },
    Workload(
      name: "trie puts in batches of 100", limit: "limit: Ed25519 sign", goal: .atLeast(60_000),
      reference: 4_000
    ) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let database = try Hyperdb(source: feed)
      var number = 0
      let rate = try rate(atLeast: 2 * scale) {
        let changes = (number..<number + 100).map {
          Hyperdb<FileStorage>.Change.put(key: key($0), value: value)
        }
        number += 100
        try database.batch(changes)
        try feed.flush(durable: false)
      }
      return Measurement(100 * rate, .perSecond)
    },
    Workload(name: "trie gets, warm", goal: .atLeast(100_000), reference: 10_000) { folder, scale in
      let feed = try Feed.create(in: folder + "/feed")
      let database = try Hyperdb(source: feed)
      let keys = (0..<1000).map(key)
      try database.batch(keys.map { .put(key: $0, value: value) })
      for key in keys {
        guard try database.get(key).first?.value == value else {
          throw BenchError("\(key) has another value")
        }
      }
      var number = 0
      let rate = try rate(atLeast: 2 * scale) {
        number = (number + 617) % keys.count
        guard try database.get(keys[number]).count == 1 else { throw BenchError("a key is gone") }
      }
      return Measurement(rate, .perSecond)
    },
  ]
}
