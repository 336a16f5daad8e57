import FoundationEssentials
public import HyphaControlAPI
import NIOCore
import NIOHTTP1

/// Compares what an address serves with the web client that is installed here.
struct WebClientAudit: Sendable {
  private typealias Difference = WebAudit.Difference

  /// Headers with which a browser would load, send, keep or forget something that the page itself does not ask for.
  private static let unwanted = [
    "Refresh", "Link", "Service-Worker-Allowed", "Clear-Site-Data", "Set-Cookie", "NEL", "Report-To",
    "Reporting-Endpoints", "Content-Security-Policy-Report-Only",
  ]

  private let installed: WebFiles
  private let address: HyphaAddress
  private let connector: ReplicationConnector
  private let patience: Duration
  private let deadline: ContinuousClock.Instant

  /// - Parameter patience: for all files together, however slowly each comes.
  init(
    installed: WebFiles, address: HyphaAddress, connector: ReplicationConnector,
    patience: Duration = .seconds(EdgeLimits.auditSeconds)
  ) {
    self.installed = installed
    self.address = address
    self.connector = connector
    self.patience = patience
    deadline = .now + patience
  }

  /// - Throws: where nothing answers, or not everything in time.
  func run() async throws(LookupError) -> WebAudit.Result {
    let served = try await servedManifest()
    let version = served.map { Self.shown($0.version) }
    var differences: [Difference] = []
    if let version, served?.version != installed.version {
      differences.append(
        Difference(
          path: "/\(WebFiles.manifestName)",
          problem: "version \(version) is served, \(installed.version) is installed here"))
    } else if served != installed.manifest {
      differences.append(
        Difference(path: "/\(WebFiles.manifestName)", problem: served == nil ? "is not there" : "differs"))
    }
    let paths = installed.manifest.files.keys.sorted()
    for path in paths {
      // Browsers get the compressed copies, so all copies are asked for.
      for encoding in installed.encodings(of: path) {
        guard let problem = try await problem(path, encoding) else { continue }
        differences.append(Difference(path: path, problem: problem))
        break
      }
    }
    let others = (served?.files.keys.sorted() ?? []).filter { installed.manifest.files[$0] == nil }
    for path in others.prefix(EdgeLimits.webFiles) {
      differences.append(
        Difference(path: Self.shown(path), problem: "is served, and is not of the version installed here"))
    }
    return WebAudit.Result(
      url: address.address(of: "/"), installedVersion: installed.version, servedVersion: version,
      files: paths.count, differences: differences)
  }

  /// The list of files as it is served; `nil` for something else.
  private func servedManifest() async throws(LookupError) -> WebFiles.Manifest? {
    do throws(LookupError) {
      let answer = try await get("/\(WebFiles.manifestName)", limit: EdgeLimits.manifestBytes)
      guard answer.status == 200 else { return nil }
      return try? JSONDecoder().decode(WebFiles.Manifest.self, from: Data(answer.body))
    } catch {
      guard error.code == .badAnswer else { throw error }
      return nil
    }
  }

  private func get(
    _ path: String, limit: Int, encoding: String = "identity"
  ) async throws(LookupError) -> HTTPFetch.Answer {
    let left = TimeAmount(ContinuousClock.now.duration(to: deadline))
    guard left > .zero else { throw late }
    let fetch = HTTPFetch(connector, patience: min(left, .seconds(ReplicationLimits.openingSeconds)))
    return try await fetch.get(path, of: address, limit: limit, encoding: encoding)
  }

  private var late: LookupError {
    LookupError(
      .unreachable,
      "\(address.address(of: "/")): not all files came within \(patience.components.seconds) seconds.")
  }

  /// What is wrong with a file in an encoding.
  private func problem(_ path: String, _ encoding: String) async throws(LookupError) -> String? {
    let answer: HTTPFetch.Answer
    do throws(LookupError) {
      answer = try await get(
        path, limit: installed.body(of: path, "identity")?.count ?? 0, encoding: encoding)
    } catch {
      // Others may come; and a file that does not is one that a browser does not get.
      guard ContinuousClock.now < deadline else { throw late }
      return error.code == .badAnswer ? "differs: it is longer, or no answer of HTTP" : "does not come"
    }
    guard answer.status == 200 else { return "is not there (\(answer.status))" }
    let name = answer.headers.first(name: "Content-Encoding") ?? "identity"
    guard let body = installed.body(of: path, name) else {
      return "comes compressed as \(Self.shown(name)) by something between, and cannot be compared"
    }
    guard answer.body == body else { return "differs\(name == "identity" ? "" : " (\(name))")" }
    for (header, value) in installed.headers(of: path) {
      let served = Self.value(answer.headers, header)
      guard served != value else { continue }
      let instead = served.isEmpty ? "" : "; there is \(Self.shown(served))"
      return "comes without the header \(header): \(value)\(instead)"
    }
    for header in Self.unwanted where answer.headers.contains(name: header) {
      return "comes with a header too many, \(header): \(Self.shown(Self.value(answer.headers, header)))"
    }
    return nil
  }

  /// All fields of a name as one, with single spaces.
  private static func value(_ headers: HTTPHeaders, _ name: String) -> String {
    headers[name].map {
      $0.split(whereSeparator: { $0 == " " || $0 == "\t" }).joined(separator: " ")
    }.joined(separator: ", ")
  }

  /// What the other end wrote, not at any length.
  private static func shown(_ text: String) -> String {
    let scalars = text.unicodeScalars.prefix(EdgeLimits.auditTextScalars)
    return scalars.endIndex == text.unicodeScalars.endIndex
      ? text : String(String.UnicodeScalarView(scalars)) + "…"
  }
}

extension Node {
  public func auditWeb(_ params: WebAudit.Params) async throws(ControlError) -> WebAudit.Result {
    guard let connector else { throw ControlError(.stopping, "The daemon is starting or stopping.") }
    let installed: WebFiles
    do throws(WebFiles.Failure) { installed = try WebFiles(folder: settings.http.webFolder) } catch {
      throw ControlError(.notFound, "There is no web client here to compare with: \(error.context).")
    }
    do throws(LookupError) {
      let address = try HyphaAddress(params.address)
      return try await WebClientAudit(installed: installed, address: address, connector: connector).run()
    } catch {
      if error.code == .badAddress { throw ControlError(.invalidParams, error.context, field: "address") }
      throw ControlError(.lookupFailed, error.context)
    }
  }
}
