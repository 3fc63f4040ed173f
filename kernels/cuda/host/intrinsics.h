/* CUDA's mathematical functions, conversions and bit operations, if C has none of that name. Functions that the device
 * computes fast and inexactly are exact here. */
#ifndef CLD_CUDA_HOST_INTRINSICS_H
#define CLD_CUDA_HOST_INTRINSICS_H

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- min and max: CUDA's overloads. If one is NaN: the other one ---- */

#define CLD_HOST_MIN_MAX(A, B, T)                                                                            \
    inline T min(A a, B b) { return (T)a < (T)b ? (T)a : (T)b; }                                             \
    inline T max(A a, B b) { return (T)a > (T)b ? (T)a : (T)b; }
#define CLD_HOST_MIN_MAX_SIGNED(T)                                                                           \
    CLD_HOST_MIN_MAX(T, T, T)                                                                                \
    CLD_HOST_MIN_MAX(unsigned T, unsigned T, unsigned T)                                                     \
    CLD_HOST_MIN_MAX(T, unsigned T, unsigned T)                                                              \
    CLD_HOST_MIN_MAX(unsigned T, T, unsigned T)
CLD_HOST_MIN_MAX_SIGNED(int)
CLD_HOST_MIN_MAX_SIGNED(long)
CLD_HOST_MIN_MAX_SIGNED(long long)
#undef CLD_HOST_MIN_MAX_SIGNED
#undef CLD_HOST_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin((double)a, b); }
inline double max(float a, double b) { return fmax((double)a, b); }
inline double min(double a, float b) { return fmin(a, (double)b); }
inline double max(double a, float b) { return fmax(a, (double)b); }

/* ---- functions; macros if the C library uses the name itself ---- */

inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __saturatef(float x) { return x > 0 ? fminf(x, 1.0f) : 0.0f; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline double __drcp_rn(double x) { return 1.0 / x; }

/* Subtracts a whole number of turns from x, which is exact, and computes the sine of an angle within a quarter turn, so
 * that exact zeros are zero. */
inline double cld_host_sinpi(double x) {
    double half_turns = remainder(x, 2.0),
           rest = fabs(half_turns) > 0.5 ? 1.0 - fabs(half_turns) : fabs(half_turns);
    return copysign(sin(M_PI * rest), half_turns);
}
inline double cld_host_cospi(double x) { return sin(M_PI * (0.5 - fabs(remainder(x, 2.0)))); }
inline void cld_host_sincospi(double x, double *s, double *c) {
    *s = cld_host_sinpi(x), *c = cld_host_cospi(x);
}
inline void cld_host_sincospif(float x, float *s, float *c) {
    *s = (float)cld_host_sinpi(x), *c = (float)cld_host_cospi(x);
}
inline void cld_host_sincosf(float x, float *s, float *c) { *s = sinf(x), *c = cosf(x); }
#define sinpif(x)          ((float)cld_host_sinpi(x))
#define cospif(x)          ((float)cld_host_cospi(x))
#define sinpi(x)           cld_host_sinpi(x)
#define cospi(x)           cld_host_cospi(x)
#define sincospif(x, s, c) cld_host_sincospif(x, s, c)
#define sincospi(x, s, c)  cld_host_sincospi(x, s, c)
#define __expf(x)          expf(x)
#define __exp10f(x)        exp10f(x)
#define __logf(x)          logf(x)
#define __log2f(x)         log2f(x)
#define __log10f(x)        log10f(x)
#define __powf(x, y)       powf(x, y)
#define __sinf(x)          sinf(x)
#define __cosf(x)          cosf(x)
#define __tanf(x)          tanf(x)
#define __sincosf(x, s, c) cld_host_sincosf(x, s, c)

/* ---- one operation, rounded to nearest, never fused with another ---- */

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

/* ---- to integers: values out of range become the nearest end, NaN becomes 0, or the lowest number for 64 bits ---- */

template <typename T> inline T cld_host_integer(double whole) {
    const bool is_signed = (T)-1 < 0;
    const int bits = (int)sizeof(T) * 8 - (is_signed ? 1 : 0);
    const double end = ldexp(1.0, bits); /* the first that is too large */
    const T lowest = is_signed ? (T)((uint64_t)1 << (sizeof(T) * 8 - 1)) : 0;
    if (whole != whole) return sizeof(T) == 4 ? 0 : (T)((uint64_t)1 << (sizeof(T) * 8 - 1));
    if (whole >= end) return (T)(is_signed ? ~(uint64_t)lowest : ~(uint64_t)0);
    if (whole < (is_signed ? -end : 0.0)) return lowest;
    return (T)whole;
}
#define CLD_HOST_TO_INTEGER(F, from, to, T)                                                                  \
    inline T __##from##2##to##_rn(F x) { return cld_host_integer<T>(nearbyint((double)x)); }                 \
    inline T __##from##2##to##_rd(F x) { return cld_host_integer<T>(floor((double)x)); }                     \
    inline T __##from##2##to##_ru(F x) { return cld_host_integer<T>(ceil((double)x)); }                      \
    inline T __##from##2##to##_rz(F x) { return cld_host_integer<T>(trunc((double)x)); }
CLD_HOST_TO_INTEGER(float, float, int, int)
CLD_HOST_TO_INTEGER(float, float, uint, unsigned)
CLD_HOST_TO_INTEGER(float, float, ll, long long)
CLD_HOST_TO_INTEGER(float, float, ull, unsigned long long)
CLD_HOST_TO_INTEGER(double, double, int, int)
CLD_HOST_TO_INTEGER(double, double, uint, unsigned)
CLD_HOST_TO_INTEGER(double, double, ll, long long)
CLD_HOST_TO_INTEGER(double, double, ull, unsigned long long)
#undef CLD_HOST_TO_INTEGER

inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __ll2float_rn(long long x) { return (float)x; }
inline float __ull2float_rn(unsigned long long x) { return (float)x; }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return (double)x; }
inline double __ull2double_rn(unsigned long long x) { return (double)x; }
inline float __double2float_rn(double x) { return (float)x; }

/* ---- the same bits as another type ---- */

#define CLD_HOST_AS(name, From, To)                                                                          \
    inline To name(From from) {                                                                              \
        To to;                                                                                               \
        static_assert(sizeof to == sizeof from, "");                                                         \
        memcpy(&to, &from, sizeof to);                                                                       \
        return to;                                                                                           \
    }
CLD_HOST_AS(__float_as_int, float, int)
CLD_HOST_AS(__float_as_uint, float, unsigned)
CLD_HOST_AS(__int_as_float, int, float)
CLD_HOST_AS(__uint_as_float, unsigned, float)
CLD_HOST_AS(__double_as_longlong, double, long long)
CLD_HOST_AS(__longlong_as_double, long long, double)
#undef CLD_HOST_AS
inline int __double2hiint(double x) { return (int)(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return (int)__double_as_longlong(x); }
inline double __hiloint2double(int high, int low) {
    return __longlong_as_double((long long)((uint64_t)(uint32_t)high << 32 | (uint32_t)low));
}

/* ---- bits and integers ---- */

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= (unsigned)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return out;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((uint64_t)high << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}
inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
__extension__ inline long long __mul64hi(long long a, long long b) {
    return (long long)((__int128)a * b >> 64);
}
__extension__ inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

/* ---- memory: hints to the caches ---- */

template <typename T> inline T __ldg(const T *p) { return *p; }
template <typename T> inline T __ldca(const T *p) { return *p; }
template <typename T> inline T __ldcg(const T *p) { return *p; }
template <typename T> inline T __ldcs(const T *p) { return *p; }
template <typename T> inline T __ldlu(const T *p) { return *p; }
template <typename T> inline T __ldcv(const T *p) { return *p; }
template <typename T> inline void __stwb(T *p, T value) { *p = value; }
template <typename T> inline void __stcg(T *p, T value) { *p = value; }
template <typename T> inline void __stcs(T *p, T value) { *p = value; }
template <typename T> inline void __stwt(T *p, T value) { *p = value; }
inline void __trap() { abort(); }

#endif
