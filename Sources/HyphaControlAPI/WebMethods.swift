/// `web.audit`
public enum WebAudit: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// `example.org`, `https://example.org`, or `http://` on loopback.
    public var address: String

    public init(address: String) {
      self.address = address
    }
  }

  public struct Difference: Codable, Equatable, Sendable {
    /// Of the file at the address.
    public var path: String
    /// What is not as it is installed here, in a sentence.
    public var problem: String

    public init(path: String, problem: String) {
      self.path = path
      self.problem = problem
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    /// The URL that was asked.
    public var url: String
    /// Of the web client that is installed here.
    public var installedVersion: String
    /// Of the one there, as it says itself.
    public var servedVersion: String?
    /// Files that were compared.
    public var files: Int
    /// Empty where everything is the same.
    public var differences: [Difference]

    public init(
      url: String, installedVersion: String, servedVersion: String?, files: Int, differences: [Difference]
    ) {
      self.url = url
      self.installedVersion = installedVersion
      self.servedVersion = servedVersion
      self.files = files
      self.differences = differences
    }
  }

  public static let name = "web.audit"
  public static let summary =
    "Compares what a domain serves, files and the headers that protect them, with the web client installed here."
  public static let errors: [ControlError.Code] = [.lookupFailed, .notFound]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.auditWeb(params)
  }
}
