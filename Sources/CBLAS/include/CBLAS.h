// The one product of matrices that training needs, from the OpenBLAS of the system, which is loaded when the first is
// asked for. Loading it starts its threads, in every command, if it is linked; loaded here it starts none.
#ifndef SONDE_CBLAS_H
#define SONDE_CBLAS_H
#include <stdbool.h>

/// Loads the library (libopenblas.so.0, or what the environment's SONDE_OPENBLAS names), once. NULL where it is there;
/// else what the system said, for good.
const char *sonde_blas_load(void);

/// c = alpha * op(a) op(b) + beta * c of row-major f32: op(a) is m x k, op(b) k x n, c m x n; strides are those of the
/// rows as stored. On the calling thread alone. Right, and many times slower, where the library cannot be loaded.
void sonde_sgemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float *a, int stride_a,
                 const float *b, int stride_b, float beta, float *c, int stride_c);
#endif
