import FoundationEssentials
public import HyphaControlAPI
import NIOHTTP1

/// Compares what an address serves with the web client that is installed here.
struct WebClientAudit: Sendable {
  let installed: WebFiles
  let address: HyphaAddress
  let fetch: HTTPFetch

  private typealias Difference = WebAudit.Difference

  func run() async throws(LookupError) -> WebAudit.Result {
    let served = try await servedManifest()
    var differences: [Difference] = []
    if let served, served.version != installed.version {
      differences.append(
        Difference(
          path: "/\(WebFiles.manifestName)",
          problem: "version \(served.version) is served, \(installed.version) is installed here"))
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
    for path in (served?.files.keys.sorted() ?? []) where installed.manifest.files[path] == nil {
      differences.append(
        Difference(path: path, problem: "is served, and is not of the version installed here"))
    }
    return WebAudit.Result(
      url: address.address(of: "/"), installedVersion: installed.version, servedVersion: served?.version,
      files: paths.count, differences: differences)
  }

  /// The list of files as it is served; `nil` for something else.
  private func servedManifest() async throws(LookupError) -> WebFiles.Manifest? {
    let answer = try await fetch.get("/\(WebFiles.manifestName)", of: address, limit: EdgeLimits.webBytes)
    guard answer.status == 200 else { return nil }
    return try? JSONDecoder().decode(WebFiles.Manifest.self, from: Data(answer.body))
  }

  /// What is wrong with a file in an encoding.
  private func problem(_ path: String, _ encoding: String) async throws(LookupError) -> String? {
    let answer = try await fetch.get(path, of: address, limit: EdgeLimits.webBytes, encoding: encoding)
    guard answer.status == 200 else { return "is not there (\(answer.status))" }
    let name = answer.headers.first(name: "Content-Encoding") ?? "identity"
    guard let body = installed.body(of: path, name) else {
      return "comes compressed as \(name) by something between, and cannot be compared"
    }
    guard answer.body == body else { return "differs\(name == "identity" ? "" : " (\(name))")" }
    for (header, value) in installed.headers(of: path)
    where !answer.headers[header].contains(value) {
      return "comes without the header \(header): \(value)"
    }
    return nil
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
      return try await WebClientAudit(installed: installed, address: address, fetch: HTTPFetch(connector))
        .run()
    } catch {
      if error.code == .badAddress { throw ControlError(.invalidParams, error.context, field: "address") }
      throw ControlError(.lookupFailed, error.context)
    }
  }
}
