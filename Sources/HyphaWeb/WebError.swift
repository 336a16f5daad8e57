package import Hypercore
package import Hypha

/// What a call could not do, as the page gets it: a code for its program and a sentence for people.
package struct WebError: Error {
  package var code: String
  package var context: String

  package init(_ code: String, _ context: String) {
    self.code = code
    self.context = context
  }

  package init(_ error: HyphaError) {
    self.init(Self.code(error.code), error.context)
  }

  package init(_ error: WireError) {
    self.init(error.code == .timedOut ? "timedOut" : "peer", error.context)
  }

  package init(_ error: FeedError) {
    self.init("feed", error.context)
  }

  private static func code(_ code: HyphaError.Code) -> String {
    switch code {
    case .database: "database"
    case .badPassphrase: "badPassphrase"
    case .badDomain: "badDomain"
    case .noMemory: "noMemory"
    case .readOnly: "readOnly"
    case .behind: "behind"
    case .revoked: "revoked"
    case .forked: "forked"
    case .needsNewWriter: "needsNewWriter"
    case .unknownRequest: "unknownRequest"
    case .requestExpired: "requestExpired"
    case .requestAnswered: "requestAnswered"
    case .ambiguousRequest: "ambiguousRequest"
    case .requestPending: "requestPending"
    case .isAuthorised: "isAuthorised"
    case .unknownDevice: "unknownDevice"
    case .ambiguousDevice: "ambiguousDevice"
    case .badDeviceName: "badDeviceName"
    case .isOrigin: "isOrigin"
    case .textEmpty: "textEmpty"
    case .textTooLong: "textTooLong"
    case .unknownPost: "unknownPost"
    case .badID: "badID"
    }
  }
}
