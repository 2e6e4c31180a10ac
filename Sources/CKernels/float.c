// Distances of floating element types, f32 and f16 (half precision is widened to single as it is loaded).
//
// A pair's sum runs over the dimension in a fixed number of lanes (16, or 8 in AVX2), then over the lanes
// in the order of the folds of kernels.h. Rows and blocks of a tier follow that one order and give the same
// bits; tiers differ among themselves in the last bits. l2 sums squares of differences, never the expansion
// into norms, whose cancellation would cost near neighbours their digits.
#include "kernels.h"
#include "half.h"

#define LANES 16

INLINE float element_at(sonde_element element, const char *row, size_t i) {
    if (element == SONDE_F32) {
        float value;
        __builtin_memcpy(&value, row + i * 4, 4);
        return value;
    }
    uint16_t bits;
    __builtin_memcpy(&bits, row + i * 2, 2);
    return sonde_half_to_float(bits);
}

/// Sums of squared differences, or of products, in independent lanes: what a compiler can turn into
/// whatever vectors the processor at hand has.
INLINE float sum_portable(int isDifference, sonde_element element, const char *a, const char *b,
                          size_t dimension) {
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= dimension; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            const float x = element_at(element, a, i + lane), y = element_at(element, b, i + lane);
            lanes[lane] += isDifference ? (x - y) * (x - y) : x * y;
        }
    }
    for (size_t lane = 0; i + lane < dimension; lane++) {
        const float x = element_at(element, a, i + lane), y = element_at(element, b, i + lane);
        lanes[lane] += isDifference ? (x - y) * (x - y) : x * y;
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
    }
    return lanes[0];
}

INLINE void rows_portable(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    const float qq = metric == SONDE_COSINE ? sum_portable(0, element, query, query, dimension) : 0;
    for (size_t i = 0; i < count; i++) {
        const char *row = (const char *)rows + i * stride;
        const float sum = sum_portable(metric == SONDE_L2, element, query, row, dimension);
        if (metric == SONDE_L2) out[i] = sum;
        if (metric == SONDE_IP) out[i] = 0 - sum;
        if (metric == SONDE_COSINE) {
            out[i] = sonde_cosine_distance(sum, qq, sum_portable(0, element, row, row, dimension));
        }
    }
}

/// A block of f16 as blocks of f32: both sides are widened once a stripe, not once a pair. Widening is
/// exact, so the bits are those of the rows function. Answers whether it was worth it and done.
static int block_widened(sonde_tier tier, sonde_metric metric, BLOCK_PARAMETERS) {
    enum { stripe = (64 << 10) / 4, tile = (32 << 10) / 4 };
    if (queries < 3 || dimension > 1024) return 0;
    float wideQueries[stripe], wideRows[tile];
    const size_t size = dimension * sizeof(float);
    const size_t queriesAtOnce = stripe / dimension, rowsAtOnce = tile / dimension;
    for (size_t q = 0; q < queries; q += queriesAtOnce) {
        const size_t m = sonde_min(queriesAtOnce, queries - q);
        for (size_t j = 0; j < m; j++) {
            sonde_to_f32(SONDE_F16, (const char *)query + (q + j) * query_stride, dimension,
                         wideQueries + j * dimension);
        }
        for (size_t i = 0; i < count; i += rowsAtOnce) {
            const size_t n = sonde_min(rowsAtOnce, count - i);
            for (size_t j = 0; j < n; j++) {
                sonde_to_f32(SONDE_F16, (const char *)rows + (i + j) * stride, dimension,
                             wideRows + j * dimension);
            }
            const sonde_block_function block = sonde_float_family[tier].block[metric][SONDE_F32];
            block(wideQueries, size, m, wideRows, size, n, dimension, out + q * out_stride + i, out_stride);
        }
    }
    return 1;
}

INLINE void block_portable(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    if (element == SONDE_F16 && block_widened(SONDE_SCALAR, metric, BLOCK_ARGUMENTS)) return;
    for (size_t q = 0; q < queries; q++) {
        rows_portable(metric, element, (const char *)query + q * query_stride, rows, stride, count, dimension,
                      out + q * out_stride);
    }
}

SONDE_ENTRIES(, portable, SONDE_F32, SONDE_F16)

#if defined(__x86_64__)

// AVX2: eight lanes; tiles of 2 queries x 4 rows, whose 8 sums leave room in 16 registers.

/// Eight numbers from number `i` on, zeros after the end of the row.
AVX2 INLINE __m256 load_256(sonde_element element, const char *row, size_t i, size_t dimension) {
    const size_t left = dimension - i;
    if (element == SONDE_F32) {
        const float *from = (const float *)row + i;
        if (left >= 8) return _mm256_loadu_ps(from);
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)left), lane));
    }
    if (left >= 8) return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + i * 2)));
    return _mm256_cvtph_ps(load_tail_128(row + dimension * 2, left * 2, dimension >= 8));
}

AVX2 INLINE __m256 add_256(int isDifference, __m256 sum, __m256 q, __m256 x) {
    if (!isDifference) return _mm256_fmadd_ps(q, x, sum);
    const __m256 difference = _mm256_sub_ps(q, x);
    return _mm256_fmadd_ps(difference, difference, sum);
}

/// Squared lengths of four rows.
AVX2 INLINE __m128 squares_256(sonde_element element, const char *const row[4], size_t dimension) {
    __m256 sum[4] = {};
    for (size_t i = 0; i < dimension; i += 8) {
        for (int r = 0; r < 4; r++) {
            const __m256 x = load_256(element, row[r], i, dimension);
            sum[r] = _mm256_fmadd_ps(x, x, sum[r]);
        }
    }
    return fold4_256(sum);
}

AVX2 INLINE __m128 finish_128(sonde_metric metric, __m128 sum, __m128 qq, __m128 xx) {
    if (metric == SONDE_L2) return sum;
    if (metric == SONDE_IP) return _mm_sub_ps(_mm_setzero_ps(), sum);
    return cosine_128(sum, qq, xx);
}

/// A tile of `width` (1 or 2) queries against four rows.
AVX2 INLINE void tile_256(sonde_metric metric, sonde_element element, int width, const char *const query[2],
                          const char *const row[4], size_t dimension, __m128 distance[2]) {
    __m256 sum[2][4] = {};
    size_t i = 0;
    const size_t whole = dimension & ~(size_t)7;
    for (; i < whole; i += 8) {
        __m256 q[2];
        for (int j = 0; j < width; j++) q[j] = load_256(element, query[j], i, whole);
        if (width == 1) prefetch_lines(row[0] + i * 4 * (element == SONDE_F32 ? 4 : 2),
                                       element == SONDE_F32 ? 2 : 1);
        for (int r = 0; r < 4; r++) {
            const __m256 x = load_256(element, row[r], i, whole);
            for (int j = 0; j < width; j++) sum[j][r] = add_256(metric == SONDE_L2, sum[j][r], q[j], x);
        }
    }
    if (i < dimension) {
        for (int r = 0; r < 4; r++) {
            const __m256 x = load_256(element, row[r], i, dimension);
            for (int j = 0; j < width; j++) {
                const __m256 q = load_256(element, query[j], i, dimension);
                sum[j][r] = add_256(metric == SONDE_L2, sum[j][r], q, x);
            }
        }
    }
    for (int j = 0; j < width; j++) distance[j] = fold4_256(sum[j]);
}

/// Queries `query[0..<width]` against all rows. The squared lengths of the rows are summed here once for
/// both queries.
AVX2 INLINE void strip_256(sonde_metric metric, sonde_element element, int width, const char *const query[2],
                           const void *rows, size_t stride, size_t count, size_t dimension,
                           float *const out[2]) {
    __m128 qq[2] = {};
    for (int j = 0; j < width && metric == SONDE_COSINE; j++) {
        const char *const same[4] = {query[j], query[j], query[j], query[j]};
        qq[j] = squares_256(element, same, dimension);
    }
    for (size_t i = 0; i < count; i += 4) {
        const char *row[4];
        for (size_t r = 0; r < 4; r++) row[r] = sonde_row(rows, stride, i + r, count);
        __m128 sum[2];
        tile_256(metric, element, width, query, row, dimension, sum);
        const __m128 xx = metric == SONDE_COSINE ? squares_256(element, row, dimension) : _mm_setzero_ps();
        for (int j = 0; j < width; j++) {
            store_up_to_4(out[j] + i, finish_128(metric, sum[j], qq[j], xx), count - i);
        }
    }
}

AVX2 INLINE void rows_avx2(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    const char *const one[2] = {query, query};
    float *const to[2] = {out, out};
    strip_256(metric, element, 1, one, rows, stride, count, dimension, to);
}

AVX2 INLINE void block_avx2(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    if (element == SONDE_F16 && block_widened(SONDE_AVX2, metric, BLOCK_ARGUMENTS)) return;
    // Rows in tiles that stay in the first-level cache while all queries pass over them.
    const size_t tile = 16;
    for (size_t i = 0; i < count; i += tile) {
        const size_t n = sonde_min(tile, count - i);
        const char *from = (const char *)rows + i * stride;
        for (size_t q = 0; q < queries; q += 2) {
            // An odd last query is computed beside itself, and written twice.
            const size_t other = q + 1 < queries ? q + 1 : q;
            const char *const pair[2] = {(const char *)query + q * query_stride,
                                         (const char *)query + other * query_stride};
            float *const to[2] = {out + q * out_stride + i, out + other * out_stride + i};
            strip_256(metric, element, 2, pair, from, stride, n, dimension, to);
        }
    }
}

SONDE_ENTRIES(AVX2, avx2, SONDE_F32, SONDE_F16)

// AVX-512: sixteen lanes; 1xN takes four rows at a time, MxN tiles of 4 queries x 4 rows (16 sums).

/// Sixteen numbers from number `i` on; those outside the mask are zero and not touched.
AVX512 INLINE __m512 load_512(sonde_element element, const char *row, size_t i, __mmask16 mask) {
    if (element == SONDE_F32) return _mm512_maskz_loadu_ps(mask, (const float *)row + i);
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)row + i));
}

AVX512 INLINE __m512 add_512(int isDifference, __m512 sum, __m512 q, __m512 x) {
    if (!isDifference) return _mm512_fmadd_ps(q, x, sum);
    const __m512 difference = _mm512_sub_ps(q, x);
    return _mm512_fmadd_ps(difference, difference, sum);
}

AVX512 INLINE __m512 finish_512(sonde_metric metric, __m512 sum, __m512 qq, __m512 xx) {
    if (metric == SONDE_L2) return sum;
    if (metric == SONDE_IP) return _mm512_sub_ps(_mm512_setzero_ps(), sum);
    return cosine_512(sum, qq, xx);
}

/// One step of a query against four rows; for cosine also of the rows' squared lengths.
AVX512 INLINE void step_512(sonde_metric metric, sonde_element element, const char *query,
                            const char *const row[4],
                            size_t i, __mmask16 mask, __m512 sum[4], __m512 square[4]) {
    const __m512 q = load_512(element, query, i, mask);
    for (int r = 0; r < 4; r++) {
        const __m512 x = load_512(element, row[r], i, mask);
        sum[r] = add_512(metric == SONDE_L2, sum[r], q, x);
        if (metric == SONDE_COSINE) square[r] = _mm512_fmadd_ps(x, x, square[r]);
    }
}

/// A query against up to sixteen rows: the sums, and for cosine the squared lengths of the rows.
AVX512 INLINE void sixteen_512(sonde_metric metric, sonde_element element, const char *query,
                               const void *rows,
                               size_t stride, size_t count, size_t dimension, __m512 *sums, __m512 *squares) {
    const size_t size = element == SONDE_F32 ? 4 : 2;
    const size_t whole = dimension & ~(size_t)15;
    __m512 folded[4] = {}, foldedSquares[4] = {};
    for (size_t group = 0; group * 4 < count; group++) {
        const char *row[4];
        for (size_t r = 0; r < 4; r++) row[r] = sonde_row(rows, stride, group * 4 + r, count);
        __m512 sum[4] = {}, square[4] = {};
        // Unrolled, rows of 128 f32 run from DRAM at 0.98 of a plain read; rolled, at 0.80.
#pragma unroll(4)
        for (size_t i = 0; i < whole; i += 16) {
            prefetch_lines(row[0] + i * 4 * size, (int)size);
            step_512(metric, element, query, row, i, 0xffff, sum, square);
        }
        if (whole < dimension) {
            step_512(metric, element, query, row, whole, mask16(dimension - whole), sum, square);
        }
        folded[group] = fold4_512(sum);
        if (metric == SONDE_COSINE) foldedSquares[group] = fold4_512(square);
    }
    *sums = fold16_512(folded);
    if (metric == SONDE_COSINE) *squares = fold16_512(foldedSquares);
}

/// The squared length of one vector, in every lane and in the order of all other sums.
AVX512 INLINE __m512 square_512(sonde_element element, const void *vector, size_t dimension) {
    __m512 sums, unused;
    sixteen_512(SONDE_IP, element, vector, vector, 0, 1, dimension, &sums, &unused);
    return _mm512_broadcastss_ps(_mm512_castps512_ps128(sums));
}

AVX512 INLINE void rows_avx512(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    const __m512 qq = metric == SONDE_COSINE ? square_512(element, query, dimension) : _mm512_setzero_ps();
    for (size_t i = 0; i < count; i += 16) {
        __m512 sums, squares = _mm512_setzero_ps();
        sixteen_512(metric, element, query, (const char *)rows + i * stride, stride, sonde_min(16, count - i),
                    dimension, &sums, &squares);
        _mm512_mask_storeu_ps(out + i, mask16(count - i), finish_512(metric, sums, qq, squares));
    }
}

AVX512 INLINE void tile_step_512(int isDifference, sonde_element element, const char *const query[4],
                                 const char *const row[4], size_t i, __mmask16 mask, __m512 sum[4][4]) {
    __m512 x[4];
    for (int r = 0; r < 4; r++) x[r] = load_512(element, row[r], i, mask);
    for (int j = 0; j < 4; j++) {
        const __m512 q = load_512(element, query[j], i, mask);
        for (int r = 0; r < 4; r++) sum[j][r] = add_512(isDifference, sum[j][r], q, x[r]);
    }
}

/// The sums of four queries against four rows: query j in the 128-bit lane j.
AVX512 INLINE __m512 tile_512(int isDifference, sonde_element element, const char *const query[4],
                              const char *const row[4], size_t dimension) {
    const size_t whole = dimension & ~(size_t)15;
    __m512 sum[4][4] = {};
    for (size_t i = 0; i < whole; i += 16) tile_step_512(isDifference, element, query, row, i, 0xffff, sum);
    if (whole < dimension) {
        tile_step_512(isDifference, element, query, row, whole, mask16(dimension - whole), sum);
    }
    __m512 folded[4];
    for (int j = 0; j < 4; j++) folded[j] = fold4_512(sum[j]);
    return fold16_512(folded);
}

AVX512 INLINE void block_avx512(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    if (element == SONDE_F16 && block_widened(SONDE_AVX512, metric, BLOCK_ARGUMENTS)) return;
    // Sixteen rows stay in the first-level cache while a stripe of queries passes over them; a stripe's
    // squared lengths lie on the stack.
    enum { stripe = 256 };
    for (size_t first = 0; first < queries; first += stripe) {
        const size_t width = sonde_min(stripe, queries - first);
        const char *from = (const char *)query + first * query_stride;
        float lengths[stripe + 4] = {0};
        for (size_t q = 0; q < width && metric == SONDE_COSINE; q++) {
            lengths[q] = _mm512_cvtss_f32(square_512(element, from + q * query_stride, dimension));
        }
        for (size_t i = 0; i < count; i += 16) {
            const size_t height = sonde_min(16, count - i);
            const char *tile = (const char *)rows + i * stride;
            float squares[16] = {0};
            for (size_t r = 0; r < height && metric == SONDE_COSINE; r++) {
                squares[r] = _mm512_cvtss_f32(square_512(element, tile + r * stride, dimension));
            }
            for (size_t q = 0; q < width; q += 4) {
                const char *four[4];
                for (size_t j = 0; j < 4; j++) four[j] = sonde_row(from, query_stride, q + j, width);
                const __m512 qq = _mm512_permutexvar_ps(
                    _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                    _mm512_castps128_ps512(_mm_loadu_ps(lengths + q)));
                for (size_t r = 0; r < height; r += 4) {
                    const char *row[4];
                    for (size_t j = 0; j < 4; j++) row[j] = sonde_row(tile, stride, r + j, height);
                    const __m512 xx = _mm512_broadcast_f32x4(_mm_loadu_ps(squares + r));
                    const __m512 sum = tile_512(metric == SONDE_L2, element, four, row, dimension);
                    const __m512 distance = finish_512(metric, sum, qq, xx);
                    float *to = out + (first + q) * out_stride + i + r;
                    const size_t n = height - r, m = width - q;
                    const __mmask8 some = (__mmask8)(mask16(n) & 15);
                    const __m128 lane[4] = {
                        _mm512_extractf32x4_ps(distance, 0), _mm512_extractf32x4_ps(distance, 1),
                        _mm512_extractf32x4_ps(distance, 2), _mm512_extractf32x4_ps(distance, 3)};
                    for (size_t j = 0; j < 4 && j < m; j++) {
                        _mm_mask_storeu_ps(to + j * out_stride, some, lane[j]);
                    }
                }
            }
        }
    }
}

SONDE_ENTRIES(AVX512, avx512, SONDE_F32, SONDE_F16)

const sonde_family sonde_float_family[SONDE_TIERS] = {
    SONDE_FAMILY(portable),
    SONDE_FAMILY(avx2),
    SONDE_FAMILY(avx512),
};
#else
const sonde_family sonde_float_family[SONDE_TIERS] = {SONDE_FAMILY(portable), SONDE_FAMILY(portable),
                                                      SONDE_FAMILY(portable)};
#endif
