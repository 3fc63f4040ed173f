/* Brightness, contrast, saturation, hue and grey as Pillow computes them: the loops over kernels/pixel.h. */
#include "kernels/pixel.h"
#include "runtime/data/image.h"

#include <string.h>

static size_t pixels(cld_planes image) { return (size_t)image.height * (size_t)image.width; }

/* ---- blends -------------------------------------------------------------------------------------------- */

/* Against one grey level, a blend is a table. */
static void blend_with_level(cld_planes image, int level, float factor) {
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = cld_pixel_blend(level, i, factor);
    size_t n = 3 * pixels(image);
    for (size_t i = 0; i < n; i++) image.data[i] = table[image.data[i]];
}

void cld_image_brightness(cld_planes image, float factor) { blend_with_level(image, 0, factor); }

CLD_IMAGE_SIMD static uint64_t grey_sum(const uint8_t *r, const uint8_t *g, const uint8_t *b, size_t n) {
    uint64_t sum = 0;
    for (size_t start = 0; start < n; start += 4096) { /* 4096 * 255 fits an int */
        size_t end = n - start < 4096 ? n : start + 4096;
        int part = 0;
        for (size_t i = start; i < end; i++) part += cld_pixel_grey(r[i], g[i], b[i]);
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
        int level = cld_pixel_grey(r[i], g[i], b[i]);
        r[i] = cld_pixel_blend(level, r[i], factor);
        g[i] = cld_pixel_blend(level, g[i], factor);
        b[i] = cld_pixel_blend(level, b[i], factor);
    }
}

void cld_image_saturation(cld_planes image, float factor) {
    size_t n = pixels(image);
    saturate(image.data, image.data + n, image.data + 2 * n, n, factor);
}

CLD_IMAGE_SIMD static void to_grey(uint8_t *r, uint8_t *g, uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) r[i] = g[i] = b[i] = (uint8_t)cld_pixel_grey(r[i], g[i], b[i]);
}

void cld_image_grayscale(cld_planes image) {
    size_t n = pixels(image);
    to_grey(image.data, image.data + n, image.data + 2 * n, n);
}

/* ---- hue ----------------------------------------------------------------------------------------------- */

#define BLOCK 256

CLD_IMAGE_SIMD static void to_hue(int *restrict hue, int *restrict saturation, const uint8_t *restrict r,
                                  const uint8_t *restrict g, const uint8_t *restrict b) {
    for (int i = 0; i < BLOCK; i++) cld_pixel_to_hue(&hue[i], &saturation[i], r[i], g[i], b[i]);
}

CLD_IMAGE_SIMD static void from_hue(uint8_t *restrict r, uint8_t *restrict g, uint8_t *restrict b,
                                    const int *restrict hue, const int *restrict saturation, int shift) {
    for (int i = 0; i < BLOCK; i++) cld_pixel_from_hue(&r[i], &g[i], &b[i], hue[i], saturation[i], shift);
}

void cld_image_hue(cld_planes image, double factor) {
    int hue[BLOCK], saturation[BLOCK], shift = cld_pixel_hue_shift(factor);
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
