// Distances of u8 and i8: the portable and the AVX2 kernels, and the table of all tiers.
#include "bytes.h"

INLINE int32_t byte_at(sonde_element element, const void *row, size_t i) {
    return element == SONDE_U8 ? ((const uint8_t *)row)[i] : ((const int8_t *)row)[i];
}

/// The sum of squared differences, or of products, of at most SONDE_NARROW_DIMENSION numbers.
INLINE int32_t sum_portable(int isDifference, sonde_element element, const void *a, const void *b,
                            size_t dimension) {
    int32_t sum = 0;
    for (size_t i = 0; i < dimension; i++) {
        const int32_t x = byte_at(element, a, i), y = byte_at(element, b, i);
        sum += isDifference ? (x - y) * (x - y) : x * y;
    }
    return sum;
}

/// The same for any dimension.
INLINE int64_t sum_wide(int isDifference, sonde_element element, const char *a, const char *b,
                        size_t dimension) {
    int64_t sum = 0;
    for (size_t i = 0; i < dimension; i += SONDE_NARROW_DIMENSION) {
        sum += sum_portable(isDifference, element, a + i, b + i,
                            sonde_min(SONDE_NARROW_DIMENSION, dimension - i));
    }
    return sum;
}

INLINE void rows_portable(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    const int64_t qq = metric == SONDE_COSINE ? sum_wide(0, element, query, query, dimension) : 0;
    for (size_t i = 0; i < count; i++) {
        const char *row = (const char *)rows + i * stride;
        const int64_t xx = metric == SONDE_COSINE ? sum_wide(0, element, row, row, dimension) : 0;
        const int64_t sum = sum_wide(metric == SONDE_L2, element, query, row, dimension);
        out[i] = sonde_bytes_distance(metric, sum, qq, xx);
    }
}

void sonde_bytes_wide_rows(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    rows_portable(metric, element, ROWS_ARGUMENTS);
}

int64_t sonde_bytes_exact(sonde_metric metric, sonde_element element, const void *a, const void *b,
                          size_t dimension) {
    const int64_t sum = sum_wide(metric == SONDE_L2, element, a, b, dimension);
    return metric == SONDE_L2 ? sum : -sum;
}

INLINE void block_portable(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    for (size_t q = 0; q < queries; q++) {
        rows_portable(metric, element, (const char *)query + q * query_stride, rows, stride, count, dimension,
                      out + q * out_stride);
    }
}

SONDE_ENTRIES(, portable, SONDE_U8, SONDE_I8)

#if defined(__x86_64__)

// AVX2: sixteen numbers widened to 16 bits, multiplied and added in pairs (maddubs would saturate); blocks of few
// queries, or of very long rows, in tiles of 2 queries x 4 rows, all others by panels (bytes_panels.c). 16-bit differences of bytes square to less than 2^17, pairs of them fit easily.

/// Sixteen numbers from number `i` on, zeros after the end of the row.
AVX2 INLINE __m256i load_256(sonde_element element, const char *row, size_t i, size_t dimension) {
    const size_t left = dimension - i;
    const __m128i bytes = left >= 16 ? _mm_loadu_si128((const __m128i *)(row + i))
                                     : load_tail_128(row + dimension, left, dimension >= 16);
    return element == SONDE_U8 ? _mm256_cvtepu8_epi16(bytes) : _mm256_cvtepi8_epi16(bytes);
}

AVX2 INLINE __m256i add_256(int isDifference, __m256i sum, __m256i q, __m256i x) {
    const __m256i a = isDifference ? _mm256_sub_epi16(q, x) : q, b = isDifference ? a : x;
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/// Squared lengths of four rows.
AVX2 INLINE __m128i squares_256(sonde_element element, const char *const row[4], size_t dimension) {
    __m256i sum[4] = {};
    for (size_t i = 0; i < dimension; i += 16) {
        for (int r = 0; r < 4; r++) {
            const __m256i x = load_256(element, row[r], i, dimension);
            sum[r] = add_256(0, sum[r], x, x);
        }
    }
    return fold4_256i(sum);
}

AVX2 INLINE __m128 finish_128(sonde_metric metric, __m128i sum, __m128i qq, __m128i xx) {
    if (metric == SONDE_L2) return _mm_cvtepi32_ps(sum);
    if (metric == SONDE_IP) return _mm_cvtepi32_ps(_mm_sub_epi32(_mm_setzero_si128(), sum));
    return cosine_128(_mm_cvtepi32_ps(sum), _mm_cvtepi32_ps(qq), _mm_cvtepi32_ps(xx));
}

/// A tile of `width` (1 or 2) queries against four rows.
AVX2 INLINE void tile_256(sonde_metric metric, sonde_element element, int width, const char *const query[2],
                          const char *const row[4], size_t dimension, __m128i sums[2]) {
    __m256i sum[2][4] = {};
    size_t i = 0;
    const size_t whole = dimension & ~(size_t)15;
    for (; i < whole; i += 16) {
        __m256i q[2];
        for (int j = 0; j < width; j++) q[j] = load_256(element, query[j], i, whole);
        if (width == 1) prefetch_lines(row[0] + i * 4, 1);
        for (int r = 0; r < 4; r++) {
            const __m256i x = load_256(element, row[r], i, whole);
            for (int j = 0; j < width; j++) sum[j][r] = add_256(metric == SONDE_L2, sum[j][r], q[j], x);
        }
    }
    if (i < dimension) {
        for (int r = 0; r < 4; r++) {
            const __m256i x = load_256(element, row[r], i, dimension);
            for (int j = 0; j < width; j++) {
                const __m256i q = load_256(element, query[j], i, dimension);
                sum[j][r] = add_256(metric == SONDE_L2, sum[j][r], q, x);
            }
        }
    }
    for (int j = 0; j < width; j++) sums[j] = fold4_256i(sum[j]);
}

/// Queries `query[0..<width]` against all rows.
AVX2 INLINE void strip_256(sonde_metric metric, sonde_element element, int width, const char *const query[2],
                           const void *rows, size_t stride, size_t count, size_t dimension,
                           float *const out[2]) {
    __m128i qq[2] = {};
    for (int j = 0; j < width && metric == SONDE_COSINE; j++) {
        const char *const same[4] = {query[j], query[j], query[j], query[j]};
        qq[j] = squares_256(element, same, dimension);
    }
    for (size_t i = 0; i < count; i += 4) {
        const char *row[4];
        for (size_t r = 0; r < 4; r++) row[r] = sonde_row(rows, stride, i + r, count);
        __m128i sum[2];
        tile_256(metric, element, width, query, row, dimension, sum);
        __m128i xx = _mm_setzero_si128();
        if (metric == SONDE_COSINE) xx = squares_256(element, row, dimension);
        for (int j = 0; j < width; j++) {
            store_up_to_4(out[j] + i, finish_128(metric, sum[j], qq[j], xx), count - i);
        }
    }
}

AVX2 INLINE void rows_avx2(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    if (dimension > SONDE_NARROW_DIMENSION) {
        sonde_bytes_wide_rows(metric, element, ROWS_ARGUMENTS);
        return;
    }
    const char *const one[2] = {query, query};
    float *const to[2] = {out, out};
    strip_256(metric, element, 1, one, rows, stride, count, dimension, to);
}

AVX2 INLINE void block_avx2(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    if (dimension > SONDE_NARROW_DIMENSION) {
        block_portable(metric, element, BLOCK_ARGUMENTS);
        return;
    }
    if (sonde_panels_fit(queries, dimension)) {
        sonde_panels_block(metric, element, BLOCK_ARGUMENTS);
        return;
    }
    // Rows in tiles that stay in the first-level cache while all queries pass over them.
    const size_t tile = 32;
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

SONDE_ENTRIES(AVX2, avx2, SONDE_U8, SONDE_I8)

const sonde_family sonde_bytes_family[SONDE_TIERS] = {
    SONDE_FAMILY(portable),
    SONDE_FAMILY(avx2),
    {SONDE_TABLE(sonde_vnni, rows), SONDE_TABLE(sonde_vnni, block)},
};
#else
const sonde_family sonde_bytes_family[SONDE_TIERS] = {SONDE_FAMILY(portable), SONDE_FAMILY(portable),
                                                      SONDE_FAMILY(portable)};
#endif
