/* Elementwise work, reductions, products, indexing on the device, gathered into the backend's table. */
#include "kernels/cuda/math.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"

const cld_math_ops cld_cuda_math = {
    .copy = cld_cuda_copy_array,
    .fill = cld_cuda_fill_array,
    .allow_tf32 = cld_cuda_allow_tf32,
};
