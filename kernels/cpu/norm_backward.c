/* Batch normalization in f32, backward: two sums per channel of each part, then dx. The loops over data are in norm_loops.c,
 * f64 is in norm_reference.c. */
#include "kernels/cpu/norm_cells.h"

typedef struct backward {
    const cld_array *dx, *dresidual, *dweight, *dbias, *dy, *x, *y, *weight, *bias, *mean, *invstd;
    const cld_norm_params *params;
    cells cells;
    cld_norm_mask mask;
    cld_norm_sums *sums; /* (cells, chunks); NULL: totals are given */
    double *totals;      /* (parts, channels, 2): dy and dy * (x - mean) over each part, or its whole block */
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

/* With xhat = (x - mean) invstd and M positions per channel of the part's block, in training:
 *     dx = weight invstd (dy - sum(dy) / M - xhat sum(dy xhat) / M)
 * The last two terms come from mean and invstd, which depend on x; running statistics do not. */
static void backward_coefficients(cld_norm_coefficients *k, const backward *b, const piece *p) {
    const cld_norm_shape *s = &p->shape;
    double count = count_per_channel(&b->cells, p);
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

static void sum_wave(const backward *b, int64_t first, int64_t count) {
    const cells *all = &b->cells;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count * all->shape.chunks; i++) {
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
}

static void run_backward(const backward *b) {
    const cells *all = &b->cells;
    int64_t wave = wave_of(all, 2), chunks = all->shape.chunks;
    /* If the masked dy was written, the second pass reads it. */
    const cld_array *dy_again = b->dresidual ? b->dresidual : b->dy;
    cld_norm_mask mask_again = b->dresidual ? CLD_MASK_NONE : b->mask;
#pragma omp parallel
    for (int64_t first = 0; first < all->count; first += wave) {
        int64_t count = all->count - first < wave ? all->count - first : wave;
        if (b->sums) sum_wave(b, first, count);
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

/* Copies between the totals of the local parts and their place among those of the whole batch. */
static void move_totals(const backward *b, const cld_array *sums, bool to_sums) {
    int64_t channels = b->x->shape[1];
    cld_cut cut = cld_cut_of(b->cells.parts, b->cells.images);
    for (int part = 0; part < cld_part_count(b->cells.parts); part++) {
        cld_norm_pair pair = cld_norm_pair_of(sums, &cut, part);
        double *totals = b->totals + 2 * part * channels;
        for (int64_t c = 0; c < channels; c++) {
            if (to_sums) {
                pair.first[c] = totals[2 * c];
                pair.second[c] = totals[2 * c + 1];
            } else {
                totals[2 * c] = pair.first[c];
                totals[2 * c + 1] = pair.second[c];
            }
        }
    }
}

/* given, wanted: sums of the whole batch's parts, or NULL; at most one of them is not NULL. */
static cld_status backward_f32(backward *b, const cld_array *given, const cld_array *wanted) {
    const cld_parts *parts = &b->params->parts;
    b->cells = cells_of(b->x, parts);
    b->mask = !b->params->relu ? CLD_MASK_NONE : b->y ? CLD_MASK_FROM_Y : CLD_MASK_FROM_X;
    size_t sums = given ? 0 : (size_t)(b->cells.count * b->cells.shape.chunks) * sizeof *b->sums;
    size_t totals = (size_t)(2 * b->x->shape[1] * cld_part_count(parts)) * sizeof *b->totals;
    void *scratch;
    CLD_TRY(cld_cpu_memory.allocate(&scratch, sums + totals));
    b->sums = given ? NULL : scratch;
    b->totals = (double *)(void *)((char *)scratch + sums);
    if (given) move_totals(b, given, false);
    run_backward(b);
    if (!given) sum_parts(b, b->x->shape[1]);
    if (wanted) move_totals(b, wanted, true);
    cld_cpu_memory.release(scratch, sums + totals);
    return CLD_OK;
}

cld_status cld_cpu_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *more_dy,
                                 const cld_array *x, const cld_array *gate, const cld_array *weight,
                                 const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                 const cld_array *sums, const cld_norm_params *p) {
    (void)more_dy; /* adds_dy is not set */
    if (x->dtype == CLD_F64) {
        cld_reference_norm_backward(dx, dresidual, dweight, dbias, dy, x, gate, weight, bias, mean, invstd,
                                    sums, p);
        return CLD_OK;
    }
    if (x->dtype != CLD_F32) return unsupported();
    backward b = {dx, dresidual, dweight, dbias, dy, x, gate, weight, bias, mean, invstd, .params = p};
    return backward_f32(&b, sums, NULL);
}

cld_status cld_cpu_norm_backward_sums(const cld_array *sums, const cld_array *dresidual,
                                      const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                      const cld_array *more_dy, const cld_array *x, const cld_array *gate,
                                      const cld_array *weight, const cld_array *bias, const cld_array *mean,
                                      const cld_array *invstd, const cld_norm_params *p) {
    (void)more_dy;
    if (x->dtype != CLD_F32 && x->dtype != CLD_F64) return unsupported();
    cld_norm_clear_sums(sums);
    if (x->dtype == CLD_F64) {
        cld_reference_norm_backward_sums(sums, dresidual, dweight, dbias, dy, x, gate, weight, bias, mean,
                                         invstd, p);
        return CLD_OK;
    }
    backward b = {NULL, dresidual, dweight, dbias, dy, x, gate, weight, bias, mean, invstd, .params = p};
    return backward_f32(&b, NULL, sums);
}
