/* Filters: Pillow's GaussianBlur, which is three box blurs along x, then three along y, each rounded to 8 bits
 * (kernels/pixel.h); a filter by taps in floats; sharpness. The box blurs along x run on the transposed plane, so that both
 * directions are one vector loop. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

#include <string.h>

/* One box blur along the first dimension: out[y] from in[y - radius - 1 ... y + radius + 1], the border
 * repeated. `sum` (length) slides along. */
CLD_VIEW_SIMD static void blur_rows(uint8_t *restrict out, const uint8_t *restrict in, uint32_t *restrict sum,
                                    int rows, size_t length, cld_box b) {
    const uint8_t *top = in, *bottom = in + (size_t)(rows - 1) * length;
#define ROW(y) ((y) < 0 ? top : (y) >= rows ? bottom : in + (size_t)(y)*length)
    for (size_t i = 0; i < length; i++) sum[i] = 0;
    for (int y = -b.radius - 1; y < b.radius; y++) { /* the sum of row -1 */
        const uint8_t *row = ROW(y);
        for (size_t i = 0; i < length; i++) sum[i] += row[i];
    }
    for (int y = 0; y < rows; y++) {
        const uint8_t *before = ROW(y - b.radius - 1), *last = ROW(y + b.radius),
                      *after = ROW(y + b.radius + 1);
        uint8_t *to = out + (size_t)y * length;
        for (size_t i = 0; i < length; i++) {
            sum[i] += (uint32_t)last[i] - before[i];
            to[i] = cld_pixel_boxed(sum[i], before[i], after[i], b);
        }
    }
#undef ROW
}

static void transpose(uint8_t *restrict out, const uint8_t *restrict in, size_t rows, size_t columns) {
    for (size_t x = 0; x < columns; x++)
        for (size_t y = 0; y < rows; y++) out[x * rows + y] = in[y * columns + x];
}

size_t cld__view_box_blur_bytes(const cld_canvas *c, const cld_view_instruction *s) {
    (void)s;
    return 4 * (size_t)(c->height > c->width ? c->height : c->width);
}

CLD_CPU_VIEW(box_blur) {
    size_t h = (size_t)c->height, w = (size_t)c->width, n = h * w;
    uint32_t *sum = (uint32_t *)c->work;
    cld_box b = {s->box.radius, s->box.whole, s->box.edge};
    for (int channel = 0; channel < 3; channel++) {
        uint8_t *plane = c->data + (size_t)channel * n, *other = c->spare + (size_t)channel * n;
        transpose(other, plane, h, w);
        blur_rows(plane, other, sum, c->width, h, b);
        blur_rows(other, plane, sum, c->width, h, b);
        blur_rows(plane, other, sum, c->width, h, b);
        transpose(other, plane, w, h);
        blur_rows(plane, other, sum, c->height, w, b);
        blur_rows(other, plane, sum, c->height, w, b);
        blur_rows(plane, other, sum, c->height, w, b);
    }
}

/* ---- by taps ----------------------------------------------------------------------------------------------------------- */

/* out[i] = weight[0] line(0)[i] + weight[k] (line(-k)[i] + line(k)[i]), k = 1, 2, ... in this order. */
CLD_VIEW_SIMD static void add_lines(float *restrict sum, const float *restrict before,
                                    const float *restrict after, float weight, size_t n) {
    for (size_t i = 0; i < n; i++) sum[i] += weight * (before[i] + after[i]);
}

CLD_VIEW_SIMD static void scale_line(float *restrict sum, const float *restrict line, float weight,
                                     size_t n) {
    for (size_t i = 0; i < n; i++) sum[i] = weight * line[i];
}

CLD_VIEW_SIMD static void to_units(float *restrict out, const uint8_t *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = cld_pixel_unit(in[i]);
}

CLD_VIEW_SIMD static void from_units(uint8_t *restrict out, const float *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = cld_pixel_from_unit(in[i]);
}

/* A plane in floats, and a row with its reflection at both ends. */
size_t cld__view_tap_blur_bytes(const cld_canvas *c, const cld_view_instruction *s) {
    size_t w = (size_t)c->width, radius = (size_t)s->taps.radius;
    return sizeof(float) * (cld__view_pixels(c) + w + 2 * radius + w);
}

CLD_CPU_VIEW(tap_blur) {
    int height = c->height, radius = s->taps.radius;
    size_t w = (size_t)c->width, n = cld__view_pixels(c);
    float *plane = (float *)c->work, *row = plane + n, *sum = row + w + 2 * (size_t)radius;
    for (size_t channel = 0; channel < 3; channel++) {
        uint8_t *levels = c->data + channel * n;
        to_units(plane, levels, n);
        for (int y = 0; y < height; y++) {
            float *middle = row + radius;
            scale_line(middle, plane + (size_t)y * w, s->taps.weight[0], w);
            for (int k = 1; k <= radius; k++)
                add_lines(middle, plane + (size_t)cld_pixel_reflect(y - k, height) * w,
                          plane + (size_t)cld_pixel_reflect(y + k, height) * w, s->taps.weight[k], w);
            for (int k = 1; k <= radius; k++) {
                middle[-k] = middle[cld_pixel_reflect(-k, c->width)];
                middle[(int)w - 1 + k] = middle[cld_pixel_reflect((int)w - 1 + k, c->width)];
            }
            scale_line(sum, middle, s->taps.weight[0], w);
            for (int k = 1; k <= radius; k++) add_lines(sum, middle - k, middle + k, s->taps.weight[k], w);
            from_units(levels + (size_t)y * w, sum, w);
        }
    }
}

/* ---- sharpness: a blend with a smoothed canvas, whose border is as it was ---------------------------------------------- */

CLD_VIEW_SIMD static void sharpen_row(uint8_t *restrict out, const uint8_t *restrict above,
                                      const uint8_t *restrict row, const uint8_t *restrict below, size_t w,
                                      float factor) {
    for (size_t x = 1; x + 1 < w; x++) {
        int sum = above[x - 1] + above[x] + above[x + 1] + row[x - 1] + 5 * row[x] + row[x + 1] +
                  below[x - 1] + below[x] + below[x + 1];
        out[x] = cld_pixel_blend(cld_pixel_smooth(sum), row[x], factor);
    }
}

CLD_CPU_VIEW(sharpness) {
    size_t h = (size_t)c->height, w = (size_t)c->width;
    memcpy(c->spare, c->data, 3 * h * w);
    for (size_t row = 0; row < 3 * h; row++) {
        size_t y = row % h;
        const uint8_t *from = c->data + row * w;
        if (y > 0 && y + 1 < h) sharpen_row(c->spare + row * w, from - w, from, from + w, w, s->factor);
    }
    cld__view_swap(c);
}
