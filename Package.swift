// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
  name: "hyphad",
  products: [
    .library(name: "Hypercore", targets: ["Hypercore"]),
    .library(name: "Hyperdb", targets: ["Hyperdb"]),
    .library(name: "Hypha", targets: ["Hypha"]),
    .executable(name: "hyphad", targets: ["hyphad"]),
    .executable(name: "hyphactl", targets: ["hyphactl"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
    .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
    .systemLibrary(name: "CTimex"),
    .target(name: "CWipe"),
    .target(name: "Hypercore", dependencies: ["CSodium"], swiftSettings: swiftSettings),
    .target(name: "Hyperdb", dependencies: ["Hypercore", "CSodium"], swiftSettings: swiftSettings),
    .target(name: "Hypha", dependencies: ["Hyperdb", "CSodium"], swiftSettings: swiftSettings),
    .target(name: "HyphaControlAPI", swiftSettings: swiftSettings),
    .target(
      name: "HyphaDaemonCore",
      dependencies: [
        "Hypercore", "Hyperdb", "Hypha", "HyphaControlAPI", "CSystemd", "CWipe",
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOWebSocket", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "hyphad",
      dependencies: [
        "HyphaDaemonCore", "HyphaControlAPI",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "hyphactl",
      dependencies: [
        "CTimex", "HyphaControlAPI",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "hypha-bench", dependencies: ["CSodium", "Hypercore", "Hyperdb", "Hypha", "HyphaDaemonCore"],
      path: "Benchmarks", exclude: ["browser.py"], swiftSettings: swiftSettings),
    .executableTarget(
      name: "websocket-echo",
      dependencies: [
        "Hypercore", "HyphaDaemonCore",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      path: "Tests/WebSocket/Echo", swiftSettings: swiftSettings),
    .target(
      name: "TestSupport", dependencies: ["Hypercore"], path: "Tests/TestSupport",
      swiftSettings: swiftSettings),
    .testTarget(
      name: "HypercoreTests", dependencies: ["Hypercore", "TestSupport"], swiftSettings: swiftSettings),
    .testTarget(
      name: "HyperdbTests", dependencies: ["Hyperdb", "TestSupport"], swiftSettings: swiftSettings),
    .testTarget(name: "HyphaTests", dependencies: ["Hypha", "TestSupport"], swiftSettings: swiftSettings),
    .testTarget(
      name: "HyphaControlAPITests", dependencies: ["HyphaControlAPI"], swiftSettings: swiftSettings),
    .testTarget(
      name: "DaemonTests",
      dependencies: [
        "CSodium", "Hypercore", "Hyperdb", "HyphaDaemonCore", "HyphaControlAPI", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOEmbedded", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ],
      swiftSettings: swiftSettings),
  ],
  swiftLanguageModes: [.v6]
)
