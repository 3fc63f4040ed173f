/* The functions behind cld_cuda_math, by file. */
#ifndef CLD_CUDA_MATH_H
#define CLD_CUDA_MATH_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* copy.cu, copy_many.cu, elementwise.cu */
cld_status cld_cuda_copy_array(const cld_array *out, const cld_array *x);
cld_status cld_cuda_copy_many(int count, const cld_array *outs, const cld_array *xs);
cld_status cld_cuda_fill_array(const cld_array *out, cld_scalar value);
cld_status cld_cuda_unary(cld_unary kind, const cld_array *out, const cld_array *x, cld_scalar a,
                          cld_scalar b);
cld_status cld_cuda_binary(cld_binary kind, const cld_array *out, const cld_array *a, const cld_array *b);
cld_status cld_cuda_where(const cld_array *out, const cld_array *condition, const cld_array *a,
                          const cld_array *b);
/* reduce.cu, arg_reduce.cu, scan.cu */
cld_status cld_cuda_reduce(cld_reduction kind, const cld_array *out, const cld_array *x);
cld_status cld_cuda_arg_reduce(cld_reduction kind, const cld_array *out, const cld_array *x, int dim);
cld_status cld_cuda_cumsum(const cld_array *out, const cld_array *x, int dim, bool reverse);
/* gemm.c; products of integers: gemm_integer.cu */
cld_status cld_cuda_gemm(const cld_array *out, const cld_array *a, const cld_array *b, const cld_array *bias);
cld_status cld_cuda_integer_gemm(const cld_array *out, const cld_array *a, const cld_array *b,
                                 const cld_array *bias);
/* softmax.cu, cross_entropy.cu, normalize.cu */
cld_status cld_cuda_softmax(const cld_array *out, const cld_array *x, int dim, bool log);
cld_status cld_cuda_softmax_backward(const cld_array *dx, const cld_array *y, const cld_array *dout, int dim,
                                     bool log);
cld_status cld_cuda_cross_entropy(const cld_array *loss, const cld_array *share, const cld_array *dlogits,
                                  const cld_array *logits, const cld_array *labels,
                                  const cld_cross_entropy_params *p);
cld_status cld_cuda_normalize(const cld_array *out, const cld_array *norms, const cld_array *x);
cld_status cld_cuda_normalize_backward(const cld_array *dx, const cld_array *y, const cld_array *norms,
                                       const cld_array *dout);
/* group_norm.cu, window_sums.cu */
cld_status cld_cuda_group_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                               const cld_array *x, const cld_array *weight, const cld_array *bias,
                               double eps);
cld_status cld_cuda_group_norm_backward(const cld_array *dx, const cld_array *dweight, const cld_array *dbias,
                                        const cld_array *dy, const cld_array *x, const cld_array *weight,
                                        const cld_array *mean, const cld_array *invstd);
cld_status cld_cuda_window_sums(const cld_array *y, const cld_array *x, const cld_array *first,
                                const cld_array *weights);
/* index.cu */
cld_status cld_cuda_gather(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
cld_status cld_cuda_scatter_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
cld_status cld_cuda_index_select(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
cld_status cld_cuda_index_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
cld_status cld_cuda_index_copy(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
/* sort.cu, eigen.cu, nonzero.cu, random.cu */
cld_status cld_cuda_topk(const cld_array *values, const cld_array *index, const cld_array *x, int dim,
                         bool descending);
cld_status cld_cuda_eigh(const cld_array *values, const cld_array *vectors, const cld_array *a);
cld_status cld_cuda_nonzero(const cld_array *out, const cld_array *x);
cld_status cld_cuda_random(const cld_array *out, cld_random kind, double a, double b, uint64_t seed,
                           uint64_t position, const cld_array *base);

#ifdef __cplusplus
}
#endif

#endif
