// What benches need of memory: the plain read that scan kernels are measured against, and equal pages for all.
#ifndef SONDE_BENCH_MEMORY_H
#define SONDE_BENCH_MEMORY_H
#include <stddef.h>
#include <stdint.h>

/// The sum of the 64-bit words of a buffer: 64-byte aligned, of a multiple of 256 bytes.
uint64_t bench_plain_read(const void *buffer, size_t size);

/// Keeps this process, and those it starts, from transparent huge pages, also from those asked for. 0 or -1.
int bench_huge_pages_forbid(void);
#endif
