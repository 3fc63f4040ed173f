/* Pillow's bilinear resize: one pass along x, one along y, each rounded to 8 bits, in fixed point.
 *
 * A pass along x would gather. Instead the crop is copied transposed, so that both passes are the same loop:
 * an output row is a weighted sum of a few input rows, and the vector runs along the row. In between the
 * 8-bit result is transposed back: cheap, it is small.
 */
#include "kernels/pixel.h"
#include "runtime/data/image.h"

#include <string.h>

#define BLOCK 64 /* bytes of a row that one accumulator holds */

/* ---- weights ------------------------------------------------------------------------------------------- */

typedef struct taps {
    int room;        /* weights reserved per output */
    int *first;      /* (out) the first input of each output */
    int *count;      /* (out) */
    int32_t *weight; /* (out, room) */
} taps;

static size_t taps_bytes(int in, int out) {
    return sizeof(int32_t) * (size_t)out * (size_t)(cld_pixel_taps_room(in, out) + 2);
}

static taps make_taps(void *memory, int in, int out) {
    taps t = {.room = cld_pixel_taps_room(in, out), .first = memory};
    t.count = t.first + out;
    t.weight = t.count + out;
    for (int o = 0; o < out; o++)
        t.count[o] = cld_pixel_taps(&t.first[o], t.weight + (size_t)o * (size_t)t.room, o, in, out);
    return t;
}

/* ---- one pass ------------------------------------------------------------------------------------------ */

/* out (outputs, length) from in (inputs, length). Weights are not negative and sum to one, so no clipping. */
CLD_IMAGE_SIMD static void combine_rows(uint8_t *restrict out, const uint8_t *restrict in, const taps *t,
                                        int outputs, size_t length) {
    for (int o = 0; o < outputs; o++) {
        const int32_t *weight = t->weight + (size_t)o * (size_t)t->room;
        for (size_t start = 0; start < length; start += BLOCK) {
            size_t n = length - start < BLOCK ? length - start : BLOCK;
            const uint8_t *row = in + (size_t)t->first[o] * length + start;
            int32_t sum[BLOCK];
            for (size_t i = 0; i < BLOCK; i++) sum[i] = 1 << (CLD_PIXEL_TAP_BITS - 1);
            for (int k = 0; k < t->count[o]; k++, row += length) {
                int32_t w = weight[k];
                if (n == BLOCK)
                    for (size_t i = 0; i < BLOCK; i++) sum[i] += w * row[i];
                else
                    for (size_t i = 0; i < n; i++) sum[i] += w * row[i];
            }
            for (size_t i = 0; i < n; i++)
                out[(size_t)o * length + start + i] = (uint8_t)(sum[i] >> CLD_PIXEL_TAP_BITS);
        }
    }
}

/* ---- both ---------------------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

cld_status cld_image_resized_crop(cld_planes out, const uint8_t *interleaved, int width, cld_rect crop,
                                  cld_scratch *scratch) {
    size_t h = (size_t)crop.height, w = (size_t)crop.width, ow = (size_t)out.width;
    size_t taps_x = aligned(taps_bytes(crop.width, out.width)),
           taps_y = aligned(taps_bytes(crop.height, out.height));
    size_t columns = aligned(3 * h * w), narrowed = aligned(3 * h * ow);
    uint8_t *memory = cld_scratch_reserve(scratch, taps_x + taps_y + columns + 2 * narrowed);
    if (!memory) return CLD_NOMEM;
    taps tx = make_taps(memory, crop.width, out.width),
         ty = make_taps(memory + taps_x, crop.height, out.height);
    uint8_t *source = memory + taps_x + taps_y; /* (w, 3, h) */
    uint8_t *upright = source + columns;        /* (ow, 3, h) */
    uint8_t *rows = upright + narrowed;         /* (3, h, ow) */

    for (size_t y = 0; y < h; y++) {
        const uint8_t *pixel = interleaved + 3 * (((size_t)crop.top + y) * (size_t)width + (size_t)crop.left);
        uint8_t *to = source + y;
        for (size_t x = 0; x < w; x++, pixel += 3, to += 3 * h) {
            to[0] = pixel[0];
            to[h] = pixel[1];
            to[2 * h] = pixel[2];
        }
    }
    combine_rows(upright, source, &tx, out.width, 3 * h);
    for (size_t row = 0; row < 3 * h; row++)
        for (size_t x = 0; x < ow; x++) rows[row * ow + x] = upright[x * 3 * h + row];
    for (size_t c = 0; c < 3; c++)
        combine_rows(out.data + c * (size_t)out.height * ow, rows + c * h * ow, &ty, out.height, ow);
    return CLD_OK;
}
