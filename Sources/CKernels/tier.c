// Which tier of kernels is in force: the widest that the processor has, unless SONDE_KERNELS names a
// narrower one or a test asks for it. The choice is one relaxed atomic; kernels of different tiers may run
// side by side, since none keeps state.
#include "kernels.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int current = -1;
static const char *const names[SONDE_TIERS] = {"scalar", "avx2", "avx512"};

sonde_tier sonde_tier_widest(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vnni")) {
            return SONDE_AVX512;
        }
        return SONDE_AVX2;
    }
#endif
    return SONDE_SCALAR;
}

sonde_tier sonde_tier_now(void) {
    int tier = atomic_load_explicit(&current, memory_order_relaxed);
    if (tier < 0) {
        // Threads that meet here all reach the same answer; but a tier set meanwhile stays.
        tier = (int)sonde_tier_widest();
        const char *wanted = getenv("SONDE_KERNELS");
        for (int t = 0; wanted && t < tier; t++) {
            if (strcmp(wanted, names[t]) == 0) tier = t;
        }
        int unset = -1;
        if (!atomic_compare_exchange_strong_explicit(&current, &unset, tier, memory_order_relaxed,
                                                     memory_order_relaxed)) {
            tier = unset;
        }
    }
    return (sonde_tier)tier;
}

int sonde_tier_set(sonde_tier tier) {
    if ((int)tier < 0 || tier > sonde_tier_widest()) return -1;
    atomic_store_explicit(&current, (int)tier, memory_order_relaxed);
    return 0;
}

const char *sonde_tier_name(sonde_tier tier) {
    return (unsigned)tier < SONDE_TIERS ? names[tier] : "unknown";
}

static const sonde_family *family(sonde_element element) {
    const sonde_family *tiers = element <= SONDE_F16 ? sonde_float_family : sonde_bytes_family;
    return &tiers[sonde_tier_now()];
}

sonde_rows_function sonde_rows(sonde_metric metric, sonde_element element) {
    return family(element)->rows[metric][element & 1];
}

sonde_block_function sonde_block(sonde_metric metric, sonde_element element) {
    return family(element)->block[metric][element & 1];
}
