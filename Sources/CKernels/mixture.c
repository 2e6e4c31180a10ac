// The arithmetic of prototype mixtures and of their training: log-sum-exp over a partition's prototypes and
// what each adds, one step of Adam, a scaled sum. The exponential is a polynomial good to two units in the
// last place over the range that matters, so that all tiers agree to rounding.
#include "exponential.h"
#include "kernels.h"

static float mixture_scalar(const float *weight, const float *beta, const float *distance, size_t count, float *share) {
    float greatest = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const float value = weight[i] - beta[i] * distance[i];
        greatest = value > greatest ? value : greatest;
    }
    if (!(greatest > -INFINITY)) return -INFINITY;
    float sum = 0;
    for (size_t i = 0; i < count; i++) {
        const float e = exponential(weight[i] - beta[i] * distance[i] - greatest);
        if (share) share[i] = e;
        sum += e;
    }
    const float inverse = 1.0f / sum;
    for (size_t i = 0; share && i < count; i++) share[i] *= inverse;
    return greatest + logf(sum);
}

INLINE void adam(float *value, const float *gradient, float *first, float *second, size_t count, float rate,
                 float beta1, float beta2, float correction1, float correction2) {
    for (size_t i = 0; i < count; i++) {
        const float g = gradient[i];
        first[i] = beta1 * first[i] + (1 - beta1) * g;
        second[i] = beta2 * second[i] + (1 - beta2) * g * g;
        value[i] -= rate * (first[i] * correction1) / (__builtin_sqrtf(second[i] * correction2) + 1e-8f);
    }
}

INLINE void add_scaled(float *to, const float *from, float scale, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] += scale * from[i];
}

#if defined(__x86_64__)
AVX512 static float mixture_avx512(const float *weight, const float *beta, const float *distance, size_t count,
                                   float *share) {
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (size_t i = 0; i < count; i += 16) {
        const __mmask16 lanes = mask16(count - i);
        const __m512 product =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, beta + i), _mm512_maskz_loadu_ps(lanes, distance + i));
        const __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, weight + i), product);
        most = _mm512_mask_max_ps(most, lanes, most, value);
    }
    const float greatest = _mm512_reduce_max_ps(most);
    if (!(greatest > -INFINITY)) return -INFINITY;
    __m512 sums = _mm512_setzero_ps();
    for (size_t i = 0; i < count; i += 16) {
        const __mmask16 lanes = mask16(count - i);
        const __m512 product =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, beta + i), _mm512_maskz_loadu_ps(lanes, distance + i));
        const __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, weight + i), product);
        const __m512 e = exponential_512(_mm512_sub_ps(value, _mm512_set1_ps(greatest)));
        sums = _mm512_mask_add_ps(sums, lanes, sums, e);
        if (share) _mm512_mask_storeu_ps(share + i, lanes, e);
    }
    const float sum = _mm512_reduce_add_ps(sums), inverse = 1.0f / sum;
    for (size_t i = 0; share && i < count; i++) share[i] *= inverse;
    return greatest + logf(sum);
}

AVX2 static float mixture_avx2(const float *weight, const float *beta, const float *distance, size_t count,
                               float *share) {
    const size_t whole = count & ~(size_t)7;
    float greatest = -INFINITY;
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (size_t i = 0; i < whole; i += 8) {
        const __m256 product = _mm256_mul_ps(_mm256_loadu_ps(beta + i), _mm256_loadu_ps(distance + i));
        most = _mm256_max_ps(most, _mm256_sub_ps(_mm256_loadu_ps(weight + i), product));
    }
    float lane[8];
    _mm256_storeu_ps(lane, most);
    for (int i = 0; i < 8; i++) greatest = lane[i] > greatest ? lane[i] : greatest;
    for (size_t i = whole; i < count; i++) {
        const float value = weight[i] - beta[i] * distance[i];
        greatest = value > greatest ? value : greatest;
    }
    if (!(greatest > -INFINITY)) return -INFINITY;
    __m256 sums = _mm256_setzero_ps();
    for (size_t i = 0; i < whole; i += 8) {
        const __m256 product = _mm256_mul_ps(_mm256_loadu_ps(beta + i), _mm256_loadu_ps(distance + i));
        const __m256 value = _mm256_sub_ps(_mm256_loadu_ps(weight + i), product);
        const __m256 e = exponential_256(_mm256_sub_ps(value, _mm256_set1_ps(greatest)));
        sums = _mm256_add_ps(sums, e);
        if (share) _mm256_storeu_ps(share + i, e);
    }
    _mm256_storeu_ps(lane, sums);
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += lane[i];
    for (size_t i = whole; i < count; i++) {
        const float e = exponential(weight[i] - beta[i] * distance[i] - greatest);
        if (share) share[i] = e;
        sum += e;
    }
    const float inverse = 1.0f / sum;
    for (size_t i = 0; share && i < count; i++) share[i] *= inverse;
    return greatest + logf(sum);
}

AVX2 static float log_sum_exp_avx2(const float *values, size_t count, float greatest) {
    return log_sum_256(values, count, greatest);
}
AVX512 static float log_sum_exp_avx512(const float *values, size_t count, float greatest) {
    return log_sum_512(values, count, greatest);
}

#define ADAM_PARAMETERS \
    float *value, const float *gradient, float *first, float *second, size_t count, float rate, float beta1, \
        float beta2, float correction1, float correction2
#define ADAM_ARGUMENTS value, gradient, first, second, count, rate, beta1, beta2, correction1, correction2
AVX2 static void adam_avx2(ADAM_PARAMETERS) { adam(ADAM_ARGUMENTS); }
AVX512 static void adam_avx512(ADAM_PARAMETERS) { adam(ADAM_ARGUMENTS); }
AVX2 static void add_scaled_avx2(float *to, const float *from, float scale, size_t count) {
    add_scaled(to, from, scale, count);
}
AVX512 static void add_scaled_avx512(float *to, const float *from, float scale, size_t count) {
    add_scaled(to, from, scale, count);
}
#endif

float sonde_mixture(const float *weight, const float *beta, const float *distance, size_t count, float *share) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: return mixture_avx512(weight, beta, distance, count, share);
    case SONDE_AVX2: return mixture_avx2(weight, beta, distance, count, share);
    default: break;
    }
#endif
    return mixture_scalar(weight, beta, distance, count, share);
}

float sonde_log_sum_exp(const float *values, size_t count) {
    float greatest = -INFINITY;
    for (size_t i = 0; i < count; i++) greatest = values[i] > greatest ? values[i] : greatest;
    if (!(greatest > -INFINITY)) return -INFINITY;
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: return log_sum_exp_avx512(values, count, greatest);
    case SONDE_AVX2: return log_sum_exp_avx2(values, count, greatest);
    default: break;
    }
#endif
    return log_sum(values, count, greatest);
}

void sonde_adam(float *value, const float *gradient, float *first, float *second, size_t count,
                float rate, float beta1, float beta2, float correction1, float correction2) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: adam_avx512(ADAM_ARGUMENTS); return;
    case SONDE_AVX2: adam_avx2(ADAM_ARGUMENTS); return;
    default: break;
    }
#endif
    adam(value, gradient, first, second, count, rate, beta1, beta2, correction1, correction2);
}

void sonde_add_scaled(float *to, const float *from, float scale, size_t count) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512: add_scaled_avx512(to, from, scale, count); return;
    case SONDE_AVX2: add_scaled_avx2(to, from, scale, count); return;
    default: break;
    }
#endif
    add_scaled(to, from, scale, count);
}
