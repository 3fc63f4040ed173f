/* The arithmetic of one pixel, as Pillow does it, for the host's loops (runtime/data/{color,resample,blur}.c) and for
 * devices. Types and order of operations are Pillow's, step by step; it holds where a compiler does not fuse a multiply
 * and an add into one rounding.
 */
#ifndef CLD_KERNELS_PIXEL_H
#define CLD_KERNELS_PIXEL_H

#include <math.h>
#include <stdint.h>

#include "runtime/core/philox.h"

/* ---- blends ------------------------------------------------------------------------------------------------------------ */

/* Image.blend of two levels: a + factor * (b - a), clipped and truncated. Inside [0, 1] it cannot leave the
 * range, so Pillow's unclipped branch is the same. */
CLD_HOST_DEVICE static inline uint8_t cld_pixel_blend(int a, int b, float factor) {
    float value = (float)a + factor * (float)(b - a);
    value = value < 0.0f ? 0.0f : value;
    return (uint8_t)(int)(value > 255.0f ? 255.0f : value);
}

CLD_HOST_DEVICE static inline int cld_pixel_grey(int r, int g, int b) {
    return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

/* ---- hue: 8 bits per channel, computed partly in float and partly in double. A hue that is off by one moves a channel by
 * up to six levels ---------------------------------------------------------------------------------------------------------- */

/* Hue and saturation, each 0 to 255; grey has neither. */
CLD_HOST_DEVICE static inline void cld_pixel_to_hue(int *hue, int *saturation, int red, int green, int blue) {
    int most = red > green ? (red > blue ? red : blue) : (green > blue ? green : blue);
    int least = red < green ? (red < blue ? red : blue) : (green < blue ? green : blue);
    int range = most - least;
    float divisor = (float)(range ? range : 1);
    float rc = (float)(most - red) / divisor, gc = (float)(most - green) / divisor;
    float bc = (float)(most - blue) / divisor;
    float from_red = bc - gc;
    float from_green = (float)(2.0 + (double)rc - (double)bc);
    float from_blue = (float)(4.0 + (double)gc - (double)rc);
    float sextant = red == most ? from_red : green == most ? from_green : from_blue;
    double turn = (double)sextant / 6.0 + 1.0; /* 5/6 to 11/6: its fraction is one subtraction away */
    float h = (float)(turn >= 1.0 ? turn - 1.0 : turn);
    float s = (float)range / (float)(most ? most : 1);
    *hue = range ? (int)((double)h * 255.0) : 0;
    *saturation = (int)((double)s * 255.0);
}

/* Back, with the hue turned by `shift`. p, q and t are the levels of the falling, fallen and rising channel. */
CLD_HOST_DEVICE static inline void cld_pixel_from_hue(uint8_t *r, uint8_t *g, uint8_t *b, int hue,
                                                      int saturation, int shift) {
    int most = *r > *g ? (*r > *b ? *r : *b) : (*g > *b ? *g : *b);
    int h = (hue + shift) & 255;
    int scaled = 6 * h, sextant = scaled / 255;
    float f = (float)((double)scaled / 255.0 - (double)sextant);
    float s = (float)((double)saturation / 255.0);
    double value = most;
    int p = (int)(value * (1.0 - (double)s) + 0.5);
    int q = (int)(value * (1.0 - (double)(s * f)) + 0.5);
    int t = (int)(value * (1.0 - (double)s * (1.0 - (double)f)) + 0.5);
    sextant = sextant == 6 ? 0 : sextant;
    *r = (uint8_t)(sextant == 0 || sextant == 5 ? most : sextant == 1 ? q : sextant == 4 ? t : p);
    *g = (uint8_t)(sextant == 1 || sextant == 2 ? most : sextant == 0 ? t : sextant == 3 ? q : p);
    *b = (uint8_t)(sextant == 3 || sextant == 4 ? most : sextant == 2 ? t : sextant == 5 ? q : p);
}

/* factor in [-0.5, 0.5] of the circle. */
CLD_HOST_DEVICE static inline int cld_pixel_hue_shift(double factor) { return (int)(factor * 255.0) & 255; }

/* ---- bilinear resize: fixed point, one dimension at a time ------------------------------------------------------------- */

#define CLD_PIXEL_TAP_BITS 22 /* of a weight: 32 - 8 for the level - 2 for the sum */

/* Weights that an output can have, of `in` inputs to `out` outputs. */
CLD_HOST_DEVICE static inline int cld_pixel_taps_room(int in, int out) {
    double scale = (double)in / out;
    return (int)ceil(scale < 1.0 ? 1.0 : scale) * 2 + 1;
}

/* The weights of output o, from input *first on; returns how many. */
CLD_HOST_DEVICE static inline int cld_pixel_taps(int *first, int32_t *weight, int o, int in, int out) {
    double scale = (double)in / out,
           filter = scale < 1.0 ? 1.0 : scale; /* the triangle's half width, in inputs */
    double center = (o + 0.5) * scale, sum = 0.0;
    int begin = (int)(center - filter + 0.5), end = (int)(center + filter + 0.5);
    if (begin < 0) begin = 0;
    if (end > in) end = in;
    for (int pass = 0; pass < 2; pass++) /* the sum, then the weights divided by it */
        for (int i = begin; i < end; i++) {
            double distance = fabs((i - center + 0.5) * (1.0 / filter));
            double w = distance < 1.0 ? 1.0 - distance : 0.0;
            if (pass == 0)
                sum += w;
            else
                weight[i - begin] = (int32_t)(w / sum * (1 << CLD_PIXEL_TAP_BITS) + 0.5);
        }
    *first = begin;
    return end - begin;
}

/* ---- blur -------------------------------------------------------------------------------------------------------------- */

#define CLD_PIXEL_BOXES 3 /* box blurs in each direction: a Gaussian nearly */

/* A box of fractional radius (Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering",
 * SSVM 2011): whole pixels weigh `whole`, the two at its ends `edge`, in 24-bit fixed point. */
typedef struct cld_box {
    int radius;
    uint32_t whole, edge;
} cld_box;

CLD_HOST_DEVICE static inline cld_box cld_pixel_box(double sigma) {
    cld_box b;
    float s = (float)sigma, variance = s * s / CLD_PIXEL_BOXES;
    float length = (float)sqrt(12.0 * (double)variance + 1.0);
    float l = (float)floor(((double)length - 1.0) / 2.0);
    float part = (2 * l + 1) * (l * (l + 1) - 3 * variance);
    part /= 6 * (variance - (l + 1) * (l + 1));
    float radius = l + part;
    b.radius = (int)radius;
    b.whole = (uint32_t)((float)(1u << 24) / (radius * 2 + 1));
    b.edge = ((1u << 24) - (uint32_t)(b.radius * 2 + 1) * b.whole) / 2;
    return b;
}

/* sum: of the 2 radius + 1 levels around; before, after: the levels one further out. */
CLD_HOST_DEVICE static inline uint8_t cld_pixel_boxed(uint32_t sum, int before, int after, cld_box b) {
    return (uint8_t)((sum * b.whole + ((uint32_t)before + (uint32_t)after) * b.edge + (1u << 23)) >> 24);
}

/* ---- the end ----------------------------------------------------------------------------------------------------------- */

CLD_HOST_DEVICE static inline float cld_pixel_normalize(int level, float mean, float std) {
    return ((float)level / 255.0f - mean) / std;
}

#endif
