import FoundationEssentials
import Hypercore
import NIOCore
import NIOHTTP1

/// The web client's files as they were built, checked against their manifest and kept in memory.
public struct WebFiles: Sendable {
  /// `integrity.json`: what `scripts/web.mjs` writes, and what is published beside the files.
  struct Manifest: Codable, Equatable, Sendable {
    struct File: Codable, Equatable, Sendable {
      /// Path in the folder.
      var file: String
      /// For `Content-Type`.
      var type: String
      /// Bytes.
      var size: Int
      /// In hexadecimal digits.
      var sha256: String
      /// Hashes of the compressed copies that there are, by `br` and `gzip`.
      var encodings: [String: String]
    }

    var format: Int
    /// Of the package.
    var version: String
    /// By path of the URL.
    var files: [String: File]
  }

  /// A file could not be loaded, or is another one than was built.
  public struct Failure: Error, Equatable, Sendable {
    /// Which file, and what is wrong with it.
    public var context: String
  }

  private struct File: Sendable {
    var type: String
    /// Never changes under its path.
    var isPermanent: Bool
    /// Start of the file's hash.
    var tag: String
    /// By encoding; `identity` is always there.
    var bodies: [String: ByteBuffer] = [:]
  }

  static let manifestName = "integrity.json"
  /// Names of encodings in the order of preference, with the ending of a copy's name.
  private static let encodings = [("br", ".br"), ("gzip", ".gz")]

  let manifest: Manifest
  /// Of the web client.
  public var version: String { manifest.version }
  private var files: [String: File] = [:]

  /// Loads what is in a folder.
  public init(folder: String) throws(Failure) {
    let bytes = try Self.read(folder, Self.manifestName, limit: EdgeLimits.webBytes)
    guard let manifest = try? JSONDecoder().decode(Manifest.self, from: Data(bytes)), manifest.format == 1
    else {
      throw Failure(
        context: "\(folder)/\(Self.manifestName) is not a list of files that this version can read")
    }
    guard manifest.files.count <= EdgeLimits.webFiles else {
      throw Failure(context: "\(folder)/\(Self.manifestName) lists over \(EdgeLimits.webFiles) files")
    }
    self.manifest = manifest
    var room = EdgeLimits.webBytes
    for (path, listed) in manifest.files {
      let name = listed.file
      guard path.hasPrefix("/"), !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else {
        throw Failure(
          context: "\(folder)/\(Self.manifestName) lists the path “\(name)”, which leads elsewhere")
      }
      let bytes = try Self.read(folder, name, limit: room)
      guard bytes.count == listed.size, Self.sha256(bytes) == listed.sha256 else {
        throw Failure(context: "\(folder)/\(name) is not the file that was built: its hash is another one")
      }
      room -= bytes.count
      var file = File(
        type: listed.type, isPermanent: path.hasPrefix("/assets/"), tag: String(listed.sha256.prefix(32)))
      file.bodies["identity"] = ByteBuffer(bytes: bytes)
      for (encoding, ending) in Self.encodings {
        guard let hash = listed.encodings[encoding] else { continue }
        let copy = try Self.read(folder, name + ending, limit: room)
        guard Self.sha256(copy) == hash else {
          throw Failure(
            context: "\(folder)/\(name)\(ending) is not the file that was built: its hash is another one")
        }
        room -= copy.count
        file.bodies[encoding] = ByteBuffer(bytes: copy)
      }
      files[path] = file
    }
    files["/\(Self.manifestName)"] = File(
      type: "application/json", isPermanent: false, tag: String(Self.sha256(bytes).prefix(32)),
      bodies: ["identity": ByteBuffer(bytes: bytes)])
  }

  /// SHA-256 in hexadecimal digits.
  static func sha256(_ bytes: [UInt8]) -> String {
    Hex.encode(bytes.withUnsafeBytes { Crypto.sha256($0) })
  }

  private static func read(_ folder: String, _ name: String, limit: Int) throws(Failure) -> [UInt8] {
    let bytes: [UInt8]?
    do throws(StorageError) { bytes = try AtomicFile.read("\(folder)/\(name)", limit: limit) } catch {
      throw Failure(context: error.context)
    }
    guard let bytes else { throw Failure(context: "there is no file \(folder)/\(name)") }
    return bytes
  }

  // MARK: - Answering

  func has(_ path: String) -> Bool { files[path] != nil }

  /// The encodings in which there is a file.
  func encodings(of path: String) -> [String] { files[path]?.bodies.keys.sorted() ?? [] }

  /// - Returns: `nil` where there is no such file, or not in this encoding.
  func body(of path: String, _ encoding: String) -> [UInt8]? {
    files[path]?.bodies[encoding].map { [UInt8]($0.readableBytesView) }
  }

  /// The headers of a file on which safety depends.
  func headers(of path: String) -> [(name: String, value: String)] {
    Self.pageHeaders.map { ($0.name, $0.value) } + (files[path].map { [("Content-Type", $0.type)] } ?? [])
      + HTTPAnswer.defaults.filter { $0.name != "Cache-Control" && !Self.pageHeaders.contains(name: $0.name) }
  }

  /// - Returns: `nil` where there is no such file.
  func answer(_ path: String, _ request: HTTPHeaders) -> HTTPAnswer? {
    guard let file = files[path] else { return nil }
    var encoding = "identity"
    var quality = HTTPConditions.quality(of: encoding, request)
    for (name, _) in Self.encodings.reversed() where file.bodies[name] != nil {
      let wanted = HTTPConditions.quality(of: name, request)
      if wanted > 0, wanted >= quality { (encoding, quality) = (name, wanted) }
    }
    var answer = HTTPAnswer(
      status: .ok, headers: Self.pageHeaders, body: file.bodies[encoding] ?? ByteBuffer())
    let tag = "\"\(file.tag)-\(encoding)\""
    answer.headers.add(name: "ETag", value: tag)
    answer.headers.add(
      name: "Cache-Control", value: file.isPermanent ? "public, max-age=31536000, immutable" : "no-cache")
    if file.bodies.count > 1 { answer.headers.add(name: "Vary", value: "Accept-Encoding") }
    if HTTPConditions.matches(request, tag: tag) {
      answer.status = .notModified
      answer.body = ByteBuffer()
      return answer
    }
    answer.headers.add(name: "Content-Type", value: file.type)
    if encoding != "identity" { answer.headers.add(name: "Content-Encoding", value: encoding) }
    return answer
  }

  /// What the page may do: run its own scripts and the compiled core, talk to its own node, and nothing else.
  ///
  /// The worker is started from memory, from bytes whose hash was checked (`blob:`). The script of a service worker comes with
  /// the policy that it runs under, so all files have this one.
  static let pageHeaders: HTTPHeaders = [
    "Content-Security-Policy": [
      "default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "style-src 'self'", "img-src 'self'",
      "connect-src 'self'", "manifest-src 'self'", "worker-src 'self' blob:", "base-uri 'none'",
      "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
      "trusted-types hypha",
    ].joined(separator: "; "),
    "Permissions-Policy": [
      "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen",
      "geolocation",
      "gyroscope", "hid", "idle-detection", "magnetometer", "microphone", "midi", "payment",
      "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
    ].map { "\($0)=()" }.joined(separator: ", "),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
  ]
}
