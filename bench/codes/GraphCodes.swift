// Codes of a graph's vertices, less the mean of all, and distances to a query by table bytes alone.

import Router
import Vectors

struct GraphCodes: Sendable {
    let quantiser: ProductQuantiser
    /// By vertex; beside each |r|^2, r what the code stands for, and the squared loss.
    let codes: [UInt8]
    let squares: [Float]
    let losses: [Float]
    let mean: [Float]

    /// - Parameter rows: the base less its mean, f32.
    init(_ quantiser: ProductQuantiser, rows: VectorMatrix, mean: [Float]) {
        self.quantiser = quantiser
        self.mean = mean
        let encoder = quantiser.encoder
        let size = quantiser.codeByteCount
        codes = encoder.encode(rows)
        var (squares, losses) = ([Float](), [Float]())
        var decoded = [Float](repeating: 0, count: rows.dimension)
        for row in 0..<rows.count {
            encoder.decode(codes[row * size..<(row + 1) * size], into: &decoded)
            var (square, loss) = (Float(0), Float(0))
            for column in 0..<rows.dimension {
                let off = rows.floatRow(row)[column] - decoded[column]
                square += decoded[column] * decoded[column]
                loss += off * off
            }
            squares.append(square)
            losses.append(loss)
        }
        (self.squares, self.losses) = (squares, losses)
    }

    /// Squared distances less |q - mean|^2 of one query to all that are asked for.
    struct Query: ~Copyable {
        private var tables: ProductQuantiser.Tables
        private var centred: [Float]

        init(_ codes: borrowing GraphCodes) {
            tables = ProductQuantiser.Tables(codes.quantiser)
            centred = codes.mean
        }

        mutating func fill(_ codes: GraphCodes, _ query: UnsafePointer<Float>) {
            for column in centred.indices { centred[column] = query[column] - codes.mean[column] }
            tables.fill(codes.quantiser, query: centred)
        }

        /// - Parameter errorWeight: what the lost squared distance counts for.
        func distance(_ codes: GraphCodes, _ vertex: UInt32, errorWeight: Float) -> Float {
            let size = codes.quantiser.codeByteCount
            var sum = 0
            codes.codes.withUnsafeBufferPointer { all in
                let code = all.baseAddress! + Int(vertex) * size
                for space in 0..<size { sum += Int(tables.bytes[space << 8 | Int(code[space])]) }
            }
            return codes.squares[Int(vertex)] + errorWeight * codes.losses[Int(vertex)]
                - 2 * (tables.offset + tables.step * Float(sum))
        }
    }
}
