/* __half and __nv_bfloat16: 16 bits of storage, computed in float, rounded to nearest, ties to even. As with the
 * device's conversions, NaN becomes 0x7fff and values that are too large become infinity.
 */
#ifndef CLD_CUDA_HOST_HALF_H
#define CLD_CUDA_HOST_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cuda/host/types.h"

inline uint32_t cld_host_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float cld_host_bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The float next to x on the side of zero, with its last bit set if it is not x itself. Rounding this to 16 bits is
 * rounding x, because a sticky bit is all that rounding needs to know about the bits below. */
inline float cld_host_sticky(double x) {
    float near = (float)x;
    if (x != x || (double)near == x) return near;
    uint32_t bits = cld_host_float_bits(near);
    if (fabs((double)near) > fabs(x)) bits--;
    return cld_host_bits_float(bits | 1);
}

struct cld_host_half_format {
    static uint16_t from(float x) {
        uint32_t bits = cld_host_float_bits(x), magnitude = bits & 0x7fffffffu;
        uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
        if (magnitude > 0x7f800000u) return 0x7fff;
        if (magnitude >= 0x47800000u)
            return sign | 0x7c00;    /* from 65536 on; rounding carries there from 65520 on */
        if (magnitude < 0x38800000u) /* below 2^-14 the spacing is that of floats from 0.5 on: 2^-24 */
            return (uint16_t)(sign |
                              (cld_host_float_bits(cld_host_bits_float(magnitude) + 0.5f) - 0x3f000000u));
        magnitude += 0xfffu + (magnitude >> 13 & 1u);
        return (uint16_t)(sign | (magnitude - 0x38000000u) >> 13);
    }
    static float to(uint16_t half) {
        uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
        if (magnitude >= 0x7c00u) return cld_host_bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
        if (magnitude < 0x400u)
            return cld_host_bits_float(sign | cld_host_float_bits((float)magnitude * 0x1p-24f));
        return cld_host_bits_float(sign | ((magnitude << 13) + 0x38000000u));
    }
};

struct cld_host_bfloat16_format {
    static uint16_t from(float x) {
        uint32_t bits = cld_host_float_bits(x);
        if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
        return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
    static float to(uint16_t half) { return cld_host_bits_float((uint32_t)half << 16); }
};

/* Converts to and from float by itself, as CUDA's types do. */
template <typename Format> struct cld_host_narrow {
    uint16_t bits;

    cld_host_narrow() = default;
    cld_host_narrow(float x) : bits(Format::from(x)) {}
    cld_host_narrow(double x) : bits(Format::from(cld_host_sticky(x))) {}
    cld_host_narrow(int x) : cld_host_narrow((double)x) {}
    cld_host_narrow(unsigned x) : cld_host_narrow((double)x) {}
    cld_host_narrow(long x) : cld_host_narrow((double)x) {}
    cld_host_narrow(unsigned long x) : cld_host_narrow((double)x) {}
    cld_host_narrow(long long x) : cld_host_narrow((double)x) {}
    cld_host_narrow(unsigned long long x) : cld_host_narrow((double)x) {}
    operator float() const { return Format::to(bits); }

    static cld_host_narrow of_bits(uint16_t bits) {
        cld_host_narrow x;
        x.bits = bits;
        return x;
    }
};
typedef cld_host_narrow<cld_host_half_format> __half;
typedef cld_host_narrow<cld_host_bfloat16_format> __nv_bfloat16;
typedef __half half;
typedef __nv_bfloat16 nv_bfloat16;

template <typename H> struct __attribute__((aligned(4))) cld_host_pair { H x, y; };
typedef cld_host_pair<__half> __half2;
typedef cld_host_pair<__nv_bfloat16> __nv_bfloat162;
typedef __half2 half2;
typedef __nv_bfloat162 nv_bfloat162;

/* ---- conversions ---- */

inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline __nv_bfloat16 __double2bfloat16(double x) { return x; }
inline __nv_bfloat16 __int2bfloat16_rn(int x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline short __bfloat16_as_short(__nv_bfloat16 x) { return (short)x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16::of_bits(bits); }
inline __nv_bfloat16 __short_as_bfloat16(short bits) { return __nv_bfloat16::of_bits((uint16_t)bits); }

inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline __half __double2half(double x) { return x; }
inline __half __int2half_rn(int x) { return x; }
inline float __half2float(__half x) { return x; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline short __half_as_short(__half x) { return (short)x.bits; }
inline __half __ushort_as_half(unsigned short bits) { return __half::of_bits(bits); }
inline __half __short_as_half(short bits) { return __half::of_bits((uint16_t)bits); }

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }

inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }

template <typename H> inline float __low2float(cld_host_pair<H> v) { return v.x; }
template <typename H> inline float __high2float(cld_host_pair<H> v) { return v.y; }

/* ---- arithmetic ---- */

/* a b + c, rounded once: the product is exact in double, and so is the error of the sum. */
template <typename F>
inline cld_host_narrow<F> __hfma(cld_host_narrow<F> a, cld_host_narrow<F> b, cld_host_narrow<F> c) {
    double p = (double)(float)a * (double)(float)b, q = (float)c, sum = p + q;
    double part = sum - p, rest = (p - (sum - part)) + (q - part);
    if (rest != 0 && isfinite(sum)) { /* towards zero, the last bit set */
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        if ((rest < 0) == (sum > 0)) bits--;
        bits |= 1;
        memcpy(&sum, &bits, sizeof sum);
    }
    return sum;
}

#define CLD_HOST_HALF_BINARY(op, name)                                                                       \
    template <typename F>                                                                                    \
    inline cld_host_narrow<F> operator op(cld_host_narrow<F> a, cld_host_narrow<F> b) {                      \
        return (float)a op(float) b;                                                                         \
    }                                                                                                        \
    template <typename F>                                                                                    \
    inline cld_host_narrow<F> &operator op##=(cld_host_narrow<F> &a, cld_host_narrow<F> b) {                 \
        return a = (float)a op(float) b;                                                                     \
    }                                                                                                        \
    template <typename F> inline cld_host_narrow<F> name(cld_host_narrow<F> a, cld_host_narrow<F> b) {       \
        return (float)a op(float) b;                                                                         \
    }                                                                                                        \
    template <typename F>                                                                                    \
    inline cld_host_pair<cld_host_narrow<F>> operator op(cld_host_pair<cld_host_narrow<F>> a,                \
                                                         cld_host_pair<cld_host_narrow<F>> b) {              \
        return {name(a.x, b.x), name(a.y, b.y)};                                                             \
    }                                                                                                        \
    template <typename F>                                                                                    \
    inline cld_host_pair<cld_host_narrow<F>> name##2(cld_host_pair<cld_host_narrow<F>> a,                    \
                                                     cld_host_pair<cld_host_narrow<F>> b) {                  \
        return {name(a.x, b.x), name(a.y, b.y)};                                                             \
    }
CLD_HOST_HALF_BINARY(+, __hadd)
CLD_HOST_HALF_BINARY(-, __hsub)
CLD_HOST_HALF_BINARY(*, __hmul)
CLD_HOST_HALF_BINARY(/, __hdiv)
#undef CLD_HOST_HALF_BINARY

#define CLD_HOST_HALF_COMPARE(op, name)                                                                      \
    template <typename F> inline bool operator op(cld_host_narrow<F> a, cld_host_narrow<F> b) {              \
        return (float)a op(float) b;                                                                         \
    }                                                                                                        \
    template <typename F> inline bool name(cld_host_narrow<F> a, cld_host_narrow<F> b) {                     \
        return (float)a op(float) b;                                                                         \
    }
CLD_HOST_HALF_COMPARE(==, __heq)
CLD_HOST_HALF_COMPARE(!=, __hne)
CLD_HOST_HALF_COMPARE(<, __hlt)
CLD_HOST_HALF_COMPARE(<=, __hle)
CLD_HOST_HALF_COMPARE(>, __hgt)
CLD_HOST_HALF_COMPARE(>=, __hge)
#undef CLD_HOST_HALF_COMPARE

template <typename F> inline cld_host_narrow<F> operator-(cld_host_narrow<F> a) {
    return cld_host_narrow<F>::of_bits(a.bits ^ 0x8000u);
}
template <typename F> inline cld_host_narrow<F> __hneg(cld_host_narrow<F> a) { return -a; }
template <typename F> inline cld_host_narrow<F> __habs(cld_host_narrow<F> a) {
    return cld_host_narrow<F>::of_bits(a.bits & 0x7fffu);
}
template <typename F> inline bool __hisnan(cld_host_narrow<F> a) { return isnan((float)a); }
/* If one is NaN, this is the other one. */
template <typename F> inline cld_host_narrow<F> __hmax(cld_host_narrow<F> a, cld_host_narrow<F> b) {
    return fmaxf(a, b);
}
template <typename F> inline cld_host_narrow<F> __hmin(cld_host_narrow<F> a, cld_host_narrow<F> b) {
    return fminf(a, b);
}
template <typename F>
inline cld_host_pair<cld_host_narrow<F>> __hmax2(cld_host_pair<cld_host_narrow<F>> a,
                                                 cld_host_pair<cld_host_narrow<F>> b) {
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
template <typename F>
inline cld_host_pair<cld_host_narrow<F>> __hmin2(cld_host_pair<cld_host_narrow<F>> a,
                                                 cld_host_pair<cld_host_narrow<F>> b) {
    return {__hmin(a.x, b.x), __hmin(a.y, b.y)};
}
template <typename F>
inline cld_host_pair<cld_host_narrow<F>> __hfma2(cld_host_pair<cld_host_narrow<F>> a,
                                                 cld_host_pair<cld_host_narrow<F>> b,
                                                 cld_host_pair<cld_host_narrow<F>> c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

#endif
