import FoundationEssentials
import Hypercore

/// The reference data: `HYPHA_VECTORS`, or `../shared/vectors` beside the project.
package enum Vectors {
  package static let folder: String = {
    if let folder = ProcessInfo.processInfo.environment["HYPHA_VECTORS"], !folder.isEmpty { return folder }
    let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
    return root.dropLast().joined(separator: "/") + "/shared/vectors"
  }()

  package static func bytes(_ path: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(filePath: folder + "/" + path)))
  }

  package static func json<T: Decodable>(_ path: String, as type: T.Type = T.self) throws -> T {
    try JSONDecoder().decode(type, from: Data(bytes(path)))
  }
}

/// Bytes that stand as hexadecimal digits in the reference data.
package struct HexBytes: Decodable {
  package let bytes: [UInt8]

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let bytes = Hex.decode(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not hexadecimal: \(text)")
    }
    self.bytes = bytes
  }
}

/// A seeded source of randomness, so that a failure can be repeated: SplitMix64.
package struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  package init(_ seed: UInt64) {
    state = seed
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  package mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
  }
}
