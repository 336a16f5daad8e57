/// `node.doctor`
public enum NodeDoctor: ControlMethod {
  /// One thing that was looked at.
  public struct Check: Codable, Equatable, Sendable {
    public enum State: String, Codable, CaseIterable, Sendable {
      case good
      /// It works, and may not for long, or not as it should.
      case warning
      /// It does not work.
      case problem
      /// Nothing can be said.
      case unknown
    }

    /// What was looked at, in a word: `disk`, `domain`.
    public var name: String
    public var state: State
    /// What was found, in a sentence.
    public var text: String
    /// What to do, in a sentence.
    public var advice: String?

    public init(_ name: String, _ state: State, _ text: String, advice: String? = nil) {
      self.name = name
      self.state = state
      self.text = text
      self.advice = advice
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    public var checks: [Check]

    public init(checks: [Check]) {
      self.checks = checks
    }
  }

  public static let name = "node.doctor"
  public static let summary =
    "Looks for what is wrong with the set-up: disk, files, web address, domain, peers."

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.doctor()
  }
}
