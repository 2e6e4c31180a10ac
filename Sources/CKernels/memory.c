// What the process asks of the allocator.
#include "CKernels.h"

#if defined(__GLIBC__)
#include <malloc.h>

void sonde_return_freed_memory(void) { mallopt(M_MMAP_THRESHOLD, 1 << 20); }
void sonde_trim_heap(void) { malloc_trim(0); }
#else
void sonde_return_freed_memory(void) {}
void sonde_trim_heap(void) {}
#endif
