// Eigenvectors of small symmetric matrices, and the orthogonal matrix nearest to a given one. Written out here, for
// the library of matrix products may be missing and a build must give the same bytes without it. Householder's
// reduction to three diagonals, then implicit QL (Bowdler, Martin, Reinsch, Wilkinson 1968), in double precision.

import Glibc

/// The eigenvalues of a symmetric matrix, falling, and a unit eigenvector each.
package struct SymmetricEigen {
    let order: Int
    package let values: [Double]
    /// Row i belongs to value i.
    package let vectors: [Double]

    /// - Parameter matrix: `order` rows of as many numbers; the lower triangle is read.
    package init(_ matrix: [Double], order: Int) {
        precondition(order > 0 && matrix.count == order * order)
        var v = matrix
        var d = [Double](repeating: 0, count: order)
        var e = d
        v.withUnsafeMutableBufferPointer { v in
            d.withUnsafeMutableBufferPointer { d in
                e.withUnsafeMutableBufferPointer { e in
                    Self.tridiagonalise(v, d, e, order)
                    Self.diagonalise(v, d, e, order)
                }
            }
        }
        let ranks = (0..<order).sorted { d[$0] != d[$1] ? d[$0] > d[$1] : $0 < $1 }
        var rows = [Double](repeating: 0, count: order * order)
        for (row, column) in ranks.enumerated() {
            for k in 0..<order { rows[row * order + k] = v[k * order + column] }
        }
        self.order = order
        values = ranks.map { d[$0] }
        vectors = rows
    }

    private typealias Numbers = UnsafeMutableBufferPointer<Double>

    /// `v` becomes the product of the reflections, `d` the diagonal, `e` what lies below it.
    private static func tridiagonalise(_ v: Numbers, _ d: Numbers, _ e: Numbers, _ n: Int) {
        for j in 0..<n { d[j] = v[(n - 1) * n + j] }
        for i in stride(from: n - 1, to: 0, by: -1) {
            var (scale, h) = (0.0, 0.0)
            for k in 0..<i { scale += abs(d[k]) }
            if scale == 0 {
                e[i] = d[i - 1]
                for j in 0..<i {
                    d[j] = v[(i - 1) * n + j]
                    v[i * n + j] = 0
                    v[j * n + i] = 0
                }
            } else {
                for k in 0..<i {
                    d[k] /= scale
                    h += d[k] * d[k]
                }
                let f = d[i - 1]
                let g = f > 0 ? -h.squareRoot() : h.squareRoot()
                e[i] = scale * g
                h -= f * g
                d[i - 1] = f - g
                for j in 0..<i { e[j] = 0 }
                for j in 0..<i {
                    let f = d[j]
                    v[j * n + i] = f
                    var g = e[j] + v[j * n + j] * f
                    for k in j + 1..<max(i, j + 1) {
                        g += v[k * n + j] * d[k]
                        e[k] += v[k * n + j] * f
                    }
                    e[j] = g
                }
                var sum = 0.0
                for j in 0..<i {
                    e[j] /= h
                    sum += e[j] * d[j]
                }
                let share = sum / (h + h)
                for j in 0..<i { e[j] -= share * d[j] }
                for j in 0..<i {
                    let (f, g) = (d[j], e[j])
                    for k in j..<i { v[k * n + j] -= f * e[k] + g * d[k] }
                    d[j] = v[(i - 1) * n + j]
                    v[i * n + j] = 0
                }
            }
            d[i] = h
        }
        for i in 0..<n - 1 {
            v[(n - 1) * n + i] = v[i * n + i]
            v[i * n + i] = 1
            let h = d[i + 1]
            if h != 0 {
                for k in 0...i { d[k] = v[k * n + i + 1] / h }
                for j in 0...i {
                    var g = 0.0
                    for k in 0...i { g += v[k * n + i + 1] * v[k * n + j] }
                    for k in 0...i { v[k * n + j] -= g * d[k] }
                }
            }
            for k in 0...i { v[k * n + i + 1] = 0 }
        }
        for j in 0..<n {
            d[j] = v[(n - 1) * n + j]
            v[(n - 1) * n + j] = 0
        }
        v[n * n - 1] = 1
        e[0] = 0
    }

    private static func diagonalise(_ v: Numbers, _ d: Numbers, _ e: Numbers, _ n: Int) {
        for i in 1..<max(n, 1) { e[i - 1] = e[i] }
        e[n - 1] = 0
        var (f, greatest) = (0.0, 0.0)
        for l in 0..<n {
            greatest = max(greatest, abs(d[l]) + abs(e[l]))
            var m = l
            while m < n - 1, abs(e[m]) > 0x1p-52 * greatest { m += 1 }
            // Some thirty rounds a value at most are known; the bound is for numbers that are none.
            var rounds = 0
            while m > l, rounds < 200 {
                rounds += 1
                let before = d[l]
                var p = (d[l + 1] - before) / (2 * e[l])
                var r = hypot(p, 1)
                if p < 0 { r = -r }
                d[l] = e[l] / (p + r)
                d[l + 1] = e[l] * (p + r)
                let next = d[l + 1]
                let shift = before - d[l]
                for i in l + 2..<max(n, l + 2) { d[i] -= shift }
                f += shift
                p = d[m]
                var (c, c2, c3) = (1.0, 1.0, 1.0)
                let below = e[l + 1]
                var (s, s2) = (0.0, 0.0)
                for i in stride(from: m - 1, through: l, by: -1) {
                    c3 = c2
                    c2 = c
                    s2 = s
                    let g = c * e[i]
                    let h = c * p
                    r = hypot(p, e[i])
                    e[i + 1] = s * r
                    s = e[i] / r
                    c = p / r
                    p = c * d[i] - s * g
                    d[i + 1] = h + s * (c * g + s * d[i])
                    for k in 0..<n {
                        let right = v[k * n + i + 1]
                        v[k * n + i + 1] = s * v[k * n + i] + c * right
                        v[k * n + i] = c * v[k * n + i] - s * right
                    }
                }
                p = -s * s2 * c3 * below * e[l] / next
                e[l] = s * p
                d[l] = c * p
                if abs(e[l]) <= 0x1p-52 * greatest { break }
            }
            d[l] += f
            e[l] = 0
        }
    }
}

/// Square and orthogonal matrices of a few hundred rows, in double precision.
package enum OrthogonalMatrix {
    /// The orthogonal matrix that is nearest to a square one, which is what turns one set of rows best onto another
    /// (Schoenemann 1966): U V^T of the singular value decomposition. Directions in which the matrix is nothing are
    /// filled up with any that fit.
    package static func nearest(to matrix: [Double], order n: Int) -> [Double] {
        var square = [Double](repeating: 0, count: n * n)
        for k in 0..<n {
            for i in 0..<n {
                let left = matrix[k * n + i]
                for j in 0...i { square[i * n + j] += left * matrix[k * n + j] }
            }
        }
        let eigen = SymmetricEigen(square, order: n)
        let limit = 1e-14 * max(eigen.values[0], 0)
        // Row i: the left singular vector that belongs to the right one in row i of the eigenvectors.
        var lefts: [[Double]] = []
        var result = [Double](repeating: 0, count: n * n)
        var axis = 0
        for index in 0..<n {
            let right = eigen.vectors[index * n..<(index + 1) * n]
            var left = [Double](repeating: 0, count: n)
            if eigen.values[index] > limit {
                for k in 0..<n {
                    left[k] = zip(matrix[k * n..<(k + 1) * n], right).reduce(0) { $0 + $1.0 * $1.1 }
                }
            }
            while !orthonormalise(&left, against: lefts) {
                left = [Double](repeating: 0, count: n)
                left[axis % n] = 1
                axis += 1
            }
            let first = right.startIndex
            for row in 0..<n {
                for column in 0..<n { result[row * n + column] += left[row] * right[first + column] }
            }
            lefts.append(left)
        }
        return result
    }

    /// Takes from `vector` what lies along the others, twice for the digits' sake, and gives it length one; false where
    /// nothing is left.
    static func orthonormalise(_ vector: inout [Double], against others: [[Double]]) -> Bool {
        var length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        guard length > 0, length.isFinite else { return false }
        for index in vector.indices { vector[index] /= length }
        for _ in 0..<2 {
            for other in others {
                let along = zip(vector, other).reduce(0) { $0 + $1.0 * $1.1 }
                for index in vector.indices { vector[index] -= along * other[index] }
            }
        }
        length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        guard length > 1e-6 else { return false }
        for index in vector.indices { vector[index] /= length }
        return true
    }
}
