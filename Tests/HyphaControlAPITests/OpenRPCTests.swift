import HyphaControlAPI
import Testing

@Suite struct OpenRPCTests {
  static func method(_ name: String) throws -> JSONValue {
    guard case .array(let methods) = openRPCDocument()["methods"] else { throw Missing() }
    return try #require(methods.first { $0["name"] == .string(name) })
  }
  struct Missing: Error {}

  @Test func listsEveryMethodOnce() throws {
    let names = controlMethods.map { $0.name }
    #expect(Set(names).count == names.count)
    for name in names { _ = try Self.method(name) }
  }

  @Test func readsParamsOffTheTypes() throws {
    let list = try Self.method("posts.list")
    #expect(
      list["params"]
        == .array([
          .object([
            "name": .string("all"), "required": .bool(false),
            "schema": .object(["type": .string("boolean")]),
          ]),
          .object([
            "name": .string("before"), "required": .bool(false),
            "schema": .object(["type": .string("string")]),
          ]),
          .object([
            "name": .string("limit"), "required": .bool(false),
            "schema": .object(["type": .string("integer")]),
          ]),
          .object([
            "name": .string("since"), "required": .bool(false),
            "schema": .object(["type": .string("string"), "format": .string("date-time")]),
          ]),
        ]))
    let create = try Self.method("posts.create")
    #expect(
      create["params"]
        == .array([
          .object([
            "name": .string("text"), "required": .bool(true), "schema": .object(["type": .string("string")]),
          ])
        ]))
    let wait = try Self.method("node.wait")
    guard case .array(let params) = wait["params"] else { throw Missing() }
    #expect(
      params[0]["schema"]?["enum"] == .array([.string("ready"), .string("synced"), .string("answered")]))
    let initialise = try Self.method("node.initialise")
    guard case .array(let fields) = initialise["params"] else { throw Missing() }
    #expect(
      fields.map { $0["name"] }
        == ["deviceName", "domain", "generated", "hyphalink", "passphrase", "writer"].map { .string($0) })
    #expect(fields[4]["schema"]?["type"] == .string("string"))
  }

  /// Nested structs, arrays of structs and enums: all of `node.status`.
  @Test func readsResultsOffTheTypes() throws {
    let status = try #require(try Self.method("node.status")["result"]?["schema"])
    let properties = try #require(status["properties"])
    #expect(properties["role"]?["enum"] != nil)
    #expect(properties["diskBytes"]?["type"] == .string("integer"))
    let feed = try #require(properties["feeds"]?["items"])
    #expect(feed["type"] == .string("object"))
    #expect(feed["properties"]?["fullyHeldBy"]?["type"] == .string("integer"))
    #expect(feed["properties"]?["writable"]?["type"] == .string("boolean"))
    guard case .array(let required) = status["required"] else { throw Missing() }
    #expect(required.contains(.string("ready")))
    #expect(!required.contains(.string("hyphalink")))
  }

  /// Optional structs, maps and enums in them.
  @Test func readsDevicesAndRequestsOffTheTypes() throws {
    let status = try #require(try Self.method("node.status")["result"]?["schema"]?["properties"])
    #expect(status["request"]?["properties"]?["words"]?["type"] == .string("string"))
    guard case .array(let states) = status["request"]?["properties"]?["state"]?["enum"] else {
      throw Missing()
    }
    #expect(states == ["pending", "authorised", "denied", "expired"].map { .string($0) })
    let list = try #require(try Self.method("requests.list")["result"]?["schema"]?["properties"])
    #expect(list["dropped"]?["type"] == .string("object"))
    #expect(list["requests"]?["items"]?["properties"]?["expires"]?["format"] == .string("date-time"))
    let device = try #require(
      try Self.method("devices.list")["result"]?["schema"]?["properties"]?["devices"]?["items"])
    #expect(device["properties"]?["revoked"]?["properties"]?["blocks"]?["type"] == .string("integer"))
    #expect(
      device["required"] == .array(["writer", "name", "origin", "here"].map { .string($0) }))
    guard case .array(let errors) = try Self.method("requests.approve")["errors"] else { throw Missing() }
    for code in [1007, 1017, 1019] { #expect(errors.contains { $0["code"] == .integer(Int64(code)) }) }
    guard case .array(let params) = try Self.method("node.signIn")["params"] else { throw Missing() }
    #expect(
      params.filter { $0["required"] == .bool(true) }.map { $0["name"] }
        == [.string("address"), .string("passphrase")])
  }
}
