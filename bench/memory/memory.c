// In C because Swift cannot ask for 64-byte loads in one function.
#include "CMemory.h"

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
