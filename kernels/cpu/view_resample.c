/* Pillow's resize: a pass along x and one along y, each rounded to 8 bits, in fixed point. Only the part of the box
 * that the window needs is computed. cld_resample_y_first says which pass comes first.
 *
 * Narrowed rows have four bytes per pixel (R, G, B, 0). With AVX2 a weight of 22 bits and a sign is split into two of
 * at most 13 bits, high * 2^11 + low, so that vpmaddwd adds products with levels in pairs. The sums are integers, equal
 * to those of the plain loops.
 */
#include "kernels/cpu/view.h"
#include "kernels/resample.h"

#include <string.h>

#define LOW_BITS 11
#define GROUP    4  /* rows that are narrowed together */
#define OVER     64 /* bytes that may be read beyond one of our rows */

/* ---- weights ----------------------------------------------------------------------------------------------------------- */

typedef struct taps {
    int outputs, room; /* of the window; weights reserved per output, a multiple of 4 */
    int *first;        /* (outputs) the first input of each output, in pixels of the part given */
    int *count;        /* (outputs) */
    int32_t *weight;   /* (outputs, room) zeros after the last */
    int32_t *
        pair; /* (outputs, room) of weights 2 k and 2 k + 1: their high parts, their low parts, 16 bits each */
} taps;

static int taps_room(const cld_axis *a) { return (cld_axis_room(a) + 3) / 4 * 4; }

static size_t taps_bytes(const cld_axis *a, int outputs) {
    return cld__view_aligned(sizeof(int32_t) * (size_t)outputs * (2 + 2 * (size_t)taps_room(a)));
}

static int32_t two(int32_t a, int32_t b) { return (int32_t)(((uint32_t)a & 0xFFFF) | (uint32_t)b << 16); }

/* The taps of the outputs from `from` on, in reverse order if mirrored. shift: from the axis' base to the start of the
 * part. */
static taps make_taps(uint8_t *memory, const cld_axis *a, int from, int outputs, int shift, bool mirrored) {
    taps t = {.outputs = outputs, .room = taps_room(a), .first = (int *)memory};
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

/* ---- the loops --------------------------------------------------------------------------------------------------------- */

typedef struct loops {
    /* Along x: rows of RGB to rows of RGB0. OVER bytes beyond the rows must be readable. */
    void (*narrow)(uint8_t *const out[GROUP], const uint8_t *const rows[GROUP], const taps *t);
    /* Along y: out[i] from rows[i], rows[i + stride], ..., i < n */
    void (*combine)(uint8_t *restrict out, const uint8_t *restrict rows, size_t stride, const taps *t, int o,
                    size_t n);
    /* RGB0 to a row of each plane */
    void (*split)(uint8_t *restrict out, size_t plane, const uint8_t *restrict row, int width);
} loops;

static void narrow(uint8_t *const out[GROUP], const uint8_t *const rows[GROUP], const taps *t) {
    for (int i = 0; i < GROUP; i++)
        for (int o = 0; o < t->outputs; o++) {
            const uint8_t *pixel = rows[i] + 3 * t->first[o];
            const int32_t *weight = t->weight + (size_t)o * (size_t)t->room;
            int32_t r = CLD_TAP_HALF, g = r, b = r;
            for (int k = 0; k < t->count[o]; k++, pixel += 3) {
                r += weight[k] * pixel[0];
                g += weight[k] * pixel[1];
                b += weight[k] * pixel[2];
            }
            uint8_t *to = out[i] + 4 * o;
            to[0] = cld_tap_level(r);
            to[1] = cld_tap_level(g);
            to[2] = cld_tap_level(b);
            to[3] = 0;
        }
}

static void combine_from(uint8_t *restrict out, const uint8_t *restrict rows, size_t stride, const taps *t,
                         int o, size_t begin, size_t n) {
    const int32_t *weight = t->weight + (size_t)o * (size_t)t->room;
    for (size_t i = begin; i < n; i++) {
        int32_t sum = CLD_TAP_HALF;
        for (int k = 0; k < t->count[o]; k++) sum += weight[k] * rows[(size_t)k * stride + i];
        out[i] = cld_tap_level(sum);
    }
}

static void combine(uint8_t *restrict out, const uint8_t *restrict rows, size_t stride, const taps *t, int o,
                    size_t n) {
    combine_from(out, rows, stride, t, o, 0, n);
}

static void split_from(uint8_t *restrict out, size_t plane, const uint8_t *restrict row, int begin,
                       int width) {
    for (int x = begin; x < width; x++)
        for (size_t channel = 0; channel < 3; channel++)
            out[channel * plane + (size_t)x] = row[4 * (size_t)x + channel];
}

static void split(uint8_t *restrict out, size_t plane, const uint8_t *restrict row, int width) {
    split_from(out, plane, row, 0, width);
}

#ifdef CLD_VIEW_AVX2
#    include <immintrin.h>

/* 16 or 8 bytes of each of two rows, one row per half. */
CLD_VIEW_AVX2 static inline __m256i load_quads(const uint8_t *a, const uint8_t *b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)),
                                   _mm_loadu_si128((const __m128i *)b), 1);
}
CLD_VIEW_AVX2 static inline __m256i load_pairs(const uint8_t *a, const uint8_t *b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)a)),
                                   _mm_loadl_epi64((const __m128i *)b), 1);
}

CLD_VIEW_AVX2 static inline __m256i levels_of(__m256i high, __m256i low) {
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, LOW_BITS), low), CLD_TAP_BITS);
}

CLD_VIEW_AVX2 static void narrow_avx2(uint8_t *const out[GROUP], const uint8_t *const rows[GROUP],
                                      const taps *t) {
    const __m256i first_pair =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i second_pair = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    for (int o = 0; o < t->outputs; o++) {
        const int32_t *pair = t->pair + (size_t)o * (size_t)t->room;
        size_t at = 3 * (size_t)t->first[o];
        int left = t->count[o];
        __m256i high1 = _mm256_setzero_si256(), high2 = high1;
        __m256i low1 = _mm256_set1_epi32(CLD_TAP_HALF), low2 = low1;
#    define ADD(in1, in2, order, k)                                                                          \
        {                                                                                                    \
            __m256i x1 = _mm256_shuffle_epi8(in1, order), x2 = _mm256_shuffle_epi8(in2, order);              \
            __m256i high = _mm256_set1_epi32(pair[k]), low = _mm256_set1_epi32(pair[(k) + 1]);               \
            high1 = _mm256_add_epi32(high1, _mm256_madd_epi16(x1, high));                                    \
            low1 = _mm256_add_epi32(low1, _mm256_madd_epi16(x1, low));                                       \
            high2 = _mm256_add_epi32(high2, _mm256_madd_epi16(x2, high));                                    \
            low2 = _mm256_add_epi32(low2, _mm256_madd_epi16(x2, low));                                       \
        }
        for (; left > 2; left -= 4, at += 12, pair += 4) {
            __m256i in1 = load_quads(a + at, b + at), in2 = load_quads(c + at, d + at);
            ADD(in1, in2, first_pair, 0)
            ADD(in1, in2, second_pair, 2)
        }
        if (left > 0) {
            __m256i in1 = load_pairs(a + at, b + at), in2 = load_pairs(c + at, d + at);
            ADD(in1, in2, first_pair, 0)
        }
#    undef ADD
        __m256i words = _mm256_packs_epi32(levels_of(high1, low1), levels_of(high2, low2)); /* a c | b d */
        __m256i bytes = _mm256_packus_epi16(words, words);
        __m128i ac = _mm256_castsi256_si128(bytes), bd = _mm256_extracti128_si256(bytes, 1);
        int32_t level[GROUP] = {_mm_cvtsi128_si32(ac), _mm_cvtsi128_si32(bd), _mm_extract_epi32(ac, 1),
                                _mm_extract_epi32(bd, 1)};
        for (int i = 0; i < GROUP; i++) memcpy(out[i] + 4 * (size_t)o, &level[i], 4);
    }
}

CLD_VIEW_AVX2 static void combine_avx2(uint8_t *restrict out, const uint8_t *restrict rows, size_t stride,
                                       const taps *t, int o, size_t n) {
    const __m256i zero = _mm256_setzero_si256();
    const int32_t *pair = t->pair + (size_t)o * (size_t)t->room;
    int count = t->count[o];
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i high[4], low[4];
        for (int j = 0; j < 4; j++) {
            high[j] = zero;
            low[j] = _mm256_set1_epi32(CLD_TAP_HALF);
        }
        const uint8_t *row = rows + i;
        for (int k = 0; k < count; k += 2, row += 2 * stride) {
            __m256i a = _mm256_loadu_si256((const __m256i *)row), b = a; /* a last odd row counts 0 */
            if (k + 1 < count) b = _mm256_loadu_si256((const __m256i *)(row + stride));
            __m256i heavy = _mm256_set1_epi32(pair[k]), light = _mm256_set1_epi32(pair[k + 1]);
            __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
            for (int j = 0; j < 2; j++) {
                __m256i x = _mm256_unpacklo_epi8(ab[j], zero), y = _mm256_unpackhi_epi8(ab[j], zero);
                high[2 * j] = _mm256_add_epi32(high[2 * j], _mm256_madd_epi16(x, heavy));
                low[2 * j] = _mm256_add_epi32(low[2 * j], _mm256_madd_epi16(x, light));
                high[2 * j + 1] = _mm256_add_epi32(high[2 * j + 1], _mm256_madd_epi16(y, heavy));
                low[2 * j + 1] = _mm256_add_epi32(low[2 * j + 1], _mm256_madd_epi16(y, light));
            }
        }
        __m256i words1 = _mm256_packs_epi32(levels_of(high[0], low[0]), levels_of(high[1], low[1]));
        __m256i words2 = _mm256_packs_epi32(levels_of(high[2], low[2]), levels_of(high[3], low[3]));
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_packus_epi16(words1, words2));
    }
    combine_from(out, rows, stride, t, o, i, n);
}

CLD_VIEW_AVX2 static void split_avx2(uint8_t *restrict out, size_t plane, const uint8_t *restrict row,
                                     int width) {
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    int x = 0;
    for (; x + 16 <= width; x += 16) {
        __m128i part[4];
        for (int k = 0; k < 4; k++)
            part[k] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(row + 4 * x + 16 * k)), order);
        __m128i rg1 = _mm_unpacklo_epi32(part[0], part[1]), rg2 = _mm_unpacklo_epi32(part[2], part[3]);
        __m128i b1 = _mm_unpackhi_epi32(part[0], part[1]), b2 = _mm_unpackhi_epi32(part[2], part[3]);
        _mm_storeu_si128((__m128i *)(out + x), _mm_unpacklo_epi64(rg1, rg2));
        _mm_storeu_si128((__m128i *)(out + plane + x), _mm_unpackhi_epi64(rg1, rg2));
        _mm_storeu_si128((__m128i *)(out + 2 * plane + x), _mm_unpacklo_epi64(b1, b2));
    }
    split_from(out, plane, row, x, width);
}
#endif

static loops choose_loops(void) {
#ifdef CLD_VIEW_AVX2
    if (cld__view_has_avx2()) return (loops){narrow_avx2, combine_avx2, split_avx2};
#endif
    return (loops){narrow, combine, split};
}

void cld__view_split_row(uint8_t *out, size_t plane, const uint8_t *pixels, int width) {
    choose_loops().split(out, plane, pixels, width);
}

/* Joins the pixels from x on. */
static void join_from(uint8_t *pixels, const uint8_t *planes, size_t plane, size_t x, size_t width) {
    const uint8_t *r = planes, *g = r + plane, *b = g + plane;
    for (; x < width; x++) {
        pixels[4 * x] = r[x];
        pixels[4 * x + 1] = g[x];
        pixels[4 * x + 2] = b[x];
        pixels[4 * x + 3] = 0;
    }
}

#ifdef CLD_VIEW_AVX2
CLD_VIEW_AVX2 static void join_avx2(uint8_t *pixels, const uint8_t *planes, size_t plane, size_t width) {
    size_t x = 0;
    for (; x + 32 <= width; x += 32) {
        __m256i part[3]; /* middle quarters swapped: unpacking, which works per half, then keeps the order */
        for (size_t c = 0; c < 3; c++)
            part[c] =
                _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)(planes + c * plane + x)), 0xd8);
        __m256i zero = _mm256_setzero_si256();
        __m256i rg[2] = {_mm256_unpacklo_epi8(part[0], part[1]), _mm256_unpackhi_epi8(part[0], part[1])};
        __m256i b0[2] = {_mm256_unpacklo_epi8(part[2], zero), _mm256_unpackhi_epi8(part[2], zero)};
        for (size_t k = 0; k < 2; k++) {
            __m256i low = _mm256_unpacklo_epi16(rg[k], b0[k]), high = _mm256_unpackhi_epi16(rg[k], b0[k]);
            __m256i *to = (__m256i *)(pixels + 4 * x + 64 * k);
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
        }
    }
    join_from(pixels, planes, plane, x, width);
}
#endif

void cld__view_join_row(uint8_t *pixels, const uint8_t *planes, size_t plane, size_t width) {
#ifdef CLD_VIEW_AVX2
    if (cld__view_has_avx2()) {
        join_avx2(pixels, planes, plane, width);
        return;
    }
#endif
    join_from(pixels, planes, plane, 0, width);
}

/* ---- the instruction --------------------------------------------------------------------------------------------------- */

typedef struct job {
    cld_axis x, y;
    cld_rect needed; /* of the image at this scale */
    size_t narrow;   /* bytes of a row of RGB0 as wide as the window */
    size_t source;   /* bytes of a row of RGB as wide as the needed part */
    int rows;        /* narrowed rows that are kept */
} job;

/* The input of the resampling: the image, or a canvas, whose pixels are then in `copy`. */
static cld_pixels source_of(const cld_canvas *c, const uint8_t *copy) {
    if (!c->taken) return *c->image;
    return cld_pixels_whole(copy, c->height, c->width);
}

static size_t copy_bytes(const cld_canvas *c) {
    return c->taken ? cld__view_aligned(3 * cld__view_pixels(c)) : 0;
}

static job job_of(const cld_pixels *image, const cld_view_instruction *s) {
    job j = {.x = cld_axis_x(s, image->shrink, image->width),
             .y = cld_axis_y(s, image->shrink, image->height)};
    j.needed = cld_resample_needs(s, &j.y, &j.x);
    j.narrow = cld__view_aligned(4 * (size_t)s->resample.window[3]);
    j.source = cld__view_aligned(3 * (size_t)j.needed.width + OVER);
    j.rows = cld_resample_y_first(&j.y, &j.x) ? GROUP : j.needed.height;
    return j;
}

size_t cld__view_resample_bytes(const cld_canvas *c, const cld_view_instruction *s) {
    cld_pixels image = source_of(c, NULL);
    job j = job_of(&image, s);
    return copy_bytes(c) + taps_bytes(&j.x, s->resample.window[3]) + taps_bytes(&j.y, s->resample.window[2]) +
           ((size_t)j.rows + 1) * j.narrow + GROUP * j.source;
}

/* The needed part of a row; a copy if reading beyond its end would leave the image's memory. */
static const uint8_t *row_of(const cld_pixels *image, const job *j, int row, uint8_t *copy) {
    const uint8_t *from = image->data + (size_t)(j->needed.top - image->there.top + row) * image->stride +
                          3 * (size_t)(j->needed.left - image->there.left);
    const uint8_t *end =
        image->data + (size_t)(image->there.height - 1) * image->stride + 3 * (size_t)image->there.width;
    size_t bytes = 3 * (size_t)j->needed.width;
    if ((size_t)(end - from) >= bytes + OVER) return from;
    memcpy(copy, from, bytes);
    return copy;
}

CLD_CPU_VIEW(resample) {
    const cld_pixels source = source_of(c, c->work), *image = &source;
    const int32_t *w = s->resample.window;
    const loops with = choose_loops();
    job j = job_of(image, s);
    uint8_t *memory = c->work + copy_bytes(c);
    if (c->taken) cld__view_interleave(c->work, c);
    c->taken = true;
    taps x = make_taps(memory, &j.x, w[1], w[3], j.x.base - j.needed.left, s->flip);
    memory += taps_bytes(&j.x, w[3]);
    taps y = make_taps(memory, &j.y, w[0], w[2], j.y.base - j.needed.top, false);
    memory += taps_bytes(&j.y, w[2]);
    uint8_t *narrowed = memory, *last = memory + (size_t)j.rows * j.narrow, *copies = last + j.narrow;
    c->height = w[2];
    c->width = w[3];
    size_t plane = cld__view_pixels(c), width = (size_t)c->width;
    bool y_first = cld_resample_y_first(&j.y, &j.x);
    int rows = y_first ? c->height : j.needed.height;
    for (int begin = 0; begin < rows; begin += GROUP) {
        const uint8_t *in[GROUP];
        uint8_t *out[GROUP];
        for (int i = 0; i < GROUP; i++) { /* in the last group, the last row may be repeated */
            int row = begin + i < rows ? begin + i : rows - 1;
            uint8_t *copy = copies + (size_t)i * j.source;
            out[i] = narrowed + (size_t)(y_first ? i : row) * j.narrow;
            if (y_first) {
                const uint8_t *from =
                    image->data + (size_t)(j.needed.top - image->there.top + y.first[row]) * image->stride +
                    3 * (size_t)(j.needed.left - image->there.left);
                with.combine(copy, from, image->stride, &y, row, 3 * (size_t)j.needed.width);
                in[i] = copy;
            } else {
                in[i] = row_of(image, &j, row, copy);
            }
        }
        with.narrow(out, in, &x);
        for (int i = 0; y_first && i < GROUP && begin + i < rows; i++)
            with.split(c->data + (size_t)(begin + i) * width, plane, out[i], c->width);
    }
    for (int row = 0; !y_first && row < c->height; row++) {
        with.combine(last, narrowed + (size_t)y.first[row] * j.narrow, j.narrow, &y, row, j.narrow);
        with.split(c->data + (size_t)row * width, plane, last, c->width);
    }
}
