/* Elementwise work, reductions, products, indexing on the device, gathered into the backend's table. */
#include "kernels/cuda/math.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"

const cld_math_ops cld_cuda_math = {
    .copy = cld_cuda_copy_array,
    .fill = cld_cuda_fill_array,
    .unary = cld_cuda_unary,
    .binary = cld_cuda_binary,
    .where = cld_cuda_where,
    .reduce = cld_cuda_reduce,
    .arg_reduce = cld_cuda_arg_reduce,
    .cumsum = cld_cuda_cumsum,
    .gemm = cld_cuda_gemm,
    .softmax = cld_cuda_softmax,
    .softmax_backward = cld_cuda_softmax_backward,
    .normalize = cld_cuda_normalize,
    .normalize_backward = cld_cuda_normalize_backward,
    .allow_tf32 = cld_cuda_allow_tf32,
};
