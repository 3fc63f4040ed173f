/* Casts any element type to any other, as a copy does. Integers wrap around in narrower types. A float that does not
 * fit into int64 becomes the smallest int64, and wraps. */
#ifndef CLD_CUDA_CONVERT_CUH
#define CLD_CUDA_CONVERT_CUH

#include "kernels/cuda/number.cuh"

#include <type_traits>

template <typename T> struct cld_is_integer { static const bool value = false; };
template <> struct cld_is_integer<int64_t> { static const bool value = true; };
template <> struct cld_is_integer<int32_t> { static const bool value = true; };
template <> struct cld_is_integer<uint8_t> { static const bool value = true; };

__device__ inline int64_t to_integer(double v) { return v >= -0x1p63 && v < 0x1p63 ? (int64_t)v : INT64_MIN; }

template <typename To, typename From> __device__ inline To convert(From x) {
    if constexpr (std::is_same<To, From>::value)
        return x; /* bit for bit */
    else if constexpr (cld_is_integer<To>::value && !cld_is_integer<From>::value)
        return (To)to_integer((double)load(x));
    else
        return store<To>(load(x));
}

/* For dtypes that are not worth a kernel of their own. */
template <typename W> __device__ inline void store_as(void *out, cld_dtype dtype, int64_t at, W value) {
    switch (dtype) {
    case CLD_F32: ((float *)out)[at] = convert<float>(value); break;
    case CLD_F64: ((double *)out)[at] = convert<double>(value); break;
    case CLD_BF16: ((bf16 *)out)[at] = convert<bf16>(value); break;
    case CLD_F16: ((f16 *)out)[at] = convert<f16>(value); break;
    case CLD_I64: ((int64_t *)out)[at] = convert<int64_t>(value); break;
    case CLD_I32: ((int32_t *)out)[at] = convert<int32_t>(value); break;
    default: ((uint8_t *)out)[at] = convert<uint8_t>(value); break;
    }
}
__device__ inline double load_as(const void *x, cld_dtype dtype, int64_t at) {
    switch (dtype) {
    case CLD_F32: return ((const float *)x)[at];
    case CLD_F64: return ((const double *)x)[at];
    case CLD_BF16: return load(((const bf16 *)x)[at]);
    default: return load(((const f16 *)x)[at]);
    }
}

#endif
