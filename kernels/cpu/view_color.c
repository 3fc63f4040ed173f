/* Brightness, contrast, saturation, hue and grey as Pillow computes them: the loops over kernels/pixel.h. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

#include <string.h>

/* ---- blends -------------------------------------------------------------------------------------------- */

/* Against one grey level, a blend is a table. */
static void blend_with_level(cld_canvas *c, int level, float factor) {
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = cld_pixel_blend(level, i, factor);
    cld__view_look_up(c->data, 3 * cld__view_pixels(c), table);
}

CLD_CPU_VIEW(brightness) { blend_with_level(c, 0, s->factor); }

CLD_VIEW_SIMD static uint64_t grey_sum(const uint8_t *r, const uint8_t *g, const uint8_t *b, size_t n) {
    uint64_t sum = 0;
    for (size_t start = 0; start < n; start += 4096) { /* 4096 * 255 fits an int */
        size_t end = n - start < 4096 ? n : start + 4096;
        int part = 0;
        for (size_t i = start; i < end; i++) part += cld_pixel_grey(r[i], g[i], b[i]);
        sum += (uint64_t)part;
    }
    return sum;
}

CLD_CPU_VIEW(contrast) {
    size_t n = cld__view_pixels(c);
    const uint8_t *r = c->data;
    double mean = (double)grey_sum(r, r + n, r + 2 * n, n) / (double)n;
    blend_with_level(c, (int)(mean + 0.5), s->factor);
}

CLD_VIEW_SIMD static void saturate(uint8_t *r, uint8_t *g, uint8_t *b, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) {
        int level = cld_pixel_grey(r[i], g[i], b[i]);
        r[i] = cld_pixel_blend(level, r[i], factor);
        g[i] = cld_pixel_blend(level, g[i], factor);
        b[i] = cld_pixel_blend(level, b[i], factor);
    }
}

CLD_CPU_VIEW(saturation) {
    size_t n = cld__view_pixels(c);
    saturate(c->data, c->data + n, c->data + 2 * n, n, s->factor);
}

CLD_VIEW_SIMD static void to_grey(uint8_t *r, uint8_t *g, uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) r[i] = g[i] = b[i] = (uint8_t)cld_pixel_grey(r[i], g[i], b[i]);
}

CLD_CPU_VIEW(grey) {
    (void)s;
    size_t n = cld__view_pixels(c);
    to_grey(c->data, c->data + n, c->data + 2 * n, n);
}

/* ---- hue ----------------------------------------------------------------------------------------------- */

#define BLOCK 256

CLD_VIEW_SIMD static void to_hue(int *restrict hue, int *restrict saturation, const uint8_t *restrict r,
                                 const uint8_t *restrict g, const uint8_t *restrict b) {
    for (int i = 0; i < BLOCK; i++) cld_pixel_to_hue(&hue[i], &saturation[i], r[i], g[i], b[i]);
}

CLD_VIEW_SIMD static void from_hue(uint8_t *restrict r, uint8_t *restrict g, uint8_t *restrict b,
                                   const int *restrict hue, const int *restrict saturation, int shift) {
    for (int i = 0; i < BLOCK; i++) cld_pixel_from_hue(&r[i], &g[i], &b[i], hue[i], saturation[i], shift);
}

CLD_CPU_VIEW(hue) {
    int hue[BLOCK], saturation[BLOCK], shift = s->shift;
    size_t n = cld__view_pixels(c);
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = n - start < BLOCK ? n - start : BLOCK;
        uint8_t *r = c->data + start, *g = r + n, *b = g + n;
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
