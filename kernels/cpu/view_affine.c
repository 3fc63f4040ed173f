/* Image.transform(AFFINE) of the canvas: each output pixel is sampled from its place in the old canvas. In double, as
 * in Pillow.
 *
 * With AVX2 the three channels of a pixel are computed in parallel, from a copy of the canvas with four bytes per pixel
 * (R, G, B, 0), except along the border, where taps repeat. The arithmetic is that of kernels/pixel.h, step by step. A
 * shear or a shift keeps rows or columns in their places: the fraction there is 0, the polynomial equals its first
 * level exactly, and only one line of taps is read.
 */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

#include <string.h>

/* One pixel of all three planes. */
static void put_pixel(uint8_t *to, const cld_canvas *c, const cld_view_instruction *s, int x, int y) {
    size_t n = cld__view_pixels(c);
    cld_place place;
    bool inside = cld_pixel_place(&place, s->affine.matrix, x, y, c->height, c->width);
    for (size_t channel = 0; channel < 3; channel++) {
        const uint8_t *plane = c->data + channel * n;
        to[channel] = !inside ? s->affine.fill[channel]
                      : s->affine.filter == CLD_FILTER_BICUBIC
                          ? cld_pixel_bicubic(plane, &place, c->height, c->width)
                          : cld_pixel_bilinear(plane, &place, c->height, c->width);
    }
}

static void transform(cld_canvas *c, const cld_view_instruction *s) {
    size_t n = cld__view_pixels(c);
    for (int y = 0; y < c->height; y++)
        for (int x = 0; x < c->width; x++) {
            uint8_t level[3], *to = c->spare + (size_t)y * (size_t)c->width + (size_t)x;
            put_pixel(level, c, s, x, y);
            for (size_t channel = 0; channel < 3; channel++) to[channel * n] = level[channel];
        }
}

#ifdef CLD_VIEW_AVX2
#    include <immintrin.h>

CLD_VIEW_AVX2 static inline __m256d line(__m256d a, __m256d b, __m256d d) {
    return _mm256_add_pd(a, _mm256_mul_pd(_mm256_sub_pd(b, a), d));
}

/* Interpolates between two adjacent pixels. */
CLD_VIEW_AVX2 static inline __m256d row_line(const uint8_t *p, __m256d dx) {
    __m128i two = _mm_loadl_epi64((const __m128i *)p);
    __m256d a = _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(two));
    return line(a, _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_srli_si128(two, 4))), dx);
}

CLD_VIEW_AVX2 static inline __m256d polynomial(__m256d p1, __m256d p2, __m256d p3, __m256d p4, __m256d d) {
    __m256d sum = _mm256_add_pd(p3, _mm256_mul_pd(d, p4));
    sum = _mm256_add_pd(p2, _mm256_mul_pd(d, sum));
    return _mm256_add_pd(p1, _mm256_mul_pd(d, sum));
}

CLD_VIEW_AVX2 static inline __m256d widen(__m128i words) {
    return _mm256_cvtepi32_pd(_mm_cvtepi16_epi32(words));
}

/* cld_pixel_cubic of four pixels a, b, c, d; its coefficients are integers. */
CLD_VIEW_AVX2 static inline __m256d cubic_of(__m128i pixels, __m256d dx) {
    __m256i four = _mm256_cvtepu8_epi16(pixels);
    __m128i ab = _mm256_castsi256_si128(four), cd = _mm256_extracti128_si256(four, 1);
    __m128i b = _mm_srli_si128(ab, 8), sums = _mm_add_epi16(ab, cd); /* a + c, b + d */
    __m128i p4 = _mm_sub_epi16(_mm_srli_si128(sums, 8), sums);
    __m128i p3 = _mm_sub_epi16(_mm_sub_epi16(ab, b), p4);
    return polynomial(widen(b), widen(_mm_sub_epi16(cd, ab)), widen(p3), widen(p4), dx);
}

CLD_VIEW_AVX2 static inline __m256d row_cubic(const uint8_t *p, __m256d dx) {
    return cubic_of(_mm_loadu_si128((const __m128i *)p), dx);
}

CLD_VIEW_AVX2 static inline __m256d cubic(__m256d a, __m256d b, __m256d c, __m256d d, __m256d x) {
    __m256d a_b = _mm256_sub_pd(a, b), b_a = _mm256_sub_pd(b, a);
    __m256d p3 = _mm256_sub_pd(_mm256_add_pd(_mm256_add_pd(a_b, a_b), c), d);
    __m256d p4 = _mm256_add_pd(_mm256_sub_pd(b_a, c), d);
    return polynomial(b, _mm256_sub_pd(c, a), p3, p4, x);
}

/* Levels of four pixels, truncated to integers and packed with saturation: 0 to 255, the same as clamping before
 * truncation. */
CLD_VIEW_AVX2 static inline __m128i pack_pixels(const __m256d pixel[4]) {
    __m128i a = _mm_packus_epi32(_mm256_cvttpd_epi32(pixel[0]), _mm256_cvttpd_epi32(pixel[1]));
    __m128i b = _mm_packus_epi32(_mm256_cvttpd_epi32(pixel[2]), _mm256_cvttpd_epi32(pixel[3]));
    return _mm_packus_epi16(a, b);
}

/* cld_pixel_place of four adjacent pixels. */
typedef struct four_places {
    /* Of the pixel at (x, y), in the copy's pixels; for a pixel that is not interior, of the first interior one. */
    int32_t offset[4];
    __m256d dx, dy;
    int inside;   /* bit i: pixel i lies in the canvas */
    int interior; /* and so do all pixels that it reads: `before` on one side and `after` on the other */
} four_places;

CLD_VIEW_AVX2 static inline __m256d at_least(__m256d a, double b) {
    return _mm256_cmp_pd(a, _mm256_set1_pd(b), _CMP_GE_OQ);
}

CLD_VIEW_AVX2 static inline __m256d below(__m256d a, double b) {
    return _mm256_cmp_pd(a, _mm256_set1_pd(b), _CMP_LT_OQ);
}

CLD_VIEW_AVX2 static inline four_places places_of(const cld_canvas *c, const double m[6], int x, int y,
                                                  int before, int after) {
    __m256d at_x = _mm256_add_pd(_mm256_set1_pd(x), _mm256_set_pd(3.5, 2.5, 1.5, 0.5));
    double at_y = y + 0.5;
    __m256d from_x = _mm256_mul_pd(_mm256_set1_pd(m[0]), at_x),
            from_y = _mm256_mul_pd(_mm256_set1_pd(m[3]), at_x);
    from_x = _mm256_add_pd(_mm256_add_pd(from_x, _mm256_set1_pd(m[1] * at_y)), _mm256_set1_pd(m[2]));
    from_y = _mm256_add_pd(_mm256_add_pd(from_y, _mm256_set1_pd(m[4] * at_y)), _mm256_set1_pd(m[5]));
    __m256d in_x = _mm256_and_pd(at_least(from_x, 0), below(from_x, c->width));
    __m256d in_y = _mm256_and_pd(at_least(from_y, 0), below(from_y, c->height));
    four_places places = {.inside = _mm256_movemask_pd(_mm256_and_pd(in_x, in_y))};
    from_x = _mm256_sub_pd(from_x, _mm256_set1_pd(0.5));
    from_y = _mm256_sub_pd(from_y, _mm256_set1_pd(0.5));
    in_x = _mm256_and_pd(at_least(from_x, before), below(from_x, c->width - after));
    in_y = _mm256_and_pd(at_least(from_y, before), below(from_y, c->height - after));
    __m128i column = _mm256_cvttpd_epi32(from_x), row = _mm256_cvttpd_epi32(from_y);
    places.dx = _mm256_sub_pd(from_x, _mm256_cvtepi32_pd(column));
    places.dy = _mm256_sub_pd(from_y, _mm256_cvtepi32_pd(row));
    __m128i offset = _mm_add_epi32(_mm_mullo_epi32(row, _mm_set1_epi32(c->width)), column);
    __m256d is_interior = _mm256_and_pd(in_x, in_y);
    places.interior = _mm256_movemask_pd(is_interior);
    __m256i wide = _mm256_permutevar8x32_epi32(_mm256_castpd_si256(is_interior),
                                               _mm256_setr_epi32(0, 2, 4, 6, 0, 0, 0, 0));
    __m128i first = _mm_set1_epi32(before * (c->width + 1));
    offset = _mm_blendv_epi8(first, offset, _mm256_castsi256_si128(wide));
    _mm_storeu_si128((__m128i *)places.offset, offset);
    return places;
}

/* The levels at a place; `stride`: bytes between rows. */
typedef __m256d look(const uint8_t *p, size_t stride, __m256d dx, __m256d dy);

CLD_VIEW_AVX2 static inline __m256d bilinear_at(const uint8_t *p, size_t stride, __m256d dx, __m256d dy) {
    return line(row_line(p, dx), row_line(p + stride, dx), dy);
}

CLD_VIEW_AVX2 static inline __m256d bicubic_at(const uint8_t *p, size_t stride, __m256d dx, __m256d dy) {
    p -= stride + 4;
    return cubic(row_cubic(p, dx), row_cubic(p + stride, dx), row_cubic(p + 2 * stride, dx),
                 row_cubic(p + 3 * stride, dx), dy);
}

/* dy is 0 */
CLD_VIEW_AVX2 static inline __m256d bilinear_in_row(const uint8_t *p, size_t stride, __m256d dx, __m256d dy) {
    (void)stride, (void)dy;
    return row_line(p, dx);
}

CLD_VIEW_AVX2 static inline __m256d bicubic_in_row(const uint8_t *p, size_t stride, __m256d dx, __m256d dy) {
    (void)stride, (void)dy;
    return row_cubic(p - 4, dx);
}

CLD_VIEW_AVX2 static inline __m128i pixel_at(const uint8_t *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm_cvtsi32_si128(bytes);
}

/* dx is 0 */
CLD_VIEW_AVX2 static inline __m256d bilinear_in_column(const uint8_t *p, size_t stride, __m256d dx,
                                                       __m256d dy) {
    (void)dx;
    __m256d a = _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(pixel_at(p)));
    return line(a, _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(pixel_at(p + stride))), dy);
}

CLD_VIEW_AVX2 static inline __m256d bicubic_in_column(const uint8_t *p, size_t stride, __m256d dx,
                                                      __m256d dy) {
    (void)dx;
    __m128i ab = _mm_unpacklo_epi32(pixel_at(p - stride), pixel_at(p));
    __m128i cd = _mm_unpacklo_epi32(pixel_at(p + stride), pixel_at(p + 2 * stride));
    return cubic_of(_mm_unpacklo_epi64(ab, cd), dy);
}

/* A pixel outside the canvas, or one whose taps reach beyond its border. */
CLD_VIEW_AVX2 static void put_odd_pixels(uint8_t *row, const four_places *at, const cld_canvas *c,
                                         const cld_view_instruction *s, int x, int y) {
    for (int i = 0; i < 4; i++) {
        if (at->interior >> i & 1) continue;
        if (at->inside >> i & 1)
            put_pixel(row + 4 * (x + i), c, s, x + i, y);
        else
            memcpy(row + 4 * (x + i), s->affine.fill, 3);
    }
}

#    define LANE(of, i)  _mm256_permute4x64_pd(of, 0x55 * (i))
#    define PIXEL(at, i) look_at(copy + 4 * (at).offset[i], stride, LANE((at).dx, i), LANE((at).dy, i))

/* `look_at` is a constant in each call. */
CLD_VIEW_AVX2 static inline __attribute__((always_inline)) void
transform_row_avx2(uint8_t *row, const uint8_t *copy, const cld_canvas *c, const cld_view_instruction *s,
                   int y, bool bicubic, look *look_at) {
    size_t stride = 4 * (size_t)c->width;
    int x = 0;
    for (; x + 4 <= c->width; x += 4) {
        four_places at = places_of(c, s->affine.matrix, x, y, bicubic, bicubic ? 2 : 1);
        if (at.interior) {
            __m256d pixel[4] = {PIXEL(at, 0), PIXEL(at, 1), PIXEL(at, 2), PIXEL(at, 3)};
            _mm_storeu_si128((__m128i *)(row + 4 * x), pack_pixels(pixel));
        }
        if (at.interior != 0xf) put_odd_pixels(row, &at, c, s, x, y);
    }
    for (; x < c->width; x++) put_pixel(row + 4 * x, c, s, x, y);
}

static bool is_whole(double x) { return x == rint(x) && fabs(x) < 0x1p30; }

CLD_VIEW_AVX2 static void transform_avx2(cld_canvas *c, const cld_view_instruction *s) {
    const double *m = s->affine.matrix;
    size_t n = cld__view_pixels(c);
    uint8_t *copy = c->work, *row = copy + 4 * n;
    bool bicubic = s->affine.filter == CLD_FILTER_BICUBIC;
    bool in_row = m[3] == 0 && m[4] == 1 && is_whole(m[5]),
         in_column = m[0] == 1 && m[1] == 0 && is_whole(m[2]);
    cld__view_join_row(copy, c->data, n, n);
    for (int y = 0; y < c->height; y++) {
#    define ROW(look_at, bicubic) transform_row_avx2(row, copy, c, s, y, bicubic, look_at)
        if (in_row && bicubic)
            ROW(bicubic_in_row, true);
        else if (in_row)
            ROW(bilinear_in_row, false);
        else if (in_column && bicubic)
            ROW(bicubic_in_column, true);
        else if (in_column)
            ROW(bilinear_in_column, false);
        else if (bicubic)
            ROW(bicubic_at, true);
        else
            ROW(bilinear_at, false);
        cld__view_split_row(c->spare + (size_t)y * (size_t)c->width, n, row, c->width);
    }
}
#endif

/* The copy, and a row of the result. */
size_t cld__view_affine_bytes(const cld_canvas *c, const cld_view_instruction *s) {
    (void)s;
    return 4 * (cld__view_pixels(c) + (size_t)c->width);
}

CLD_CPU_VIEW(affine) {
#ifdef CLD_VIEW_AVX2
    if (cld__view_has_avx2())
        transform_avx2(c, s);
    else
#endif
        transform(c, s);
    cld__view_swap(c);
}
