/* The inner loops of batch normalization in f32: one chunk of one block of channels per call (see norm.h), compiled for
 * AVX-512, AVX2 and plain x86-64.
 *
 * The same code handles both layouts: a vector holds 16 channels of one position (blocked) or 16 positions of one
 * channel (row-major); the coefficients are 16 values or one value 16 times, and only the end of a reduction differs. A
 * run of a row-major activation may end in a partial vector; its missing lanes are read as zero and left out of sums.
 *
 * relu keeps NaN (the test is "not less than or equal to zero"), so that divergence stays visible.
 */
#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

#include <string.h>

typedef float vec __attribute__((vector_size(64), aligned(16)));
typedef int32_t bits __attribute__((vector_size(64), aligned(16)));
typedef float vec_at __attribute__((vector_size(64), aligned(4), may_alias));

CLD_INLINE vec load(const float *p) { return *(const vec_at *)p; }
CLD_INLINE void store(float *p, vec v) { *(vec_at *)p = v; }

CLD_INLINE vec load_first(const float *p, int64_t n) {
    vec v = {0};
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}
CLD_INLINE void store_first(float *p, vec v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof *p); }

CLD_INLINE vec keep(vec v, bits where) { return (vec)((bits)v & where); }

/* v if y is above zero or NaN, else 0. In halves: AVX2 has no 64-byte comparison, and the compiler would make 16
 * comparisons of single floats. */
typedef float half __attribute__((vector_size(32), aligned(16)));
typedef int32_t half_bits __attribute__((vector_size(32), aligned(16)));
typedef union halves {
    vec whole;
    half half[2];
} halves;
CLD_INLINE vec keep_positive(vec v, vec y) {
    halves out = {v}, of = {y};
    for (int i = 0; i < 2; i++) out.half[i] = (half)((half_bits)out.half[i] & ~(of.half[i] <= 0));
    return out.whole;
}
CLD_INLINE bits first_lanes(int64_t n) {
    const bits lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lane < (int32_t)n;
}
CLD_INLINE vec lanes_of(const cld_norm_lanes *l) { return load(l->at); }
CLD_INLINE vec relu_of(vec v) { return keep_positive(v, v); }
CLD_INLINE vec normalized(vec x, vec mean, vec scale, vec shift) { return (x - mean) * scale + shift; }

/* The part of a chunk that lies in one image: `count` floats at `offset` from the array's start. */
typedef struct segment {
    int64_t offset, count;
} segment;

/* Iterates over the segments of a chunk: start with *position = first_of(chunk). */
CLD_INLINE bool next_segment(segment *out, int64_t *position, const cld_norm_shape *s, int64_t block,
                             int64_t chunk) {
    int64_t end = (chunk + 1) * CLD_NORM_CHUNK, all = s->images * s->run;
    if (end > all) end = all;
    if (*position >= end) return false;
    int64_t image = *position / s->run, within = *position % s->run, count = s->run - within;
    if (count > end - *position) count = end - *position;
    *out = (segment){(image * s->blocks + block) * s->run + within, count};
    *position += count;
    return true;
}

/* If all lanes belong to one channel, their sum, in every lane. */
CLD_INLINE vec across(vec v, const cld_norm_shape *s) {
    if (s->lanes == 16) return v;
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += v[i];
    return sum - (vec){0};
}

CLD_INLINE void set_lanes(cld_norm_lanes *l, vec v) { store(l->at, v); }

/* ---- forward ------------------------------------------------------------------------------------------- */

/* Two passes, the second from the cache: the mean, then squared deviations from it. */
CLD_SIMD void cld_norm_chunk_moments(cld_norm_moments *out, const cld_norm_shape *s, int64_t block,
                                     int64_t chunk, const float *x) {
    segment g;
    vec sum[4] = {{0}};
    int64_t position = chunk * CLD_NORM_CHUNK, count = 0;
    while (next_segment(&g, &position, s, block, chunk)) {
        const float *p = x + g.offset;
        int64_t i = 0;
        for (; i + 64 <= g.count; i += 64)
            for (int k = 0; k < 4; k++) sum[k] += load(p + i + 16 * k);
        for (; i + 16 <= g.count; i += 16) sum[0] += load(p + i);
        if (i < g.count) sum[1] += load_first(p + i, g.count - i);
        count += g.count;
    }
    vec mean = across((sum[0] + sum[1]) + (sum[2] + sum[3]), s) / (float)(count / s->lanes);
    vec m2[4] = {{0}};
    position = chunk * CLD_NORM_CHUNK;
    while (next_segment(&g, &position, s, block, chunk)) {
        const float *p = x + g.offset;
        int64_t i = 0;
        for (; i + 64 <= g.count; i += 64)
            for (int k = 0; k < 4; k++) {
                vec d = load(p + i + 16 * k) - mean;
                m2[k] += d * d;
            }
        for (; i + 16 <= g.count; i += 16) {
            vec d = load(p + i) - mean;
            m2[0] += d * d;
        }
        if (i < g.count) {
            vec d = keep(load_first(p + i, g.count - i) - mean, first_lanes(g.count - i));
            m2[1] += d * d;
        }
    }
    set_lanes(&out->mean, mean);
    set_lanes(&out->m2, across((m2[0] + m2[1]) + (m2[2] + m2[3]), s));
}

CLD_INLINE vec apply(vec x, vec residual, vec mean, vec scale, vec shift, bool relu) {
    vec y = normalized(x, mean, scale, shift) + residual;
    return relu ? relu_of(y) : y;
}

CLD_INLINE void apply_chunk(float *y, const cld_norm_shape *s, int64_t block, int64_t chunk, const float *x,
                            const float *residual, const cld_norm_coefficients *c, bool add, bool relu) {
    vec mean = lanes_of(&c->mean), scale = lanes_of(&c->scale), shift = lanes_of(&c->shift);
    const vec zero = {0};
    segment g;
    int64_t position = chunk * CLD_NORM_CHUNK;
    while (next_segment(&g, &position, s, block, chunk)) {
        const float *px = x + g.offset, *pr = add ? residual + g.offset : NULL;
        float *py = y + g.offset;
        int64_t i = 0;
        for (; i + 16 <= g.count; i += 16)
            store(py + i, apply(load(px + i), add ? load(pr + i) : zero, mean, scale, shift, relu));
        int64_t rest = g.count - i;
        if (rest) {
            vec r = add ? load_first(pr + i, rest) : zero;
            store_first(py + i, apply(load_first(px + i, rest), r, mean, scale, shift, relu), rest);
        }
    }
}

CLD_SIMD void cld_norm_chunk_apply(float *y, const cld_norm_shape *s, int64_t block, int64_t chunk,
                                   const float *x, const float *residual, const cld_norm_coefficients *c,
                                   bool relu) {
    if (residual && relu)
        apply_chunk(y, s, block, chunk, x, residual, c, true, true);
    else if (residual)
        apply_chunk(y, s, block, chunk, x, residual, c, true, false);
    else if (relu)
        apply_chunk(y, s, block, chunk, x, NULL, c, false, true);
    else
        apply_chunk(y, s, block, chunk, x, NULL, c, false, false);
}

/* ---- backward ------------------------------------------------------------------------------------------ */

/* dy where relu let the value through. y is read only for CLD_MASK_FROM_Y; for a mask from x, the value is computed as
 * in cld_norm_chunk_apply. */
CLD_INLINE vec masked(vec dy, vec x, vec y, const vec *mean, const vec *scale, const vec *shift,
                      cld_norm_mask mask) {
    if (mask == CLD_MASK_FROM_X) y = normalized(x, *mean, *scale, *shift);
    return mask == CLD_MASK_NONE ? dy : keep_positive(dy, y);
}

CLD_INLINE void sums_chunk(cld_norm_sums *out, float *write, const cld_norm_shape *s, int64_t block,
                           int64_t chunk, const float *dy, const float *x, const float *y,
                           const cld_norm_coefficients *c, cld_norm_mask mask) {
    vec mean = lanes_of(&c->mean), scale = lanes_of(&c->scale), shift = lanes_of(&c->shift);
    const vec zero = {0};
    vec sum[2] = {{0}}, sum_x[2] = {{0}};
    segment g;
    int64_t position = chunk * CLD_NORM_CHUNK;
    while (next_segment(&g, &position, s, block, chunk)) {
        const float *pd = dy + g.offset, *px = x + g.offset;
        const float *py = mask == CLD_MASK_FROM_Y ? y + g.offset : NULL;
        float *pw = write ? write + g.offset : NULL;
        int64_t i = 0;
        for (; i + 16 <= g.count; i += 16) {
            int k = i >> 4 & 1;
            vec xs = load(px + i);
            vec d = masked(load(pd + i), xs, py ? load(py + i) : zero, &mean, &scale, &shift, mask);
            if (pw) store(pw + i, d);
            sum[k] += d;
            sum_x[k] += d * (xs - mean);
        }
        int64_t rest = g.count - i;
        if (rest) {
            vec xs = load_first(px + i, rest);
            vec d = masked(load_first(pd + i, rest), xs, py ? load_first(py + i, rest) : zero, &mean, &scale,
                           &shift, mask);
            if (pw) store_first(pw + i, d, rest);
            sum[0] += d; /* zero beyond the rest, as dy is there */
            sum_x[0] += keep(d * (xs - mean), first_lanes(rest));
        }
    }
    set_lanes(&out->dy, across(sum[0] + sum[1], s));
    set_lanes(&out->dy_x, across(sum_x[0] + sum_x[1], s));
}

CLD_SIMD void cld_norm_chunk_sums(cld_norm_sums *out, float *write, const cld_norm_shape *s, int64_t block,
                                  int64_t chunk, const float *dy, const float *x, const float *y,
                                  const cld_norm_coefficients *c, cld_norm_mask mask) {
    if (mask == CLD_MASK_NONE)
        sums_chunk(out, write, s, block, chunk, dy, x, y, c, CLD_MASK_NONE);
    else if (mask == CLD_MASK_FROM_X)
        sums_chunk(out, write, s, block, chunk, dy, x, y, c, CLD_MASK_FROM_X);
    else
        sums_chunk(out, write, s, block, chunk, dy, x, y, c, CLD_MASK_FROM_Y);
}

CLD_INLINE void gradient_chunk(float *dx, const cld_norm_shape *s, int64_t block, int64_t chunk,
                               const float *dy, const float *x, const float *y,
                               const cld_norm_coefficients *c, cld_norm_mask mask) {
    vec mean = lanes_of(&c->mean), scale = lanes_of(&c->scale), shift = lanes_of(&c->shift);
    vec dy_scale = lanes_of(&c->dy_scale), x_scale = lanes_of(&c->x_scale), dx_shift = lanes_of(&c->dx_shift);
    const vec zero = {0};
    segment g;
    int64_t position = chunk * CLD_NORM_CHUNK;
    while (next_segment(&g, &position, s, block, chunk)) {
        const float *pd = dy + g.offset, *px = x + g.offset;
        const float *py = mask == CLD_MASK_FROM_Y ? y + g.offset : NULL;
        float *po = dx + g.offset;
        int64_t i = 0;
        for (; i + 16 <= g.count; i += 16) {
            vec xs = load(px + i);
            vec d = masked(load(pd + i), xs, py ? load(py + i) : zero, &mean, &scale, &shift, mask);
            store(po + i, dy_scale * d + (x_scale * (xs - mean) + dx_shift));
        }
        int64_t rest = g.count - i;
        if (rest) {
            vec xs = load_first(px + i, rest);
            vec d = masked(load_first(pd + i, rest), xs, py ? load_first(py + i, rest) : zero, &mean, &scale,
                           &shift, mask);
            store_first(po + i, dy_scale * d + (x_scale * (xs - mean) + dx_shift), rest);
        }
    }
}

CLD_SIMD void cld_norm_chunk_gradient(float *dx, const cld_norm_shape *s, int64_t block, int64_t chunk,
                                      const float *dy, const float *x, const float *y,
                                      const cld_norm_coefficients *c, cld_norm_mask mask) {
    if (mask == CLD_MASK_NONE)
        gradient_chunk(dx, s, block, chunk, dy, x, y, c, CLD_MASK_NONE);
    else if (mask == CLD_MASK_FROM_X)
        gradient_chunk(dx, s, block, chunk, dy, x, y, c, CLD_MASK_FROM_X);
    else
        gradient_chunk(dx, s, block, chunk, dy, x, y, c, CLD_MASK_FROM_Y);
}
