// What bytes.c and bytes_vnni.c share: integer sums are exact, so a pair's distance has the same bits on
// every path; only this last step leaves the integers.
#ifndef SONDE_BYTES_H
#define SONDE_BYTES_H
#include "kernels.h"

/// The last step for sums of any size. `sum` is the sum of squared differences (l2) or of products.
INLINE float sonde_bytes_distance(sonde_metric metric, int64_t sum, int64_t qq, int64_t xx) {
    if (metric == SONDE_L2) return (float)sum;
    if (metric == SONDE_IP) return (float)-sum;
    return sonde_cosine_distance((float)sum, (float)qq, (float)xx);
}

/// For dimensions above SONDE_NARROW_DIMENSION, in every tier.
void sonde_bytes_wide_rows(sonde_metric metric, sonde_element element, ROWS_PARAMETERS);

#if defined(__x86_64__)
/// Blocks by panels in AVX2 (bytes_panels.c): whether they are worth it, and what is in the block; `within` keeps
/// only what is at most the limit of its query (l2 and ip), `found` of each so far.
int sonde_panels_fit(size_t queries, size_t dimension);
void sonde_panels_block(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS);
void sonde_panels_within(sonde_metric metric, sonde_element element, BLOCK_PARAMETERS, const float *limits,
                         uint32_t *positions, uint32_t *found);

#define SONDE_VNNI_ENTRIES(X) X(l2_0) X(l2_1) X(ip_0) X(ip_1) X(cosine_0) X(cosine_1)
#define SONDE_VNNI_DECLARE(name) \
    void sonde_vnni_rows_##name(ROWS_PARAMETERS); \
    void sonde_vnni_block_##name(BLOCK_PARAMETERS);
SONDE_VNNI_ENTRIES(SONDE_VNNI_DECLARE)
#endif
#endif
