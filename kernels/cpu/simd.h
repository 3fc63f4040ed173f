/* One binary for every x86-64: CLD_SIMD compiles a function for AVX-512, AVX2 + FMA and the baseline; the loader picks
 * one. The loops inside are plain C that the compiler vectorizes. Also here: exp, because the C library has no
 * vectorizable one, and the 16-bit floats.
 */
#ifndef CLD_CPU_SIMD_H
#define CLD_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#    define CLD_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#    define CLD_SIMD
#endif

/* Functions called from CLD_SIMD loops must be inlined into each of the clones. */
#define CLD_INLINE static inline __attribute__((always_inline))

/* Below this number of elements, starting the threads costs more than it saves. */
#define CLD_PARALLEL_MIN 32768

#define CLD_LANES 16

/* Return the sum of `term` over i < n as a double, in lanes: the same on every processor. */
#define CLD_LANE_SUM(T, term)                                                                                \
    T lanes[CLD_LANES] = {0};                                                                                \
    int64_t whole = n / CLD_LANES * CLD_LANES;                                                               \
    for (int64_t at = 0; at < whole; at += CLD_LANES)                                                        \
        for (int64_t j = 0; j < CLD_LANES; j++) {                                                            \
            int64_t i = at + j;                                                                              \
            lanes[j] += term;                                                                                \
        }                                                                                                    \
    for (int64_t i = whole; i < n; i++) lanes[i - whole] += term;                                            \
    double sum = 0;                                                                                          \
    for (int j = 0; j < CLD_LANES; j++) sum += (double)lanes[j];                                             \
    return sum

/* Return the maximum of m and x[i] over i < n, in lanes; NaN in x is ignored. */
#define CLD_LANE_MAX(T, m)                                                                                   \
    T lanes[CLD_LANES];                                                                                      \
    int64_t whole = n / CLD_LANES * CLD_LANES;                                                               \
    for (int j = 0; j < CLD_LANES; j++) lanes[j] = m;                                                        \
    for (int64_t at = 0; at < whole; at += CLD_LANES)                                                        \
        for (int64_t j = 0; j < CLD_LANES; j++) lanes[j] = x[at + j] > lanes[j] ? x[at + j] : lanes[j];      \
    for (int64_t i = whole; i < n; i++) m = x[i] > m ? x[i] : m;                                             \
    for (int j = 0; j < CLD_LANES; j++) m = lanes[j] > m ? lanes[j] : m;                                     \
    return m

/* e^x to 2 ulp: 2^n * p(r), n the nearest integer to x / ln 2, r = x - n ln 2 in [-0.35, 0.35]. Overflows to infinity
 * and underflows to zero for the same x as expf (denormal results become zero); NaN stays NaN. */
CLD_INLINE float cld_expf(float x) {
    float clamped = x > -87.33655f ? (x < 88.72284f ? x : 88.72284f) : -87.33655f; /* NaN too; see the end */
    float shifted = clamped * 1.44269504f + 0x1.8p23f; /* rounds to an integer in the low bits */
    float n = shifted - 0x1.8p23f;
    float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t half = (int32_t)n / 2, rest = (int32_t)n - half; /* 2^128 is not a float: two steps */
    uint32_t bits1 = (uint32_t)(half + 127) << 23, bits2 = (uint32_t)(rest + 127) << 23;
    float scale1, scale2;
    memcpy(&scale1, &bits1, sizeof scale1);
    memcpy(&scale2, &bits2, sizeof scale2);
    float y = p * scale1 * scale2;
    y = x > 88.72284f ? INFINITY : y;
    y = x < -87.33655f ? 0.0f : y;
    return x != x ? x : y;
}

CLD_INLINE float cld_bf16_to_float(uint16_t v) {
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Rounds to nearest, ties to even. */
CLD_INLINE uint16_t cld_bf16_from_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)(f != f ? 0x7FC0u : rounded);
}

#endif
