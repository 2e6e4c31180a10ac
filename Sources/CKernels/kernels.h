// What the kernel files share among themselves: how a family of kernels offers its tiers, how a tier is
// switched on for a function, and the horizontal sums. Not seen by Swift.
//
// A family (float.c for f32 and f16; bytes.c and bytes_vnni.c for u8 and i8) offers one `sonde_family` a
// tier. A new instruction set (NEON) is a new tier: a value of `sonde_tier`, a test in tier.c, and one more
// `sonde_family` in each table; until it is written, the portable kernels stand in its place.
#ifndef SONDE_KERNELS_H
#define SONDE_KERNELS_H
#include "CKernels.h"
#include <stddef.h>
#include <stdint.h>

#define SONDE_TIERS 3

/// The kernels of two sister element types (f32 and f16, or u8 and i8: `element & 1`) in one tier.
typedef struct {
    sonde_rows_function rows[3][2];
    sonde_block_function block[3][2];
} sonde_family;

extern const sonde_family sonde_float_family[SONDE_TIERS];
extern const sonde_family sonde_bytes_family[SONDE_TIERS];

/// The parameters of the two function types, so that signatures are written once.
#define ROWS_PARAMETERS \
    const void *query, const void *rows, size_t stride, size_t count, size_t dimension, float *out
#define BLOCK_PARAMETERS \
    const void *query, size_t query_stride, size_t queries, const void *rows, size_t stride, size_t count, \
        size_t dimension, float *out, size_t out_stride
#define ROWS_ARGUMENTS query, rows, stride, count, dimension, out
#define BLOCK_ARGUMENTS query, query_stride, queries, rows, stride, count, dimension, out, out_stride

/// Cosine distances below this one are computed again with all their digits (cosine.c). The others are
/// right to a few 1e-7, a hundred-thousandth of themselves.
#define SONDE_NEAR 0x1p-5f

/// Puts the distances right that came out near, those of `rows` or of a block.
void sonde_cosine_near(sonde_element element, ROWS_PARAMETERS);
void sonde_cosine_near_block(sonde_element element, BLOCK_PARAMETERS);

/// A kernel is written once as an inline function of constant metric and element type; the entry points
/// below fix the constants, and everything that hangs on them folds away.
#define INLINE static inline __attribute__((always_inline))
#define SONDE_ENTRY(TARGET, tier, name, METRIC, ELEMENT) \
    TARGET static void rows_##tier##_##name(ROWS_PARAMETERS) { \
        rows_##tier(METRIC, ELEMENT, ROWS_ARGUMENTS); \
        if (METRIC == SONDE_COSINE) sonde_cosine_near(ELEMENT, ROWS_ARGUMENTS); \
    } \
    TARGET static void block_##tier##_##name(BLOCK_PARAMETERS) { \
        block_##tier(METRIC, ELEMENT, BLOCK_ARGUMENTS); \
        if (METRIC == SONDE_COSINE) sonde_cosine_near_block(ELEMENT, BLOCK_ARGUMENTS); \
    }
#define SONDE_ENTRIES(TARGET, tier, FIRST, SECOND) \
    SONDE_ENTRY(TARGET, tier, l2_0, SONDE_L2, FIRST) \
    SONDE_ENTRY(TARGET, tier, l2_1, SONDE_L2, SECOND) \
    SONDE_ENTRY(TARGET, tier, ip_0, SONDE_IP, FIRST) \
    SONDE_ENTRY(TARGET, tier, ip_1, SONDE_IP, SECOND) \
    SONDE_ENTRY(TARGET, tier, cosine_0, SONDE_COSINE, FIRST) \
    SONDE_ENTRY(TARGET, tier, cosine_1, SONDE_COSINE, SECOND)
#define SONDE_TABLE(kind, tier) \
    {{kind##_##tier##_l2_0, kind##_##tier##_l2_1}, {kind##_##tier##_ip_0, kind##_##tier##_ip_1}, \
     {kind##_##tier##_cosine_0, kind##_##tier##_cosine_1}}
#define SONDE_FAMILY(tier) {SONDE_TABLE(rows, tier), SONDE_TABLE(block, tier)}

/// Above this dimension the integer sums of a pair may leave 32 bits, and the 64-bit kernels take over.
#define SONDE_NARROW_DIMENSION 32768

INLINE size_t sonde_min(size_t a, size_t b) { return a < b ? a : b; }

/// Row `i`, or the last row where there is none: groups are always computed whole, and what was computed
/// twice is not stored.
INLINE const char *sonde_row(const void *rows, size_t stride, size_t i, size_t count) {
    return (const char *)rows + (i < count ? i : count - 1) * stride;
}

/// Two square roots instead of the root of the product: that would overflow and vanish earlier.
INLINE float sonde_cosine_distance(float dot, float qq, float xx) {
    const float length = __builtin_sqrtf(qq) * __builtin_sqrtf(xx);
    return length > 0 ? 1 - dot / length : 2;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define AVX512 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

/// How far ahead of the rows being read the next are fetched, in bytes.
#define SONDE_AHEAD 8192

/// Fetches `lines` cache lines from SONDE_AHEAD after `from` on. Four rows are read side by side, but fetched
/// in the order of addresses (a step over 64 bytes of each of them fetches 4 lines). Measured from DRAM, as
/// a share of a plain read, AVX-512: 384 u8 0.94, where each row fetches for itself 0.76, without 0.51;
/// 128 f32 0.98, 0.69 and 0.64; 128 u8 0.93, 0.94 and 0.70.
INLINE void prefetch_lines(const char *from, int lines) {
    for (int line = 0; line < lines; line++) _mm_prefetch(from + SONDE_AHEAD + line * 64, _MM_HINT_T0);
}

// Horizontal sums by halves: fold4 turns four vectors into one whose every 128-bit lane holds a partial
// sum of each; fold16 adds the lanes of four such vectors, giving sixteen sums. A pair's sum has this one
// order wherever it is computed, so rows and blocks agree to the bit.
AVX2 INLINE __m128 fold4_256(const __m256 v[4]) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    const __m256 low = _mm256_shuffle_ps(ab, cd, 0x44), high = _mm256_shuffle_ps(ab, cd, 0xee);
    const __m256 sum = _mm256_add_ps(low, high);
    return _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
}

AVX2 INLINE __m128i fold4_256i(const __m256i v[4]) {
    const __m256i sum = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

AVX512 INLINE __m512 fold4_512(const __m512 v[4]) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

AVX512 INLINE __m512 fold16_512(const __m512 v[4]) {
    const __m512 ab =
        _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    const __m512 cd =
        _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

AVX512 INLINE __m512i fold4_512i(const __m512i v[4]) {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

AVX512 INLINE __m512i fold16_512i(const __m512i v[4]) {
    const __m512i ab =
        _mm512_add_epi32(_mm512_shuffle_i32x4(v[0], v[1], 0x44), _mm512_shuffle_i32x4(v[0], v[1], 0xee));
    const __m512i cd =
        _mm512_add_epi32(_mm512_shuffle_i32x4(v[2], v[3], 0x44), _mm512_shuffle_i32x4(v[2], v[3], 0xee));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xdd));
}

// sonde_cosine_distance of several pairs; every step is rounded as IEEE says, so the bits are the same.
AVX2 INLINE __m128 cosine_128(__m128 dot, __m128 qq, __m128 xx) {
    const __m128 length = _mm_mul_ps(_mm_sqrt_ps(qq), _mm_sqrt_ps(xx));
    const __m128 distance = _mm_sub_ps(_mm_set1_ps(1), _mm_div_ps(dot, length));
    return _mm_blendv_ps(_mm_set1_ps(2), distance, _mm_cmp_ps(length, _mm_setzero_ps(), _CMP_GT_OQ));
}

AVX512 INLINE __m512 cosine_512(__m512 dot, __m512 qq, __m512 xx) {
    const __m512 length = _mm512_mul_ps(_mm512_sqrt_ps(qq), _mm512_sqrt_ps(xx));
    const __mmask16 some = _mm512_cmp_ps_mask(length, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(_mm512_set1_ps(2), some, _mm512_set1_ps(1), _mm512_div_ps(dot, length));
}

/// The last `byteCount` (1...15) bytes of a row that ends at `end`, then zeros. A row of at least 16 bytes
/// is read in its last 16 and shifted; a shorter one is copied, so that nothing outside it is touched.
AVX2 INLINE __m128i load_tail_128(const char *end, size_t byteCount, int isLong) {
    static const uint8_t shift[32] = {0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,
                                      11,   12,   13,   14,   15,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                      0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    if (isLong) {
        const __m128i order = _mm_loadu_si128((const __m128i *)(shift + 16 - byteCount));
        return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(end - 16)), order);
    }
    uint8_t bytes[16] = {0};
    __builtin_memcpy(bytes, end - byteCount, byteCount);
    return _mm_loadu_si128((const __m128i *)bytes);
}

/// Lanes 0..<n of sixteen (or all, from 16 on).
INLINE __mmask16 mask16(size_t n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }
INLINE __mmask64 mask64(size_t n) { return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1; }

/// Stores the first `count` (up to 4) lanes.
AVX2 INLINE void store_up_to_4(float *to, __m128 v, size_t count) {
    if (count >= 4) {
        _mm_storeu_ps(to, v);
    } else {
        float lanes[4];
        _mm_storeu_ps(lanes, v);
        for (size_t i = 0; i < count; i++) to[i] = lanes[i];
    }
}
#endif
#endif
