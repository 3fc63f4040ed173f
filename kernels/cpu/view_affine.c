/* Image.transform(AFFINE) of the canvas: each output pixel looks for its place in the old one. Doubles, as Pillow's.
 *
 * With AVX2 the three channels of a pixel are computed side by side, from a copy of the canvas with four bytes a pixel
 * (R, G, B, 0), except along the border, where taps repeat. Step by step it is the arithmetic of kernels/pixel.h.
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

/* Two pixels that lie side by side. */
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

/* cld_pixel_cubic of four pixels a, b, c, d side by side; its parameters are integers. */
CLD_VIEW_AVX2 static inline __m256d row_cubic(const uint8_t *p, __m256d dx) {
    __m256i four = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m128i ab = _mm256_castsi256_si128(four), cd = _mm256_extracti128_si256(four, 1);
    __m128i b = _mm_srli_si128(ab, 8), sums = _mm_add_epi16(ab, cd); /* a + c, b + d */
    __m128i p4 = _mm_sub_epi16(_mm_srli_si128(sums, 8), sums);
    __m128i p3 = _mm_sub_epi16(_mm_sub_epi16(ab, b), p4);
    return polynomial(widen(b), widen(_mm_sub_epi16(cd, ab)), widen(p3), widen(p4), dx);
}

CLD_VIEW_AVX2 static inline __m256d cubic(__m256d a, __m256d b, __m256d c, __m256d d, __m256d x) {
    __m256d a_b = _mm256_sub_pd(a, b), b_a = _mm256_sub_pd(b, a);
    __m256d p3 = _mm256_sub_pd(_mm256_add_pd(_mm256_add_pd(a_b, a_b), c), d);
    __m256d p4 = _mm256_add_pd(_mm256_sub_pd(b_a, c), d);
    return polynomial(b, _mm256_sub_pd(c, a), p3, p4, x);
}

CLD_VIEW_AVX2 static inline int32_t pixel_of(__m256d levels) {
    levels = _mm256_min_pd(_mm256_max_pd(levels, _mm256_setzero_pd()), _mm256_set1_pd(255.0));
    __m128i words = _mm_packus_epi32(_mm256_cvttpd_epi32(levels), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
}

CLD_VIEW_AVX2 static void transform_avx2(cld_canvas *c, const cld_view_instruction *s) {
    size_t n = cld__view_pixels(c), width = (size_t)c->width, stride = 4 * width;
    uint8_t *copy = c->work, *row = copy + 4 * n;
    cld__view_join_row(copy, c->data, n, n);
    const bool bicubic = s->affine.filter == CLD_FILTER_BICUBIC;
    const int32_t fill = s->affine.fill[0] | s->affine.fill[1] << 8 | s->affine.fill[2] << 16;
    const int before = bicubic, after = bicubic ? 2 : 1; /* pixels that are looked at, to either side */
    for (int y = 0; y < c->height; y++) {
        for (int x = 0; x < c->width; x++) {
            cld_place at;
            int32_t pixel = fill;
            if (cld_pixel_place(&at, s->affine.matrix, x, y, c->height, c->width)) {
                if (at.x < before || at.y < before || at.x + after >= c->width || at.y + after >= c->height) {
                    put_pixel(row + 4 * x, c, s, x, y);
                    continue;
                }
                const uint8_t *p = copy + (size_t)(at.y - before) * stride + 4 * (size_t)(at.x - before);
                __m256d dx = _mm256_set1_pd(at.dx), dy = _mm256_set1_pd(at.dy);
                pixel =
                    bicubic
                        ? pixel_of(cubic(row_cubic(p, dx), row_cubic(p + stride, dx),
                                         row_cubic(p + 2 * stride, dx), row_cubic(p + 3 * stride, dx), dy))
                        : pixel_of(line(row_line(p, dx), row_line(p + stride, dx), dy));
            }
            memcpy(row + 4 * x, &pixel, sizeof pixel);
        }
        cld__view_split_row(c->spare + (size_t)y * width, n, row, c->width);
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
