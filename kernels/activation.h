/* Activation functions and their slopes, written once for all devices: a macro defines them for one type.
 *
 *     CLD_DEFINE_ACTIVATIONS(T, NAME, EXP, ERF)
 *
 * T is float or double, and NAME(f) is the name of function f for that type. EXP and ERF are of that type.
 *
 * gelu is x times the normal distribution function of x (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016),
 * gelu_tanh is the approximation given there, silu is x times its sigmoid, softplus is log(1 + exp(x)), which does not
 * overflow. */
#ifndef CLD_KERNELS_ACTIVATION_H
#define CLD_KERNELS_ACTIVATION_H

#include <math.h>

#include "runtime/core/philox.h" /* CLD_HOST_DEVICE */

#define CLD_ACTIVATION CLD_HOST_DEVICE static inline __attribute__((always_inline, unused))

/* The error function to 5e-7, as a quotient of polynomials, so that loops with it vectorize. Beyond 4 it is 1 in a
 * float. NaN stays NaN. */
CLD_ACTIVATION float cld_erff(float given) {
    float x = given < -4.0f ? -4.0f : given > 4.0f ? 4.0f : given, z = x * x;
    float p = -2.72614225801306e-10f;
    p = p * z + 2.77068142495902e-08f;
    p = p * z - 2.10102402082508e-06f;
    p = p * z - 5.69250639462346e-05f;
    p = p * z - 7.34990630326855e-04f;
    p = p * z - 2.95459980854025e-03f;
    p = p * z - 1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * z - 2.13374055278905e-04f;
    q = q * z - 1.68282697438203e-03f;
    q = q * z - 7.37332916720468e-03f;
    q = q * z - 1.42647390514189e-02f;
    return x * p / q;
}

#define CLD_DEFINE_ACTIVATIONS(T, NAME, EXP, ERF)                                                            \
    /* The normal distribution function of x. */                                                             \
    CLD_ACTIVATION T NAME(cld_share_below)(T x) { return (T)0.5 * (1 + ERF(x * (T)0.70710678118654752)); }   \
    CLD_ACTIVATION T NAME(cld_gelu)(T x) { return x * NAME(cld_share_below)(x); }                            \
    CLD_ACTIVATION T NAME(cld_gelu_slope)(T x) {                                                             \
        return NAME(cld_share_below)(x) + x * (T)0.39894228040143268 * EXP(x * x * (T)-0.5);                 \
    }                                                                                                        \
    /* 0.5 (1 + tanh(u)) = sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3). */                        \
    CLD_ACTIVATION T NAME(cld_gelu_tanh_share)(T x) {                                                        \
        return 1 / (1 + EXP(x * ((T)-1.5957691216057308 - (T)0.071354816272600312 * x * x)));                \
    }                                                                                                        \
    CLD_ACTIVATION T NAME(cld_gelu_tanh)(T x) { return x * NAME(cld_gelu_tanh_share)(x); }                   \
    CLD_ACTIVATION T NAME(cld_gelu_tanh_slope)(T x) {                                                        \
        T share = NAME(cld_gelu_tanh_share)(x);                                                              \
        T slope = (T)1.5957691216057308 + (T)0.21406444881780094 * x * x;                                    \
        return share + x * share * (1 - share) * slope;                                                      \
    }                                                                                                        \
    CLD_ACTIVATION T NAME(cld_silu)(T x) { return x / (1 + EXP(-x)); }                                       \
    CLD_ACTIVATION T NAME(cld_silu_slope)(T x) {                                                             \
        T share = 1 / (1 + EXP(-x));                                                                         \
        return share * (1 + x * (1 - share));                                                                \
    }                                                                                                        \
    CLD_ACTIVATION T NAME(cld_softplus)(T x) { return (x < 0 ? 0 : x) + NAME(log1p)(EXP(x < 0 ? x : -x)); }

#endif
