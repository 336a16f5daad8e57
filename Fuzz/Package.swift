// swift-tools-version: 6.2
// The decoders of the project, compiled once more for libFuzzer: see scripts/fuzz.
import PackageDescription

let projectSettings: [SwiftSetting] = [
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("ExistentialAny"),
  // Coverage of the project's own code, not of what it is built on. Optimised, for a million executions a minute; testable,
  // for what only the project itself calls.
  .unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing", "-O"]),
]

let package = Package(
  name: "hypha-fuzz",
  dependencies: [
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    .systemLibrary(name: "CSodium", path: "Project/CSodium", pkgConfig: "libsodium"),
    .systemLibrary(name: "CSystemd", path: "Project/CSystemd", pkgConfig: "libsystemd"),
    // It has a free() of its own, but not beside a sanitizer.
    .target(name: "CWipe", path: "Project/CWipe", cSettings: [.unsafeFlags(["-fsanitize=address"])]),
    .target(name: "NIOSSL", dependencies: [.product(name: "NIOCore", package: "swift-nio")]),
    .target(
      name: "Hypercore", dependencies: ["CSodium"], path: "Project/Hypercore", swiftSettings: projectSettings),
    .target(
      name: "Hyperdb", dependencies: ["Hypercore", "CSodium"], path: "Project/Hyperdb",
      swiftSettings: projectSettings),
    .target(
      name: "Hypha", dependencies: ["Hyperdb", "CSodium"], path: "Project/Hypha",
      swiftSettings: projectSettings),
    .target(name: "HyphaControlAPI", path: "Project/HyphaControlAPI", swiftSettings: projectSettings),
    .target(
      name: "HyphaDaemonCore",
      dependencies: [
        "Hypercore", "Hyperdb", "Hypha", "HyphaControlAPI", "CSystemd", "CWipe", "NIOSSL",
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOWebSocket", package: "swift-nio"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ],
      path: "Project/HyphaDaemonCore", swiftSettings: projectSettings),
    .executableTarget(
      name: "hypha-fuzz",
      dependencies: [
        "Hypercore", "Hyperdb", "Hypha", "HyphaControlAPI", "HyphaDaemonCore",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: projectSettings + [.unsafeFlags(["-parse-as-library"])],
      linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])]),
  ],
  swiftLanguageModes: [.v6]
)
