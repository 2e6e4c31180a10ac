// IEEE half precision in plain C, for processors without the instruction and for the portable tier.
#ifndef SONDE_HALF_H
#define SONDE_HALF_H
#include <stdint.h>

static inline float sonde_half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    uint32_t bits;
    float value;
    if (magnitude >= 0x7c00) {
        bits = 0x7f800000 | (magnitude & 0x3ff) << 13 | (magnitude > 0x7c00 ? 0x400000 : 0);
    } else if (magnitude >= 0x400) {
        bits = (magnitude << 13) + ((127 - 15) << 23);
    } else {
        value = (float)magnitude * 0x1p-24f;
        __builtin_memcpy(&bits, &value, 4);
    }
    bits |= sign;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

/// Rounded to nearest even. A finite number beyond the range becomes the largest finite one (saturates);
/// infinities stay infinite and NaN stays NaN.
static inline uint16_t sonde_float_to_half(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude == 0x7f800000) return sign | 0x7c00;
    if (magnitude >= 0x477fe000) return sign | 0x7bff;
    if (magnitude >= 0x38800000) {
        const uint32_t odd = magnitude >> 13 & 1;
        return (uint16_t)(sign | (magnitude + 0xfff + odd - ((127 - 15) << 23)) >> 13);
    }
    // Below the least normal half: adding 0.5 lines the mantissa up so that the sum's own rounding, to
    // nearest even, drops what a subnormal half cannot hold.
    float small;
    __builtin_memcpy(&small, &magnitude, 4);
    small += 0.5f;
    __builtin_memcpy(&bits, &small, 4);
    return (uint16_t)(sign | (bits - 0x3f000000));
}
#endif
