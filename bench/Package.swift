// swift-tools-version: 6.2
import PackageDescription

// Benches live beside the product, so that nothing of them is built with it.
let swift: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let package = Package(
    name: "bench",
    dependencies: [.package(name: "sonde", path: "..")],
    targets: [
        .executableTarget(
            name: "kernels", dependencies: [.product(name: "SondeKernels", package: "sonde")],
            path: "kernels",
            swiftSettings: swift),
        .executableTarget(
            name: "predictor", dependencies: [.product(name: "SondeIndex", package: "sonde")],
            path: "predictor",
            swiftSettings: swift),
    ]
)
