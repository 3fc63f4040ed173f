/* The functions of the table for convolution, normalization and pooling that are our own kernels, as kernels/backend.h
 * specifies them. Those of bias.cu work on channels-last activations: */
#ifndef CLD_CUDA_CONV_H
#define CLD_CUDA_CONV_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- bias.cu ---- */

/* y += bias, per channel; bias is f32, or f64 if y is f64. */
cld_status cld_cuda_add_bias(const cld_array *y, const cld_array *bias);
/* dbias = sums of dy per channel, with the same dtypes. */
cld_status cld_cuda_bias_gradient(const cld_array *dbias, const cld_array *dy);

/* ---- norm.cu, norm_backward.cu ---- */

cld_status cld_cuda_norm(const cld_array *y, const cld_array *mask, const cld_array *mean,
                         const cld_array *invstd, const cld_array *x, const cld_array *residual,
                         const cld_array *weight, const cld_array *bias, const cld_array *running_mean,
                         const cld_array *running_var, const cld_array *batches, const cld_array *sums,
                         const cld_norm_params *p);
cld_status cld_cuda_norm_sums(const cld_array *sums, const cld_array *x, const cld_norm_params *p);
cld_status cld_cuda_norm_apply(const cld_array *y, const cld_array *x, const cld_array *weight,
                               const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                               const cld_norm_params *p);
cld_status cld_cuda_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                  const cld_array *dbias, const cld_array *dy, const cld_array *more_dy,
                                  const cld_array *x, const cld_array *gate, const cld_array *weight,
                                  const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                  const cld_array *sums, const cld_norm_params *p);
cld_status cld_cuda_norm_backward_sums(const cld_array *sums, const cld_array *dresidual,
                                       const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                       const cld_array *more_dy, const cld_array *x, const cld_array *gate,
                                       const cld_array *weight, const cld_array *bias, const cld_array *mean,
                                       const cld_array *invstd, const cld_norm_params *p);

/* ---- pooling.cu ---- */

cld_status cld_cuda_max_pool(const cld_array *y, const cld_array *argmax, const cld_array *x,
                             const cld_pool_params *p);
cld_status cld_cuda_max_pool_backward(const cld_array *dx, const cld_array *dy, const cld_array *argmax,
                                      const cld_pool_params *p);
cld_status cld_cuda_avg_pool(const cld_array *y, const cld_array *x, const cld_pool_params *p);
cld_status cld_cuda_avg_pool_backward(const cld_array *dx, const cld_array *dy, const cld_pool_params *p);

#ifdef __cplusplus
}
#endif

#endif
