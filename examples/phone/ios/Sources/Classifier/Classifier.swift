import CClassifier
import CoreGraphics
import Foundation

/// The network of this package.
public enum Classifier {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// The score of every class for the middle of a picture.
    public static func scores(of picture: CGImage) throws -> [Float] {
        let (width, height) = (Int(classifier_width()), Int(classifier_height()))
        var pixels = [UInt8](repeating: 0, count: 4 * width * height)
        let side = min(picture.width, picture.height)
        let middle = CGRect(x: (picture.width - side) / 2, y: (picture.height - side) / 2, width: side, height: side)
        guard let square = picture.cropping(to: middle) else { throw Failure(description: "the picture is empty") }
        let drawn = pixels.withUnsafeMutableBytes { memory -> Bool in
            guard
                let context = CGContext(
                    data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                    space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.interpolationQuality = .high
            context.draw(square, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        guard drawn else { throw Failure(description: "the picture cannot be drawn") }
        var scores = [Float](repeating: 0, count: Int(classifier_classes()))
        let status = classifier_run(pixels, &scores)
        guard status == 0 else { throw Failure(description: String(cString: classifier_text(status))) }
        return scores
    }

    /// The name of the likeliest class.
    public static func name(of picture: CGImage) throws -> String {
        let scores = try scores(of: picture)
        let best = scores.indices.max { scores[$0] < scores[$1] } ?? 0
        return best < names.count ? names[best] : String(best)
    }

    private static let names: [String] = {
        guard let place = Bundle.module.url(forResource: "names", withExtension: "txt"),
            let text = try? String(contentsOf: place, encoding: .utf8)
        else { return [] }
        return text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }()
}
