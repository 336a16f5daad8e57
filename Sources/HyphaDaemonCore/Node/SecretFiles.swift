import CSodium
import Glibc
import Hypercore

/// The secrets that a node stores: files under `secrets/` in its state folder, mode 0600.
///
/// With a credential they are sealed, so that a copy of the folder does not give them away: each file is then
/// `hypha sealed 1`, newline, a random nonce (24 bytes) and libsodium's secretbox (XSalsa20-Poly1305) of the secret,
/// under BLAKE2b-256 of the credential. The credential is read whenever a secret is read or written, and not kept.
struct SecretFiles {
  enum Name: String, CaseIterable {
    /// The secret key of this node's own feed.
    case writer
    /// Seals messages between the hypha's devices.
    case channel

    /// Bytes of the secret itself.
    var count: Int {
      switch self {
      case .writer: 64
      case .channel: 32
      }
    }
  }

  /// What systemd hands over for the setting `secrets_credential`.
  struct Credential: Equatable {
    /// Bytes that it must have.
    static let leastBytes = 32

    var name: String
    /// Where systemd puts credentials, `$CREDENTIALS_DIRECTORY`; `nil` where it hands over none.
    var folder: String?
  }

  /// No plain secret is as long as this and what follows it, so that none is taken for the other.
  private static let magic = Array("hypha sealed 1\n".utf8)

  static let folderName = "secrets"

  private let folder: StateFolder
  /// `nil`: secrets are stored as they are.
  private let credential: Credential?

  init(_ folder: StateFolder, _ credential: Credential?) {
    self.folder = folder
    self.credential = credential
  }

  /// To be called at start: looks whether every secret can be read, and then seals those that are not sealed yet.
  ///
  /// - Throws: `.credential`, also where nothing is stored yet; `.damaged`. Nothing was changed then.
  func prepare() throws(NodeError) {
    guard let credential else {
      for name in Name.allCases { _ = try read(name) }
      return
    }
    let key = try Self.key(credential)
    var plain: [Name] = []
    for name in Name.allCases {
      guard var stored = try stored(name) else { continue }
      defer { stored.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
      if Self.isSealed(stored) {
        _ = try open(stored, name, key)
      } else if stored.count == name.count {
        plain.append(name)
      } else {
        throw damaged(name)
      }
    }
    for name in plain {
      if let secret = try read(name, acceptPlain: true) { try write(name, secret) }
    }
  }

  /// - Returns: `nil` where there is none.
  /// - Throws: `.credential` where it cannot be opened; `.damaged`.
  func read(_ name: Name) throws(NodeError) -> SecretBytes? {
    try read(name, acceptPlain: credential == nil)
  }

  private func read(_ name: Name, acceptPlain: Bool) throws(NodeError) -> SecretBytes? {
    guard var stored = try stored(name) else { return nil }
    defer { stored.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    if Self.isSealed(stored) {
      guard let credential else {
        throw NodeError(
          .credential,
          "\(path(name)) is sealed: set secrets_credential in [node] to the name of the credential that it was "
            + "sealed under. Nothing was changed.")
      }
      return try open(stored, name, Self.key(credential))
    }
    guard acceptPlain, stored.count == name.count else { throw damaged(name) }
    return SecretBytes(count: stored.count) { (secret: UnsafeMutableRawBufferPointer) in
      secret.copyBytes(from: stored)
    }
  }

  /// Makes or replaces a secret, sealed where there is a credential; the bytes of the former one are overwritten.
  ///
  /// - Precondition: it has the size that belongs to `name`.
  func write(_ name: Name, _ secret: borrowing SecretBytes) throws(NodeError) {
    precondition(secret.count == name.count, "a secret of the wrong size")
    var bytes: [UInt8]
    if let credential {
      bytes = Self.seal(secret, try Self.key(credential))
    } else {
      bytes = secret.withUnsafeBytes { [UInt8]($0) }
    }
    defer { bytes.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    do throws(StorageError) {
      _ = try folder.makeFolder(Self.folderName)
      try AtomicFile.replace(path(name), with: bytes, erasing: true)
    } catch {
      throw NodeError(error)
    }
  }

  /// Removes all secrets, durably, and overwrites their bytes; fine where there are none.
  func removeAll() throws(NodeError) {
    do throws(StorageError) {
      _ = try folder.makeFolder(Self.folderName)
      for name in Name.allCases { try AtomicFile.remove(path(name), erasing: true) }
    } catch {
      throw NodeError(error)
    }
  }

  // MARK: - Sealing

  private static func isSealed(_ stored: [UInt8]) -> Bool {
    stored.starts(with: magic)
  }

  private static func seal(_ secret: borrowing SecretBytes, _ key: borrowing SecretBytes) -> [UInt8] {
    var nonce = [UInt8](repeating: 0, count: crypto_secretbox_noncebytes())
    randombytes_buf(&nonce, nonce.count)
    var box = [UInt8](repeating: 0, count: crypto_secretbox_macbytes() + secret.count)
    secret.withUnsafeBytes { secret in
      key.withUnsafeBytes { key in
        _ = crypto_secretbox_easy(&box, secret.octets, UInt64(secret.count), nonce, key.octets)
      }
    }
    return magic + nonce + box
  }

  private func open(
    _ stored: [UInt8], _ name: Name, _ key: borrowing SecretBytes
  ) throws(NodeError) -> SecretBytes {
    let nonceEnd = Self.magic.count + crypto_secretbox_noncebytes()
    guard stored.count == nonceEnd + crypto_secretbox_macbytes() + name.count else { throw damaged(name) }
    let nonce = Array(stored[Self.magic.count..<nonceEnd])
    let box = Array(stored[nonceEnd...])
    var opened: Int32 = -1
    let secret = SecretBytes(count: name.count) { (secret: UnsafeMutableRawBufferPointer) in
      opened = key.withUnsafeBytes { key in
        crypto_secretbox_open_easy(secret.octets, box, UInt64(box.count), nonce, key.octets)
      }
    }
    guard opened == 0 else {
      throw NodeError(
        .credential,
        "\(path(name)) was sealed under another credential than the one that secrets_credential in [node] names, or is "
          + "damaged: set the one that it was sealed under. Nothing was changed.")
    }
    return secret
  }

  /// BLAKE2b-256 of the credential.
  private static func key(_ credential: Credential) throws(NodeError) -> SecretBytes {
    let name = credential.name
    let advice = "see “Secrets” in hyphad.toml(5). Nothing was changed."
    guard let folder = credential.folder else {
      throw NodeError(
        .credential,
        "secrets_credential in [node] is “\(name)”, but this process was handed no credentials "
          + "($CREDENTIALS_DIRECTORY is not set): have systemd load it, \(advice)")
    }
    let found: [UInt8]?
    do throws(StorageError) { found = try AtomicFile.read("\(folder)/\(name)") } catch {
      throw NodeError(.credential, "The credential “\(name)” cannot be read: \(error.context); \(advice)")
    }
    guard var bytes = found else {
      throw NodeError(
        .credential,
        "secrets_credential in [node] is “\(name)”, but there is no such credential in \(folder): have systemd "
          + "load it, \(advice)")
    }
    defer { bytes.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
    guard bytes.count >= Credential.leastBytes else {
      throw NodeError(
        .credential,
        "The credential “\(name)” has \(bytes.count) bytes, and needs at least \(Credential.leastBytes): make "
          + "another, \(advice)")
    }
    return SecretBytes(count: 32) { (key: UnsafeMutableRawBufferPointer) in
      crypto_generichash(key.octets, key.count, bytes, UInt64(bytes.count), nil, 0)
    }
  }

  // MARK: - Files

  private func path(_ name: Name) -> String {
    folder.path(of: "\(Self.folderName)/\(name.rawValue)")
  }

  private func stored(_ name: Name) throws(NodeError) -> [UInt8]? {
    do throws(StorageError) { return try AtomicFile.read(path(name)) } catch {
      throw NodeError(error)
    }
  }

  private func damaged(_ name: Name) -> NodeError {
    NodeError(.damaged, "\(path(name)) is damaged; restore it from a backup. Nothing was changed.")
  }
}
