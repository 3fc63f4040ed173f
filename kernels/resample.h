/* Pillow's Image.resize along one dimension, in fixed point: the input pixels of an output and their weights. The
 * host's loops and the devices share it, and decoders use it to find out which part of an image a view needs.
 *
 * Taps end at the box's edge, at whole pixels, as Image.crop followed by Image.resize does. Pillow's resize(box=) alone
 * would reach beyond the box into the image.
 */
#ifndef CLD_KERNELS_RESAMPLE_H
#define CLD_KERNELS_RESAMPLE_H

#include <math.h>

#include "kernels/backend.h"
#include "runtime/core/philox.h"

#define CLD_TAP_BITS 22 /* of a weight: 32 bits - 8 for the level - 2 for the sum */

/* One dimension of a RESAMPLE, at the scale of the pixels given. */
typedef struct cld_axis {
    int base, in;     /* the pixels that the box touches: `in` of them from base on */
    float start, end; /* of the box, counted from base */
    int out;          /* the output size */
    int filter;       /* cld_filter */
} cld_axis;

/* size: the image's size at that scale. */
CLD_HOST_DEVICE static inline cld_axis cld_axis_of(float from, float length, int shrink, int size, int out,
                                                   int filter) {
    cld_axis a;
    float start = from / (float)shrink, end = (from + length) / (float)shrink;
    int last = (int)ceilf(end);
    a.base = (int)floorf(start);
    a.base = a.base < 0 ? 0 : a.base > size - 1 ? size - 1 : a.base;
    last = last > size ? size : last <= a.base ? a.base + 1 : last;
    a.in = last - a.base;
    a.start = start - (float)a.base;
    a.end = end - (float)a.base;
    a.out = out;
    a.filter = filter;
    return a;
}

CLD_HOST_DEVICE static inline cld_axis cld_axis_x(const cld_view_instruction *s, int shrink, int width) {
    return cld_axis_of(s->resample.left, s->resample.width, shrink, width, s->resample.out_width,
                       s->resample.filter);
}

CLD_HOST_DEVICE static inline cld_axis cld_axis_y(const cld_view_instruction *s, int shrink, int height) {
    return cld_axis_of(s->resample.top, s->resample.height, shrink, height, s->resample.out_height,
                       s->resample.filter);
}

/* The filter's width. The filter is wider if the image shrinks ("antialiased"). */
typedef struct cld_filter_width {
    double scale, stretch, support; /* inputs per output; the filter's stretch; inputs on either side */
} cld_filter_width;

CLD_HOST_DEVICE static inline cld_filter_width cld_axis_filter(const cld_axis *a) {
    cld_filter_width f;
    f.scale = (double)(a->end - a->start) / a->out;
    f.stretch = f.scale < 1.0 ? 1.0 : f.scale;
    f.support = (a->filter == CLD_FILTER_BICUBIC ? 2.0 : 1.0) * f.stretch;
    return f;
}

/* The most weights that an output can have. */
CLD_HOST_DEVICE static inline int cld_axis_room(const cld_axis *a) {
    cld_filter_width f = cld_axis_filter(a);
    int room = (int)ceil(f.support) * 2 + 1;
    return room < a->in ? room : a->in;
}

/* Output o is computed from the inputs *begin to *end - 1, counted from the base. */
CLD_HOST_DEVICE static inline void cld_axis_span(int *begin, int *end, const cld_axis *a, int o) {
    cld_filter_width f = cld_axis_filter(a);
    double center = (double)a->start + (o + 0.5) * f.scale;
    int first = (int)(center - f.support + 0.5), last = (int)(center + f.support + 0.5);
    first = first < 0 ? 0 : first > a->in - 1 ? a->in - 1 : first;
    last = last > a->in ? a->in : last <= first ? first + 1 : last;
    *begin = first;
    *end = last;
}

/* The filter's value at a distance from its middle. */
CLD_HOST_DEVICE static inline double cld_filter_at(int filter, double x) {
    if (x < 0.0) x = -x;
    if (filter != CLD_FILTER_BICUBIC) return x < 1.0 ? 1.0 - x : 0.0;
    if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 : 0.0;
}

/* The weights of output o, for the inputs from *first on; returns how many. */
CLD_HOST_DEVICE static inline int cld_axis_taps(int *first, int32_t *weight, const cld_axis *a, int o) {
    cld_filter_width f = cld_axis_filter(a);
    double center = (double)a->start + (o + 0.5) * f.scale, narrow = 1.0 / f.stretch, sum = 0.0;
    int begin, end;
    cld_axis_span(&begin, &end, a, o);
    for (int i = begin; i < end; i++) sum += cld_filter_at(a->filter, (i - center + 0.5) * narrow);
    for (int i = begin; i < end; i++) {
        double w = cld_filter_at(a->filter, (i - center + 0.5) * narrow);
        if (sum != 0.0) w /= sum;
        w *= 1 << CLD_TAP_BITS;
        weight[i - begin] = (int32_t)(w < 0.0 ? w - 0.5 : w + 0.5);
    }
    *first = begin;
    return end - begin;
}

/* A sum of weighted levels, started with CLD_TAP_HALF, as a level. */
#define CLD_TAP_HALF (1 << (CLD_TAP_BITS - 1))
CLD_HOST_DEVICE static inline uint8_t cld_tap_level(int32_t sum) {
    int32_t level = sum >> CLD_TAP_BITS;
    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

/* The order of the passes changes the rounding. As in Pillow from version 13 on: along y first if the height shrinks
 * more than twice as much as the width. Earlier versions always began along x. */
CLD_HOST_DEVICE static inline int cld_resample_y_first(const cld_axis *y, const cld_axis *x) {
    return y->in > y->out && (int64_t)y->in - y->out > 2 * ((int64_t)x->in - x->out);
}

/* ---- what a view needs of its image ------------------------------------------------------------------------------------ */

CLD_HOST_DEVICE static inline cld_rect cld_resample_needs(const cld_view_instruction *s, const cld_axis *y,
                                                          const cld_axis *x) {
    cld_rect r;
    const int32_t *w = s->resample.window;
    int begin, end, unused;
    cld_axis_span(&begin, &unused, y, w[0]);
    cld_axis_span(&unused, &end, y, w[0] + w[2] - 1);
    r.top = y->base + begin;
    r.height = end - begin;
    cld_axis_span(&begin, &unused, x, w[1]);
    cld_axis_span(&unused, &end, x, w[1] + w[3] - 1);
    r.left = x->base + begin;
    r.width = end - begin;
    return r;
}

/* The part of an image of this full size that the view reads, in pixels of the image after `shrink`: the whole image,
 * if the view does not begin with a RESAMPLE. */
CLD_HOST_DEVICE static inline cld_rect cld_view_needs(const cld_view *v, int full_height, int full_width,
                                                      int shrink) {
    cld_rect whole = {0, 0, (full_height + shrink - 1) / shrink, (full_width + shrink - 1) / shrink};
    if (v->count < 1 || v->step[0].op != CLD_VIEW_RESAMPLE) return whole;
    cld_axis y = cld_axis_y(v->step, shrink, whole.height), x = cld_axis_x(v->step, shrink, whole.width);
    return cld_resample_needs(v->step, &y, &x);
}

/* The same in pixels of the full size: what to ask of a decoder that can shrink. */
CLD_HOST_DEVICE static inline cld_rect cld_view_part(const cld_view *v, int full_height, int full_width,
                                                     int shrink) {
    cld_rect r = cld_view_needs(v, full_height, full_width, shrink);
    int bottom = (r.top + r.height) * shrink, right = (r.left + r.width) * shrink;
    r.top *= shrink;
    r.left *= shrink;
    r.height = (bottom < full_height ? bottom : full_height) - r.top;
    r.width = (right < full_width ? right : full_width) - r.left;
    return r;
}

/* ---- a batch of views for a device ------------------------------------------------------------------------------------- */

/* A RESAMPLE of an image or a canvas of this size. */
static inline void cld_view_batch_add_resample(cld_view_batch *b, const cld_view_instruction *s, int height,
                                               int width) {
    cld_axis y = cld_axis_y(s, 1, height), x = cld_axis_x(s, 1, width);
    int64_t window_height = s->resample.window[2], window_width = s->resample.window[3];
    cld_rect needed = cld_resample_needs(s, &y, &x);
    int64_t narrowed =
        cld_resample_y_first(&y, &x) ? window_height * needed.width : needed.height * window_width;
    int64_t taps = (2 + cld_axis_room(&x)) * window_width + (2 + cld_axis_room(&y)) * window_height;
    if (narrowed > b->narrowed) b->narrowed = narrowed;
    if (taps > b->taps) b->taps = taps;
}

/* Adds what the device must know about one more view, of a whole image of this size on the device. Start from zeros. */
static inline void cld_view_batch_add(cld_view_batch *b, const cld_view *v, int height, int width) {
    if (v->pixels > b->pixels) b->pixels = v->pixels;
    for (const cld_view_instruction *s = v->step, *end = s + v->count; s < end; s++) {
        if (s->op == CLD_VIEW_RESAMPLE) cld_view_batch_add_resample(b, s, height, width);
        b->resamples_again |= s->op == CLD_VIEW_RESAMPLE && s > v->step;
        cld_view_resize(s, &height, &width);
    }
}

#endif
