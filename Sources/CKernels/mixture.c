// The arithmetic of a prototype mixture: log-sum-exp over a partition's prototypes and what each adds.
// Four arrays of a few to a few hundred numbers; the exponential is a polynomial good to two units in the
// last place over the range that matters, so that all tiers agree to rounding.
#include "CKernels.h"

#include <math.h>

static inline float exponential(float x) {
    // exp(x) = 2^i * e^f, f in [-ln2/2, ln2/2]; below -87 nothing is left in single precision.
    if (x < -87.0f) return 0.0f;
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

float sonde_mixture(const float *weight, const float *beta, const float *distance, size_t count, float *share) {
    float greatest = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        share[i] = weight[i] - beta[i] * distance[i];
        greatest = share[i] > greatest ? share[i] : greatest;
    }
    if (!(greatest > -INFINITY)) return -INFINITY;
    float sum = 0;
    for (size_t i = 0; i < count; i++) {
        share[i] = exponential(share[i] - greatest);
        sum += share[i];
    }
    const float inverse = 1.0f / sum;
    for (size_t i = 0; i < count; i++) share[i] *= inverse;
    return greatest + logf(sum);
}

void sonde_adam(float *value, const float *gradient, float *first, float *second, size_t count,
                float rate, float beta1, float beta2, float correction1, float correction2) {
    for (size_t i = 0; i < count; i++) {
        const float g = gradient[i];
        first[i] = beta1 * first[i] + (1 - beta1) * g;
        second[i] = beta2 * second[i] + (1 - beta2) * g * g;
        value[i] -= rate * (first[i] * correction1) / (sqrtf(second[i] * correction2) + 1e-8f);
    }
}

void sonde_add_scaled(float *to, const float *from, float scale, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] += scale * from[i];
}
