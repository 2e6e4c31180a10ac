// Codes looked at twice. The upper four bits of a code byte name one of sixteen groups of near codewords, the lower
// four a codeword of the group. All codes are scanned by their upper bits alone, with the mean of each group in the
// tables (scan.c, four bits); only those that may be near are then looked up whole, one by one.
#include "half.h"
#include "lookup.h"
#include <math.h>

#define GROUPS 16

void sonde_code_groups(const uint8_t *tables, size_t spaces, uint8_t *means, float *spread) {
    float variance = 0;
    for (size_t m = 0; m < spaces; m++) {
        for (size_t g = 0; g < GROUPS; g++) {
            const uint8_t *group = tables + m * WORDS + g * GROUPS;
            uint32_t sum = 0, squares = 0;
            for (size_t i = 0; i < GROUPS; i++) {
                sum += group[i];
                squares += (uint32_t)group[i] * group[i];
            }
            means[m * GROUPS + g] = (uint8_t)((sum + GROUPS / 2) / GROUPS);
            variance += (float)(squares * GROUPS - sum * sum);
        }
    }
    for (size_t i = spaces * GROUPS; i < (spaces + 1) / 2 * 2 * GROUPS; i++) means[i] = 0;
    *spread = sqrtf(variance / (GROUPS * WORDS));
}

size_t sonde_code_refine(const uint8_t *upper, const uint8_t *lower, const uint16_t *corrections, size_t count,
                         size_t spaces, const uint8_t *tables, float step, float offset, float limit,
                         const uint32_t *places, size_t looked, uint32_t *positions, float *estimates) {
    const size_t pairs = (spaces + 1) / 2;
    size_t found = 0;
    for (size_t j = 0; j < looked; j++) {
        const size_t place = places[j];
        const uint8_t *own = lower + place * pairs;
        // Lower bits lie apart from what was scanned.
        if (j + 8 < looked) sonde_prefetch(lower + places[j + 8] * pairs, pairs);
        uint32_t sum = 0;
        for (size_t m = 0; m < spaces / 2; m++) {
            const unsigned high = upper[m * count + place], low = own[m];
            sum += tables[2 * m * WORDS + ((high & 15) << 4 | (low & 15))];
            sum += tables[(2 * m + 1) * WORDS + ((high & 240) | low >> 4)];
        }
        if (spaces & 1) {
            const unsigned high = upper[(pairs - 1) * count + place], low = own[pairs - 1];
            sum += tables[(spaces - 1) * WORDS + ((high & 15) << 4 | (low & 15))];
        }
        // Two statements, so that no tier makes one rounding of the two.
        const float product = step * (float)sum;
        const float estimate = product + (sonde_half_to_float(corrections[place]) + offset);
        positions[found] = (uint32_t)place;
        estimates[found] = estimate;
        found += estimate <= limit;
    }
    return found;
}
