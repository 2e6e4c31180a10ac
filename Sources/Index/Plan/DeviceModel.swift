// What a read costs on a device: a fixed part and a part a byte. Fitted on the index's own file, so that
// plans can be chosen by time instead of by counts.

import Router
import Storage
import Vectors

/// Microseconds of a read under load: `fixed + perByte * bytes`.
public struct DeviceModel: Sendable, Equatable, Codable {
    public var fixedMicroseconds: Float
    public var microsecondsPerByte: Float

    public init(fixedMicroseconds: Float, microsecondsPerByte: Float) {
        self.fixedMicroseconds = fixedMicroseconds
        self.microsecondsPerByte = microsecondsPerByte
    }

    /// A common NVMe device behind virtio: 90 thousand small reads and 2 GB a second.
    public static let common = DeviceModel(fixedMicroseconds: 11, microsecondsPerByte: 0.0005)

    /// The modelled time of one read.
    @inline(__always)
    public func microseconds(byteCount: Int) -> Float {
        fixedMicroseconds + microsecondsPerByte * Float(byteCount)
    }

    /// Fits the model to reads of an index's own segments: many random reads of one unit, then of large
    /// runs, 64 in flight; a fraction of a second.
    ///
    /// - Throws: `StorageError` from reading.
    public static func calibrate(on index: DiskIndex, seed: UInt64 = 1) throws -> DeviceModel {
        let unit = index.layout.unitByteCount
        let large = 64 * unit
        guard index.device.byteCount >= UInt64(4 * large) else { return .common }
        let small = try time(on: index.device, byteCount: unit, count: 4000, seed: seed)
        let big = try time(on: index.device, byteCount: large, count: 400, seed: seed &+ 1)
        let perByte = max(0, (big - small) / Float(large - unit))
        return DeviceModel(
            fixedMicroseconds: max(0.1, small - perByte * Float(unit)), microsecondsPerByte: perByte)
    }

    /// Mean microseconds a read of `byteCount` bytes at random places, 64 in flight.
    package static func time(on device: any BlockDevice, byteCount: Int, count: Int, seed: UInt64) throws
        -> Float
    {
        let depth = 64
        let pipeline = try ReadPipeline(
            device: device, depth: depth, arenaByteCount: depth * byteCount, order: .arrival)
        var random = SeededRandom(seed: seed)
        let places = Int(device.byteCount) / byteCount
        let extents = (0..<count).map { _ in
            Extent(offset: UInt64(random.below(places) * byteCount), byteCount: byteCount)
        }
        let start = monotonicNanoseconds()
        try pipeline.run(extents) { _, _ in }
        return Float(monotonicNanoseconds() - start) / 1000 / Float(count)
    }
}
