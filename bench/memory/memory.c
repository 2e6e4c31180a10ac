// In C because Swift cannot ask for 64-byte loads in one function, and does not see prctl.
#include "CMemory.h"
#include <sys/prctl.h>

int bench_huge_pages_forbid(void) { return prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); }

typedef uint64_t words __attribute__((vector_size(64)));

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t bench_plain_read(const void *buffer, size_t size) {
    const words *from = buffer;
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < size / 64; i += 4) {
        a += from[i];
        b += from[i + 1];
        c += from[i + 2];
        d += from[i + 3];
    }
    a += b + c + d;
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) sum += a[i];
    return sum;
}
