/* Pillow's resize: one pass along x, one along y, each rounded to 8 bits, in fixed point; of the box only what the window
 * needs.
 *
 * Between the passes pixels are four bytes (R, G, B, 0), so that both take whole pixels. With AVX2 a weight of 22 bits and
 * a sign is two of at most 13 bits, high * 2^11 + low: products with levels are then added in pairs by vpmaddwd, and
 * the sums, which are integers, come out the same as the plain loop's.
 */
#include "kernels/cpu/view.h"
#include "kernels/resample.h"

#include <string.h>

#ifdef CLD_VIEW_AVX2
#    include <immintrin.h>
#endif

#define LOW_BITS 11

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

typedef struct taps {
    int outputs, room; /* of the window; weights reserved per output, an even number */
    int *first;        /* (outputs) the first input of each output, in pixels of the part that is there */
    int *count;        /* (outputs) */
    int32_t *weight;   /* (outputs, room) zeros after the last */
    int32_t *
        pair; /* (outputs, room) of weights 2 k and 2 k + 1: their high parts, then their low parts, 16 bits each */
} taps;

static int even(int n) { return (n + 1) / 2 * 2; }

static size_t taps_bytes(const cld_axis *a, int outputs) {
    return cld__view_aligned(sizeof(int32_t) * (size_t)outputs * (2 + 2 * (size_t)even(cld_axis_room(a))));
}

static int32_t two(int32_t a, int32_t b) { return (int32_t)(((uint32_t)a & 0xFFFF) | (uint32_t)b << 16); }

/* Of the outputs from `from` on; shift: from the axis' base to where the part begins. Mirrored: in reverse order. */
static taps make_taps(uint8_t *memory, const cld_axis *a, int from, int outputs, int shift, bool mirrored) {
    taps t = {.outputs = outputs, .room = even(cld_axis_room(a)), .first = (int *)memory};
    t.count = t.first + outputs;
    t.weight = t.count + outputs;
    t.pair = t.weight + (size_t)outputs * (size_t)t.room;
    for (int i = 0; i < outputs; i++) {
        int o = mirrored ? from + outputs - 1 - i : from + i;
        int32_t *weight = t.weight + (size_t)i * (size_t)t.room, *pair = t.pair + (size_t)i * (size_t)t.room;
        t.count[i] = cld_axis_taps(&t.first[i], weight, a, o);
        t.first[i] += shift;
        for (int k = t.count[i]; k < t.room; k++) weight[k] = 0;
        for (int k = 0; k < t.room; k += 2) {
            const int32_t mask = (1 << LOW_BITS) - 1;
            pair[k] = two(weight[k] >> LOW_BITS, weight[k + 1] >> LOW_BITS);
            pair[k + 1] = two(weight[k] & mask, weight[k + 1] & mask);
        }
    }
    return t;
}

/* ---- along x: interleaved rows of RGB to rows of RGB0 ------------------------------------------------------------------ */

static void narrow_row(uint8_t *restrict out, const uint8_t *restrict row, const taps *t) {
    for (int o = 0; o < t->outputs; o++, out += 4) {
        const uint8_t *pixel = row + 3 * t->first[o];
        const int32_t *weight = t->weight + (size_t)o * (size_t)t->room;
        int32_t r = CLD_TAP_HALF, g = r, b = r;
        for (int k = 0; k < t->count[o]; k++, pixel += 3) {
            r += weight[k] * pixel[0];
            g += weight[k] * pixel[1];
            b += weight[k] * pixel[2];
        }
        out[0] = cld_tap_level(r);
        out[1] = cld_tap_level(g);
        out[2] = cld_tap_level(b);
        out[3] = 0;
    }
}

/* ---- along y: rows of RGB0 to one row of each plane -------------------------------------------------------------------- */

static void combine_rows(uint8_t *restrict out, size_t plane, const uint8_t *restrict rows, size_t stride,
                         const int32_t *weight, int count, int width) {
    for (int x = 0; x < width; x++)
        for (int channel = 0; channel < 3; channel++) {
            const uint8_t *from = rows + 4 * x + channel;
            int32_t sum = CLD_TAP_HALF;
            for (int k = 0; k < count; k++) sum += weight[k] * from[(size_t)k * stride];
            out[(size_t)channel * plane + (size_t)x] = cld_tap_level(sum);
        }
}

/* ---- the instruction --------------------------------------------------------------------------------------------------- */

typedef struct job {
    cld_axis x, y;
    int first_row, rows; /* of the part that is there, that the window needs */
    size_t stride;       /* of the narrowed rows */
} job;

static job job_of(const cld_canvas *c, const cld_view_instruction *s) {
    const cld_pixels *image = c->image;
    const int32_t *w = s->resample.window;
    job j = {.x = cld_axis_x(s, image->shrink, image->width),
             .y = cld_axis_y(s, image->shrink, image->height)};
    int first, end, unused;
    cld_axis_span(&first, &unused, &j.y, w[0]);
    cld_axis_span(&unused, &end, &j.y, w[0] + w[2] - 1);
    j.first_row = j.y.base + first - image->there.top;
    j.rows = end - first;
    j.stride = cld__view_aligned(4 * (size_t)w[3]);
    return j;
}

size_t cld__view_resample_bytes(const cld_canvas *c, const cld_view_instruction *s) {
    job j = job_of(c, s);
    return taps_bytes(&j.x, s->resample.window[3]) + taps_bytes(&j.y, s->resample.window[2]) +
           (size_t)j.rows * j.stride;
}

CLD_CPU_VIEW(resample) {
    const cld_pixels *image = c->image;
    const int32_t *w = s->resample.window;
    job j = job_of(c, s);
    uint8_t *memory = c->work;
    taps x = make_taps(memory, &j.x, w[1], w[3], j.x.base - image->there.left, s->flip);
    memory += taps_bytes(&j.x, w[3]);
    taps y = make_taps(memory, &j.y, w[0], w[2], j.y.base - image->there.top - j.first_row, false);
    memory += taps_bytes(&j.y, w[2]);
    c->height = w[2];
    c->width = w[3];
    const uint8_t *from = image->data + (size_t)j.first_row * image->stride;
    for (int row = 0; row < j.rows; row++)
        narrow_row(memory + (size_t)row * j.stride, from + (size_t)row * image->stride, &x);
    for (int row = 0; row < c->height; row++)
        combine_rows(c->data + (size_t)row * (size_t)c->width, cld__view_pixels(c),
                     memory + (size_t)y.first[row] * j.stride, j.stride,
                     y.weight + (size_t)row * (size_t)y.room, y.count[row], c->width);
}
