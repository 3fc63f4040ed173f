/* From any element type to any other, as a copy casts: integers wrap around into narrower ones; a float that no integer
 * can hold becomes the smallest int64, and wraps. */
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

#endif
