/* Batch normalization in f32: which thread does what, when, and the arithmetic per channel. The loops over
 * data are in norm_loops.c, f64 is in norm_reference.c, what becomes of the running statistics in norm_running.c.
 *
 * Both directions need a reduction over a whole part of the batch before they can write anything, so they go over
 * the data twice. To find it in the cache the second time, it is taken in waves that fit there: all threads reduce
 * the wave's chunks, then write them, each thread the same ones. Memory then sees one pass, not two. What a
 * reduction is over is a cell: a block of channels in one part.
 */
#include "kernels/cpu/norm.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <stddef.h>

/* Of all arrays together: about what a shared cache can hold for a few cores. */
#define WAVE_BYTES (8 << 20)

static int64_t at_least_one(int64_t n) { return n > 0 ? n : 1; }

/* An activation as cells: cell = part * shape.blocks + block. */
typedef struct cells {
    cld_norm_shape shape; /* of the largest part, which is the first */
    const cld_parts *parts;
    int64_t images, count; /* of all parts; cells */
} cells;

static int64_t chunks_of(const cld_norm_shape *s) {
    return (s->images * s->run + CLD_NORM_CHUNK - 1) / CLD_NORM_CHUNK;
}

static cells cells_of(const cld_array *x, const cld_parts *parts) {
    int64_t channels = x->shape[1], positions = x->shape[2] * x->shape[3];
    /* Maps of one position are row-major, with the bytes of the blocked layout. */
    bool blocked = x->layout == CLD_BLOCKED || (positions == 1 && channels % 16 == 0);
    cld_norm_shape s = {.images = cld_part_rows(parts, x->shape[0], 0), .lanes = blocked ? 16 : 1};
    s.blocks = channels / s.lanes;
    s.run = positions * s.lanes;
    s.chunks = chunks_of(&s);
    return (cells){s, parts, x->shape[0], s.blocks * cld_part_count(parts)};
}

/* One chunk of a cell: what the loops get, but that the arrays' data begin at the part's first image. */
typedef struct piece {
    cld_norm_shape shape; /* of this part */
    int64_t part, block, chunk;
    int64_t at;     /* its number among the chunks of all cells */
    int64_t offset; /* of the part, in floats */
    bool any;       /* a part that is smaller than the first may have fewer chunks */
} piece;

/* The i-th chunk of a wave of `wave` cells from `first` on. */
static piece piece_at(const cells *c, int64_t first, int64_t wave, int64_t i) {
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

static double count_per_channel(const cld_norm_shape *s) { return (double)(s->images * s->run / s->lanes); }

static double count_in_chunk(const cld_norm_shape *s, int64_t chunk) {
    int64_t all = s->images * s->run, start = chunk * CLD_NORM_CHUNK;
    return (double)((all - start < CLD_NORM_CHUNK ? all - start : CLD_NORM_CHUNK) / s->lanes);
}

/* Cells in a wave, when `arrays` arrays are read twice. */
static int64_t wave_of(const cells *c, int arrays) {
    const cld_norm_shape *s = &c->shape;
    int64_t bytes = at_least_one(s->images * s->run * (int64_t)sizeof(float) * arrays),
            wave = WAVE_BYTES / bytes;
    return wave < 1 ? 1 : wave > c->count ? at_least_one(c->count) : wave;
}

/* The channel of lane i of a block, and one channel's value of an optional array. */
static int64_t channel(const cld_norm_shape *s, int64_t block, int i) {
    return s->lanes == 16 ? block * 16 + i : block;
}

static float value(const cld_array *a, int64_t c, float otherwise) {
    return a ? ((const float *)a->data)[c] : otherwise;
}

static void set(const cld_array *a, int64_t c, double v) {
    if (a) ((float *)a->data)[c] = (float)v;
}

static const float *floats(const cld_array *a, int64_t offset) {
    return a ? (const float *)a->data + offset : NULL;
}
static float *floats_to(const cld_array *a, int64_t offset) { return a ? (float *)a->data + offset : NULL; }

/* Where the statistics of a part begin in arrays of (parts, channels). */
static int64_t row_of(const cld_norm_shape *s, int64_t part) { return part * s->blocks * s->lanes; }

static void forward_coefficients(cld_norm_coefficients *k, const piece *p, const cld_array *weight,
                                 const cld_array *bias, const cld_array *mean, const cld_array *invstd) {
    int64_t row = row_of(&p->shape, p->part);
    for (int i = 0; i < 16; i++) {
        int64_t c = channel(&p->shape, p->block, i);
        k->mean.at[i] = value(mean, row + c, 0);
        k->scale.at[i] = value(weight, c, 1) * value(invstd, row + c, 1);
        k->shift.at[i] = value(bias, c, 0);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------- */

typedef struct forward {
    const cld_array *y, *mean, *invstd, *x, *residual, *weight, *bias;
    const cld_norm_params *params;
    cells cells;
    cld_norm_moments *moments; /* (cells, chunks); NULL: mean and invstd are given */
    cld_batch_statistics batch;
} forward;

/* Merges the chunks' moments in their order (Chan, Golub and LeVeque, 1979), in double. */
static void finish_statistics(const forward *f, int64_t cell) {
    piece p = piece_at(&f->cells, cell, 1, 0);
    const cld_norm_shape *s = &p.shape;
    for (int i = 0; i < s->lanes; i++) {
        double count = 0, mean = 0, m2 = 0;
        for (int64_t chunk = 0; chunk < s->chunks; chunk++) {
            const cld_norm_moments *part = &f->moments[p.at + chunk];
            double n = count_in_chunk(s, chunk), delta = part->mean.at[i] - mean;
            mean += delta * n / (count + n);
            m2 += part->m2.at[i] + delta * delta * count * n / (count + n);
            count += n;
        }
        int64_t c = row_of(s, p.part) + channel(s, p.block, i);
        set(f->mean, c, mean);
        set(f->invstd, c, 1 / sqrt(m2 / count + f->params->eps));
        f->batch.mean[c] = mean;
        f->batch.var[c] = m2 / (count - 1);
    }
}

static void run_forward(const forward *f) {
    const cells *all = &f->cells;
    int64_t wave = f->moments ? wave_of(all, 1) : at_least_one(all->count), chunks = all->shape.chunks;
#pragma omp parallel
    for (int64_t first = 0; first < all->count; first += wave) {
        int64_t count = all->count - first < wave ? all->count - first : wave;
        if (f->moments) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < count * chunks; i++) {
                piece p = piece_at(all, first, count, i);
                if (!p.any) continue;
                cld_norm_chunk_moments(&f->moments[p.at], &p.shape, p.block, p.chunk, floats(f->x, p.offset));
            }
#pragma omp for schedule(static)
            for (int64_t cell = first; cell < first + count; cell++) finish_statistics(f, cell);
        }
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < count * chunks; i++) {
            cld_norm_coefficients k;
            piece p = piece_at(all, first, count, i);
            if (!p.any) continue;
            forward_coefficients(&k, &p, f->weight, f->bias, f->mean, f->invstd);
            cld_norm_chunk_apply(floats_to(f->y, p.offset), &p.shape, p.block, p.chunk,
                                 floats(f->x, p.offset), floats(f->residual, p.offset), &k, f->params->relu);
        }
    }
}

/* In evaluation: the running statistics are those that count. */
static void use_running_statistics(const cld_array *mean, const cld_array *invstd,
                                   const cld_array *running_mean, const cld_array *running_var,
                                   int64_t channels, double eps) {
    for (int64_t c = 0; c < channels; c++) {
        set(mean, c, value(running_mean, c, 0));
        set(invstd, c, 1 / sqrt(value(running_var, c, 1) + eps));
    }
}

static cld_status unsupported(void) {
    return cld_fail(CLD_UNSUPPORTED, "batch_norm: the cpu computes it in f32 and f64");
}

cld_status cld_cpu_norm(const cld_array *y, const cld_array *mask, const cld_array *mean,
                        const cld_array *invstd, const cld_array *x, const cld_array *residual,
                        const cld_array *weight, const cld_array *bias, const cld_array *running_mean,
                        const cld_array *running_var, const cld_array *batches, const cld_norm_params *p) {
    (void)mask; /* masks is not set */
    if (x->dtype != CLD_F32 && x->dtype != CLD_F64) return unsupported();
    forward f = {
        .y = y, .mean = mean, .invstd = invstd, .x = x, .residual = residual, .weight = weight, .bias = bias};
    int64_t channels = x->shape[1], statistics = channels * cld_part_count(&p->parts);
    f.params = p;
    f.cells = cells_of(x, &p->parts);
    size_t chunks =
        x->dtype == CLD_F32 ? (size_t)(f.cells.count * f.cells.shape.chunks) * sizeof *f.moments : 0;
    size_t bytes = chunks + 2 * (size_t)statistics * sizeof(double);
    void *workspace = NULL;
    if (p->training) {
        CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
        f.batch.mean = (double *)((char *)workspace + chunks);
        f.batch.var = f.batch.mean + statistics;
        f.moments = workspace;
    } else if (x->dtype == CLD_F32) {
        use_running_statistics(mean, invstd, running_mean, running_var, channels, p->eps);
    }
    if (x->dtype == CLD_F32)
        run_forward(&f);
    else
        cld_reference_norm(y, mean, invstd, x, residual, weight, bias, running_mean, running_var, &f.batch,
                           p);
    if (p->training) cld_norm_move_running(running_mean, running_var, batches, &f.batch, x, p);
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}

cld_status cld_cpu_norm_apply(const cld_array *y, const cld_array *x, const cld_array *weight,
                              const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                              const cld_norm_params *p) {
    if (x->dtype == CLD_F64) {
        cld_reference_norm_apply(y, x, NULL, weight, bias, mean, invstd, p);
        return CLD_OK;
    }
    if (x->dtype != CLD_F32) return unsupported();
    run_forward(&(forward){.y = y,
                           .mean = mean,
                           .invstd = invstd,
                           .x = x,
                           .weight = weight,
                           .bias = bias,
                           .params = p,
                           .cells = cells_of(x, &p->parts)});
    return CLD_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------ */

typedef struct backward {
    const cld_array *dx, *dresidual, *dweight, *dbias, *dy, *x, *y, *weight, *bias, *mean, *invstd;
    const cld_norm_params *params;
    cells cells;
    cld_norm_mask mask;
    cld_norm_sums *sums; /* (cells, chunks) */
    double *totals;      /* (parts, channels, 2): dy and dy * (x - mean) over each part */
} backward;

static void finish_sums(const backward *b, int64_t cell) {
    piece p = piece_at(&b->cells, cell, 1, 0);
    const cld_norm_shape *s = &p.shape;
    for (int i = 0; i < s->lanes; i++) {
        int64_t c = row_of(s, p.part) + channel(s, p.block, i);
        double dy = 0, dy_x = 0;
        for (int64_t chunk = 0; chunk < s->chunks; chunk++) {
            const cld_norm_sums *part = &b->sums[p.at + chunk];
            dy += part->dy.at[i];
            dy_x += part->dy_x.at[i];
        }
        b->totals[2 * c] = dy;
        b->totals[2 * c + 1] = dy_x;
    }
}

/* dbias and dweight: sums over the parts. */
static void sum_parts(const backward *b, int64_t channels) {
    int parts = cld_part_count(&b->params->parts);
    for (int64_t c = 0; c < channels; c++) {
        double dy = 0, dy_xhat = 0;
        for (int64_t at = c; at < channels * parts; at += channels) {
            dy += b->totals[2 * at];
            dy_xhat += b->totals[2 * at + 1] * value(b->invstd, at, 1);
        }
        set(b->dbias, c, dy);
        set(b->dweight, c, dy_xhat);
    }
}

/* With xhat = (x - mean) invstd and M positions per channel of the part, in training:
 *     dx = weight invstd (dy - sum(dy) / M - xhat sum(dy xhat) / M)
 * The last two terms are how mean and invstd depend on x; with running statistics they do not. */
static void backward_coefficients(cld_norm_coefficients *k, const backward *b, const piece *p) {
    const cld_norm_shape *s = &p->shape;
    double count = count_per_channel(s);
    forward_coefficients(k, p, b->weight, b->bias, b->mean, b->invstd);
    for (int i = 0; i < 16; i++) {
        int64_t c = row_of(s, p->part) + channel(s, p->block, i);
        double scale = k->scale.at[i], invstd = value(b->invstd, c, 1);
        bool training = b->params->training;
        k->dy_scale.at[i] = k->scale.at[i];
        k->dx_shift.at[i] = training ? (float)(-scale * b->totals[2 * c] / count) : 0;
        k->x_scale.at[i] = training ? (float)(-scale * invstd * invstd * b->totals[2 * c + 1] / count) : 0;
    }
}

static void run_backward(const backward *b) {
    const cells *all = &b->cells;
    int64_t wave = wave_of(all, 2), chunks = all->shape.chunks;
    /* Where the masked dy was written, the second pass reads that. */
    const cld_array *dy_again = b->dresidual ? b->dresidual : b->dy;
    cld_norm_mask mask_again = b->dresidual ? CLD_MASK_NONE : b->mask;
#pragma omp parallel
    for (int64_t first = 0; first < all->count; first += wave) {
        int64_t count = all->count - first < wave ? all->count - first : wave;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count * chunks; i++) {
            cld_norm_coefficients k;
            piece p = piece_at(all, first, count, i);
            if (!p.any) continue;
            forward_coefficients(&k, &p, b->weight, b->bias, b->mean, b->invstd);
            cld_norm_chunk_sums(&b->sums[p.at], floats_to(b->dresidual, p.offset), &p.shape, p.block, p.chunk,
                                floats(b->dy, p.offset), floats(b->x, p.offset), floats(b->y, p.offset), &k,
                                b->mask);
        }
#pragma omp for schedule(static)
        for (int64_t cell = first; cell < first + count; cell++) finish_sums(b, cell);
        if (!b->dx) continue;
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < count * chunks; i++) {
            cld_norm_coefficients k;
            piece p = piece_at(all, first, count, i);
            if (!p.any) continue;
            backward_coefficients(&k, b, &p);
            cld_norm_chunk_gradient(floats_to(b->dx, p.offset), &p.shape, p.block, p.chunk,
                                    floats(dy_again, p.offset), floats(b->x, p.offset),
                                    floats(b->y, p.offset), &k, mask_again);
        }
    }
}

cld_status cld_cpu_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *more_dy,
                                 const cld_array *x, const cld_array *gate, const cld_array *weight,
                                 const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                 const cld_norm_params *p) {
    (void)more_dy; /* adds_dy is not set */
    if (x->dtype == CLD_F64) {
        cld_reference_norm_backward(dx, dresidual, dweight, dbias, dy, x, gate, weight, bias, mean, invstd,
                                    p);
        return CLD_OK;
    }
    if (x->dtype != CLD_F32) return unsupported();
    backward b = {dx,
                  dresidual,
                  dweight,
                  dbias,
                  dy,
                  x,
                  gate,
                  weight,
                  bias,
                  mean,
                  invstd,
                  p,
                  cells_of(x, &p->parts),
                  !p->relu ? CLD_MASK_NONE
                  : gate   ? CLD_MASK_FROM_Y
                           : CLD_MASK_FROM_X,
                  NULL,
                  NULL};
    size_t sums = (size_t)(b.cells.count * b.cells.shape.chunks) * sizeof *b.sums;
    size_t totals = (size_t)(2 * x->shape[1] * cld_part_count(&p->parts)) * sizeof *b.totals;
    void *scratch;
    CLD_TRY(cld_cpu_memory.allocate(&scratch, sums + totals));
    b.sums = scratch;
    b.totals = (double *)(void *)((char *)scratch + sums);
    run_backward(&b);
    sum_parts(&b, x->shape[1]);
    cld_cpu_memory.release(scratch, sums + totals);
    return CLD_OK;
}
