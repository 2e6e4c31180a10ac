// CRC-32C. The crc32 instruction takes three cycles and one can start each cycle, so three stretches run at
// once and are joined by a multiplication with x^(8n) modulo the polynomial (Gopal et al., "Fast CRC
// Computation for iSCSI Polynomial Using CRC32 Instruction", Intel 2011). A stretch is a third of what a
// 4096-byte page protects, so that a page is checked in one step.
#include "CKernels.h"
#include <string.h>

#define POLYNOMIAL 0x82f63b78u

static uint32_t crc_table(uint32_t crc, const uint8_t *bytes, size_t size) {
    static const uint32_t nibbles[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ nibbles[crc & 15];
        crc = (crc >> 4) ^ nibbles[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { STRETCH = 1360 };

static inline uint64_t word(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/// The CRC moved over as many zero bytes as `power` stands for: power = x^(8n - 33) mod P, the 33 being what
/// a carry-less product of reflected numbers and the crc32 instruction add by themselves.
__attribute__((target("sse4.2,pclmul"))) static inline uint64_t moved(uint64_t crc, uint32_t power) {
    const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
                                                 _mm_cvtsi64_si128((long long)(uint64_t)power), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc_sse42(uint32_t start, const uint8_t *bytes,
                                                                   size_t size) {
    uint64_t crc = start;
    while (size >= 3 * STRETCH) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < STRETCH; i += 8) {
            crc = _mm_crc32_u64(crc, word(bytes + i));
            second = _mm_crc32_u64(second, word(bytes + STRETCH + i));
            third = _mm_crc32_u64(third, word(bytes + 2 * STRETCH + i));
        }
        crc = moved(crc, 0x5aa1f3cf) ^ moved(second, 0x3f70cc6f) ^ third;
        bytes += 3 * STRETCH;
        size -= 3 * STRETCH;
    }
    for (; size >= 8; bytes += 8, size -= 8) crc = _mm_crc32_u64(crc, word(bytes));
    for (; size > 0; bytes++, size--) crc = _mm_crc32_u8((uint32_t)crc, *bytes);
    return (uint32_t)crc;
}
#endif

uint32_t sonde_crc32c(uint32_t crc, const void *bytes, size_t size) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        return ~crc_sse42(~crc, bytes, size);
#endif
    return ~crc_table(~crc, bytes, size);
}
