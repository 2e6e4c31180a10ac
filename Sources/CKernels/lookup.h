// Codes of product quantisers looked up in tables of bytes, many at once: what mixtures of prototypes
// (codes.c) and scans of codes (scan.c) share. Sums of table entries are integers, so every tier gives the same.
#ifndef SONDE_LOOKUP_H
#define SONDE_LOOKUP_H
#include "kernels.h"

/// Codewords of one sub-space, a byte each.
#define WORDS 256

INLINE void code_sums_scalar(const uint8_t *codes, size_t stride, size_t count, size_t spaces,
                             const uint8_t *tables, uint16_t *sums) {
    for (size_t i = 0; i < count; i++) sums[i] = 0;
    for (size_t m = 0; m < spaces; m++) {
        const uint8_t *column = codes + m * stride, *table = tables + m * WORDS;
        for (size_t i = 0; i < count; i++) sums[i] = (uint16_t)(sums[i] + table[column[i]]);
    }
}

#if defined(__x86_64__)
#define VBMI __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")))

/// Sixteen bytes in both lanes.
AVX2 INLINE __m256i twice_16(const uint8_t *from) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from));
}

/// 32 codes looked up in a table of 256 bytes: their lower four bits pick within each of its sixteen rows, their
/// upper four bits choose among what was picked, bit by bit. A shuffle gives zeros where the highest bit of its
/// index is set, so that the first choice is an or. Zen 3: 0.15 ns a look-up; loads of single bytes took 0.32.
AVX2 INLINE __m256i look_up_32(const uint8_t *table, __m256i code) {
    const __m256i top = _mm256_set1_epi8((char)0x80);
    const __m256i low = _mm256_and_si256(code, _mm256_set1_epi8(15));
    const __m256i even = _mm256_or_si256(low, _mm256_and_si256(_mm256_slli_epi16(code, 3), top));
    const __m256i odd = _mm256_xor_si256(even, top);
    __m256i found[8];
    for (int i = 0; i < 8; i++) {
        found[i] = _mm256_or_si256(_mm256_shuffle_epi8(twice_16(table + i * 32), even),
                                   _mm256_shuffle_epi8(twice_16(table + i * 32 + 16), odd));
    }
    // The other choices read the highest bit of each byte.
    const __m256i bit5 = _mm256_slli_epi16(code, 2), bit6 = _mm256_slli_epi16(code, 1);
    for (int i = 0; i < 4; i++) found[i] = _mm256_blendv_epi8(found[2 * i], found[2 * i + 1], bit5);
    for (int i = 0; i < 2; i++) found[i] = _mm256_blendv_epi8(found[2 * i], found[2 * i + 1], bit6);
    return _mm256_blendv_epi8(found[0], found[1], code);
}

/// Sums of bytes in 16 bits: `all` adds up pairs of bytes as words (modulo 2^16), `odd` the upper byte of each;
/// what the lower ones gave follows when all are in.
typedef struct {
    __m256i all, odd;
} byte_sums;

AVX2 INLINE void add_bytes(byte_sums *sums, __m256i bytes) {
    sums->all = _mm256_add_epi16(sums->all, bytes);
    sums->odd = _mm256_add_epi16(sums->odd, _mm256_srli_epi16(bytes, 8));
}

/// The sums of bytes 0..<16 and 16..<32, in order.
AVX2 INLINE void finish_bytes(byte_sums from, __m256i sums[2]) {
    const __m256i even = _mm256_sub_epi16(from.all, _mm256_slli_epi16(from.odd, 8));
    const __m256i low = _mm256_unpacklo_epi16(even, from.odd), high = _mm256_unpackhi_epi16(even, from.odd);
    sums[0] = _mm256_permute2x128_si256(low, high, 0x20);
    sums[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

/// Sixteen bytes at `first`, then sixteen at `second`.
AVX2 INLINE __m256i load_16_16(const uint8_t *first, const uint8_t *second) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)first)),
                                   _mm_loadu_si128((const __m128i *)second), 1);
}

/// The sums of 16 vectors whose codes for sub-space m begin at first + m * stride, and of 16 at `second`.
AVX2 INLINE void code_sums_32(const uint8_t *first, const uint8_t *second, size_t stride, size_t spaces,
                              const uint8_t *tables, __m256i sums[2]) {
    byte_sums both = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t m = 0; m < spaces; m++) {
        add_bytes(&both, look_up_32(tables + m * WORDS, load_16_16(first + m * stride, second + m * stride)));
    }
    finish_bytes(both, sums);
}

/// 64 codes looked up in a table of 256 bytes, which fits four registers: seven bits of
/// a code choose among 128 bytes, the eighth between the two halves of the table.
VBMI INLINE __m512i look_up_64(const uint8_t *table, __m512i code) {
    const __m512i *rows = (const __m512i *)table;
    const __m512i below = _mm512_permutex2var_epi8(_mm512_loadu_si512(rows), code, _mm512_loadu_si512(rows + 1));
    const __m512i above =
        _mm512_permutex2var_epi8(_mm512_loadu_si512(rows + 2), code, _mm512_loadu_si512(rows + 3));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), below, above);
}
#endif
#endif
