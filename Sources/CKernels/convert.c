// Conversions between element types and float, and the search for numbers that are not finite. The integer
// and single-precision loops are plain C compiled once a tier; half precision has instructions of its own.
#include "half.h"
#include "kernels.h"
#include <string.h>

/// The conversions are written as loops a compiler turns into vectors, and instantiated per tier.
INLINE void bytes_to_f32(sonde_element element, const void *from, size_t count, float *to) {
    if (element == SONDE_U8) {
        for (size_t i = 0; i < count; i++) to[i] = ((const uint8_t *)from)[i];
    } else {
        for (size_t i = 0; i < count; i++) to[i] = ((const int8_t *)from)[i];
    }
}

INLINE void bytes_from_f32(sonde_element element, const float *from, size_t count, void *to) {
    const float least = element == SONDE_U8 ? 0 : -128, most = element == SONDE_U8 ? 255 : 127;
    for (size_t i = 0; i < count; i++) {
        float value = from[i] == from[i] ? from[i] : 0;
        value = value > least ? value : least;
        value = value < most ? value : most;
        // Added to 1.5 * 2^23, the fraction is rounded away, to nearest even, and the integer stands in the
        // low bits.
        const float shifted = value + 0x1.8p23f;
        int32_t bits;
        memcpy(&bits, &shifted, 4);
        ((uint8_t *)to)[i] = (uint8_t)bits;
    }
}

/// All exponent bits set: infinite or NaN. Read by blocks without a branch, then by number in the block.
INLINE size_t find_not_finite(sonde_element element, const char *from, size_t count) {
    enum { block = 256 };
    for (size_t start = 0; start < count; start += block) {
        const size_t end = start + sonde_min(block, count - start);
        uint32_t bad = 0;
        if (element == SONDE_F32) {
            for (size_t i = start; i < end; i++) {
                uint32_t bits;
                memcpy(&bits, from + i * 4, 4);
                bad |= (bits & 0x7f800000) == 0x7f800000;
            }
        } else {
            uint16_t bad16 = 0;
            for (size_t i = start; i < end; i++) {
                uint16_t bits;
                memcpy(&bits, from + i * 2, 2);
                bad16 |= (bits & 0x7c00) == 0x7c00;
            }
            bad = bad16;
        }
        for (size_t i = start; bad && i < end; i++) {
            uint32_t bits = 0;
            memcpy(&bits, from + i * (element == SONDE_F32 ? 4 : 2), element == SONDE_F32 ? 4 : 2);
            const uint32_t exponent = element == SONDE_F32 ? 0x7f800000 : 0x7c00;
            if ((bits & exponent) == exponent) return i;
        }
    }
    return count;
}

static void half_to_f32(const char *from, size_t count, float *to) {
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, from + i * 2, 2);
        to[i] = sonde_half_to_float(bits);
    }
}

static void half_from_f32(const float *from, size_t count, char *to) {
    for (size_t i = 0; i < count; i++) {
        const uint16_t bits = sonde_float_to_half(from[i]);
        memcpy(to + i * 2, &bits, 2);
    }
}

#if defined(__x86_64__)
AVX2 static void half_to_f32_avx2(const char *from, size_t count, float *to) {
    const size_t whole = count & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i * 2))));
    }
    half_to_f32(from + whole * 2, count - whole, to + whole);
}

AVX2 static void half_from_f32_avx2(const float *from, size_t count, char *to) {
    const size_t whole = count & ~(size_t)7;
    const __m256 most = _mm256_set1_ps(65504), infinity = _mm256_set1_ps(__builtin_inff());
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < whole; i += 8) {
        const __m256 value = _mm256_loadu_ps(from + i), size = _mm256_andnot_ps(sign, value);
        const __m256 over = _mm256_and_ps(_mm256_cmp_ps(size, most, _CMP_GT_OQ),
                                          _mm256_cmp_ps(size, infinity, _CMP_LT_OQ));
        const __m256 held = _mm256_blendv_ps(value, _mm256_or_ps(most, _mm256_and_ps(sign, value)), over);
        _mm_storeu_si128((__m128i *)(to + i * 2), _mm256_cvtps_ph(held, _MM_FROUND_TO_NEAREST_INT));
    }
    half_from_f32(from + whole, count - whole, to + whole * 2);
}

// 256-bit vectors serve the AVX-512 tier as well here: conversions wait for memory.
AVX2 static void bytes_to_f32_avx2(sonde_element element, const void *from, size_t count, float *to) {
    bytes_to_f32(element, from, count, to);
}
AVX2 static void bytes_from_f32_avx2(sonde_element element, const float *from, size_t count, void *to) {
    bytes_from_f32(element, from, count, to);
}
AVX2 static size_t find_not_finite_avx2(sonde_element element, const char *from, size_t count) {
    if (element == SONDE_F32) return find_not_finite(SONDE_F32, from, count);
    return find_not_finite(SONDE_F16, from, count);
}
#endif

// The narrow twin of a function, or on x86 with AVX2 the wide one.
#if defined(__x86_64__)
#define PICK(function) (sonde_tier_now() >= SONDE_AVX2 ? function##_avx2 : function)
#else
#define PICK(function) function
#endif

void sonde_to_f32(sonde_element element, const void *from, size_t count, float *to) {
    if (element == SONDE_F32) {
        memmove(to, from, count * 4);
    } else if (element == SONDE_F16) {
        PICK(half_to_f32)(from, count, to);
    } else {
        PICK(bytes_to_f32)(element, from, count, to);
    }
}

void sonde_from_f32(sonde_element element, const float *from, size_t count, void *to) {
    if (element == SONDE_F32) {
        memmove(to, from, count * 4);
    } else if (element == SONDE_F16) {
        PICK(half_from_f32)(from, count, to);
    } else {
        PICK(bytes_from_f32)(element, from, count, to);
    }
}

size_t sonde_find_not_finite(sonde_element element, const void *from, size_t count) {
    return element == SONDE_F32 || element == SONDE_F16 ? PICK(find_not_finite)(element, from, count) : count;
}
