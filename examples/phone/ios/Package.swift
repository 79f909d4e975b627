// swift-tools-version:5.9
import Foundation
import PackageDescription

// the static library of the network, for devices and not for simulators, lies beside its header
let network = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Sources/CClassifier/net")

let package = Package(
    name: "Classifier",
    platforms: [.iOS(.v15)],
    products: [.library(name: "Classifier", targets: ["Classifier"])],
    targets: [
        .target(
            name: "CClassifier",
            exclude: ["net"],
            cSettings: [.headerSearchPath("net")],
            linkerSettings: [.unsafeFlags(["-L\(network.path)"]), .linkedLibrary("model")]),
        .target(name: "Classifier", dependencies: ["CClassifier"], resources: [.copy("names.txt")]),
    ]
)
