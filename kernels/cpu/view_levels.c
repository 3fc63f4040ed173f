/* Levels mapped to other levels by a table: ImageOps' invert, solarize, posterize, autocontrast and equalize. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

#include <string.h>

void cld__view_look_up(uint8_t *plane, size_t n, const uint8_t table[256]) {
    for (size_t i = 0; i < n; i++) plane[i] = table[plane[i]];
}

CLD_VIEW_SIMD static void invert(uint8_t *plane, size_t n) {
    for (size_t i = 0; i < n; i++) plane[i] = (uint8_t)~plane[i];
}

CLD_VIEW_SIMD static void solarize(uint8_t *plane, size_t n, int level) {
    for (size_t i = 0; i < n; i++) plane[i] = cld_pixel_solarize(plane[i], level);
}

CLD_VIEW_SIMD static void solarize_add(uint8_t *plane, size_t n, int level) {
    for (size_t i = 0; i < n; i++) plane[i] = cld_pixel_solarize_add(plane[i], level);
}

CLD_VIEW_SIMD static void keep_bits(uint8_t *plane, size_t n, uint8_t mask) {
    for (size_t i = 0; i < n; i++) plane[i] &= mask;
}

CLD_CPU_VIEW(invert) {
    (void)s;
    invert(c->data, 3 * cld__view_pixels(c));
}

CLD_CPU_VIEW(solarize) { solarize(c->data, 3 * cld__view_pixels(c), s->level); }

CLD_CPU_VIEW(solarize_add) { solarize_add(c->data, 3 * cld__view_pixels(c), s->level); }

CLD_CPU_VIEW(posterize) { keep_bits(c->data, 3 * cld__view_pixels(c), cld_pixel_posterize_mask(s->level)); }

/* ---- by the histogram -------------------------------------------------------------------------------------------------- */

/* Four tables, so that equal neighbouring levels do not wait for each other. */
static void count_levels(uint32_t histogram[256], const uint8_t *plane, size_t n) {
    uint32_t part[4][256];
    memset(part, 0, sizeof part);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) part[k][plane[i + (size_t)k]]++;
    for (; i < n; i++) part[0][plane[i]]++;
    for (int v = 0; v < 256; v++) histogram[v] = part[0][v] + part[1][v] + part[2][v] + part[3][v];
}

static void by_histogram(cld_canvas *c,
                         void (*make_table)(uint8_t table[256], const uint32_t histogram[256])) {
    size_t n = cld__view_pixels(c);
    for (size_t channel = 0; channel < 3; channel++) {
        uint32_t histogram[256];
        uint8_t table[256];
        count_levels(histogram, c->data + channel * n, n);
        make_table(table, histogram);
        cld__view_look_up(c->data + channel * n, n, table);
    }
}

static void stretch(uint8_t table[256], const uint32_t histogram[256]) {
    int low = 0, high = 255;
    while (low < 255 && histogram[low] == 0) low++;
    while (high > 0 && histogram[high] == 0) high--;
    for (int v = 0; v < 256; v++) table[v] = cld_pixel_stretch(v, low, high);
}

static void equalize(uint8_t table[256], const uint32_t histogram[256]) {
    uint32_t step = cld_pixel_equalize_step(histogram), sum = 0;
    for (int v = 0; v < 256; sum += histogram[v++]) table[v] = cld_pixel_equalize(v, sum, step);
}

CLD_CPU_VIEW(autocontrast) {
    (void)s;
    by_histogram(c, stretch);
}

CLD_CPU_VIEW(equalize) {
    (void)s;
    by_histogram(c, equalize);
}
