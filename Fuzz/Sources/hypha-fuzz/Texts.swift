import NIOHTTP1

@testable import Hypercore
@testable import Hypha
@testable import HyphaControlAPI
@testable import HyphaDaemonCore

/// JSON in the database, times and names, addresses, what a domain says of itself, settings.
let textTargets = [
  Target(
    name: "json",
    seeds: {
      [
        Post.encode(text: "Grüße \"\\\n\u{1}", created: 1_700_000_000_000, device: "desk"),
        Array(#"{"a":[1,-2.5e3,{"b":null}],"c":"\ud83d\ude00\u00e9","d":true}"#.utf8),
        DeviceRecord.encode(name: "n", approved: 1, by: someKey), DeviceRecord.encodeRevocation(time: 5),
      ]
    }, run: fuzzJSON),
  Target(
    name: "texts",
    seeds: {
      [
        "2026-01-31T12:34:56.789Z", "2026-01-31", "2026-01-31T12:34:56+01:30", "01kc0000000000000000000000",
        "example.org", "wss://example.org:8443/hypha", "tcp://[::1]:3282", "[::1]:80", "https://example.org/",
        "wss://example.org/replicate/" + someKey.hex,
      ].map { Array($0.utf8) }
    }, run: fuzzTexts),
  Target(
    name: "passphrases",
    seeds: {
      [
        "abacus abdomen abdominal abide abiding ability ablaze able",
        "Abacus\u{2003}t\u{2010}shirt x y z a b c",
      ].map { Array($0.utf8) }
    }, run: fuzzPassphrase),
  Target(
    name: "wellknown",
    seeds: {
      ["dat://\(someKey.hex)\nTTL=3600\n", someKey.hex, "dat://\(someKey.hex)/\r\nTTL="].map {
        Array($0.utf8)
      }
    },
    run: fuzzWellKnown),
  Target(
    name: "settings",
    seeds: {
      [
        "[node]\nstate_folder = \"/var/lib/hypha\"\ndevice_name = 'desk' # mine\n[tcp]\nenabled = true\n",
        "[http]\naddress = \"[::]:80\"\ntrusted_proxies = [\"192.0.2.0/24\", \"::1\",]\n[dat]\nttl = 1_000\n",
        "[connections]\nurls = [ \"wss://example.org\" ]\n[mailbox]\nbytes = 4096\ndays = 7\n",
        "[log]\nlevel = \"\\u0069nfo\"\n[storage]\nquota_bytes = -1\n",
      ].map { Array($0.utf8) }
    }, run: fuzzSettings),
  Target(
    name: "origin",
    seeds: {
      [
        [0] + Array("192.0.2.1, 10.0.0.1\nhttps".utf8),
        [1] + Array("for=\"[2001:db8::1]:80\";proto=https, for=10.0.0.2".utf8),
        [2] + Array("2001:db8::/32".utf8),
      ]
    }, run: fuzzOrigin),
]

private func fuzzJSON(_ bytes: [UInt8]) {
  var fields: [String: String] = [:]
  var reader = JSONReader(bytes)
  if reader.readObject(into: &fields) {
    var text = JSONText()
    text.append(raw: "{")
    for (place, field) in fields.enumerated() {
      if place > 0 { text.append(raw: ",") }
      text.append(string: field.key)
      text.append(raw: ":")
      text.append(string: field.value)
    }
    text.append(raw: "}")
    var again: [String: String] = [:]
    var second = JSONReader(text.bytes)
    expect(second.readObject(into: &again) && again == fields, "strings are read as they were written")
  }
  guard let id = PostID("01kc0000000000000000000000"), let post = Post.decode(bytes, id: id, writer: someKey)
  else { return }
  let encoded = Post.encode(text: post.text, created: post.created, device: post.device)
  expect(Post.decode(encoded, id: id, writer: someKey) == post, "a post is read as it was written")
}

private func fuzzTexts(_ bytes: [UInt8]) {
  let text = String(decoding: bytes, as: UTF8.self)
  if let time = UTCTime(text) {
    expect(
      UTCTime(time.text).map { $0 == time } ?? (time.text.utf8.count != 24),
      "\(text): a time is read as it was written")
  }
  if let time = Timestamp(text) {
    expect(
      Timestamp(time.description) == time || time.milliseconds < -62_135_596_800_000
        || time.milliseconds >= 253_402_300_800_000, "\(text): a moment is read as it was written")
  }
  if let id = PostID(text) { expect(id.text == text.lowercased(), "an id is written as it was read") }
  if let key = PublicKey(hex: text) {
    expect(key.hex == text.lowercased(), "a key is written as it was read")
  }
  if let id = RequestID(hex: text) {
    expect(id.hex == text.lowercased(), "a request's id is written as it was read")
  }
  if let url = try? ReplicationURL(text) {
    expect((try? ReplicationURL(url.description)) == url, "\(text): an URL is read as it was written")
  }
  if let address = try? HyphaAddress(text) { _ = address.domain + address.description }
  if let address = ListenAddress(text) {
    expect(
      ListenAddress(address.description) == address, "\(text): where to listen is read as it was written")
  }
  if let name = try? Device.checked(name: text) { expect(Device.isName(name), "a checked name is one") }
  _ = ReplicationURL.target(path: text)
  _ = ACMEFolder.token(text)
}

private func fuzzPassphrase(_ bytes: [UInt8]) {
  guard let passphrase = try? Passphrase(typed: String(decoding: bytes, as: UTF8.self)) else { return }
  let words = passphrase.bytes.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  let again = (try? Passphrase(typed: words))?.wordCount
  expect(again == passphrase.wordCount, "a passphrase is read as it was written")
}

private func fuzzWellKnown(_ bytes: [UInt8]) {
  guard let dat = WellKnownDat(file: bytes) else { return }
  let again = WellKnownDat(file: Array("dat://\(dat.key.hex)\nTTL=\(dat.ttl)".utf8))
  expect(again == dat, "an answer is read as it was written")
}

private func fuzzSettings(_ bytes: [UInt8]) {
  if let document = try? SettingsParser.parse(bytes) {
    for setting in document.settings {
      expect(setting.line > 0 && setting.line <= bytes.count + 1, "a setting is on a line that there is")
    }
  }
  do throws(ConfigurationError) {
    let configuration = try Configuration(bytes, file: "f")
    expect(configuration.node.stateFolder.hasPrefix("/"), "a checked setting is as it was checked")
    expect(configuration.changesForTheNextStart(configuration).isEmpty, "what is the same has not changed")
  } catch {
    expect(!error.context.isEmpty, "an error says what is wrong")
  }
}

private func fuzzOrigin(_ bytes: [UInt8]) {
  guard let kind = bytes.first, let proxy = IPAddress("10.0.0.1"), let trusted = AddressBlock("10.0.0.0/8")
  else { return }
  let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
  if let address = IPAddress(text) {
    expect(IPAddress(address.description) == address, "\(text): an address is read as it was written")
    _ = address.household
  }
  if let block = AddressBlock(text) {
    expect(AddressBlock(block.description) == block, "\(text): a block is read as it was written")
  }
  let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  var headers = HTTPHeaders()
  if kind & 1 == 0 {
    headers.add(name: "X-Forwarded-For", value: lines[0])
    if lines.count > 1 { headers.add(name: "X-Forwarded-Proto", value: lines[1]) }
  } else {
    for line in lines.prefix(8) { headers.add(name: "Forwarded", value: line) }
  }
  // Whoever comes through the proxy can put anything to the left of what it adds, and changes nothing by it.
  let seen = "198.51.100.7"
  if kind & 1 == 0 {
    headers = ["X-Forwarded-For": "\(lines[0]), \(seen)"]
  } else {
    headers.add(name: "Forwarded", value: "for=\(seen)")
  }
  let origin = ClientOrigin(peer: proxy, isTLS: false, headers: headers, trusted: [trusted])
  expect(origin.address?.description == seen, "a client cannot choose its address: \(origin.name)")
  let direct = ClientOrigin(peer: IPAddress(seen), isTLS: false, headers: headers, trusted: [trusted])
  expect(direct.address?.description == seen && !direct.isForwarded, "who is no proxy is not believed")
}
