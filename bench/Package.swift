// swift-tools-version: 6.2
import PackageDescription

// Benches live beside the product, so that nothing of them is built with it.
let swift: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let package = Package(
    name: "bench",
    dependencies: [.package(name: "sonde", path: "..")],
    targets: [
        .target(name: "CMemory", path: "memory", cSettings: [.unsafeFlags(["-O3", "-Wall", "-Werror"])]),
        .executableTarget(
            name: "kernels",
            dependencies: [
                "CMemory", .product(name: "SondeKernels", package: "sonde"),
                .product(name: "SondeBLAS", package: "sonde"),
            ],
            path: "kernels", swiftSettings: swift),
        .executableTarget(
            name: "codes", dependencies: [.product(name: "SondeRouter", package: "sonde")],
            path: "codes", swiftSettings: swift),
        .executableTarget(
            name: "predictor", dependencies: [.product(name: "SondeIndex", package: "sonde")],
            path: "predictor", exclude: ["plot.py"],
            swiftSettings: swift),
        .executableTarget(
            name: "routing",
            dependencies: [
                .product(name: "SondeIndex", package: "sonde"), .product(name: "SondeBLAS", package: "sonde"),
            ], path: "routing", swiftSettings: swift),
        .executableTarget(
            name: "ring", dependencies: ["CMemory", .product(name: "SondeIndex", package: "sonde")],
            path: "ring", exclude: ["beside-search"], swiftSettings: swift),
    ]
)
