/* Batch normalization in f32, shared by forward and backward (norm.c, norm_backward.c): which thread does what, and
 * when.
 *
 * Both need a reduction over a whole part of the batch before they can write anything, so they read the data twice. To
 * find it in the cache the second time, they work in waves that fit into the cache: all threads reduce the wave's
 * chunks, then write them, each thread the same chunks. So memory sees one pass instead of two. The unit of a reduction
 * is a cell: a block of channels in one part.
 */
#ifndef CLD_CPU_NORM_CELLS_H
#define CLD_CPU_NORM_CELLS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/norm.h"

#include <stddef.h>

/* For all arrays together: about what a shared cache can hold for a few cores. */
#define WAVE_BYTES (8 << 20)

static inline cld_status unsupported(void) {
    return cld_fail(CLD_UNSUPPORTED, "batch_norm: the cpu computes it in f32 and f64");
}

static inline int64_t at_least_one(int64_t n) { return n > 0 ? n : 1; }

/* An activation as cells: cell = part * shape.blocks + block. */
typedef struct cells {
    cld_norm_shape shape; /* the shape of the largest part */
    const cld_parts *parts;
    int64_t images, count; /* of all parts; cells */
} cells;

static inline int64_t chunks_of(const cld_norm_shape *s) {
    return (s->images * s->run + CLD_NORM_CHUNK - 1) / CLD_NORM_CHUNK;
}

static inline cells cells_of(const cld_array *x, const cld_parts *parts) {
    int64_t channels = x->shape[1], positions = x->shape[2] * x->shape[3];
    /* Maps with one position are row-major, with the same bytes as the blocked layout. */
    bool blocked = x->layout == CLD_BLOCKED || (positions == 1 && channels % 16 == 0);
    cld_cut cut = cld_cut_of(parts, x->shape[0]);
    cld_norm_shape s = {.images = cld_cut_most(&cut), .lanes = blocked ? 16 : 1};
    s.blocks = channels / s.lanes;
    s.run = positions * s.lanes;
    s.chunks = chunks_of(&s);
    return (cells){s, parts, x->shape[0], s.blocks * cld_part_count(parts)};
}

/* One chunk of a cell, as the loops take it, except that the arrays' data begin at the part's first image. */
typedef struct piece {
    cld_norm_shape shape; /* the shape of this part */
    int64_t part, block, chunk;
    int64_t at;     /* its number among the chunks of all cells */
    int64_t offset; /* of the part, in floats */
    bool any;       /* false if this part is smaller than the largest and has no such chunk */
} piece;

/* The i-th chunk of a wave of `wave` cells from `first` on. */
static inline piece piece_at(const cells *c, int64_t first, int64_t wave, int64_t i) {
    int64_t cell = first + i % wave, chunk = i / wave;
    piece p = {
        .shape = c->shape, .part = cell / c->shape.blocks, .block = cell % c->shape.blocks, .chunk = chunk};
    int64_t begin = cld_part_begin(c->parts, c->images, (int)p.part);
    p.shape.images = cld_part_rows(c->parts, c->images, (int)p.part);
    p.shape.chunks = chunks_of(&p.shape);
    p.at = cell * c->shape.chunks + chunk;
    p.offset = begin * p.shape.blocks * p.shape.run;
    p.any = chunk < p.shape.chunks;
    return p;
}

/* The number of positions of the part's whole block. */
static inline double count_per_channel(const cells *c, const piece *p) {
    int64_t images = cld_part_whole_rows(c->parts, c->images, (int)p->part);
    return (double)(images * p->shape.run / p->shape.lanes);
}

static inline double count_in_chunk(const cld_norm_shape *s, int64_t chunk) {
    int64_t all = s->images * s->run, start = chunk * CLD_NORM_CHUNK;
    return (double)((all - start < CLD_NORM_CHUNK ? all - start : CLD_NORM_CHUNK) / s->lanes);
}

/* Number of cells in a wave, if `arrays` arrays are read twice. */
static inline int64_t wave_of(const cells *c, int arrays) {
    const cld_norm_shape *s = &c->shape;
    int64_t bytes = at_least_one(s->images * s->run * (int64_t)sizeof(float) * arrays),
            wave = WAVE_BYTES / bytes;
    return wave < 1 ? 1 : wave > c->count ? at_least_one(c->count) : wave;
}

/* The channel of lane i of a block, and one channel's value of an optional array. */
static inline int64_t channel(const cld_norm_shape *s, int64_t block, int i) {
    return s->lanes == 16 ? block * 16 + i : block;
}

static inline float value(const cld_array *a, int64_t c, float otherwise) {
    return a ? ((const float *)a->data)[c] : otherwise;
}

static inline void set(const cld_array *a, int64_t c, double v) {
    if (a) ((float *)a->data)[c] = (float)v;
}

static inline const float *floats(const cld_array *a, int64_t offset) {
    return a ? (const float *)a->data + offset : NULL;
}
static inline float *floats_to(const cld_array *a, int64_t offset) {
    return a ? (float *)a->data + offset : NULL;
}

/* Offset of a part's statistics in arrays of (parts, channels). */
static inline int64_t row_of(const cld_norm_shape *s, int64_t part) { return part * s->blocks * s->lanes; }

static inline void forward_coefficients(cld_norm_coefficients *k, const piece *p, const cld_array *weight,
                                        const cld_array *bias, const cld_array *mean,
                                        const cld_array *invstd) {
    int64_t row = row_of(&p->shape, p->part);
    for (int i = 0; i < 16; i++) {
        int64_t c = channel(&p->shape, p->block, i);
        k->mean.at[i] = value(mean, row + c, 0);
        k->scale.at[i] = value(weight, c, 1) * value(invstd, row + c, 1);
        k->shift.at[i] = value(bias, c, 0);
    }
}

#endif
