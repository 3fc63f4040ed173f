/* Pillow's GaussianBlur: three box blurs along x, then three along y, each rounded to 8 bits (kernels/pixel.h). As in
 * resample.c the pass along x runs on the transposed plane, so that both directions are one vector loop. */
#include "kernels/pixel.h"
#include "runtime/data/image.h"

#include <string.h>

/* One box blur along the first dimension: out[y] from in[y - radius - 1 ... y + radius + 1], the border
 * repeated. `sum` (length) slides along. */
CLD_IMAGE_SIMD static void blur_rows(uint8_t *restrict out, const uint8_t *restrict in,
                                     uint32_t *restrict sum, int rows, size_t length, cld_box b) {
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

cld_status cld_image_gaussian_blur(cld_planes image, double sigma, cld_scratch *scratch) {
    size_t h = (size_t)image.height, w = (size_t)image.width, n = h * w;
    uint8_t *memory = cld_scratch_reserve(scratch, 4 * (h > w ? h : w) + 2 * n);
    if (!memory) return CLD_NOMEM;
    uint32_t *sum = (uint32_t *)memory;
    uint8_t *a = memory + 4 * (h > w ? h : w), *c = a + n;
    cld_box b = cld_pixel_box(sigma);
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
