// The probabilities of records to be among the k nearest of a query, from distances that are known up to an error:
// p_j = Phi((tau - d_j) / (spread sqrt(d_j))), tau such that they sum to k. Phi is a logistic function here, which
// differs from it by less than 0.01 everywhere.
#include "exponential.h"
#include "kernels.h"
#include <math.h>

/// Of the logistic function that is nearest to Phi.
#define LOGISTIC 1.702f
/// Newton steps at most: each about doubles the digits, halving takes over where they would leave the bracket.
#define STEPS 24

INLINE float logistic(float x) {
    // Beyond that a probability is nothing, and expf would overflow.
    x = x < 40.0f ? x : 40.0f;
    x = x > -40.0f ? x : -40.0f;
    return 1.0f / (1.0f + exponential(-x));
}

INLINE float soft_nearest(const float *distances, size_t count, float k, float spread, float *probabilities) {
    float low = INFINITY, high = 0.0f;
    size_t finite = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(distances[i] < INFINITY)) continue;
        finite++;
        low = distances[i] < low ? distances[i] : low;
        high = distances[i] > high ? distances[i] : high;
    }
    if ((float)finite <= k) {
        for (size_t i = 0; i < count; i++) probabilities[i] = distances[i] < INFINITY ? 1.0f : 0.0f;
        return INFINITY;
    }
    // At `low` even the nearest has one half at most; at `high` and beyond all are likely.
    const float reach = 40.0f * spread / LOGISTIC;
    high = high + reach * sqrtf(high);
    low = low - reach * sqrtf(low);
    float tau = low;
    for (int step = 0; step < STEPS; step++) {
        // From the middle on: sums are steepest there.
        if (step == 0 || !(tau > low && tau < high)) tau = low / 2 + high / 2;
        float sum = 0, slope = 0;
        for (size_t i = 0; i < count; i++) {
            float p = 0;
            if (distances[i] < INFINITY) {
                const float rate = LOGISTIC / (spread * sqrtf(distances[i]));
                p = logistic((tau - distances[i]) * rate);
                slope += p * (1.0f - p) * rate;
            }
            probabilities[i] = p;
            sum += p;
        }
        if (fabsf(sum - k) <= 1e-3f * k) break;
        if (sum > k) high = tau; else low = tau;
        tau = slope > 0 ? tau - (sum - k) / slope : low / 2 + high / 2;
    }
    return tau;
}

#if defined(__x86_64__)
AVX2 static float soft_nearest_avx2(const float *distances, size_t count, float k, float spread, float *probabilities) {
    return soft_nearest(distances, count, k, spread, probabilities);
}
#endif

float sonde_soft_nearest(const float *distances, size_t count, float k, float spread, float *probabilities) {
#if defined(__x86_64__)
    if (sonde_tier_now() >= SONDE_AVX2) return soft_nearest_avx2(distances, count, k, spread, probabilities);
#endif
    return soft_nearest(distances, count, k, spread, probabilities);
}
