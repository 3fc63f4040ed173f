/* Brightness, contrast, saturation, hue and grey as Pillow computes them.
 *
 * Pillow's Image.blend truncates where both images take part positively and clips where one is extrapolated;
 * its HSV is 8 bits per channel, computed partly in float and partly in double. A hue that is off by one
 * moves a channel by up to six levels, so the conversion keeps Pillow's types and order of operations, step
 * by step.
 */
#include "runtime/data/image.h"

#include <string.h>

static size_t pixels(cld_planes image) { return (size_t)image.height * (size_t)image.width; }

/* ---- blends -------------------------------------------------------------------------------------------- */

/* Image.blend of two levels: a + factor * (b - a), clipped and truncated. Inside [0, 1] it cannot leave the
 * range, so Pillow's unclipped branch is the same. */
static inline uint8_t blend(int a, int b, float factor) {
    float value = (float)a + factor * (float)(b - a);
    value = value < 0.0f ? 0.0f : value;
    return (uint8_t)(int)(value > 255.0f ? 255.0f : value);
}

/* Against one grey level, a blend is a table. */
static void blend_with_level(cld_planes image, int level, float factor) {
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = blend(level, i, factor);
    size_t n = 3 * pixels(image);
    for (size_t i = 0; i < n; i++) image.data[i] = table[image.data[i]];
}

static inline int grey(int r, int g, int b) { return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; }

void cld_image_brightness(cld_planes image, float factor) { blend_with_level(image, 0, factor); }

CLD_IMAGE_SIMD static uint64_t grey_sum(const uint8_t *r, const uint8_t *g, const uint8_t *b, size_t n) {
    uint64_t sum = 0;
    for (size_t start = 0; start < n; start += 4096) { /* 4096 * 255 fits an int */
        size_t end = n - start < 4096 ? n : start + 4096;
        int part = 0;
        for (size_t i = start; i < end; i++) part += grey(r[i], g[i], b[i]);
        sum += (uint64_t)part;
    }
    return sum;
}

void cld_image_contrast(cld_planes image, float factor) {
    size_t n = pixels(image);
    if (n == 0) return;
    const uint8_t *r = image.data;
    double mean = (double)grey_sum(r, r + n, r + 2 * n, n) / (double)n;
    blend_with_level(image, (int)(mean + 0.5), factor);
}

CLD_IMAGE_SIMD static void saturate(uint8_t *r, uint8_t *g, uint8_t *b, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) {
        int level = grey(r[i], g[i], b[i]);
        r[i] = blend(level, r[i], factor);
        g[i] = blend(level, g[i], factor);
        b[i] = blend(level, b[i], factor);
    }
}

void cld_image_saturation(cld_planes image, float factor) {
    size_t n = pixels(image);
    saturate(image.data, image.data + n, image.data + 2 * n, n, factor);
}

CLD_IMAGE_SIMD static void to_grey(uint8_t *r, uint8_t *g, uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) r[i] = g[i] = b[i] = (uint8_t)grey(r[i], g[i], b[i]);
}

void cld_image_grayscale(cld_planes image) {
    size_t n = pixels(image);
    to_grey(image.data, image.data + n, image.data + 2 * n, n);
}

/* ---- hue ----------------------------------------------------------------------------------------------- */

#define BLOCK 256

static inline int max3(int a, int b, int c) { return a > b ? (a > c ? a : c) : (b > c ? b : c); }
static inline int min3(int a, int b, int c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }

/* Hue and saturation, each 0 to 255; grey has neither. */
CLD_IMAGE_SIMD static void to_hue(int *restrict hue, int *restrict saturation, const uint8_t *restrict r,
                                  const uint8_t *restrict g, const uint8_t *restrict b) {
    for (int i = 0; i < BLOCK; i++) {
        int red = r[i], green = g[i], blue = b[i];
        int most = max3(red, green, blue), range = most - min3(red, green, blue);
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
        hue[i] = range ? (int)((double)h * 255.0) : 0;
        saturation[i] = (int)((double)s * 255.0);
    }
}

/* Back, with the hue turned. p, q and t are the levels of the falling, fallen and rising channel. */
CLD_IMAGE_SIMD static void from_hue(uint8_t *restrict r, uint8_t *restrict g, uint8_t *restrict b,
                                    const int *restrict hue, const int *restrict saturation, int shift) {
    for (int i = 0; i < BLOCK; i++) {
        int most = r[i] > g[i] ? (r[i] > b[i] ? r[i] : b[i]) : (g[i] > b[i] ? g[i] : b[i]);
        int h = (hue[i] + shift) & 255;
        int scaled = 6 * h, sextant = scaled / 255;
        float f = (float)((double)scaled / 255.0 - (double)sextant);
        float s = (float)((double)saturation[i] / 255.0);
        double value = most;
        int p = (int)(value * (1.0 - (double)s) + 0.5);
        int q = (int)(value * (1.0 - (double)(s * f)) + 0.5);
        int t = (int)(value * (1.0 - (double)s * (1.0 - (double)f)) + 0.5);
        sextant = sextant == 6 ? 0 : sextant;
        r[i] = (uint8_t)(sextant == 0 || sextant == 5 ? most : sextant == 1 ? q : sextant == 4 ? t : p);
        g[i] = (uint8_t)(sextant == 1 || sextant == 2 ? most : sextant == 0 ? t : sextant == 3 ? q : p);
        b[i] = (uint8_t)(sextant == 3 || sextant == 4 ? most : sextant == 2 ? t : sextant == 5 ? q : p);
    }
}

void cld_image_hue(cld_planes image, double factor) {
    int hue[BLOCK], saturation[BLOCK], shift = (int)(factor * 255.0) & 255;
    size_t n = pixels(image);
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = n - start < BLOCK ? n - start : BLOCK;
        uint8_t *r = image.data + start, *g = r + n, *b = g + n;
        uint8_t padded[3][BLOCK];
        bool whole = count == BLOCK;
        if (!whole) {
            memset(padded, 0, sizeof padded);
            memcpy(padded[0], r, count);
            memcpy(padded[1], g, count);
            memcpy(padded[2], b, count);
        }
        uint8_t *pr = whole ? r : padded[0], *pg = whole ? g : padded[1], *pb = whole ? b : padded[2];
        to_hue(hue, saturation, pr, pg, pb);
        from_hue(pr, pg, pb, hue, saturation, shift);
        if (!whole) {
            memcpy(r, padded[0], count);
            memcpy(g, padded[1], count);
            memcpy(b, padded[2], count);
        }
    }
}
