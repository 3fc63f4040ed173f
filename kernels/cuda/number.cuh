/* Numbers in kernels: the element types, their conversion to the compute type, and reporting of faults. */
#ifndef CLD_CUDA_NUMBER_CUH
#define CLD_CUDA_NUMBER_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"

typedef __nv_bfloat16 bf16;
typedef __half f16;

/* The type in which elements are computed: float for 16 bits, int64_t for integers. */
template <typename T> struct cld_compute { typedef T type; };
template <> struct cld_compute<bf16> { typedef float type; };
template <> struct cld_compute<f16> { typedef float type; };
template <> struct cld_compute<int32_t> { typedef int64_t type; };
template <> struct cld_compute<uint8_t> { typedef int64_t type; };

/* Loads as the compute type. */
__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }
__device__ inline float load(bf16 x) { return __bfloat162float(x); }
__device__ inline float load(f16 x) { return __half2float(x); }
__device__ inline int64_t load(int64_t x) { return x; }
__device__ inline int64_t load(int32_t x) { return x; }
__device__ inline int64_t load(uint8_t x) { return x; }

/* Stores from any arithmetic type, rounded to nearest if it has 16 bits. */
template <typename T> struct cld_store {
    template <typename F> __device__ static T from(F x) { return (T)x; }
};
template <> struct cld_store<bf16> {
    template <typename F> __device__ static bf16 from(F x) { return __float2bfloat16((float)x); }
};
template <> struct cld_store<f16> {
    template <typename F> __device__ static f16 from(F x) { return __float2half((float)x); }
};
template <typename T, typename F> __device__ inline T store(F x) { return cld_store<T>::from(x); }

/* The first report is kept until the host has read it. */
__device__ inline void report(cld_fault *fault, cld_fault_kind kind, long long value, long long extent) {
    if (atomicCAS(&fault->kind, (int)CLD_FAULT_NONE, (int)kind) != CLD_FAULT_NONE) return;
    fault->value = value;
    fault->extent = extent;
}

/* Returns index if it is in 0 .. extent - 1, else reports it and returns 0. */
__device__ inline int64_t checked(cld_fault *fault, cld_fault_kind kind, int64_t index, int64_t extent) {
    if (index >= 0 && index < extent) return index;
    report(fault, kind, index, extent);
    return 0;
}

/* Run the statement with T as the array's element type:
 *     CLD_BY_DTYPE(x->dtype, T, CLD_TRY(CLD_LAUNCH((fill<T>), ...)));
 * for floats only: CLD_BY_FLOAT; for the types that losses are computed in: CLD_BY_WIDE (f32, f64). */
#define CLD_CASE(dtype_name, c_type, T, ...)                                                                 \
case CLD_##dtype_name: {                                                                                     \
    typedef c_type T;                                                                                        \
    __VA_ARGS__;                                                                                             \
    break;                                                                                                   \
}
#define CLD_BY_WIDE(dtype, T, ...)                                                                           \
    switch (dtype) {                                                                                         \
        CLD_CASE(F32, float, T, __VA_ARGS__)                                                                 \
        CLD_CASE(F64, double, T, __VA_ARGS__)                                                                \
    default: return cld_fail(CLD_UNSUPPORTED, "%s: expected f32 or f64", __func__);                          \
    }
#define CLD_BY_FLOAT(dtype, T, ...)                                                                          \
    switch (dtype) {                                                                                         \
        CLD_CASE(F32, float, T, __VA_ARGS__)                                                                 \
        CLD_CASE(F64, double, T, __VA_ARGS__)                                                                \
        CLD_CASE(BF16, bf16, T, __VA_ARGS__)                                                                 \
        CLD_CASE(F16, f16, T, __VA_ARGS__)                                                                   \
    default: return cld_fail(CLD_UNSUPPORTED, "%s: expected a floating-point dtype", __func__);              \
    }
#define CLD_BY_DTYPE(dtype, T, ...)                                                                          \
    switch (dtype) {                                                                                         \
        CLD_CASE(F32, float, T, __VA_ARGS__)                                                                 \
        CLD_CASE(F64, double, T, __VA_ARGS__)                                                                \
        CLD_CASE(BF16, bf16, T, __VA_ARGS__)                                                                 \
        CLD_CASE(F16, f16, T, __VA_ARGS__)                                                                   \
        CLD_CASE(I64, int64_t, T, __VA_ARGS__)                                                               \
        CLD_CASE(I32, int32_t, T, __VA_ARGS__)                                                               \
        CLD_CASE(U8, uint8_t, T, __VA_ARGS__)                                                                \
    default: return cld_fail(CLD_UNSUPPORTED, "%s: unknown dtype", __func__);                                \
    }

#endif
