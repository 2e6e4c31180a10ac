// Every kernel of sonde, with its contract. The metric and the element type pick the function; the
// processor (or SONDE_KERNELS=scalar|avx2|avx512) picks the tier. All distances are "smaller is nearer":
// l2 is the squared euclidean distance, ip the negative inner product, cosine 1 - cos (2 where a vector
// has no length; of nearly parallel vectors with all its digits, and 0 of copies). Integer element types are summed exactly; floating ones in one fixed order a tier.
#ifndef SONDE_CKERNELS_H
#define SONDE_CKERNELS_H
#include <stddef.h>
#include <stdint.h>

typedef enum { SONDE_F32 = 0, SONDE_F16 = 1, SONDE_U8 = 2, SONDE_I8 = 3 } sonde_element;
typedef enum { SONDE_L2 = 0, SONDE_IP = 1, SONDE_COSINE = 2 } sonde_metric;
typedef enum { SONDE_SCALAR = 0, SONDE_AVX2 = 1, SONDE_AVX512 = 2 } sonde_tier;

/// One query against `count` rows that lie `stride` bytes apart: out[i] = distance(query, row i).
/// Query and rows have the same element type; no alignment is asked of either, and nothing outside the rows
/// is read. Any dimension from 1 on, any count (0 writes nothing).
typedef void (*sonde_rows_function)(const void *query, const void *rows, size_t stride, size_t count,
                                    size_t dimension, float *out);

/// `queries` queries (`query_stride` bytes apart) against `count` rows: out[q * out_stride + i].
/// The same bits as the rows function gives for each query.
typedef void (*sonde_block_function)(const void *query, size_t query_stride, size_t queries,
                                     const void *rows, size_t stride, size_t count, size_t dimension,
                                     float *out, size_t out_stride);

sonde_rows_function sonde_rows(sonde_metric metric, sonde_element element);
sonde_block_function sonde_block(sonde_metric metric, sonde_element element);

/// A block of which only distances that are at most limits[q] are kept: those of query q close up at the start of
/// out[q * out_stride ...], in the order of their rows, which are positions[q * out_stride ...]; found[q] counts
/// them. What else is in `out` and `positions` afterwards means nothing; both have room for every distance.
typedef void (*sonde_within_function)(sonde_metric metric, sonde_element element, const void *query,
                                      size_t query_stride, size_t queries, const void *rows, size_t stride,
                                      size_t count, size_t dimension, float *out, size_t out_stride,
                                      const float *limits, uint32_t *positions, uint32_t *found);

/// The form of the tier in force.
sonde_within_function sonde_within(void);

/// The distance of two vectors of u8 or i8 under l2 or ip, whole: single precision rounds what passes 2^24.
int64_t sonde_bytes_exact(sonde_metric metric, sonde_element element, const void *a, const void *b,
                          size_t dimension);

/// The tier in force, the widest that this processor has, and a switch for tests (0 on success, -1 where
/// the processor lacks it). SONDE_KERNELS is read once; a name that is unknown, or of a tier the processor
/// lacks, leaves the widest in force.
sonde_tier sonde_tier_now(void);
sonde_tier sonde_tier_widest(void);
int sonde_tier_set(sonde_tier tier);
const char *sonde_tier_name(sonde_tier tier);

/// CRC-32C (Castagnoli) of `size` bytes continued from `crc` (start with 0). Hardware where there is one.
uint32_t sonde_crc32c(uint32_t crc, const void *bytes, size_t size);

/// `count` numbers of any element type to float and back (rounded to nearest even, saturating: a finite
/// number out of range becomes the nearest that there is). In f16 infinities and NaN stay what they are; in
/// integers NaN becomes 0.
void sonde_to_f32(sonde_element element, const void *from, size_t count, float *to);
void sonde_from_f32(sonde_element element, const float *from, size_t count, void *to);

/// The first position of a number that is not finite, or `count` (always `count` for integer types).
size_t sonde_find_not_finite(sonde_element element, const void *from, size_t count);

/// Asks for memory that will be read soon.
static inline void sonde_prefetch(const void *from, size_t size) {
    for (size_t at = 0; at < size; at += 64) __builtin_prefetch((const char *)from + at);
}

/// Writes the positions of the values that are at most `limit`, in order, and returns how many there are.
/// `positions` has room for `count`.
size_t sonde_select_at_most(const float *values, size_t count, float limit, uint32_t *positions);

/// A limit that at least `wanted` of the values do not exceed, and seldom many more: what a search that has
/// found nothing yet starts from. Infinity where there are too few values to tell.
float sonde_limit_of_least(const float *values, size_t count, size_t wanted);

/// log sum_i exp(weight[i] - beta[i] * distance[i]); share[i] becomes the share of each term in the sum, unless
/// `share` is NULL.
float sonde_mixture(const float *weight, const float *beta, const float *distance, size_t count, float *share);

/// log sum_i exp(values[i]).
float sonde_log_sum_exp(const float *values, size_t count);

/// Sorts keys by their upper 32 bits, rising; equal ones stay in order. `spare` has room for `count` keys.
void sonde_sort_keys(uint64_t *keys, uint64_t *spare, size_t count);

/// The same of the `least` least keys alone, at the start of `keys`; what lies behind them afterwards means nothing.
void sonde_sort_least(uint64_t *keys, uint64_t *spare, size_t count, size_t least);

/// What a query is to a product quantiser: its inner products with the 256 codewords of each of `spaces`
/// sub-spaces (at most 256 of them), as bytes of one `step`. Sub-space m has components starts[m] ..< starts[m + 1];
/// words[k * 256 + i] is component k of codeword i (half precision). The inner product with a coded vector is
/// *offset + *step * (sum over m of tables[m * 256 + code m]), to half a step a sub-space. `products` has room for
/// 256 floats a sub-space.
void sonde_code_tables(const uint16_t *words, const uint32_t *starts, size_t spaces, const float *query,
                       float *products, uint8_t *tables, float *step, float *offset);

/// log sum_i exp(weights[i] + factor * S_i), weights of half precision, S_i the sum of the table entries of
/// vector i, whose code for sub-space m is codes[m * count + i]. `values` has room for `count` floats.
float sonde_code_mixture(const uint8_t *codes, const uint16_t *weights, size_t count, size_t spaces,
                         const uint8_t *tables, float factor, float *values);

/// The scan of coded vectors for one query: sums[i] = sum over m of tables[m * 256 + codes[m * stride + i]], codes
/// of `spaces` (at most 256) bytes that lie by sub-space, `count` of them from `codes` on. Nothing else is read.
void sonde_code_sums(const uint8_t *codes, size_t stride, size_t count, size_t spaces, const uint8_t *tables,
                     uint16_t *sums);

/// The same of codes of four bits, two sub-spaces a byte (at most 128 bytes): the lower four bits of byte m pick
/// from tables[m * 32], the upper ones from tables[m * 32 + 16].
void sonde_code4_sums(const uint8_t *codes, size_t stride, size_t count, size_t bytes, const uint8_t *tables,
                      uint16_t *sums);

/// Estimates step * sums[i] + (corrections[i] + offset), corrections of half precision, that are at most `limit`:
/// writes first + i and the estimate of each, in order, and returns how many there are. `positions` and
/// `estimates` have room for `count`. Every tier gives the same bits.
size_t sonde_code_select(const uint16_t *sums, const uint16_t *corrections, size_t count, float step, float offset,
                         float limit, uint32_t first, uint32_t *positions, float *estimates);

/// Codes looked at twice: tables of four bits that hold for each sub-space the mean of every sixteen entries
/// (`means`, sixteen bytes a sub-space, zeros behind an odd one, as sonde_code4_sums reads them), and the standard
/// deviation of a whole sum of entries around the sum of their means, in steps of the tables.
void sonde_code_groups(const uint8_t *tables, size_t spaces, uint8_t *means, float *spread);

/// The estimates of `looked` of `count` codes, by their whole bytes: upper[m * count + i] holds the upper four bits of
/// sub-spaces 2 m (in its lower half) and 2 m + 1, lower[i * ((spaces + 1) / 2) + m] their lower four bits in the same
/// order. `places` names codes, rising; those with step * sum + (corrections[i] + offset) at most `limit` are written to
/// `positions` (which may be `places`) and `estimates`, and counted.
size_t sonde_code_refine(const uint8_t *upper, const uint8_t *lower, const uint16_t *corrections, size_t count,
                         size_t spaces, const uint8_t *tables, float step, float offset, float limit,
                         const uint32_t *places, size_t looked, uint32_t *positions, float *estimates);

/// Probabilities to be among the k nearest of `count` things whose squared distances are known up to an error of
/// `spread` times their root: p = Phi((tau - d) / (spread sqrt(d))), tau (returned) such that they sum to k. What is
/// infinitely far gets 0; where no more than k are nearer than that, they get 1 and tau is infinite.
float sonde_soft_nearest(const float *distances, size_t count, float k, float spread, float *probabilities);

/// One step of Adam (Kingma and Ba 2015, algorithm 1) over `count` parameters; correction1 and correction2
/// are 1 / (1 - beta^t) of the two moments.
void sonde_adam(float *value, const float *gradient, float *first, float *second, size_t count,
                float rate, float beta1, float beta2, float correction1, float correction2);

/// From now on pieces of memory of 1 MiB and more go back to the kernel when they are freed.
void sonde_return_freed_memory(void);
// Small pieces that were freed and lie between others go back, too: worth it once, after much was decoded.
void sonde_trim_heap(void);

/// to[i] += scale * from[i].
void sonde_add_scaled(float *to, const float *from, float scale, size_t count);
#endif
