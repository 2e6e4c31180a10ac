// Which of many distances are worth a look at the heap: a compare and a compress, so that the scalar heap
// code runs only for the few that pass.
#include "bytes.h"

#if defined(__x86_64__)

__attribute__((target("avx512f"))) static size_t select_avx512(const float *values, size_t count,
                                                               float limit, uint32_t *positions) {
    const __m512 bound = _mm512_set1_ps(limit);
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i step = _mm512_set1_epi32(16);
    size_t found = 0;
    for (size_t i = 0; i < count; i += 16) {
        // Where little passes, most of the work is to see that nothing does: four vectors at a look.
        while (i + 64 <= count) {
            __mmask16 some = 0;
            for (size_t k = 0; k < 64; k += 16) {
                some |= _mm512_cmp_ps_mask(_mm512_loadu_ps(values + i + k), bound, _CMP_LE_OQ);
            }
            if (some) break;
            i += 64;
            lane = _mm512_add_epi32(lane, _mm512_set1_epi32(64));
        }
        if (i >= count) break;
        const __mmask16 valid = count - i >= 16 ? 0xffff : (__mmask16)((1u << (count - i)) - 1);
        const __m512 v = _mm512_maskz_loadu_ps(valid, values + i);
        const __mmask16 pass = _mm512_mask_cmp_ps_mask(valid, v, bound, _CMP_LE_OQ);
        if (pass) {
            // Compressing in the register and storing a masked prefix is far quicker on Zen than a
            // compressing store.
            const __m512i kept = _mm512_maskz_compress_epi32(pass, lane);
            const unsigned passed = (unsigned)__builtin_popcount(pass);
            _mm512_mask_storeu_epi32(positions + found, (__mmask16)((1u << passed) - 1), kept);
            found += passed;
        }
        lane = _mm512_add_epi32(lane, step);
    }
    return found;
}

AVX2 static size_t select_avx2(const float *values, size_t count, float limit, uint32_t *positions) {
    const __m256 bound = _mm256_set1_ps(limit);
    size_t found = 0, i = 0;
    for (; i + 32 <= count; i += 32) {
        uint32_t passed = 0;
        for (int v = 0; v < 4; v++) {
            const __m256 pass = _mm256_cmp_ps(_mm256_loadu_ps(values + i + v * 8), bound, _CMP_LE_OQ);
            passed |= (uint32_t)_mm256_movemask_ps(pass) << v * 8;
        }
        // Where little passes, one by one is quicker than to close up the lanes.
        for (; passed; passed &= passed - 1) positions[found++] = (uint32_t)i + (uint32_t)__builtin_ctz(passed);
    }
    for (; i < count; i++) {
        positions[found] = (uint32_t)i;
        found += values[i] <= limit;
    }
    return found;
}
#endif

static size_t select_scalar(const float *values, size_t count, float limit, uint32_t *positions) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        positions[found] = (uint32_t)i;
        found += values[i] <= limit;
    }
    return found;
}

size_t sonde_select_at_most(const float *values, size_t count, float limit, uint32_t *positions) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: return select_avx512(values, count, limit, positions);
    case SONDE_AVX2: return select_avx2(values, count, limit, positions);
    default: break;
    }
#endif
    return select_scalar(values, count, limit, positions);
}

#define WITHIN_PARAMETERS \
    sonde_metric metric, sonde_element element, BLOCK_PARAMETERS, const float *limits, uint32_t *positions, \
        uint32_t *found
#define WITHIN_ARGUMENTS metric, element, BLOCK_ARGUMENTS, limits, positions, found

/// The block of a tier, whose rows of distances are then closed up.
INLINE void within(sonde_tier tier, size_t (*select)(const float *, size_t, float, uint32_t *), WITHIN_PARAMETERS) {
    const sonde_family *tiers = element <= SONDE_F16 ? sonde_float_family : sonde_bytes_family;
    tiers[tier].block[metric][element & 1](BLOCK_ARGUMENTS);
    for (size_t q = 0; q < queries; q++) {
        float *distances = out + q * out_stride;
        uint32_t *kept = positions + q * out_stride;
        found[q] = (uint32_t)select(distances, count, limits[q], kept);
        for (size_t i = 0; i < found[q]; i++) distances[i] = distances[kept[i]];
    }
}

static void within_scalar(WITHIN_PARAMETERS) { within(SONDE_SCALAR, select_scalar, WITHIN_ARGUMENTS); }

#if defined(__x86_64__)
static void within_avx2(WITHIN_PARAMETERS) {
    const int bytes = element >= SONDE_U8 && metric != SONDE_COSINE;
    if (bytes && sonde_panels_fit(queries, dimension)) {
        for (size_t q = 0; q < queries; q++) found[q] = 0;
        sonde_panels_within(WITHIN_ARGUMENTS);
        return;
    }
    within(SONDE_AVX2, select_avx2, WITHIN_ARGUMENTS);
}

static void within_avx512(WITHIN_PARAMETERS) { within(SONDE_AVX512, select_avx512, WITHIN_ARGUMENTS); }
#endif

sonde_within_function sonde_within(void) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: return within_avx512;
    case SONDE_AVX2: return within_avx2;
    default: break;
    }
#endif
    return within_scalar;
}

enum { groups = 256 };

/// The least of each of 256 groups are values themselves: as many of them as are wanted lie under any limit
/// under which so many groups have one. That limit is found by halving, to about a quarter too many.
INLINE float limit_of_least(const float *values, size_t count, size_t wanted) {
    if (wanted == 0 || wanted > groups / 2 || count < 2 * wanted) return __builtin_inff();
    float least[groups];
    for (size_t i = 0; i < groups; i++) least[i] = __builtin_inff();
    size_t start = 0;
    for (; start + groups <= count; start += groups) {
        for (size_t i = 0; i < groups; i++) {
            const float value = values[start + i];
            least[i] = value < least[i] ? value : least[i];
        }
    }
    for (size_t i = 0; start + i < count; i++) {
        const float value = values[start + i];
        least[i] = value < least[i] ? value : least[i];
    }
    float low = __builtin_inff(), high = -__builtin_inff();
    size_t finite = 0;
    for (size_t i = 0; i < groups; i++) {
        const int counts = least[i] < __builtin_inff();
        low = least[i] < low ? least[i] : low;
        high = counts && least[i] > high ? least[i] : high;
        finite += (size_t)counts;
    }
    if (finite < wanted) return __builtin_inff();
    // Always true: at least `wanted` lie at or under `high`.
    for (int step = 0; step < 24; step++) {
        const float middle = low / 2 + high / 2;
        uint32_t found = 0;
        for (size_t i = 0; i < groups; i++) found += least[i] <= middle;
        if (found < wanted) {
            low = middle;
        } else {
            high = middle;
            if (found <= wanted + wanted / 4 + 1) break;
        }
    }
    return high;
}

#if defined(__x86_64__)
AVX512 static float limit_avx512(const float *values, size_t count, size_t wanted) {
    return limit_of_least(values, count, wanted);
}
AVX2 static float limit_avx2(const float *values, size_t count, size_t wanted) {
    return limit_of_least(values, count, wanted);
}
#endif

float sonde_limit_of_least(const float *values, size_t count, size_t wanted) {
#if defined(__x86_64__)
    if (sonde_tier_now() == SONDE_AVX512) return limit_avx512(values, count, wanted);
    if (sonde_tier_now() == SONDE_AVX2) return limit_avx2(values, count, wanted);
#endif
    return limit_of_least(values, count, wanted);
}
