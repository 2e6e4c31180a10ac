// Cosine distances of vectors that are nearly parallel. 1 - dot / length in single precision keeps seven
// digits of the one, so that below 1e-6 nothing of the distance is left. The kernels compute it so for the
// mass of records, and what comes out near is computed here again: half the squared difference of the unit
// vectors, in double precision. Copies are at 0, and two f32 vectors that differ at all are not.
#include "kernels.h"

/// Numbers widened at a time, and the lanes of each sum.
enum { chunk = 256, lanes = 8 };

/// Squared lengths of both vectors.
INLINE void lengths_of(const float *q, const float *x, size_t count, double *qq, double *xx) {
    for (size_t i = 0; i < count; i += lanes) {
        for (size_t lane = 0; lane < lanes; lane++) {
            qq[lane] += (double)q[i + lane] * q[i + lane];
            xx[lane] += (double)x[i + lane] * x[i + lane];
        }
    }
}

/// The sum of (q - scale x)^2.
INLINE void difference_of(const float *q, const float *x, double scale, size_t count, double *sum) {
    for (size_t i = 0; i < count; i += lanes) {
        for (size_t lane = 0; lane < lanes; lane++) {
            const double difference = q[i + lane] - scale * x[i + lane];
            sum[lane] += difference * difference;
        }
    }
}

INLINE double fold(const double *sum) {
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/// Numbers `i` on of a vector as floats, with zeros up to a whole number of lanes; returns how many.
INLINE size_t widen(sonde_element element, const char *from, size_t i, size_t dimension, float *to) {
    const size_t count = sonde_min(chunk, dimension - i), size = element == SONDE_F32 ? 4 : element == SONDE_F16 ? 2 : 1;
    sonde_to_f32(element, from + i * size, count, to);
    const size_t whole = (count + lanes - 1) / lanes * lanes;
    for (size_t k = count; k < whole; k++) to[k] = 0;
    return whole;
}

/// Half the squared difference of the unit vectors: |q - (|q| / |x|) x|^2 / (2 |q|^2).
INLINE float near_distance(sonde_element element, const char *query, const char *row, size_t dimension) {
    float q[chunk], x[chunk];
    double qq[lanes] = {0}, xx[lanes] = {0}, sum[lanes] = {0};
    for (size_t i = 0; i < dimension; i += chunk) {
        widen(element, row, i, dimension, x);
        lengths_of(q, x, widen(element, query, i, dimension, q), qq, xx);
    }
    const double squared = fold(qq), scale = __builtin_sqrt(squared / fold(xx));
    for (size_t i = 0; i < dimension; i += chunk) {
        if (dimension > chunk) widen(element, row, i, dimension, x);
        const size_t count = dimension > chunk ? widen(element, query, i, dimension, q)
                                               : (dimension + lanes - 1) / lanes * lanes;
        difference_of(q, x, scale, count, sum);
    }
    const double distance = fold(sum) / (2 * squared);
    // What rounding leaves of a copy of another length.
    return distance < 1e-30 ? 0 : (float)distance;
}

static float near_distance_portable(sonde_element element, const char *query, const char *row,
                                    size_t dimension) {
    return near_distance(element, query, row, dimension);
}

#if defined(__x86_64__)
AVX2 static float near_distance_avx2(sonde_element element, const char *query, const char *row,
                                     size_t dimension) {
    return near_distance(element, query, row, dimension);
}
#endif

void sonde_cosine_near(sonde_element element, ROWS_PARAMETERS) {
    // Distances are looked through by groups, so that a group without a near one costs one branch.
    enum { group = 16 };
    for (size_t first = 0; first < count; first += group) {
        const size_t n = sonde_min(group, count - first);
        int any = 0;
        for (size_t i = 0; i < n; i++) any |= out[first + i] < SONDE_NEAR;
        if (!any) continue;
        for (size_t i = first; i < first + n; i++) {
            if (!(out[i] < SONDE_NEAR)) continue;
            const char *row = (const char *)rows + i * stride;
#if defined(__x86_64__)
            if (sonde_tier_now() >= SONDE_AVX2) {
                out[i] = near_distance_avx2(element, query, row, dimension);
                continue;
            }
#endif
            out[i] = near_distance_portable(element, query, row, dimension);
        }
    }
}

void sonde_cosine_near_block(sonde_element element, BLOCK_PARAMETERS) {
    for (size_t q = 0; q < queries; q++) {
        sonde_cosine_near(element, (const char *)query + q * query_stride, rows, stride, count, dimension,
                          out + q * out_stride);
    }
}
