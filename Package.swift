// swift-tools-version: 6.2
import PackageDescription

let swift: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]
// Kernels are always optimised, so that tests in a debug build stay quick.
let c: [CSetting] = [.unsafeFlags(["-O3", "-Wall", "-Wextra", "-Werror"])]

let package = Package(
    name: "sonde",
    products: [
        .executable(name: "sonde", targets: ["Tools"]),
        .library(name: "SondeIndex", targets: ["Build", "Learn", "Index", "Router", "Storage", "Vectors"]),
        .library(name: "SondeRouter", targets: ["Router", "Storage", "Vectors"]),
        .library(name: "SondeKernels", targets: ["CKernels"]),
        .library(name: "SondeBLAS", targets: ["CBLAS"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
    ],
    targets: [
        .target(name: "CUring", cSettings: c, linkerSettings: [.linkedLibrary("uring")]),
        .target(name: "CKernels", cSettings: c, linkerSettings: [.linkedLibrary("m")]),
        .target(name: "CBLAS", cSettings: c, linkerSettings: [.linkedLibrary("dl")]),
        .target(name: "Vectors", dependencies: ["CKernels"], swiftSettings: swift),
        .target(name: "Storage", dependencies: ["Vectors", "CUring", "CKernels"], swiftSettings: swift),
        .target(name: "Router", dependencies: ["Vectors", "CKernels", "CBLAS"], swiftSettings: swift),
        .target(name: "Index", dependencies: ["Vectors", "Storage", "Router"], swiftSettings: swift),
        .target(
            name: "Learn", dependencies: ["Vectors", "Storage", "Router", "Index"], swiftSettings: swift),
        .target(
            name: "Build", dependencies: ["Vectors", "Storage", "Router", "Index", "Learn"],
            swiftSettings: swift),
        .executableTarget(
            name: "Tools",
            dependencies: [
                "Build", "Learn", "Index", "Storage", "Router", "Vectors",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: swift),
        .testTarget(name: "KernelTests", dependencies: ["CKernels"], swiftSettings: swift),
        // What several test targets share: fixtures, and indexes built of them.
        .target(
            name: "TestSupport", dependencies: ["Build", "Learn", "Index", "Storage", "Router", "Vectors"],
            path: "Tests/TestSupport", swiftSettings: swift),
        .testTarget(
            name: "StorageTests", dependencies: ["TestSupport", "Storage", "Vectors"], swiftSettings: swift),
        .testTarget(
            name: "RouterTests", dependencies: ["Router", "Vectors", "CKernels"], swiftSettings: swift),
        .testTarget(
            name: "IndexTests",
            dependencies: ["TestSupport", "Build", "Learn", "Index", "Storage", "Router", "Vectors"],
            swiftSettings: swift),
        .testTarget(
            name: "LearnTests",
            dependencies: ["TestSupport", "Build", "Learn", "Index", "Storage", "Router", "Vectors"],
            swiftSettings: swift),
        .testTarget(
            name: "BuildTests",
            dependencies: ["TestSupport", "Build", "Learn", "Index", "Storage", "Router", "Vectors"],
            swiftSettings: swift),
        .testTarget(name: "ToolsTests", dependencies: ["Storage"], swiftSettings: swift),
    ]
)
