// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "sonde-bench",
    dependencies: [.package(name: "sonde", path: "..")],
    targets: [
        .executableTarget(
            name: "predictor", dependencies: [.product(name: "SondeIndex", package: "sonde")], path: "predictor",
            swiftSettings: [.swiftLanguageMode(.v6)])
    ]
)
