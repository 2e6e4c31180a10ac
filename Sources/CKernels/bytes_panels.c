// Blocks of u8 and i8 with AVX2. Rows are widened to 16 bits once and turned, eight at a time, so that a register
// holds two numbers of each (a panel); two numbers of a query are broadcast against it, multiplied and added in
// pairs, and every lane sums the products of a pair of vectors of its own: no horizontal sums. Squared distances
// come of |q|^2 + |x|^2 - 2 <q, x>, all in integers modulo 2^32 around results that fit (SONDE_NARROW_DIMENSION).
//
// Zen 3 has room for 1.5 ns a pair of 128 numbers (eight multiply-adds and as many adds, of which three run in two
// cycles); tiles of 2 panels x 6 queries take 1.8 with all that is around them, 3 x 4 run out of registers (2.6).
#include "bytes.h"

#if defined(__x86_64__)

enum { panelBytes = 48 << 10, stripeBytes = 48 << 10, tileQueries = 6, tilePanels = 2 };

/// Sixteen numbers from number `i` on, zeros after the end of the row.
AVX2 INLINE __m256i widen_16(sonde_element element, const char *row, size_t i, size_t dimension) {
    const size_t left = dimension - i;
    const __m128i bytes = left >= 16 ? _mm_loadu_si128((const __m128i *)(row + i))
                                     : load_tail_128(row + dimension, left, dimension >= 16);
    return element == SONDE_U8 ? _mm256_cvtepu8_epi16(bytes) : _mm256_cvtepi8_epi16(bytes);
}

/// Turns an 8x8 matrix of 32-bit numbers.
AVX2 INLINE void transpose_8(__m256i v[8]) {
    __m256i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}

/// Turns up to eight rows into a panel; the squared length of each, where the metric asks for it.
AVX2 INLINE __m256i pack_panel(sonde_metric metric, sonde_element element, const char *rows, size_t stride,
                               size_t count, size_t dimension, __m256i *panel) {
    __m256i squares = _mm256_setzero_si256();
    for (size_t k = 0; k < dimension; k += 16, panel += 8) {
        __m256i v[8];
        for (size_t r = 0; r < 8; r++) v[r] = widen_16(element, sonde_row(rows, stride, r, count), k, dimension);
        transpose_8(v);
        for (int r = 0; r < 8; r++) {
            panel[r] = v[r];
            if (metric != SONDE_IP) squares = _mm256_add_epi32(squares, _mm256_madd_epi16(v[r], v[r]));
        }
    }
    return squares;
}

/// A stripe of queries: numbers of 16 bits with zeros up to `stride` bytes, and squared lengths.
typedef struct {
    const char *faces;
    size_t stride;
    const int32_t *squares;
} stripe;

/// Where the results of a tile go: the distances of query j to `out + j * stride`, all from row `row` on, or with
/// `limits` those that are at most the query's, after what was found before.
typedef struct {
    float *out;
    size_t stride, row;
    const float *limits;
    uint32_t *positions, *found;
} results;

AVX2 INLINE __m256 distances_8(sonde_metric metric, __m256i dot, __m256i qq, __m256i xx) {
    if (metric == SONDE_IP) return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_setzero_si256(), dot));
    if (metric == SONDE_L2) {
        return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_add_epi32(qq, xx), _mm256_add_epi32(dot, dot)));
    }
    const __m256 qf = _mm256_cvtepi32_ps(qq), xf = _mm256_cvtepi32_ps(xx), df = _mm256_cvtepi32_ps(dot);
    return _mm256_insertf128_ps(
        _mm256_castps128_ps256(cosine_128(_mm256_castps256_ps128(df), _mm256_castps256_ps128(qf),
                                          _mm256_castps256_ps128(xf))),
        cosine_128(_mm256_extractf128_ps(df, 1), _mm256_extractf128_ps(qf, 1), _mm256_extractf128_ps(xf, 1)), 1);
}

/// Stores the first `count` (up to 8) lanes.
AVX2 INLINE void store_up_to_8(float *to, __m256 v, size_t count) {
    if (count >= 8) {
        _mm256_storeu_ps(to, v);
    } else {
        float lanes[8];
        _mm256_storeu_ps(lanes, v);
        for (size_t i = 0; i < count; i++) to[i] = lanes[i];
    }
}

/// Appends those lanes of a query's distances whose bits are set.
AVX2 __attribute__((noinline)) static void append(const results *to, size_t query, __m256 distances, uint32_t passed,
                                                  size_t row) {
    float lanes[8], *out = to->out + query * to->stride;
    uint32_t *positions = to->positions + query * to->stride, found = to->found[query];
    if (passed == 0xff) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_storeu_ps(out + found, distances);
        _mm256_storeu_si256((__m256i *)(positions + found),
                            _mm256_add_epi32(lane, _mm256_set1_epi32((int)(uint32_t)row)));
        to->found[query] = found + 8;
        return;
    }
    _mm256_storeu_ps(lanes, distances);
    for (; passed; passed &= passed - 1, found++) {
        const uint32_t lane = (uint32_t)__builtin_ctz(passed);
        out[found] = lanes[lane];
        positions[found] = (uint32_t)row + lane;
    }
    to->found[query] = found;
}

/// `panels` panels of `count` rows in all against `width` queries from query `first` on; `valid` of those are stored.
AVX2 INLINE void tile(sonde_metric metric, int limited, int panels, int width, const __m256i *panel, size_t whole, size_t steps,
                      const __m256i *squares, stripe queries, size_t first, size_t valid, size_t count,
                      const results *to) {
    __m256i sum[tileQueries][tilePanels];
    for (int j = 0; j < width; j++) {
        for (int p = 0; p < panels; p++) sum[j][p] = _mm256_setzero_si256();
    }
    const char *from = queries.faces + first * queries.stride;
    for (size_t k = 0; k < steps; k++) {
        __m256i x[tilePanels];
        for (int p = 0; p < panels; p++) x[p] = panel[(size_t)p * whole + k];
        for (int j = 0; j < width; j++) {
            int32_t two;
            __builtin_memcpy(&two, from + (size_t)j * queries.stride + k * 4, 4);
            const __m256i q = _mm256_set1_epi32(two);
            for (int p = 0; p < panels; p++) {
                sum[j][p] = _mm256_add_epi32(sum[j][p], _mm256_madd_epi16(x[p], q));
            }
        }
    }
    for (int j = 0; j < width; j++) {
        const size_t query = first + (size_t)j;
        if ((size_t)j >= valid) break;
        const __m256i qq = _mm256_set1_epi32(queries.squares[query]);
        for (int p = 0; p < panels; p++) {
            const __m256 distances = distances_8(metric, sum[j][p], qq, squares[p]);
            const size_t row = to->row + (size_t)p * 8, left = count - (size_t)p * 8;
            if (limited) {
                const __m256 pass = _mm256_cmp_ps(distances, _mm256_set1_ps(to->limits[query]), _CMP_LE_OQ);
                uint32_t passed = (uint32_t)_mm256_movemask_ps(pass);
                if (left < 8) passed &= (1u << left) - 1;
                if (passed) append(to, query, distances, passed, row);
            } else {
                store_up_to_8(to->out + query * to->stride + row, distances, left);
            }
        }
    }
}

AVX2 INLINE void block(sonde_metric metric, sonde_element element, int limited, BLOCK_PARAMETERS,
                       const float *limits, uint32_t *positions, uint32_t *found) {
    const size_t padded = (dimension + 15) & ~(size_t)15, whole = padded / 2, steps = (dimension + 1) / 2;
    __attribute__((aligned(64))) char panelMemory[panelBytes], faces[stripeBytes];
    int32_t squares[stripeBytes / 32];
    __m256i *panel = (__m256i *)panelMemory;
    const size_t atOnce = stripeBytes / (padded * 2) / tileQueries * tileQueries;
    for (size_t first = 0; first < queries; first += atOnce) {
        const size_t width = sonde_min(atOnce, queries - first);
        for (size_t q = 0; q < (width + tileQueries - 1) / tileQueries * tileQueries; q++) {
            const char *from = sonde_row((const char *)query + first * query_stride, query_stride, q, width);
            __m256i sum = _mm256_setzero_si256();
            for (size_t k = 0; k < padded; k += 16) {
                const __m256i wide = widen_16(element, from, k, dimension);
                _mm256_store_si256((__m256i *)(faces + (q * padded + k) * 2), wide);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(wide, wide));
            }
            const __m256i same[4] = {sum, sum, sum, sum};
            squares[q] = _mm_cvtsi128_si32(fold4_256i(same));
        }
        const stripe stripe = {faces, padded * 2, squares};
        results to = {out + first * out_stride, out_stride, 0, NULL, NULL, NULL};
        if (limited) {
            to.limits = limits + first;
            to.positions = positions + first * out_stride;
            to.found = found + first;
        }
        for (size_t i = 0; i < count; i += tilePanels * 8) {
            const size_t height = sonde_min(tilePanels * 8, count - i);
            __m256i lengths[tilePanels] = {};
            for (size_t r = 0; r < height; r += 8) {
                lengths[r / 8] = pack_panel(metric, element, (const char *)rows + (i + r) * stride, stride,
                                            height - r, dimension, panel + r / 8 * whole);
            }
            to.row = i;
            for (size_t q = 0; q < width; q += tileQueries) {
                const size_t left = sonde_min(tileQueries, width - q);
#define TILE(PANELS, WIDTH) \
    tile(metric, limited, PANELS, WIDTH, panel, whole, steps, lengths, stripe, q, left, height, &to)
                if (height > 8) {
                    if (left > 2) TILE(2, 6);
                    else TILE(2, 2);
                } else {
                    if (left > 2) TILE(1, 6);
                    else TILE(1, 2);
                }
#undef TILE
            }
        }
    }
}

int sonde_panels_fit(size_t queries, size_t dimension) {
    // A panel costs about as much as two queries against it.
    return queries > 2 && (dimension + 15) / 16 * 16 * 2 * tilePanels * 8 <= panelBytes;
}

#define PANELS(METRIC) \
    do { \
        if (element == SONDE_U8) block(METRIC, SONDE_U8, 0, BLOCK_ARGUMENTS, NULL, NULL, NULL); \
        else block(METRIC, SONDE_I8, 0, BLOCK_ARGUMENTS, NULL, NULL, NULL); \
    } while (0)
#define PANELS_WITHIN(METRIC) \
    do { \
        if (element == SONDE_U8) block(METRIC, SONDE_U8, 1, BLOCK_ARGUMENTS, limits, positions, found); \
        else block(METRIC, SONDE_I8, 1, BLOCK_ARGUMENTS, limits, positions, found); \
    } while (0)

AVX2 void sonde_panels_block(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    if (metric == SONDE_L2) PANELS(SONDE_L2);
    else if (metric == SONDE_IP) PANELS(SONDE_IP);
    else PANELS(SONDE_COSINE);
}

AVX2 void sonde_panels_within(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS, const float *limits,
                              uint32_t *positions, uint32_t *found) {
    if (metric == SONDE_L2) PANELS_WITHIN(SONDE_L2);
    else PANELS_WITHIN(SONDE_IP);
}
#endif
