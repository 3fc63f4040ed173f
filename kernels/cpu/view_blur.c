/* Filters: Pillow's GaussianBlur, which is three box blurs along x, then three along y, each rounded to 8 bits
 * (kernels/pixel.h); a tap filter in floats; sharpness. The box blurs along x run on the transposed plane, so that both
 * directions use the same vector loop. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

#include <string.h>

/* ---- Pillow's GaussianBlur --------------------------------------------------------------------------------------------- */

/* Row y of the input, with the border repeated. */
#define ROW(y) ((y) < 0 ? in : in + (size_t)((y) < rows ? (y) : rows - 1) * stride)

/* One box blur along the first dimension, of `length` columns: out[y] from in[y - radius - 1 ... y + radius + 1]. `sum`
 * (length) is a sliding sum. */
CLD_VIEW_SIMD static void blur_columns(uint8_t *restrict out, const uint8_t *restrict in, size_t stride,
                                       uint32_t *restrict sum, int rows, size_t length, cld_box b) {
    for (size_t i = 0; i < length; i++) sum[i] = 0;
    for (int y = -b.radius - 1; y < b.radius; y++) { /* the sum of row -1 */
        const uint8_t *row = ROW(y);
        for (size_t i = 0; i < length; i++) sum[i] += row[i];
    }
    for (int y = 0; y < rows; y++) {
        const uint8_t *before = ROW(y - b.radius - 1), *last = ROW(y + b.radius),
                      *after = ROW(y + b.radius + 1);
        uint8_t *to = out + (size_t)y * stride;
        for (size_t i = 0; i < length; i++) {
            sum[i] += (uint32_t)last[i] - before[i];
            to[i] = cld_pixel_boxed(sum[i], before[i], after[i], b);
        }
    }
}

static void transpose_part(uint8_t *restrict out, const uint8_t *restrict in, size_t rows, size_t columns,
                           size_t row_end, size_t column_end, size_t row, size_t column) {
    for (size_t x = column; x < column_end; x++)
        for (size_t y = row; y < row_end; y++) out[x * rows + y] = in[y * columns + x];
}

#ifdef CLD_VIEW_AVX2
#    include <immintrin.h>

#    define STRIP        32 /* columns */
#    define STRIP_RADIUS 63 /* the largest radius whose sums have 15 bits */

/* The same for 32 columns, whose sums stay in registers. Weights of 24 bits are split into two of 12, so that one
 * vpmaddwd each multiplies a sum and the levels at its ends. */
CLD_VIEW_AVX2 static void blur_strip_avx2(uint8_t *restrict out, const uint8_t *restrict in, size_t stride,
                                          int rows, cld_box b) {
    const __m256i zero = _mm256_setzero_si256(), half = _mm256_set1_epi32(1 << 23);
    const __m256i high = _mm256_set1_epi32((int)(b.whole >> 12 | b.edge >> 12 << 16));
    const __m256i low = _mm256_set1_epi32((int)((b.whole & 0xFFF) | (b.edge & 0xFFF) << 16));
    __m256i sum[2] = {zero, zero};
#    define LOAD(y) _mm256_loadu_si256((const __m256i *)ROW(y))
    for (int y = -b.radius - 1; y < b.radius; y++) {
        __m256i row = LOAD(y);
        sum[0] = _mm256_add_epi16(sum[0], _mm256_unpacklo_epi8(row, zero));
        sum[1] = _mm256_add_epi16(sum[1], _mm256_unpackhi_epi8(row, zero));
    }
    for (int y = 0; y < rows; y++) {
        __m256i before = LOAD(y - b.radius - 1), last = LOAD(y + b.radius), after = LOAD(y + b.radius + 1);
        __m256i level[2];
        for (int i = 0; i < 2; i++) {
            __m256i out16 = i ? _mm256_unpackhi_epi8(before, zero) : _mm256_unpacklo_epi8(before, zero);
            __m256i in16 = i ? _mm256_unpackhi_epi8(last, zero) : _mm256_unpacklo_epi8(last, zero);
            __m256i next16 = i ? _mm256_unpackhi_epi8(after, zero) : _mm256_unpacklo_epi8(after, zero);
            sum[i] = _mm256_add_epi16(sum[i], _mm256_sub_epi16(in16, out16));
            __m256i ends = _mm256_add_epi16(out16, next16);
            __m256i pair[2] = {_mm256_unpacklo_epi16(sum[i], ends), _mm256_unpackhi_epi16(sum[i], ends)};
            for (int k = 0; k < 2; k++) {
                __m256i heavy = _mm256_slli_epi32(_mm256_madd_epi16(pair[k], high), 12);
                __m256i light = _mm256_add_epi32(_mm256_madd_epi16(pair[k], low), half);
                pair[k] = _mm256_srli_epi32(_mm256_add_epi32(heavy, light), 24);
            }
            level[i] = _mm256_packus_epi32(pair[0], pair[1]);
        }
        _mm256_storeu_si256((__m256i *)(out + (size_t)y * stride), _mm256_packus_epi16(level[0], level[1]));
    }
#    undef LOAD
}

/* 16 x 16 levels: four rounds that interleave rows i and i + 8 into rows 2 i and 2 i + 1. */
static void transpose_block(uint8_t *out, size_t out_stride, const uint8_t *in, size_t stride) {
    __m128i a[16], m[16];
    for (size_t i = 0; i < 16; i++) a[i] = _mm_loadu_si128((const __m128i *)(in + i * stride));
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            m[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            m[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        memcpy(a, m, sizeof a);
    }
    for (size_t i = 0; i < 16; i++) _mm_storeu_si128((__m128i *)(out + i * out_stride), a[i]);
}

static void transpose(uint8_t *restrict out, const uint8_t *restrict in, size_t rows, size_t columns) {
    size_t whole_rows = rows / 16 * 16, whole_columns = columns / 16 * 16;
    for (size_t y = 0; y < whole_rows; y += 16)
        for (size_t x = 0; x < whole_columns; x += 16)
            transpose_block(out + x * rows + y, rows, in + y * columns + x, columns);
    transpose_part(out, in, rows, columns, rows, columns, whole_rows, 0);
    transpose_part(out, in, rows, columns, whole_rows, columns, 0, whole_columns);
}
#else
static void transpose(uint8_t *restrict out, const uint8_t *restrict in, size_t rows, size_t columns) {
    transpose_part(out, in, rows, columns, rows, columns, 0, 0);
}
#endif

/* The last strip may overlap the one before, because out and in are separate. */
static void blur_rows(uint8_t *restrict out, const uint8_t *restrict in, uint32_t *restrict sum, int rows,
                      size_t length, cld_box b) {
#ifdef CLD_VIEW_AVX2
    if (length >= STRIP && b.radius <= STRIP_RADIUS && cld__view_has_avx2()) {
        for (size_t x = 0; x < length; x += STRIP) {
            size_t start = x + STRIP <= length ? x : length - STRIP;
            blur_strip_avx2(out + start, in + start, length, rows, b);
        }
        return;
    }
#endif
    blur_columns(out, in, length, sum, rows, length, b);
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

/* out[i] = weight[0] line(0)[i] + weight[k] (line(-k)[i] + line(k)[i]), k = 1, 2, ... in this order, where line(-k) is
 * at `middle` + before[k], line(k) at `middle` + after[k]. */
static void weigh_lines_from(float *restrict out, const float *restrict middle, const ptrdiff_t before[],
                             const ptrdiff_t after[], const float weight[], int radius, size_t begin,
                             size_t n) {
    for (size_t i = begin; i < n; i++) {
        float sum = weight[0] * middle[i];
        for (int k = 1; k <= radius; k++)
            sum += weight[k] * (middle[(ptrdiff_t)i + before[k]] + middle[(ptrdiff_t)i + after[k]]);
        out[i] = sum;
    }
}

#ifdef CLD_VIEW_AVX2
CLD_VIEW_AVX2 static void weigh_lines_avx2(float *restrict out, const float *restrict middle,
                                           const ptrdiff_t before[], const ptrdiff_t after[],
                                           const float weight[], int radius, size_t n) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const float *line = middle + i;
        __m256 sum[4], w = _mm256_set1_ps(weight[0]);
        for (int j = 0; j < 4; j++) sum[j] = _mm256_mul_ps(w, _mm256_loadu_ps(line + 8 * j));
        for (int k = 1; k <= radius; k++) {
            const float *a = line + before[k], *b = line + after[k];
            w = _mm256_set1_ps(weight[k]);
            for (int j = 0; j < 4; j++) {
                __m256 both = _mm256_add_ps(_mm256_loadu_ps(a + 8 * j), _mm256_loadu_ps(b + 8 * j));
                sum[j] = _mm256_add_ps(sum[j], _mm256_mul_ps(w, both));
            }
        }
        for (int j = 0; j < 4; j++) _mm256_storeu_ps(out + i + 8 * j, sum[j]);
    }
    weigh_lines_from(out, middle, before, after, weight, radius, i, n);
}
#endif

static void weigh_lines(float *restrict out, const float *restrict middle, const ptrdiff_t before[],
                        const ptrdiff_t after[], const float weight[], int radius, size_t n) {
#ifdef CLD_VIEW_AVX2
    if (cld__view_has_avx2()) {
        weigh_lines_avx2(out, middle, before, after, weight, radius, n);
        return;
    }
#endif
    weigh_lines_from(out, middle, before, after, weight, radius, 0, n);
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
    const float *weight = s->taps.weight;
    ptrdiff_t before[12], after[12], left[12], right[12];
    for (int k = 1; k <= radius; k++) {
        left[k] = -k;
        right[k] = k;
    }
    for (size_t channel = 0; channel < 3; channel++) {
        uint8_t *levels = c->data + channel * n;
        to_units(plane, levels, n);
        for (int y = 0; y < height; y++) {
            float *middle = row + radius;
            for (int k = 1; k <= radius; k++) {
                before[k] = (ptrdiff_t)(cld_pixel_reflect(y - k, height) - y) * c->width;
                after[k] = (ptrdiff_t)(cld_pixel_reflect(y + k, height) - y) * c->width;
            }
            weigh_lines(middle, plane + (size_t)y * w, before, after, weight, radius, w);
            for (int k = 1; k <= radius; k++) {
                middle[-k] = middle[cld_pixel_reflect(-k, c->width)];
                middle[(int)w - 1 + k] = middle[cld_pixel_reflect((int)w - 1 + k, c->width)];
            }
            weigh_lines(sum, middle, left, right, weight, radius, w);
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
