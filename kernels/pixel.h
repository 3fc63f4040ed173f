/* The arithmetic of one pixel, the same as in Pillow, for the host's loops (kernels/cpu/view_*.c) and for devices
 * (kernels/cuda/view.cu); resizing is in kernels/resample.h. Types and order of operations are Pillow's, step by step.
 * Files that include this are compiled without fused multiply-adds, which round once where Pillow rounds twice.
 */
#ifndef CLD_KERNELS_PIXEL_H
#define CLD_KERNELS_PIXEL_H

#include <math.h>
#include <stdint.h>

#include "runtime/core/philox.h"

/* ---- blends ------------------------------------------------------------------------------------------------------------ */

/* Image.blend of two levels: a + factor * (b - a), clipped and truncated. For a factor in [0, 1] the result cannot
 * leave the range, so Pillow's branch without clipping gives the same. */
CLD_HOST_DEVICE static inline uint8_t cld_pixel_blend(int a, int b, float factor) {
    float value = (float)a + factor * (float)(b - a);
    value = value < 0.0f ? 0.0f : value;
    return (uint8_t)(int)(value > 255.0f ? 255.0f : value);
}

CLD_HOST_DEVICE static inline int cld_pixel_grey(int r, int g, int b) {
    return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

/* ---- hue --------------------------------------------------------------------------------------------------------------- */

/* Rotates the hue by `shift` of 255 in Pillow's 8-bit HSV, where a hue that is off by one changes a channel by up to
 * six levels. Pillow computes partly in double. These floats give its results for every colour and every shift; all
 * were tested. If the exact hue is an integer, Pillow's rounding may come out one below it, and so does this. */
CLD_HOST_DEVICE static inline void cld_pixel_turn_hue(uint8_t *r, uint8_t *g, uint8_t *b, int shift) {
    int red = *r, green = *g, blue = *b;
    int most = red > green ? red : green, least = red > green ? green : red;
    most = most > blue ? most : blue;
    least = least < blue ? least : blue;
    int range = most - least, middle = red + green + blue - most - least;
    /* x: the position of the middle channel, 0 to 1; the sextant is odd if it rises with x. */
    float x = (float)(most - middle) / (float)(range ? range : 1);
    int is_red = red == most, is_green = !is_red && green == most, is_blue = !is_red && !is_green;
    int odd = (is_red && green == least && blue != least) || (is_green && blue == least) ||
              (is_blue && red == least);
    float turn = ((float)(1 + 2 * is_green + 4 * is_blue - 2 * odd) + (odd ? x : -x)) / 6.0f;
    turn += turn < 0.0f ? 1.0f : 0.0f;
    int hue = (int)(turn * 255.0f) & (range ? 255 : 0);
    int saturation = (int)((float)range / (float)(most ? most : 1) * 255.0f);

    /* And back: p, q and t are the levels of the falling, fallen and rising channel. */
    int scaled = 6 * ((hue + shift) & 255), sextant = scaled * 0x8081 >> 23; /* scaled / 255 */
    float f = (float)(scaled - 255 * sextant) * (1.0f / 255.0f), s = (float)saturation * (1.0f / 255.0f);
    float value = (float)most;
    int p = (int)(value * (1.0f - s) + 0.5f);
    int q = (int)(value * (1.0f - s * f) + 0.5f);
    int t = (int)(value * (1.0f - s * (1.0f - f)) + 0.5f);
    int k = sextant == 6 ? 0 : sextant;
    int new_red = k == 1 ? q : k == 4 ? t : p, new_green = k == 0 ? t : k == 3 ? q : p;
    int new_blue = k == 2 ? t : k == 5 ? q : p;
    *r = (uint8_t)((k == 0) | (k == 5) ? most : new_red);
    *g = (uint8_t)((k == 1) | (k == 2) ? most : new_green);
    *b = (uint8_t)((k == 3) | (k == 4) ? most : new_blue);
}

/* factor: the part of the circle to rotate by, in [-0.5, 0.5]. */
CLD_HOST_DEVICE static inline int cld_pixel_hue_shift(double factor) { return (int)(factor * 255.0) & 255; }

/* ---- levels ------------------------------------------------------------------------------------------------------------ */

CLD_HOST_DEVICE static inline uint8_t cld_pixel_solarize(int v, int level) {
    return (uint8_t)(v < level ? v : 255 - v);
}

CLD_HOST_DEVICE static inline uint8_t cld_pixel_solarize_add(int v, int level) {
    int sum = v + level < 255 ? v + level : 255;
    return (uint8_t)(v < 128 ? sum : v);
}

CLD_HOST_DEVICE static inline uint8_t cld_pixel_posterize_mask(int bits) { return (uint8_t)(0xFF00 >> bits); }

/* ImageOps.autocontrast: low and high are the first and the last level that occur. */
CLD_HOST_DEVICE static inline uint8_t cld_pixel_stretch(int v, int low, int high) {
    if (high <= low) return (uint8_t)v;
    double scale = 255.0 / (high - low), offset = -low * scale;
    int level = (int)(v * scale + offset);
    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

/* ImageOps.equalize's step: the number of pixels, without those of the last level that occurs, divided by 255. A step
 * of 0 leaves the levels as they are. */
CLD_HOST_DEVICE static inline uint32_t cld_pixel_equalize_step(const uint32_t histogram[256]) {
    uint32_t sum = 0, last = 0;
    for (int v = 0; v < 256; v++) {
        sum += histogram[v];
        last = histogram[v] ? histogram[v] : last;
    }
    return (sum - last) / 255;
}

/* below: number of pixels with lower levels */
CLD_HOST_DEVICE static inline uint8_t cld_pixel_equalize(int v, uint32_t below, uint32_t step) {
    if (step == 0) return (uint8_t)v;
    uint32_t level = (step / 2 + below) / step;
    return (uint8_t)(level < 255 ? level : 255);
}

/* ---- sharpness --------------------------------------------------------------------------------------------------------- */

/* ImageFilter.SMOOTH: the sum of the 3 x 3 levels around a pixel, with the middle one five times, divided by 13 and
 * rounded. No such sum lies halfway between two levels, so integers give the same as Pillow's floats. */
CLD_HOST_DEVICE static inline int cld_pixel_smooth(int sum) { return (2 * sum + 13) / 26; }

/* ---- Image.transform(AFFINE): in double, the border pixels repeated --------------------------------------------------- */

typedef struct cld_place {
    int x, y;      /* the pixel above and to the left; may be -1 */
    double dx, dy; /* distance from that pixel's centre, 0 to 1 */
} cld_place;

/* The source position of output pixel (x, y); returns 0 if it lies outside. */
CLD_HOST_DEVICE static inline int cld_pixel_place(cld_place *p, const double m[6], int x, int y, int height,
                                                  int width) {
    double at_x = x + 0.5, at_y = y + 0.5;
    double from_x = m[0] * at_x + m[1] * at_y + m[2], from_y = m[3] * at_x + m[4] * at_y + m[5];
    if (!(from_x >= 0.0 && from_x < width && from_y >= 0.0 && from_y < height)) return 0;
    from_x -= 0.5;
    from_y -= 0.5;
    p->x = from_x >= 0.0 ? (int)from_x : -1;
    p->y = from_y >= 0.0 ? (int)from_y : -1;
    p->dx = from_x - p->x;
    p->dy = from_y - p->y;
    return 1;
}

CLD_HOST_DEVICE static inline int cld_pixel_clamp(int v, int size) {
    return v < 0 ? 0 : v < size ? v : size - 1;
}

CLD_HOST_DEVICE static inline double cld_pixel_line(double a, double b, double d) { return a + (b - a) * d; }

CLD_HOST_DEVICE static inline uint8_t cld_pixel_bilinear(const uint8_t *plane, const cld_place *p, int height,
                                                         int width) {
    int left = cld_pixel_clamp(p->x, width), right = cld_pixel_clamp(p->x + 1, width);
    const uint8_t *row = plane + cld_pixel_clamp(p->y, height) * (int64_t)width;
    double above = cld_pixel_line(row[left], row[right], p->dx), below = above;
    if (p->y + 1 < height) {
        row = plane + (p->y + 1) * (int64_t)width;
        below = cld_pixel_line(row[left], row[right], p->dx);
    }
    return (uint8_t)cld_pixel_line(above, below, p->dy);
}

CLD_HOST_DEVICE static inline double cld_pixel_cubic(double a, double b, double c, double d, double x) {
    double p2 = -a + c, p3 = 2 * (a - b) + c - d, p4 = -a + b - c + d;
    return b + x * (p2 + x * (p3 + x * p4));
}

CLD_HOST_DEVICE static inline uint8_t cld_pixel_bicubic(const uint8_t *plane, const cld_place *p, int height,
                                                        int width) {
    int x0 = cld_pixel_clamp(p->x - 1, width), x1 = cld_pixel_clamp(p->x, width);
    int x2 = cld_pixel_clamp(p->x + 1, width), x3 = cld_pixel_clamp(p->x + 2, width);
    double v[4];
    for (int i = 0; i < 4; i++) {
        const uint8_t *row = plane + cld_pixel_clamp(p->y - 1 + i, height) * (int64_t)width;
        v[i] = cld_pixel_cubic(row[x0], row[x1], row[x2], row[x3], p->dx);
    }
    double level = cld_pixel_cubic(v[0], v[1], v[2], v[3], p->dy);
    return (uint8_t)(level <= 0.0 ? 0.0 : level >= 255.0 ? 255.0 : level);
}

/* ---- blur -------------------------------------------------------------------------------------------------------------- */

#define CLD_PIXEL_BOXES 3 /* box blurs in each direction: nearly a Gaussian */

/* A box of fractional radius (Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box
 * Filtering", SSVM 2011): whole pixels have the weight `whole`, the two at the ends `edge`, in 24-bit fixed point. */
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

/* sum: of the 2 radius + 1 levels around the pixel; before, after: the levels next to these on either side. */
CLD_HOST_DEVICE static inline uint8_t cld_pixel_boxed(uint32_t sum, int before, int after, cld_box b) {
    return (uint8_t)((sum * b.whole + ((uint32_t)before + (uint32_t)after) * b.edge + (1u << 23)) >> 24);
}

/* An index beyond a line of n, mirrored at its ends as often as needed; the end elements are not repeated. */
CLD_HOST_DEVICE static inline int cld_pixel_reflect(int i, int n) {
    if (n == 1) return 0;
    int period = 2 * (n - 1);
    i = i < 0 ? -i : i;
    i %= period;
    return i < n ? i : period - i;
}

/* A level as the tap filter's float, and back. */
CLD_HOST_DEVICE static inline float cld_pixel_unit(int level) { return (float)level / 255.0f; }
CLD_HOST_DEVICE static inline uint8_t cld_pixel_from_unit(float v) {
    float level = v * 255.0f;
    level = level < 0.0f ? 0.0f : level;
    return (uint8_t)(int)(level < 255.0f ? level : 255.0f);
}

/* ---- the end ----------------------------------------------------------------------------------------------------------- */

CLD_HOST_DEVICE static inline float cld_pixel_normalize(int level, float mean, float std) {
    return ((float)level / 255.0f - mean) / std;
}

#endif
