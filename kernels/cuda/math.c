/* Elementwise work, reductions, products and indexing on the device, joined in the backend's table. */
#include "kernels/cuda/math.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"

const cld_math_ops cld_cuda_math = {
    .copy = cld_cuda_copy_array,
    .copy_many = cld_cuda_copy_many,
    .fill = cld_cuda_fill_array,
    .unary = cld_cuda_unary,
    .binary = cld_cuda_binary,
    .where = cld_cuda_where,
    .reduce = cld_cuda_reduce,
    .arg_reduce = cld_cuda_arg_reduce,
    .cumsum = cld_cuda_cumsum,
    .nonzero = cld_cuda_nonzero,
    .gemm = cld_cuda_gemm,
    .softmax = cld_cuda_softmax,
    .softmax_backward = cld_cuda_softmax_backward,
    .cross_entropy = cld_cuda_cross_entropy,
    .normalize = cld_cuda_normalize,
    .normalize_backward = cld_cuda_normalize_backward,
    .group_norm = cld_cuda_group_norm,
    .group_norm_backward = cld_cuda_group_norm_backward,
    .window_sums = cld_cuda_window_sums,
    .gather = cld_cuda_gather,
    .scatter_add = cld_cuda_scatter_add,
    .index_select = cld_cuda_index_select,
    .index_add = cld_cuda_index_add,
    .index_copy = cld_cuda_index_copy,
    .topk = cld_cuda_topk,
    .eigh = cld_cuda_eigh,
    .random = cld_cuda_random,
    .allow_tf32 = cld_cuda_allow_tf32,
};
