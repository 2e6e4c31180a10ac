// Sorting of a few hundred keys with few branches that could be mispredicted: what orders a route's candidates.
#include "kernels.h"

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

INLINE uint32_t upper(uint64_t key) { return (uint32_t)(key >> 32); }

/// Sorts by insertion, from one place to another or in place: quick where little is out of order.
static void insert_all(const uint64_t *from, size_t count, uint64_t *to) {
    for (size_t i = 0; i < count; i++) {
        const uint64_t key = from[i];
        size_t hole = i;
        for (; hole > 0 && upper(to[hole - 1]) > upper(key); hole--) to[hole] = to[hole - 1];
        to[hole] = key;
    }
}

void sonde_sort_least(uint64_t *keys, uint64_t *spare, size_t count, size_t least) {
    enum { buckets = 256, few = 24 };
    if (count <= few) {
        insert_all(keys, count, keys);
        return;
    }
    uint32_t low = upper(keys[0]), high = low;
    for (size_t i = 1; i < count; i++) {
        const uint32_t value = upper(keys[i]);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    // Buckets of equal width; keys are spread over them, and those of the first few, nearly in order, put right.
    const int bits = high > low ? 32 - __builtin_clz(high - low) : 0, shift = bits > 8 ? bits - 8 : 0;
    uint32_t histogram[buckets] = {0};
    for (size_t i = 0; i < count; i++) histogram[(upper(keys[i]) - low) >> shift]++;
    size_t kept = 0, moves = 0;
    uint32_t start = 0;
    for (int b = 0; b < buckets; b++) {
        const uint32_t size = histogram[b];
        histogram[b] = start;
        start += size;
        if (kept < least) {
            kept = start;
            moves += (size_t)size * size;
        }
    }
    if (moves > 8 * kept || least > buckets) {
        sonde_sort_keys(keys, spare, count);
        return;
    }
    for (size_t i = 0; i < count; i++) spare[histogram[(upper(keys[i]) - low) >> shift]++] = keys[i];
    insert_all(spare, kept, keys);
}
