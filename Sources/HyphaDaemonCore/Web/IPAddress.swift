import Glibc
import NIOCore

/// An IP address; one of IPv4 that is written as one of IPv6 (`::ffff:192.0.2.1`) is one of IPv4.
struct IPAddress: Hashable, Sendable, CustomStringConvertible {
  /// 4 or 16.
  let bytes: [UInt8]

  /// - Parameter bytes: 4 or 16.
  private init(_ bytes: [UInt8]) {
    let mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
    self.bytes = bytes.starts(with: mapped) ? Array(bytes[12...]) : bytes
  }

  /// Reads `192.0.2.1` or `2001:db8::1`, without brackets, port or zone.
  init?(_ text: some StringProtocol) {
    let text = String(text)
    // An address with a zero byte in it would be read up to there.
    guard text.utf8.count <= 45, !text.utf8.contains(0) else { return nil }
    var v4 = in_addr()
    var v6 = in6_addr()
    if inet_pton(AF_INET, text, &v4) == 1 {
      self.init(withUnsafeBytes(of: v4) { Array($0) })
    } else if inet_pton(AF_INET6, text, &v6) == 1 {
      self.init(withUnsafeBytes(of: v6) { Array($0) })
    } else {
      return nil
    }
  }

  /// - Returns: `nil` for a Unix socket's.
  init?(_ address: SocketAddress?) {
    switch address {
    case .v4(let v4): self.init(withUnsafeBytes(of: v4.address.sin_addr) { Array($0) })
    case .v6(let v6): self.init(withUnsafeBytes(of: v6.address.sin6_addr) { Array($0) })
    case .unixDomainSocket, nil: return nil
    }
  }

  /// Of this machine itself.
  var isLoopback: Bool {
    bytes.count == 4 ? bytes[0] == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1
  }

  /// What counts as one address: of IPv4 all of it, of IPv6 the 64 bits that one household has.
  var household: [UInt8] { bytes.count == 4 ? bytes : Array(bytes[..<8]) }

  /// The household in words: an address of IPv4, or `2001:db8::/64`.
  var householdName: String {
    bytes.count == 4 ? description : "\(IPAddress(household + [UInt8](repeating: 0, count: 8)))/64"
  }

  /// The larger network that may be one customer's, of IPv6 the first 48 bits; `nil` of IPv4, whose addresses are scarce.
  var network: [UInt8]? { bytes.count == 4 ? nil : Array(bytes[..<6]) }

  /// The household of an address as text; what is no address counts for itself.
  static func household(of address: String) -> [UInt8] {
    IPAddress(address)?.household ?? Array(address.utf8)
  }

  var description: String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count))
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// An address, or all that begin with the same bits.
public struct AddressBlock: Hashable, Sendable, CustomStringConvertible {
  private let address: IPAddress
  private let bits: Int

  /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1` or `2001:db8::/32`.
  ///
  /// - Returns: `nil` for anything else, also where bits behind the first ones are set: that is probably another block than
  ///   was meant.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = IPAddress(parts[0]) else { return nil }
    let width = address.bytes.count * 8
    self.address = address
    guard parts.count == 2 else {
      bits = width
      return
    }
    guard let bits = UInt8(parts[1]), bits <= width, parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) })
    else { return nil }
    // A block of IPv4 addresses written as IPv6 is of another width than its digits say.
    guard width == 128 || !parts[0].contains(":") else { return nil }
    self.bits = Int(bits)
    for (index, byte) in address.bytes.enumerated() where byte & ~mask(index) != 0 { return nil }
  }

  func contains(_ other: IPAddress) -> Bool {
    guard other.bytes.count == address.bytes.count else { return false }
    return address.bytes.indices.allSatisfy { address.bytes[$0] == other.bytes[$0] & mask($0) }
  }

  /// Which bits of a byte are fixed.
  private func mask(_ index: Int) -> UInt8 {
    let fixed = min(8, max(0, bits - index * 8))
    return UInt8(truncatingIfNeeded: 0xFF00 >> fixed)
  }

  public var description: String { bits == address.bytes.count * 8 ? "\(address)" : "\(address)/\(bits)" }
}
