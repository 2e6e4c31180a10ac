// What a vector is made of. The one vocabulary that Storage (files) and Router (geometry) share, so that
// neither has to know the other.

/// The type of one number of a vector. Raw values are those of the on-disk formats and of CKernels.
public enum ElementType: UInt8, Sendable, CaseIterable, Codable {
    case f32 = 0
    case f16 = 1
    case u8 = 2
    case i8 = 3

    /// Bytes of one number.
    public var byteCount: Int {
        switch self {
        case .f32: 4
        case .f16: 2
        case .u8, .i8: 1
        }
    }

    /// The name used in the command line, in manifests and in messages: "f32", "f16", "u8", "i8".
    public var name: String {
        switch self {
        case .f32: "f32"
        case .f16: "f16"
        case .u8: "u8"
        case .i8: "i8"
        }
    }

    /// The element type of that name, or nil.
    public init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    public var isFloatingPoint: Bool { self == .f32 || self == .f16 }
}

/// How far two vectors are from each other; smaller is nearer for all three.
public enum Metric: UInt8, Sendable, CaseIterable, Codable {
    /// Squared euclidean distance.
    case l2 = 0
    /// Negative inner product.
    case ip = 1
    /// 1 - cosine of the angle.
    case cosine = 2

    public var name: String {
        switch self {
        case .l2: "l2"
        case .ip: "ip"
        case .cosine: "cosine"
        }
    }

    /// The metric of that name, or nil.
    public init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    /// Whether partitions are made of directions (unit vectors) instead of positions.
    public var isSpherical: Bool { self != .l2 }
}

/// What vectors must have in common to be compared.
public struct VectorKind: Sendable, Hashable {
    public var dimension: Int
    public var elementType: ElementType

    public init(dimension: Int, elementType: ElementType) {
        self.dimension = dimension
        self.elementType = elementType
    }
}
