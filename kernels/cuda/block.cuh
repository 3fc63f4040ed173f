/* Reductions over the threads of a block: sums, maxima, and counts over the threads before each thread. Always in the
 * same order, so that the same input gives the same bits. Blocks are whole warps. `shared` holds BLOCK_WARPS values,
 * and the next call may use it again at once.
 *
 * Also accesses of 16 bytes: wide<T> is as many elements of T as fit, copied by one instruction; wide<T, 1> replaces it
 * if addresses are not aligned. */
#ifndef CLD_CUDA_BLOCK_CUH
#define CLD_CUDA_BLOCK_CUH

#include <float.h>
#include <math.h>

#include "kernels/cuda/number.cuh"

#define BLOCK_WARPS 32 /* at most */
#define WHOLE_WARP  0xffffffffu

template <typename T, int N = 16 / (int)sizeof(T)> struct alignas(sizeof(T) * N) wide {
    static const int COUNT = N;
    T v[N];
};

__host__ __device__ inline bool is_wide(const void *p) { return ((uintptr_t)p & 15) == 0; }

/* ---- by type ---- */

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float fused(float a, float b, float c) { return fmaf(a, b, c); } /* a b + c, one rounding */
__device__ inline double fused(double a, double b, double c) { return fma(a, b, c); }
__device__ inline float larger(float a, float b) { return fmaxf(a, b); } /* if one is NaN, the other one */
__device__ inline double larger(double a, double b) { return fmax(a, b); }
template <typename T> struct limits;
template <> struct limits<float> {
    __device__ static float most() { return FLT_MAX; }
    __device__ static float infinity() { return (float)INFINITY; }
};
template <> struct limits<double> {
    __device__ static double most() { return DBL_MAX; }
    __device__ static double infinity() { return (double)INFINITY; }
};

/* ---- reductions: every thread gets the result ---- */

template <typename T> __device__ inline T warp_sum(T x) {
    for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(WHOLE_WARP, x, offset);
    return x;
}

template <typename T> __device__ inline T block_sum(T x, T *shared) {
    int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    if (warps == 1) return x;
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[warp] = x;
    __syncthreads();
    T sum = shared[0];
    for (int w = 1; w < warps; w++) sum += shared[w];
    return sum;
}

template <typename T> __device__ inline T block_largest(T x, T *shared) {
    int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int offset = 16; offset > 0; offset >>= 1) x = larger(x, __shfl_xor_sync(WHOLE_WARP, x, offset));
    if (warps == 1) return x;
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[warp] = x;
    __syncthreads();
    T most = shared[0];
    for (int w = 1; w < warps; w++) most = larger(most, shared[w]);
    return most;
}

/* The sum of x over the threads before this one; *total: over all of them. */
__device__ inline int block_before(int x, int *total, int *shared) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int upto = x, before = 0, sum = 0;
    for (int offset = 1; offset < 32; offset <<= 1) {
        int other = __shfl_up_sync(WHOLE_WARP, upto, offset);
        if (lane >= offset) upto += other;
    }
    __syncthreads();
    if (lane == 31) shared[warp] = upto;
    __syncthreads();
    for (int w = 0; w < warps; w++) {
        if (w == warp) before = sum;
        sum += shared[w];
    }
    *total = sum;
    return before + upto - x;
}

#endif
