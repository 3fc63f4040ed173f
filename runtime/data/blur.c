/* Pillow's GaussianBlur: three box blurs along x, then three along y, each rounded to 8 bits.
 *
 * The box has a fractional radius (Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by
 * Extended Box Filtering", SSVM 2011): whole pixels weigh `whole`, the two at its ends `edge`, in 24-bit
 * fixed point. As in resample.c the pass along x runs on the transposed plane, so that both directions are
 * one vector loop.
 */
#include "runtime/data/image.h"

#include <math.h>
#include <string.h>

#define PASSES 3

typedef struct box {
    int radius;
    uint32_t whole, edge;
} box;

static box box_for(double sigma) {
    float s = (float)sigma, variance = s * s / PASSES;
    float length = (float)sqrt(12.0 * (double)variance + 1.0);
    float l = (float)floor(((double)length - 1.0) / 2.0);
    float part = (2 * l + 1) * (l * (l + 1) - 3 * variance);
    part /= 6 * (variance - (l + 1) * (l + 1));
    float radius = l + part;
    box b = {.radius = (int)radius, .whole = (uint32_t)((float)(1u << 24) / (radius * 2 + 1))};
    b.edge = ((1u << 24) - (uint32_t)(b.radius * 2 + 1) * b.whole) / 2;
    return b;
}

/* One box blur along the first dimension: out[y] from in[y - radius - 1 ... y + radius + 1], the border
 * repeated. `sum` (length) slides along. */
CLD_IMAGE_SIMD static void blur_rows(uint8_t *restrict out, const uint8_t *restrict in,
                                     uint32_t *restrict sum, int rows, size_t length, box b) {
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
            to[i] =
                (uint8_t)((sum[i] * b.whole + ((uint32_t)before[i] + after[i]) * b.edge + (1u << 23)) >> 24);
        }
    }
#undef ROW
}

static void transpose(uint8_t *restrict out, const uint8_t *restrict in, size_t rows, size_t columns) {
    for (size_t x = 0; x < columns; x++)
        for (size_t y = 0; y < rows; y++) out[x * rows + y] = in[y * columns + x];
}

cld_status cld_image_gaussian_blur(cld_planes image, double sigma, cld_scratch *scratch) {
    size_t h = (size_t)image.height, w = (size_t)image.width, n = h * w;
    uint8_t *memory = cld_scratch_reserve(scratch, 4 * (h > w ? h : w) + 2 * n);
    if (!memory) return CLD_NOMEM;
    uint32_t *sum = (uint32_t *)memory;
    uint8_t *a = memory + 4 * (h > w ? h : w), *c = a + n;
    box b = box_for(sigma);
    for (int channel = 0; channel < 3 && n > 0; channel++) {
        uint8_t *plane = image.data + (size_t)channel * n;
        transpose(a, plane, h, w);
        blur_rows(c, a, sum, image.width, h, b);
        blur_rows(a, c, sum, image.width, h, b);
        blur_rows(c, a, sum, image.width, h, b);
        transpose(a, c, w, h);
        blur_rows(c, a, sum, image.height, w, b);
        blur_rows(a, c, sum, image.height, w, b);
        blur_rows(plane, a, sum, image.height, w, b);
    }
    return CLD_OK;
}
