// Prototypes kept as product-quantised codes. A query makes one table for all partitions: the inner products
// with the 256 codewords of each sub-space, as bytes of one common step. A prototype is then a sum of as many
// table entries as it has code bytes; sums are integers, so every tier gives the same. Codes of a partition
// lie by sub-space (all first bytes, then all second ones), so that 64 prototypes are looked up at once: with
// VBMI a table of 256 bytes fits four registers.
#include "exponential.h"
#include "half.h"
#include "lookup.h"

/// Prototypes of one step.
#define GROUP 64

// Inner products of `query` with the codewords of the components first..<end, and their least and greatest.
static void products_scalar(const uint16_t *words, const float *query, size_t first, size_t end, float *out,
                            float *least, float *most) {
    for (size_t i = 0; i < WORDS; i++) out[i] = 0;
    for (size_t k = first; k < end; k++) {
        for (size_t i = 0; i < WORDS; i++) out[i] += query[k] * sonde_half_to_float(words[k * WORDS + i]);
    }
    *least = *most = out[0];
    for (size_t i = 1; i < WORDS; i++) {
        *least = out[i] < *least ? out[i] : *least;
        *most = out[i] > *most ? out[i] : *most;
    }
}

INLINE void quantise(const float *products, float least, float inverse, uint8_t *table) {
    for (size_t i = 0; i < WORDS; i++) {
        // Both bounds hold for whatever rounding did, and for numbers that are none.
        float value = (products[i] - least) * inverse + 0.5f;
        value = value > 0.0f ? value : 0.0f;
        value = value < 255.0f ? value : 255.0f;
        table[i] = (uint8_t)(int32_t)value;
    }
}

static float mixture_scalar(const uint8_t *codes, const uint16_t *weights, size_t count, size_t spaces,
                            const uint8_t *tables, float factor, float *values) {
    uint16_t sums[GROUP];
    float greatest = -INFINITY;
    for (size_t start = 0; start < count; start += GROUP) {
        const size_t part = sonde_min(GROUP, count - start);
        code_sums_scalar(codes + start, count, part, spaces, tables, sums);
        for (size_t i = 0; i < part; i++) {
            const float value = sonde_half_to_float(weights[start + i]) + factor * (float)sums[i];
            values[start + i] = value;
            greatest = value > greatest ? value : greatest;
        }
    }
    if (!(greatest > -INFINITY)) return -INFINITY;
    return log_sum(values, count, greatest);
}

#if defined(__x86_64__)
AVX2 static void products_avx2(const uint16_t *words, const float *query, size_t first, size_t end, float *out,
                               float *least, float *most) {
    __m256 low = _mm256_set1_ps(INFINITY), high = _mm256_set1_ps(-INFINITY);
    for (size_t i = 0; i < WORDS; i += 64) {
        __m256 sums[8];
        for (int v = 0; v < 8; v++) sums[v] = _mm256_setzero_ps();
        for (size_t k = first; k < end; k++) {
            const __m256 q = _mm256_set1_ps(query[k]);
            const uint16_t *from = words + k * WORDS + i;
            for (int v = 0; v < 8; v++) {
                const __m256 word = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + v * 8)));
                sums[v] = _mm256_fmadd_ps(q, word, sums[v]);
            }
        }
        for (int v = 0; v < 8; v++) {
            _mm256_storeu_ps(out + i + v * 8, sums[v]);
            low = _mm256_min_ps(low, sums[v]);
            high = _mm256_max_ps(high, sums[v]);
        }
    }
    float lows[8], highs[8];
    _mm256_storeu_ps(lows, low);
    _mm256_storeu_ps(highs, high);
    *least = lows[0];
    *most = highs[0];
    for (int i = 1; i < 8; i++) {
        *least = lows[i] < *least ? lows[i] : *least;
        *most = highs[i] > *most ? highs[i] : *most;
    }
}

AVX512 static void products_avx512(const uint16_t *words, const float *query, size_t first, size_t end, float *out,
                                   float *least, float *most) {
    __m512 sums[16];
    for (int v = 0; v < 16; v++) sums[v] = _mm512_setzero_ps();
    for (size_t k = first; k < end; k++) {
        const __m512 q = _mm512_set1_ps(query[k]);
        const uint16_t *from = words + k * WORDS;
        for (int v = 0; v < 16; v++) {
            const __m512 word = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + v * 16)));
            sums[v] = _mm512_fmadd_ps(q, word, sums[v]);
        }
    }
    __m512 low = sums[0], high = sums[0];
    for (int v = 0; v < 16; v++) {
        _mm512_storeu_ps(out + v * 16, sums[v]);
        low = _mm512_min_ps(low, sums[v]);
        high = _mm512_max_ps(high, sums[v]);
    }
    *least = _mm512_reduce_min_ps(low);
    *most = _mm512_reduce_max_ps(high);
}

AVX2 static void quantise_avx2(const float *products, float least, float inverse, uint8_t *table) {
    quantise(products, least, inverse, table);
}
AVX512 static void quantise_avx512(const float *products, float least, float inverse, uint8_t *table) {
    quantise(products, least, inverse, table);
}

// The values of 32 prototypes whose codes for sub-space m begin at codes + m * stride; returns the greatest of each lane.
AVX2 INLINE __m256 values_32(const uint8_t *codes, size_t stride, const uint16_t *weights, size_t spaces,
                             const uint8_t *tables, __m256 factor, float *values) {
    __m256i sums[2];
    code_sums_32(codes, codes + 16, stride, spaces, tables, sums);
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (int v = 0; v < 4; v++) {
        const __m128i half = v & 1 ? _mm256_extracti128_si256(sums[v / 2], 1) : _mm256_castsi256_si128(sums[v / 2]);
        const __m256 weight = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(weights + v * 8)));
        const __m256 value = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(half)), weight);
        _mm256_storeu_ps(values + v * 8, value);
        most = _mm256_max_ps(value, most);
    }
    return most;
}

AVX2 static float mixture_avx2(const uint8_t *codes, const uint16_t *weights, size_t count, size_t spaces,
                               const uint8_t *tables, float factor, float *values) {
    float greatest = -INFINITY;
    if (count >= 32) {
        __m256 most = _mm256_set1_ps(-INFINITY);
        const __m256 step = _mm256_set1_ps(factor);
        // The last 32 overlap those before, whose values come out the same again.
        for (size_t start = 0; start < count; start += 32) {
            const size_t from = sonde_min(start, count - 32);
            most = _mm256_max_ps(
                values_32(codes + from, count, weights + from, spaces, tables, step, values + from), most);
        }
        float lanes[8];
        _mm256_storeu_ps(lanes, most);
        for (int i = 0; i < 8; i++) greatest = lanes[i] > greatest ? lanes[i] : greatest;
    } else {
        uint16_t sums[32];
        code_sums_scalar(codes, count, count, spaces, tables, sums);
        for (size_t i = 0; i < count; i++) {
            values[i] = _cvtsh_ss(weights[i]) + factor * (float)sums[i];
            greatest = values[i] > greatest ? values[i] : greatest;
        }
    }
    if (!(greatest > -INFINITY)) return -INFINITY;
    return log_sum_256(values, count, greatest);
}

VBMI static float mixture_vbmi(const uint8_t *codes, const uint16_t *weights, size_t count, size_t spaces,
                               const uint8_t *tables, float factor, float *values) {
    __m512 most = _mm512_set1_ps(-INFINITY);
    const __m512 step = _mm512_set1_ps(factor);
    for (size_t start = 0; start < count; start += GROUP) {
        const size_t part = sonde_min(GROUP, count - start);
        const __mmask64 lanes = mask64(part);
        __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
        for (size_t m = 0; m < spaces; m++) {
            const __m512i code = _mm512_maskz_loadu_epi8(lanes, codes + m * count + start);
            const __m512i found = look_up_64(tables + m * WORDS, code);
            low = _mm512_add_epi16(low, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(found)));
            high = _mm512_add_epi16(high, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(found, 1)));
        }
        const __m256i quarter[4] = {_mm512_castsi512_si256(low), _mm512_extracti64x4_epi64(low, 1),
                                    _mm512_castsi512_si256(high), _mm512_extracti64x4_epi64(high, 1)};
        for (size_t v = 0; v < 4 && v * 16 < part; v++) {
            const __mmask16 these = mask16(part - v * 16);
            const __m512 weight =
                _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(these, weights + start + v * 16));
            const __m512 sum = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(quarter[v]));
            const __m512 value = _mm512_fmadd_ps(step, sum, weight);
            _mm512_mask_storeu_ps(values + start + v * 16, these, value);
            most = _mm512_mask_max_ps(most, these, most, value);
        }
    }
    const float greatest = _mm512_reduce_max_ps(most);
    if (!(greatest > -INFINITY)) return -INFINITY;
    return log_sum_512(values, count, greatest);
}
#endif

void sonde_code_tables(const uint16_t *words, const uint32_t *starts, size_t spaces, const float *query,
                       float *products, uint8_t *tables, float *step, float *offset) {
    const sonde_tier tier = sonde_tier_now();
    float leasts[WORDS], widest = 0, sum = 0;
    for (size_t m = 0; m < spaces; m++) {
        float most, *out = products + m * WORDS;
        switch (tier) {
#if defined(__x86_64__)
        case SONDE_AVX512: products_avx512(words, query, starts[m], starts[m + 1], out, &leasts[m], &most); break;
        case SONDE_AVX2: products_avx2(words, query, starts[m], starts[m + 1], out, &leasts[m], &most); break;
#endif
        default: products_scalar(words, query, starts[m], starts[m + 1], out, &leasts[m], &most); break;
        }
        widest = most - leasts[m] > widest ? most - leasts[m] : widest;
        sum += leasts[m];
    }
    *step = widest / 255.0f;
    *offset = sum;
    const float inverse = widest > 0 ? 255.0f / widest : 0;
    for (size_t m = 0; m < spaces; m++) {
        const float *from = products + m * WORDS;
        switch (tier) {
#if defined(__x86_64__)
        case SONDE_AVX512: quantise_avx512(from, leasts[m], inverse, tables + m * WORDS); break;
        case SONDE_AVX2: quantise_avx2(from, leasts[m], inverse, tables + m * WORDS); break;
#endif
        default: quantise(from, leasts[m], inverse, tables + m * WORDS); break;
        }
    }
}

float sonde_code_mixture(const uint8_t *codes, const uint16_t *weights, size_t count, size_t spaces,
                         const uint8_t *tables, float factor, float *values) {
#if defined(__x86_64__)
    switch (sonde_tier_now()) {
    case SONDE_AVX512:
        if (__builtin_cpu_supports("avx512vbmi")) {
            return mixture_vbmi(codes, weights, count, spaces, tables, factor, values);
        }
        return mixture_avx2(codes, weights, count, spaces, tables, factor, values);
    case SONDE_AVX2: return mixture_avx2(codes, weights, count, spaces, tables, factor, values);
    default: break;
    }
#endif
    return mixture_scalar(codes, weights, count, spaces, tables, factor, values);
}
