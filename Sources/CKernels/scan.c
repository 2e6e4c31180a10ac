// The scan of coded vectors for one query: sums of table entries, then estimates of which only those near enough
// are kept. Whole-byte codes cost sixteen shuffles and a tree of choices a look-up of 32; codes of four bits cost
// two shuffles for two sub-spaces, and are four times as fast for as many bytes.
//
// Codes may be looked at twice. The upper four bits of a code byte name one of sixteen groups of near codewords, the lower
// four a codeword of the group: all codes are scanned by their upper bits alone, with the mean of each group in the
// tables, and only those that may be near are then looked up whole, one by one.
#include "half.h"
#include "lookup.h"
#include <math.h>

static void sums4_scalar(const uint8_t *codes, size_t stride, size_t count, size_t bytes, const uint8_t *tables,
                         uint16_t *sums) {
    for (size_t i = 0; i < count; i++) sums[i] = 0;
    for (size_t m = 0; m < bytes; m++) {
        const uint8_t *column = codes + m * stride, *table = tables + m * 32;
        for (size_t i = 0; i < count; i++) {
            sums[i] = (uint16_t)(sums[i] + table[column[i] & 15] + table[16 + (column[i] >> 4)]);
        }
    }
}

INLINE size_t select_scalar(const uint16_t *sums, const uint16_t *corrections, size_t from, size_t count, float step,
                            float offset, float limit, uint32_t first, uint32_t *positions, float *estimates,
                            size_t found) {
    for (size_t i = from; i < count; i++) {
        // Two statements, so that no tier makes one rounding of the two.
        const float product = step * (float)sums[i];
        const float estimate = product + (sonde_half_to_float(corrections[i]) + offset);
        positions[found] = first + (uint32_t)i;
        estimates[found] = estimate;
        found += estimate <= limit;
    }
    return found;
}

#if defined(__x86_64__)

/// The sums of 16 vectors at `first` and 16 at `second`, of codes of four bits.
AVX2 INLINE void sums4_32(const uint8_t *first, const uint8_t *second, size_t stride, size_t bytes,
                          const uint8_t *tables, __m256i sums[2]) {
    const __m256i low = _mm256_set1_epi8(15);
    byte_sums both = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t m = 0; m < bytes; m++) {
        const __m256i code = load_16_16(first + m * stride, second + m * stride);
        const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(code, 4), low);
        add_bytes(&both, _mm256_shuffle_epi8(twice_16(tables + m * 32), _mm256_and_si256(code, low)));
        add_bytes(&both, _mm256_shuffle_epi8(twice_16(tables + m * 32 + 16), upper));
    }
    finish_bytes(both, sums);
}

/// Sixteen vectors at a time, in pairs of sixteen; the last ones overlap those before, whose sums come out the same
/// again.
#define SUMS_AVX2(name, sums_32, sums_plain) \
    AVX2 static void name(const uint8_t *codes, size_t stride, size_t count, size_t spaces, \
                          const uint8_t *tables, uint16_t *sums) { \
        if (count < 16) { \
            sums_plain(codes, stride, count, spaces, tables, sums); \
            return; \
        } \
        __m256i found[2]; \
        size_t i = 0; \
        for (; i + 32 <= count; i += 32) { \
            sums_32(codes + i, codes + i + 16, stride, spaces, tables, found); \
            _mm256_storeu_si256((__m256i *)(sums + i), found[0]); \
            _mm256_storeu_si256((__m256i *)(sums + i + 16), found[1]); \
        } \
        if (i < count) { \
            const size_t next = sonde_min(i, count - 16), last = count - 16; \
            sums_32(codes + next, codes + last, stride, spaces, tables, found); \
            _mm256_storeu_si256((__m256i *)(sums + next), found[0]); \
            _mm256_storeu_si256((__m256i *)(sums + last), found[1]); \
        } \
    }
SUMS_AVX2(sums_avx2, code_sums_32, code_sums_scalar)
SUMS_AVX2(sums4_avx2, sums4_32, sums4_scalar)

VBMI static void sums_vbmi(const uint8_t *codes, size_t stride, size_t count, size_t spaces, const uint8_t *tables,
                           uint16_t *sums) {
    for (size_t start = 0; start < count; start += 64) {
        const __mmask64 lanes = mask64(count - start);
        __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
        for (size_t m = 0; m < spaces; m++) {
            const __m512i code = _mm512_maskz_loadu_epi8(lanes, codes + m * stride + start);
            const __m512i found = look_up_64(tables + m * WORDS, code);
            low = _mm512_add_epi16(low, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(found)));
            high = _mm512_add_epi16(high, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(found, 1)));
        }
        _mm512_mask_storeu_epi16(sums + start, (__mmask32)lanes, low);
        _mm512_mask_storeu_epi16(sums + start + 32, (__mmask32)(lanes >> 32), high);
    }
}

AVX512 static void sums4_avx512(const uint8_t *codes, size_t stride, size_t count, size_t bytes,
                                const uint8_t *tables, uint16_t *sums) {
    const __m512i four = _mm512_set1_epi8(15);
    for (size_t start = 0; start < count; start += 64) {
        const __mmask64 lanes = mask64(count - start);
        __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
        for (size_t m = 0; m < bytes; m++) {
            const __m512i code = _mm512_maskz_loadu_epi8(lanes, codes + m * stride + start);
            const __m128i *table = (const __m128i *)(tables + m * 32);
            const __m512i rows[2] = {_mm512_broadcast_i32x4(_mm_loadu_si128(table)),
                                     _mm512_broadcast_i32x4(_mm_loadu_si128(table + 1))};
            const __m512i index[2] = {_mm512_and_si512(code, four),
                                      _mm512_and_si512(_mm512_srli_epi16(code, 4), four)};
            for (int half = 0; half < 2; half++) {
                const __m512i found = _mm512_shuffle_epi8(rows[half], index[half]);
                low = _mm512_add_epi16(low, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(found)));
                high = _mm512_add_epi16(high, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(found, 1)));
            }
        }
        _mm512_mask_storeu_epi16(sums + start, (__mmask32)lanes, low);
        _mm512_mask_storeu_epi16(sums + start + 32, (__mmask32)(lanes >> 32), high);
    }
}

/// Estimates of eight sums.
AVX2 INLINE __m256 estimates_8(const uint16_t *sums, const uint16_t *corrections, __m256 step, __m256 offset) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)sums));
    const __m256 correction = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)corrections));
    const __m256 product = _mm256_mul_ps(step, _mm256_cvtepi32_ps(wide));
    return _mm256_add_ps(product, _mm256_add_ps(correction, offset));
}

/// Looks at `width` times eight estimates and appends those that pass.
AVX2 INLINE size_t select_eights(int width, const uint16_t *sums, const uint16_t *corrections, __m256 step,
                                 __m256 offset, __m256 limit, uint32_t first, uint32_t *positions, float *estimates,
                                 size_t found) {
    __m256 values[4];
    uint32_t passed = 0;
    for (int v = 0; v < width; v++) {
        values[v] = estimates_8(sums + v * 8, corrections + v * 8, step, offset);
        passed |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(values[v], limit, _CMP_LE_OQ)) << v * 8;
    }
    if (!passed) return found;
    float lanes[32];
    for (int v = 0; v < width; v++) _mm256_storeu_ps(lanes + v * 8, values[v]);
    // Few pass: one by one is quicker than to close up the lanes.
    for (; passed; passed &= passed - 1, found++) {
        const uint32_t lane = (uint32_t)__builtin_ctz(passed);
        positions[found] = first + lane;
        estimates[found] = lanes[lane];
    }
    return found;
}

AVX2 static size_t select_avx2(const uint16_t *sums, const uint16_t *corrections, size_t count, float step,
                               float offset, float limit, uint32_t first, uint32_t *positions, float *estimates) {
    const __m256 steps = _mm256_set1_ps(step), offsets = _mm256_set1_ps(offset), bound = _mm256_set1_ps(limit);
    size_t found = 0, i = 0;
    for (; i + 32 <= count; i += 32) {
        found = select_eights(4, sums + i, corrections + i, steps, offsets, bound, first + (uint32_t)i, positions,
                              estimates, found);
    }
    for (; i + 8 <= count; i += 8) {
        found = select_eights(1, sums + i, corrections + i, steps, offsets, bound, first + (uint32_t)i, positions,
                              estimates, found);
    }
    return select_scalar(sums, corrections, i, count, step, offset, limit, first, positions, estimates, found);
}

AVX512 static size_t select_avx512(const uint16_t *sums, const uint16_t *corrections, size_t count, float step,
                                   float offset, float limit, uint32_t first, uint32_t *positions,
                                   float *estimates) {
    const __m512 steps = _mm512_set1_ps(step), offsets = _mm512_set1_ps(offset), bound = _mm512_set1_ps(limit);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t found = 0;
    for (size_t i = 0; i < count; i += 16) {
        const __mmask16 lanes = mask16(count - i);
        const __m512i sum = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, sums + i));
        const __m512 correction = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, corrections + i));
        const __m512 product = _mm512_mul_ps(steps, _mm512_cvtepi32_ps(sum));
        const __m512 value = _mm512_add_ps(product, _mm512_add_ps(correction, offsets));
        const __mmask16 pass = _mm512_mask_cmp_ps_mask(lanes, value, bound, _CMP_LE_OQ);
        if (!pass) continue;
        const unsigned passed = (unsigned)__builtin_popcount(pass);
        const __mmask16 kept = (__mmask16)((1u << passed) - 1);
        const __m512i place = _mm512_add_epi32(lane, _mm512_set1_epi32((int)(first + (uint32_t)i)));
        // Compressed in the register, as in select.c.
        _mm512_mask_storeu_epi32(positions + found, kept, _mm512_maskz_compress_epi32(pass, place));
        _mm512_mask_storeu_ps(estimates + found, kept, _mm512_maskz_compress_ps(pass, value));
        found += passed;
    }
    return found;
}
#endif

void sonde_code_sums(const uint8_t *codes, size_t stride, size_t count, size_t spaces, const uint8_t *tables,
                     uint16_t *sums) {
#if defined(__x86_64__)
    const sonde_tier tier = sonde_tier_now();
    if (tier == SONDE_AVX512 && __builtin_cpu_supports("avx512vbmi")) {
        sums_vbmi(codes, stride, count, spaces, tables, sums);
        return;
    }
    if (tier != SONDE_SCALAR) {
        sums_avx2(codes, stride, count, spaces, tables, sums);
        return;
    }
#endif
    code_sums_scalar(codes, stride, count, spaces, tables, sums);
}

void sonde_code4_sums(const uint8_t *codes, size_t stride, size_t count, size_t bytes, const uint8_t *tables,
                      uint16_t *sums) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: sums4_avx512(codes, stride, count, bytes, tables, sums); return;
    case SONDE_AVX2: sums4_avx2(codes, stride, count, bytes, tables, sums); return;
    default: break;
    }
#endif
    sums4_scalar(codes, stride, count, bytes, tables, sums);
}

size_t sonde_code_select(const uint16_t *sums, const uint16_t *corrections, size_t count, float step, float offset,
                         float limit, uint32_t first, uint32_t *positions, float *estimates) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512:
        return select_avx512(sums, corrections, count, step, offset, limit, first, positions, estimates);
    case SONDE_AVX2:
        return select_avx2(sums, corrections, count, step, offset, limit, first, positions, estimates);
    default: break;
    }
#endif
    return select_scalar(sums, corrections, 0, count, step, offset, limit, first, positions, estimates, 0);
}

#define GROUPS 16

void sonde_code_groups(const uint8_t *tables, size_t spaces, uint8_t *means, float *spread) {
    float variance = 0;
    for (size_t m = 0; m < spaces; m++) {
        for (size_t g = 0; g < GROUPS; g++) {
            const uint8_t *group = tables + m * WORDS + g * GROUPS;
            uint32_t sum = 0, squares = 0;
            for (size_t i = 0; i < GROUPS; i++) {
                sum += group[i];
                squares += (uint32_t)group[i] * group[i];
            }
            means[m * GROUPS + g] = (uint8_t)((sum + GROUPS / 2) / GROUPS);
            variance += (float)(squares * GROUPS - sum * sum);
        }
    }
    for (size_t i = spaces * GROUPS; i < (spaces + 1) / 2 * 2 * GROUPS; i++) means[i] = 0;
    *spread = sqrtf(variance / (GROUPS * WORDS));
}

size_t sonde_code_refine(const uint8_t *upper, const uint8_t *lower, const uint16_t *corrections, size_t count,
                         size_t spaces, const uint8_t *tables, float step, float offset, float limit,
                         const uint32_t *places, size_t looked, uint32_t *positions, float *estimates) {
    const size_t pairs = (spaces + 1) / 2;
    size_t found = 0;
    for (size_t j = 0; j < looked; j++) {
        const size_t place = places[j];
        const uint8_t *own = lower + place * pairs;
        // Lower bits lie apart from what was scanned.
        if (j + 8 < looked) sonde_prefetch(lower + places[j + 8] * pairs, pairs);
        uint32_t sum = 0;
        for (size_t m = 0; m < spaces / 2; m++) {
            const unsigned high = upper[m * count + place], low = own[m];
            sum += tables[2 * m * WORDS + ((high & 15) << 4 | (low & 15))];
            sum += tables[(2 * m + 1) * WORDS + ((high & 240) | low >> 4)];
        }
        if (spaces & 1) {
            const unsigned high = upper[(pairs - 1) * count + place], low = own[pairs - 1];
            sum += tables[(spaces - 1) * WORDS + ((high & 15) << 4 | (low & 15))];
        }
        // Two statements, so that no tier makes one rounding of the two.
        const float product = step * (float)sum;
        const float estimate = product + (sonde_half_to_float(corrections[place]) + offset);
        positions[found] = (uint32_t)place;
        estimates[found] = estimate;
        found += estimate <= limit;
    }
    return found;
}
