import FoundationEssentials
import HyphaControlAPI
import Testing

/// `docs/rpc.md` lists what there is.
@Suite struct DocumentTests {
  static func document() throws -> String {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    return String(decoding: try Data(contentsOf: URL(filePath: "/\(root)/docs/rpc.md")), as: UTF8.self)
  }

  @Test func listsEveryMethod() throws {
    let document = try Self.document()
    for method in controlMethods { #expect(document.contains("| `\(method.name)` |")) }
  }

  @Test func listsEveryErrorAndEvent() throws {
    let document = try Self.document()
    for code in ControlError.Code.allCases {
      let meaning = code.meaning.split(separator: "data.field").joined(separator: "`data.field`")
      #expect(document.contains("| \(code.rawValue) | \(meaning) |"))
    }
    for kind in ControlEvent.Kind.allCases { #expect(document.contains("| `\(kind.rawValue)` |")) }
  }
}
