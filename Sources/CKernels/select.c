// Which of many distances are worth a look at the heap: a compare and a compress, so that the scalar heap
// code runs only for the few that pass.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f"))) static size_t select_avx512(const float *values, size_t count,
                                                               float limit, uint32_t *positions) {
    const __m512 bound = _mm512_set1_ps(limit);
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i step = _mm512_set1_epi32(16);
    size_t found = 0;
    for (size_t i = 0; i < count; i += 16) {
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
