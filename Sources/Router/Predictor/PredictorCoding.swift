// A predictor as bytes. Section "predict": format u32 (1; 2 where prototypes are codes), base u8, element type
// of prototypes u8, flags u16 (1: prototypes, 2: network, 4: prototypes are codes, 8: refinement), candidates u32, beta f32,
// inverse temperature f32. Section "proto": partitions u64, prototypes u64, dimension u32, starts u32, then of
// rows: centers, weights f32, betas f32; of codes: beta f32, mean f32, quantiser (ProductQuantiser), codes by
// partition and sub-space, weights f16 with what beta and the code add to them. Section
// "network": layers u32, widths u32, scale f32, mean f32, then weights and biases f32 of each layer. Little
// endian. The centroids that name candidates are CentroidIndex's own sections.

import Vectors

extension Predictor {
    public static let section = "predict"
    static let prototypeSection = "proto"
    static let networkSection = "network"
    private static let format: UInt32 = 1
    private static let formatOfCodes: UInt32 = 2
    private static let bases: [PredictorForm.Base] = [.none, .distance, .prototypes]

    /// The sections that hold this predictor and its centroids.
    public func encode() -> [(tag: String, bytes: [UInt8])] {
        var writer = SectionWriter()
        let isCoded = prototypes?.codeByteCount != nil
        var prototypeType = ElementType.f32
        if case .rows(let rows)? = prototypes?.kept { prototypeType = rows.centers.elementType }
        writer.append(isCoded ? Self.formatOfCodes : Self.format)
        writer.append(UInt8(Self.bases.firstIndex(of: base) ?? 0))
        writer.append(prototypeType.rawValue)
        writer.append(
            UInt16(
                (prototypes == nil ? 0 : 1) + (network == nil ? 0 : 2) + (isCoded ? 4 : 0)
                    + (refinement == nil ? 0 : 8)))
        writer.append(UInt32(candidateCount))
        writer.append(beta)
        writer.append(inverseTemperature)
        var sections = centroids.encode()
        sections.append((Self.section, writer.bytes))
        if let prototypes {
            var writer = SectionWriter()
            prototypes.encode(into: &writer, dimension: centroids.dimension)
            sections.append((Self.prototypeSection, writer.bytes))
        }
        if let network {
            var writer = SectionWriter()
            network.encode(into: &writer)
            sections.append((Self.networkSection, writer.bytes))
        }
        if let refinement { sections.append(refinement.encode()) }
        return sections
    }

    /// The predictor that `sections` hold over `centroids`, or nil where they hold none.
    public static func decode(
        _ sections: any SectionSource, centroids: CentroidIndex
    ) throws(RouterError) -> Predictor? {
        guard sections.byteCount(ofSection: section) != nil else { return nil }
        var reader = try SectionReader(section, in: sections)
        let format = try reader.integer(UInt32.self)
        guard format == Self.format || format == Self.formatOfCodes else {
            throw reader.failure(
                "format \(format), this program reads \(Self.format) and \(Self.formatOfCodes)")
        }
        let baseNumber = Int(try reader.integer(UInt8.self))
        let typeNumber = try reader.integer(UInt8.self)
        let flags = try reader.integer(UInt16.self)
        let candidates = Int(try reader.integer(UInt32.self))
        let beta = try reader.float()
        let inverseTemperature = try reader.float()
        guard baseNumber < bases.count, let type = ElementType(rawValue: typeNumber), candidates > 0,
            beta.isFinite, inverseTemperature.isFinite, inverseTemperature > 0,
            bases[baseNumber] != .prototypes || flags & 1 == 1, flags < 16,
            (flags & 4 == 4) == (format == formatOfCodes)
        else { throw reader.failure("numbers that no predictor has") }
        let prototypes =
            flags & 1 == 1
            ? try decodePrototypes(sections, type: flags & 4 == 4 ? nil : type, centroids: centroids) : nil
        let network = flags & 2 == 2 ? try decodeNetwork(sections, centroids: centroids) : nil
        try reader.finish()
        return Predictor(
            centroids: centroids, base: bases[baseNumber], beta: beta, prototypes: prototypes,
            network: network,
            inverseTemperature: inverseTemperature, candidateCount: candidates,
            refinement: flags & 8 == 8
                ? try CandidateRefinement(decoding: sections, partitionCount: centroids.partitionCount) : nil)
    }

    private static func decodePrototypes(
        _ sections: any SectionSource, type: ElementType?, centroids: CentroidIndex
    ) throws(RouterError) -> PrototypeMixture {
        var reader = try SectionReader(prototypeSection, in: sections)
        let partitions = Int(try reader.count(bytesEach: 4))
        let count = Int(try reader.count(bytesEach: 1))
        let dimension = Int(try reader.integer(UInt32.self))
        guard partitions == centroids.partitionCount, dimension == centroids.dimension else {
            throw reader.failure(
                "\(partitions) partitions of \(dimension) dimensions, not those of the centroids")
        }
        let starts = try reader.numbers(partitions + 1)
        guard starts[0] == 0, Int(starts[partitions]) == count,
            zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 })
        else { throw reader.failure("starts that do not rise to \(count)") }
        guard let type else {
            let codes = try PrototypeCodes.decode(from: &reader, count: count, dimension: dimension)
            try reader.finish()
            return PrototypeMixture(starts: starts, kept: .codes(codes))
        }
        let centers = try reader.matrix(count: count, dimension: dimension, elementType: type)
        let weights = try reader.floats(count)
        let betas = try reader.floats(count)
        guard weights.allSatisfy(\.isFinite), betas.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
            throw reader.failure("weights or betas that are no numbers")
        }
        try reader.finish()
        return PrototypeMixture(starts: starts, centers: centers, weights: weights, betas: betas)
    }

    private static func decodeNetwork(
        _ sections: any SectionSource, centroids: CentroidIndex
    ) throws(RouterError) -> NetworkInference {
        var reader = try SectionReader(networkSection, in: sections)
        let network = try NetworkInference.decode(
            from: &reader, inputs: centroids.dimension, outputs: centroids.partitionCount)
        try reader.finish()
        return network
    }
}

extension NetworkInference {
    func encode(into writer: inout SectionWriter) {
        writer.append(UInt32(widths.count))
        for width in widths { writer.append(UInt32(width)) }
        writer.append(scale)
        for value in mean { writer.append(value) }
        for (weights, biases) in zip(weights, biases) {
            writer.append(weights)
            for bias in biases { writer.append(bias) }
        }
    }

    /// A network of so many inputs and outputs; nil: any number of outputs.
    static func decode(from reader: inout SectionReader, inputs: Int, outputs: Int?) throws(RouterError)
        -> NetworkInference
    {
        let layers = Int(try reader.integer(UInt32.self))
        guard layers >= 2, layers <= 16 else { throw reader.failure("\(layers) layers") }
        let widths = try reader.numbers(layers).map { Int($0) }
        guard widths[0] == inputs, widths[layers - 1] == outputs ?? widths[layers - 1],
            widths.allSatisfy({ $0 > 0 && $0 <= 1 << 24 })
        else { throw reader.failure("widths \(widths), not from \(inputs) to \(outputs ?? 0)") }
        let scale = try reader.float()
        let mean = try reader.floats(widths[0])
        var weights: [VectorMatrix] = []
        var biases: [[Float]] = []
        for index in 0..<layers - 1 {
            weights.append(
                try reader.matrix(count: widths[index + 1], dimension: widths[index], elementType: .f32))
            biases.append(try reader.floats(widths[index + 1]))
        }
        return NetworkInference(widths: widths, mean: mean, scale: scale, weights: weights, biases: biases)
    }
}

extension PrototypeMixture {
    func encode(into writer: inout SectionWriter, dimension: Int) {
        writer.append(UInt64(partitionCount))
        writer.append(UInt64(count))
        writer.append(UInt32(dimension))
        writer.append(starts)
        switch kept {
        case .rows(let rows):
            writer.append(rows.centers)
            for weight in rows.weights { writer.append(weight) }
            for beta in rows.betas { writer.append(beta) }
        case .codes(let codes):
            writer.append(codes.beta)
            for value in codes.mean { writer.append(value) }
            codes.quantiser.encode(into: &writer)
            writer.append(codes.codes)
            for weight in codes.weights { writer.append(weight) }
        }
    }
}

extension PrototypeCodes {
    static func decode(from reader: inout SectionReader, count: Int, dimension: Int) throws(RouterError)
        -> PrototypeCodes
    {
        let beta = try reader.float()
        let mean = try reader.floats(dimension)
        let quantiser = try ProductQuantiser.decode(from: &reader)
        guard beta.isFinite, beta >= 0, mean.allSatisfy(\.isFinite), quantiser.dimension == dimension else {
            throw reader.failure("a beta, a mean or a dimension that no codes have")
        }
        let codes = try reader.bytes(count: count, each: quantiser.codeByteCount)
        let weights = try reader.halves(count)
        guard weights.allSatisfy({ $0 & 0x7c00 != 0x7c00 }) else {
            throw reader.failure("weights that are no numbers")
        }
        return PrototypeCodes(quantiser: quantiser, mean: mean, beta: beta, codes: codes, weights: weights)
    }
}
