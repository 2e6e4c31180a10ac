#define _GNU_SOURCE
#include "CBLAS.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/// The values of cblas.h, which every BLAS shares.
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

typedef void (*sgemm_function)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                               const float *a, int stride_a, const float *b, int stride_b, float beta, float *c,
                               int stride_c);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_function sgemm;
static char failure[512];

static void load(void) {
    // Read by the library when it is loaded: with more, it starts threads at once, and dies by a signal where the
    // system refuses them.
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    const char *name = getenv("SONDE_OPENBLAS");
    void *library = dlopen(name && *name ? name : "libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library) {
        // Function pointers do not convert from void * in ISO C; POSIX has them of one size.
        *(void **)&sgemm = dlsym(library, "cblas_sgemm");
        // Where another part of the process had loaded it before, with threads.
        void (*set_threads)(int);
        *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
        if (sgemm && set_threads) set_threads(1);
    }
    if (!sgemm) {
        const char *reason = dlerror();
        snprintf(failure, sizeof failure, "%s", reason ? reason : "it has no cblas_sgemm");
    }
}

const char *sonde_blas_load(void) {
    pthread_once(&once, load);
    return sgemm ? NULL : failure;
}

/// The same without the library: slow, and never wrong.
static void plain_sgemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float *a,
                        int stride_a, const float *b, int stride_b, float beta, float *c, int stride_c) {
    for (int row = 0; row < m; row++) {
        for (int column = 0; column < n; column++) {
            float sum = 0;
            for (int i = 0; i < k; i++) {
                const float left = transpose_a ? a[(long)i * stride_a + row] : a[(long)row * stride_a + i];
                const float right = transpose_b ? b[(long)column * stride_b + i] : b[(long)i * stride_b + column];
                sum += left * right;
            }
            float *to = c + (long)row * stride_c + column;
            *to = alpha * sum + (beta == 0 ? 0 : beta * *to);
        }
    }
}

void sonde_sgemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha, const float *a, int stride_a,
                 const float *b, int stride_b, float beta, float *c, int stride_c) {
    if (sonde_blas_load()) {
        plain_sgemm(transpose_a, transpose_b, m, n, k, alpha, a, stride_a, b, stride_b, beta, c, stride_c);
        return;
    }
    sgemm(ROW_MAJOR, transpose_a ? TRANSPOSED : PLAIN, transpose_b ? TRANSPOSED : PLAIN, m, n, k, alpha, a, stride_a,
          b, stride_b, beta, c, stride_c);
}
