/* The thin layer over cuBLASLt, for matrix products. blas.c calls the library; host/blas.cpp has plain loops. */
#ifndef CLD_CUDA_BLAS_H
#define CLD_CUDA_BLAS_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes. cuBLASLt's kernels read a bias as vectors of this size, whatever alignment the heuristic was given. */
#define CLD_BIAS_ALIGNMENT 16

/* C = alpha op(A) op(B) + beta C [+ bias], row-major: C (m, n), op(A) (m, k), op(B) (k, n), each with its leading
 * dimension (elements between rows in memory). A batch of `batch` such products, strides apart. */
typedef struct cld_product {
    int64_t m, n, k, batch;
    bool transpose_a, transpose_b; /* A is stored as (k, m), B as (n, k) */
    int64_t lda, ldb, ldc;
    int64_t stride_a, stride_b, stride_c; /* elements; 0: the same matrix for all */
    cld_dtype factors;                    /* dtype of A and B: f32, f64, bf16, f16 */
    cld_dtype result;                     /* dtype of C: that of the factors, or f32 */
    double alpha, beta;
    /* (n), of C's dtype and aligned as above, added to each row; or NULL. CLD_UNSUPPORTED for f64. */
    const void *bias;
} cld_product;

cld_status cld_cuda_product(void *c, const void *a, const void *b, const cld_product *p);
/* Whether f32 factors are rounded to tf32: off at first. Returns the previous setting. */
bool cld_cuda_allow_tf32(bool on);
bool cld_cuda_tf32(void);
/* "cuBLAS 13.1" */
const char *cld_cuda_blas_version(void);

#ifdef __cplusplus
}
#endif

#endif
