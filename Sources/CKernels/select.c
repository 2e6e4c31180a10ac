// Which of many distances are worth a look at the heap: a compare and a compress, so that the scalar heap
// code runs only for the few that pass.
#include "kernels.h"

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
#endif

size_t sonde_select_at_most(const float *values, size_t count, float limit, uint32_t *positions) {
#if defined(__x86_64__)
    if (sonde_tier_now() == SONDE_AVX512) return select_avx512(values, count, limit, positions);
#endif
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        positions[found] = (uint32_t)i;
        found += values[i] <= limit;
    }
    return found;
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
#endif

float sonde_limit_of_least(const float *values, size_t count, size_t wanted) {
#if defined(__x86_64__)
    if (sonde_tier_now() == SONDE_AVX512) return limit_avx512(values, count, wanted);
#endif
    return limit_of_least(values, count, wanted);
}
