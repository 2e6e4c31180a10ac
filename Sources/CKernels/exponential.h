// exp(x) for x at most 0 or little above it, one number, eight or sixteen at once: the same polynomial.
#ifndef SONDE_EXPONENTIAL_H
#define SONDE_EXPONENTIAL_H
#include "kernels.h"

#include <math.h>

INLINE float exponential(float x) {
    // exp(x) = 2^i * e^f, f in [-ln2/2, ln2/2]; below -87 nothing is left in single precision.
    if (!(x >= -87.0f)) return 0.0f;
    const float scaled = x * 1.44269504088896341f;
    const float whole = rintf(scaled);
    const float f = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    union {
        int32_t i;
        float f;
    } power = {.i = ((int32_t)whole + 127) << 23};
    return p * power.f;
}

#if defined(__x86_64__)
AVX2 INLINE __m256 exponential_256(__m256 x) {
    const __m256 some = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_GE_OQ);
    x = _mm256_and_ps(x, some);
    const __m256 whole =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 f = _mm256_fnmadd_ps(whole, _mm256_set1_ps(0.693359375f), x);
    f = _mm256_fmadd_ps(whole, _mm256_set1_ps(2.12194440e-4f), f);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, f), f, f), _mm256_set1_ps(1.0f));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(power)), some);
}

AVX512 INLINE __m512 exponential_512(__m512 x) {
    const __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
    const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 0);
    __m512 f = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
    f = _mm512_fmadd_ps(whole, _mm512_set1_ps(2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, f), f, f), _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(some, p, whole);
}

/// log sum exp(values), `greatest` (finite) being their maximum.
AVX2 INLINE float log_sum_256(const float *values, size_t count, float greatest) {
    const __m256 top = _mm256_set1_ps(greatest);
    __m256 sums = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        sums = _mm256_add_ps(sums, exponential_256(_mm256_sub_ps(_mm256_loadu_ps(values + i), top)));
    }
    if (i < count) {
        const __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count - i)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        const __m256 rest = exponential_256(_mm256_sub_ps(_mm256_maskload_ps(values + i, lanes), top));
        sums = _mm256_add_ps(sums, _mm256_and_ps(rest, _mm256_castsi256_ps(lanes)));
    }
    float lane[8], sum = 0;
    _mm256_storeu_ps(lane, sums);
    for (int v = 0; v < 8; v++) sum += lane[v];
    return greatest + logf(sum);
}

AVX512 INLINE float log_sum_512(const float *values, size_t count, float greatest) {
    __m512 sums = _mm512_setzero_ps();
    for (size_t i = 0; i < count; i += 16) {
        const __mmask16 lanes = mask16(count - i);
        const __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, values + i), _mm512_set1_ps(greatest));
        sums = _mm512_mask_add_ps(sums, lanes, sums, exponential_512(value));
    }
    return greatest + logf(_mm512_reduce_add_ps(sums));
}
#endif

INLINE float log_sum(const float *values, size_t count, float greatest) {
    float sum = 0;
    for (size_t i = 0; i < count; i++) sum += exponential(values[i] - greatest);
    return greatest + logf(sum);
}
#endif
