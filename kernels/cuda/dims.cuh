/* Some dimensions of one or more arrays, enumerated by one index in a kernel. */
#ifndef CLD_CUDA_DIMS_CUH
#define CLD_CUDA_DIMS_CUH

#include "kernels/cuda/launch.h"

#ifdef __CUDACC__
#    define CLD_UNROLL _Pragma("unroll")
#else
#    define CLD_UNROLL
#endif

/* Division by a number known on the host: n / divisor = (n * multiplier / 2^32 + n) / 2^shift for n and divisor < 2^31
 * (Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994). */
struct cld_divisor {
    uint32_t divisor, multiplier, shift;
};

static inline cld_divisor cld_divisor_of(int64_t d) {
    cld_divisor r = {(uint32_t)d, 0, 0};
    while (((uint64_t)1 << r.shift) < (uint64_t)d) r.shift++;
    r.multiplier = (uint32_t)((((((uint64_t)1 << r.shift) - (uint64_t)d) << 32) / (uint64_t)d) + 1);
    return r;
}

__host__ __device__ inline uint32_t quotient(uint32_t n, const cld_divisor &d) {
    return ((uint32_t)((uint64_t)n * d.multiplier >> 32) + n) >> d.shift;
}
__host__ __device__ inline int64_t quotient(int64_t n, const cld_divisor &d) {
    return n >> 31 ? n / d.divisor : (int64_t)quotient((uint32_t)n, d);
}

/* Row-major: the last dimension varies fastest. The first one needs no division, and may have any extent. */
template <int N> struct cld_dims {
    int count;
    int64_t total;
    cld_divisor shape[CLD_MAX_DIMS];
    int64_t strides[N][CLD_MAX_DIMS];
};

/* The offset of the index in each array. */
template <int N, typename I> __device__ inline void locate(int64_t at[N], const cld_dims<N> &dims, I index) {
    CLD_UNROLL
    for (int k = 0; k < N; k++) at[k] = 0;
    for (int d = dims.count - 1; d > 0; d--) {
        I rest = quotient(index, dims.shape[d]), i = index - rest * (I)dims.shape[d].divisor;
        CLD_UNROLL
        for (int k = 0; k < N; k++) at[k] += i * dims.strides[k][d];
        index = rest;
    }
    CLD_UNROLL
    for (int k = 0; k < N; k++) at[k] += index * dims.strides[k][0];
}

/* Adds a dimension that varies faster than those before; total starts at 1. */
template <int N> static inline void push_dim(cld_dims<N> *dims, int64_t extent, const int64_t (&strides)[N]) {
    dims->shape[dims->count] = cld_divisor_of(extent);
    for (int k = 0; k < N; k++) dims->strides[k][dims->count] = strides[k];
    dims->count++;
    dims->total *= extent;
}

#endif
