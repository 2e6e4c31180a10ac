// Sorting of a few hundred keys without a branch that could be mispredicted: what orders a route's candidates.
#include "CKernels.h"

#include <string.h>

void sonde_sort_keys(uint64_t *keys, uint64_t *spare, size_t count) {
    enum { digits = 4, values = 256 };
    uint32_t histogram[digits][values];
    memset(histogram, 0, sizeof histogram);
    for (size_t i = 0; i < count; i++) {
        for (int d = 0; d < digits; d++) histogram[d][keys[i] >> (32 + 8 * d) & 255]++;
    }
    for (int d = 0; d < digits; d++) {
        uint32_t start = 0;
        for (int v = 0; v < values; v++) {
            const uint32_t size = histogram[d][v];
            histogram[d][v] = start;
            start += size;
        }
        uint64_t *from = d & 1 ? spare : keys, *to = d & 1 ? keys : spare;
        for (size_t i = 0; i < count; i++) to[histogram[d][from[i] >> (32 + 8 * d) & 255]++] = from[i];
    }
}
