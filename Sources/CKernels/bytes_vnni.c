// Distances of u8 and i8 with AVX-512 VNNI, whose dpbusd multiplies unsigned by signed bytes and adds four
// products to a 32-bit lane.
//
// A byte has two faces: the unsigned u and the signed s = u - 128; one is the byte itself, the other is an
// xor with 0x80 away (for u8 the byte is u, for i8 it is s). All sums are made of the faces that cost
// least, and put right by constants of the query or the row:
//   1xN  l2      sum (xs - qs)^2 = sum xs^2 - 2 sum xs qs + sum qs^2,  sum xs qs = sum xu qs - 128 sum qs
//        ip      u8: sum xu qu = sum qu xs + 128 sum qu;  i8: sum xs qs = sum xu qs - 128 sum qs
//        cosine  u8: sum xu^2 = sum xu xs + 128 sum xu
// Squares need both operands alike: xs^2 = -(|xs| * -|xs|), where |xs| fits unsigned and -|xs| fits signed
// even for -128. All is arithmetic modulo 2^32 around results that fit (SONDE_NARROW_DIMENSION).
#include "bytes.h"

#if defined(__x86_64__)

AVX512 INLINE __m512i flip(__m512i v) { return _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80)); }

/// Both faces of 64 numbers; outside the mask the number counts as s = 0 (u = 128), which adds nothing to
/// any sum in which the other operand is an s, or zero.
AVX512 INLINE void load_faces(sonde_element element, const char *from, __mmask64 mask, __m512i *u,
                              __m512i *s) {
    if (element == SONDE_U8) {
        *u = _mm512_mask_loadu_epi8(_mm512_set1_epi8((char)0x80), mask, from);
        *s = flip(*u);
    } else {
        *s = _mm512_maskz_loadu_epi8(mask, from);
        *u = flip(*s);
    }
}

/// sum - sum of s^2.
AVX512 INLINE __m512i subtract_squares(__m512i sum, __m512i s) {
    const __m512i size = _mm512_abs_epi8(s);
    return _mm512_dpbusd_epi32(sum, size, _mm512_sub_epi8(_mm512_setzero_si512(), size));
}

AVX512 INLINE __m512i add_signed(__m512i sum, __m512i s) {
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), s);
}

AVX512 INLINE __m512 finish_512(sonde_metric metric, __m512i sum, __m512 qq, __m512 xx) {
    if (metric == SONDE_L2) return _mm512_cvtepi32_ps(sum);
    if (metric == SONDE_IP) return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), sum));
    return cosine_512(_mm512_cvtepi32_ps(sum), qq, xx);
}

/// sum s and sum s^2 of a vector, from which every constant follows.
typedef struct {
    int32_t sum, squares;
} moments;

AVX512 INLINE moments moments_of(sonde_element element, const char *vector, size_t dimension) {
    __m512i sum = _mm512_setzero_si512(), negative = sum, u, s;
    for (size_t i = 0; i < dimension; i += 64) {
        load_faces(element, vector + i, mask64(dimension - i), &u, &s);
        sum = add_signed(sum, s);
        negative = subtract_squares(negative, s);
    }
    return (moments){_mm512_reduce_add_epi32(sum), -_mm512_reduce_add_epi32(negative)};
}

/// The squared length of a vector as its numbers are: sum (s + 128)^2 for u8.
INLINE int32_t length_of(sonde_element element, moments m, size_t dimension) {
    return element == SONDE_U8 ? m.squares + 256 * m.sum + (int32_t)(16384 * dimension) : m.squares;
}

// 1xN: four rows at a time, two sums each.

/// One step against four rows: `first` gathers the products with the query, `second` what depends on the
/// row alone.
AVX512 INLINE void step(sonde_metric metric, sonde_element element, const char *query,
                        const char *const row[4],
                        size_t i, __mmask64 mask, __m512i first[4], __m512i second[4]) {
    __m512i qu, qs, xu, xs;
    load_faces(element, query + i, mask, &qu, &qs);
    for (int r = 0; r < 4; r++) {
        load_faces(element, row[r] + i, mask, &xu, &xs);
        if (metric != SONDE_L2 && element == SONDE_U8) {
            first[r] = _mm512_dpbusd_epi32(first[r], qu, xs);
        } else {
            first[r] = _mm512_dpbusd_epi32(first[r], xu, qs);
        }
        if (metric == SONDE_COSINE && element == SONDE_U8) {
            second[r] = _mm512_dpbusd_epi32(second[r], xu, xs);
            second[r] = _mm512_dpbusd_epi32(second[r], _mm512_set1_epi8((char)128), xs);
        } else if (metric != SONDE_IP) {
            second[r] = subtract_squares(second[r], xs);
        }
    }
}

AVX512 INLINE void rows_vnni(sonde_metric metric, sonde_element element, ROWS_PARAMETERS) {
    if (dimension > SONDE_NARROW_DIMENSION) {
        sonde_bytes_wide_rows(metric, element, ROWS_ARGUMENTS);
        return;
    }
    const moments q = moments_of(element, query, dimension);
    const int32_t total = (int32_t)(16384 * dimension);
    const __m512 qq = _mm512_set1_ps((float)length_of(element, q, dimension));
    // The constant that puts the sum of a pair right, as the head of this file says.
    const __m512i constant = _mm512_set1_epi32(metric == SONDE_L2    ? q.squares + 256 * q.sum
                                               : element == SONDE_U8 ? 128 * q.sum + total
                                                                     : -128 * q.sum);
    const size_t whole = dimension & ~(size_t)63;
    for (size_t i = 0; i < count; i += 16) {
        const char *from = (const char *)rows + i * stride;
        const size_t height = sonde_min(16, count - i);
        __m512i folded[4] = {}, foldedSquares[4] = {};
        for (size_t group = 0; group * 4 < height; group++) {
            const char *row[4];
            for (size_t r = 0; r < 4; r++) row[r] = sonde_row(from, stride, group * 4 + r, height);
            __m512i first[4] = {}, second[4] = {};
            for (size_t k = 0; k < whole; k += 64) {
                prefetch_lines(row[0] + k * 4, 4);
                step(metric, element, query, row, k, ~(__mmask64)0, first, second);
            }
            if (whole < dimension) {
                step(metric, element, query, row, whole, mask64(dimension - whole), first, second);
            }
            if (metric == SONDE_L2) {
                for (int r = 0; r < 4; r++) {
                    first[r] = _mm512_add_epi32(_mm512_add_epi32(first[r], first[r]), second[r]);
                }
            }
            folded[group] = fold4_512i(first);
            if (metric == SONDE_COSINE) foldedSquares[group] = fold4_512i(second);
        }
        const __m512i products = fold16_512i(folded);
        const __m512i sum = metric == SONDE_L2 ? _mm512_sub_epi32(constant, products)
                                               : _mm512_add_epi32(products, constant);
        __m512i xx = _mm512_setzero_si512();
        if (metric == SONDE_COSINE) {
            xx = fold16_512i(foldedSquares);
            xx = element == SONDE_U8 ? _mm512_add_epi32(xx, _mm512_set1_epi32(total))
                                     : _mm512_sub_epi32(_mm512_setzero_si512(), xx);
        }
        const __m512 distance = finish_512(metric, sum, qq, _mm512_cvtepi32_ps(xx));
        _mm512_mask_storeu_ps(out + i, mask16(count - i), distance);
    }
}

// MxN: sixteen rows are turned so that a register holds four numbers of each (a panel); a query's four
// numbers are broadcast against it, and every lane sums a pair of its own: no horizontal sums at all. Up to
// 3 panels x 8 queries are 24 sums in 32 registers.

enum { panelBytes = 48 << 10, stripeBytes = 32 << 10 };

/// Turns a 16x16 matrix of 32-bit numbers.
AVX512 INLINE void transpose(__m512i v[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/// What a panel's rows add to the sums of their pairs, and their squared lengths.
typedef struct {
    __m512i constant;
    __m512 squares;
} panel_rows;

/// Turns up to sixteen rows into a panel of u faces (dimension rounded up to 64), and sums their constants.
AVX512 INLINE panel_rows pack_panel(sonde_metric metric, sonde_element element, const char *rows,
                                    size_t stride, size_t count, size_t dimension, __m512i *panel) {
    __m512i sum = _mm512_setzero_si512(), negative = sum;
    for (size_t k = 0; k < dimension; k += 64, panel += 16) {
        __m512i v[16], s;
        for (size_t r = 0; r < 16; r++) {
            load_faces(element, sonde_row(rows, stride, r, count) + k, mask64(dimension - k), &v[r], &s);
        }
        transpose(v);
        for (int r = 0; r < 16; r++) {
            panel[r] = v[r];
            if (metric != SONDE_IP || element == SONDE_U8) sum = add_signed(sum, flip(v[r]));
            if (metric != SONDE_IP) negative = subtract_squares(negative, flip(v[r]));
        }
    }
    panel_rows result = {_mm512_setzero_si512(), _mm512_setzero_ps()};
    const __m512i squares = _mm512_sub_epi32(_mm512_setzero_si512(), negative);
    const __m512i total = _mm512_set1_epi32((int32_t)(16384 * dimension));
    if (metric == SONDE_L2) {
        result.constant = squares;
    } else if (element == SONDE_U8) {
        result.constant = _mm512_add_epi32(_mm512_slli_epi32(sum, 7), total);
        const __m512i lengths = _mm512_add_epi32(_mm512_add_epi32(squares, _mm512_slli_epi32(sum, 8)), total);
        result.squares = _mm512_cvtepi32_ps(lengths);
    } else {
        result.squares = _mm512_cvtepi32_ps(squares);
    }
    return result;
}

/// A stripe of queries: s faces with zeros up to `stride`, a constant and a squared length each.
typedef struct {
    const char *faces;
    size_t stride;
    const int32_t *constant;
    const float *squares;
} stripe;

/// `panels` panels against `width` queries from query `first` on; `valid` of those are stored.
AVX512 INLINE void tile(sonde_metric metric, int panels, int width, const __m512i *panel, size_t steps,
                        const panel_rows *rows, stripe queries, size_t first, size_t valid, size_t count,
                        size_t whole, float *out, size_t out_stride) {
    __m512i sum[8][3] = {};
    const char *from = queries.faces + first * queries.stride;
    for (size_t k = 0; k < steps; k++) {
        __m512i x[3];
        for (int p = 0; p < panels; p++) x[p] = panel[(size_t)p * whole + k];
        for (int j = 0; j < width; j++) {
            int32_t four;
            __builtin_memcpy(&four, from + (size_t)j * queries.stride + k * 4, 4);
            const __m512i q = _mm512_set1_epi32(four);
            for (int p = 0; p < panels; p++) sum[j][p] = _mm512_dpbusd_epi32(sum[j][p], x[p], q);
        }
    }
    for (int j = 0; j < width; j++) {
        if ((size_t)j >= valid) break;
        const __m512i constant = _mm512_set1_epi32(queries.constant[first + (size_t)j]);
        const __m512 qq = _mm512_set1_ps(queries.squares[first + (size_t)j]);
        for (int p = 0; p < panels; p++) {
            __m512i total = sum[j][p];
            if (metric == SONDE_L2) {
                total = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_add_epi32(total, total));
            }
            total = _mm512_add_epi32(total, _mm512_add_epi32(rows[p].constant, constant));
            const size_t at = (size_t)p * 16;
            _mm512_mask_storeu_ps(out + (size_t)j * out_stride + at, mask16(count - at),
                                  finish_512(metric, total, qq, rows[p].squares));
        }
    }
}

AVX512 INLINE void block_vnni(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS) {
    const size_t padded = (dimension + 63) & ~(size_t)63, whole = padded / 4;
    const size_t steps = (dimension + 3) / 4;
    if (queries < 3 || padded * 16 > panelBytes) {
        for (size_t q = 0; q < queries; q++) {
            rows_vnni(metric, element, (const char *)query + q * query_stride, rows, stride, count, dimension,
                      out + q * out_stride);
        }
        return;
    }
    // Panels and stripe together fill the first-level cache at most dimensions that occur.
    __attribute__((aligned(64))) char panelMemory[panelBytes], faces[stripeBytes];
    int32_t constants[stripeBytes / 64];
    float squares[stripeBytes / 64];
    __m512i *panel = (__m512i *)panelMemory;
    const size_t panelsAtOnce = padded * 48 <= panelBytes ? 3 : 1;
    const size_t queriesAtOnce = sonde_min(stripeBytes / padded, 256) & ~(size_t)7;
    for (size_t first = 0; first < queries; first += queriesAtOnce) {
        const size_t width = sonde_min(queriesAtOnce, queries - first);
        for (size_t q = 0; q < ((width + 7) & ~(size_t)7); q++) {
            const char *from = sonde_row((const char *)query + first * query_stride, query_stride, q, width);
            for (size_t k = 0; k < padded; k += 64) {
                __m512i u, s;
                load_faces(element, from + k, mask64(dimension - k), &u, &s);
                _mm512_store_si512(faces + q * padded + k, s);
            }
            const moments m = moments_of(element, from, dimension);
            constants[q] = metric == SONDE_L2    ? m.squares + 256 * m.sum
                           : element == SONDE_U8 ? 0
                                                 : -128 * m.sum;
            squares[q] = (float)length_of(element, m, dimension);
        }
        const stripe stripe = {faces, padded, constants, squares};
        for (size_t i = 0; i < count; i += panelsAtOnce * 16) {
            const size_t height = sonde_min(panelsAtOnce * 16, count - i);
            panel_rows constantsOfRows[3];
            for (size_t r = 0; r < height; r += 16) {
                constantsOfRows[r / 16] =
                    pack_panel(metric, element, (const char *)rows + (i + r) * stride, stride,
                               sonde_min(16, height - r), dimension, panel + r / 16 * whole);
            }
            for (size_t q = 0; q < width; q += 8) {
                const size_t left = sonde_min(8, width - q);
                float *to = out + (first + q) * out_stride + i;
#define TILE(PANELS, WIDTH) \
    tile(metric, PANELS, WIDTH, panel, steps, constantsOfRows, stripe, q, left, height, whole, to, out_stride)
                if (height > 32) {
                    if (left > 4) TILE(3, 8);
                    else TILE(3, 4);
                } else if (height > 16) {
                    if (left > 4) TILE(2, 8);
                    else TILE(2, 4);
                } else {
                    if (left > 4) TILE(1, 8);
                    else TILE(1, 4);
                }
#undef TILE
            }
        }
    }
}

#define VNNI_ENTRY(name, METRIC, ELEMENT) \
    AVX512 void sonde_vnni_rows_##name(ROWS_PARAMETERS) { \
        rows_vnni(METRIC, ELEMENT, ROWS_ARGUMENTS); \
        if (METRIC == SONDE_COSINE) sonde_cosine_near(ELEMENT, ROWS_ARGUMENTS); \
    } \
    AVX512 void sonde_vnni_block_##name(BLOCK_PARAMETERS) { \
        block_vnni(METRIC, ELEMENT, BLOCK_ARGUMENTS); \
        if (METRIC == SONDE_COSINE) sonde_cosine_near_block(ELEMENT, BLOCK_ARGUMENTS); \
    }
VNNI_ENTRY(l2_0, SONDE_L2, SONDE_U8)
VNNI_ENTRY(l2_1, SONDE_L2, SONDE_I8)
VNNI_ENTRY(ip_0, SONDE_IP, SONDE_U8)
VNNI_ENTRY(ip_1, SONDE_IP, SONDE_I8)
VNNI_ENTRY(cosine_0, SONDE_COSINE, SONDE_U8)
VNNI_ENTRY(cosine_1, SONDE_COSINE, SONDE_I8)
#endif
