/* How far two arrays differ, for the choice among plans that should compute the same. */
#include "kernels/cuda/compare.h"

#include "kernels/cuda/launch.h"
#include "kernels/cuda/number.cuh"

/* The bits of nonnegative floats have the same order as the floats, so their maximum does not depend on the order of
 * the threads. */
static __device__ inline void raise_to(int *largest, float value) {
    union {
        float value;
        int bits;
    } as = {value};
    atomicMax(largest, as.bits);
}

template <typename T> static __global__ void compare(int *largest, const T *a, const T *b, int64_t n) {
    float apart = 0, size = 0;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        double x = (double)load(a[i]), y = (double)load(b[i]);
        bool is_finite = x - x == 0;
        float distance = (float)fabs(x - y);
        if (!(x == y || (x != x && y != y)))
            apart = distance - distance == 0 ? fmaxf(apart, distance) : INFINITY;
        if (is_finite) size = fmaxf(size, (float)fabs(x));
    }
    raise_to(&largest[0], apart);
    raise_to(&largest[1], size);
}

cld_status cld_cuda_compare(float *largest, const void *a, const void *b, int64_t n, cld_dtype dtype) {
    CLD_TRY(cld_cuda_clear(largest, 2 * sizeof *largest));
    if (n == 0) return CLD_OK;
    int threads = 256;
    int64_t blocks = (n + threads - 1) / threads, most = 8 * (int64_t)cld_cuda_multiprocessors();
    CLD_BY_FLOAT(dtype, T,
                 return CLD_LAUNCH((compare<T>), (int)(blocks < most ? blocks : most), threads, 0,
                                   (int *)largest, (const T *)a, (const T *)b, n));
}
