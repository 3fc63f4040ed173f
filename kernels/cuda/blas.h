/* The thin layer over cuBLASLt: one product. blas.c calls the library, host/blas.cpp has plain loops. */
#ifndef CLD_CUDA_BLAS_H
#define CLD_CUDA_BLAS_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes. cuBLASLt's kernels read a bias as vectors of this size, whatever the heuristic was told. */
#define CLD_BIAS_ALIGNMENT 16

/* C = alpha op(A) op(B) + beta C [+ bias], row-major: C (m, n), op(A) (m, k), op(B) (k, n), each with its leading
 * dimension (elements from one row, as it lies in memory, to the next). `batch` of them, strides apart. */
typedef struct cld_product {
    int64_t m, n, k, batch;
    bool transpose_a, transpose_b; /* A lies as (k, m), B as (n, k) */
    int64_t lda, ldb, ldc;
    int64_t stride_a, stride_b, stride_c; /* elements; 0: the same for all */
    cld_dtype factors;                    /* of A and B: f32, f64, bf16, f16 */
    cld_dtype result;                     /* of C: the factors', or f32 */
    double alpha, beta;
    /* (n) of C's dtype, so aligned, added to each row; or NULL. Of f64 it is CLD_UNSUPPORTED. */
    const void *bias;
} cld_product;

cld_status cld_cuda_product(void *c, const void *a, const void *b, const cld_product *p);
/* f32 factors rounded to tf32: off at first. Returns what it was. */
bool cld_cuda_allow_tf32(bool on);
bool cld_cuda_tf32(void);
/* "cuBLAS 13.1" */
const char *cld_cuda_blas_version(void);

#ifdef __cplusplus
}
#endif

#endif
