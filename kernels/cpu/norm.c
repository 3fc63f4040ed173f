/* Batch normalization in f32, forward: statistics, then y. The loops over data are in norm_loops.c, f64 is in
 * norm_reference.c, the update of the running statistics in norm_running.c. For blocks that ranks share, the sums are
 * computed here and used by norm_sums.c. */
#include "kernels/cpu/norm_cells.h"

#include <math.h>

typedef struct forward {
    const cld_array *y, *mean, *invstd, *x, *residual, *weight, *bias;
    const cld_norm_params *params;
    cells cells;
    cld_norm_moments *moments; /* (cells, chunks); NULL: mean and invstd are given */
    cld_batch_statistics batch;
    const cld_array *sums; /* NULL, or the output for the moments; y is then NULL */
} forward;

typedef struct merged {
    double count, mean, m2;
} merged;

/* Merges the chunks' moments in their order (Chan, Golub and LeVeque, 1979), in double. */
static merged merge_chunks(const forward *f, const piece *p, int lane) {
    merged all = {0, 0, 0};
    for (int64_t chunk = 0; chunk < p->shape.chunks; chunk++) {
        const cld_norm_moments *part = &f->moments[p->at + chunk];
        double n = count_in_chunk(&p->shape, chunk), delta = part->mean.at[lane] - all.mean;
        all.mean += delta * n / (all.count + n);
        all.m2 += part->m2.at[lane] + delta * delta * all.count * n / (all.count + n);
        all.count += n;
    }
    return all;
}

static void finish_statistics(const forward *f, int64_t cell) {
    piece p = piece_at(&f->cells, cell, 1, 0);
    const cld_norm_shape *s = &p.shape;
    for (int i = 0; i < s->lanes; i++) {
        merged all = merge_chunks(f, &p, i);
        int64_t c = row_of(s, p.part) + channel(s, p.block, i);
        set(f->mean, c, all.mean);
        set(f->invstd, c, 1 / sqrt(all.m2 / all.count + f->params->eps));
        f->batch.mean[c] = all.mean;
        f->batch.var[c] = all.m2 / (all.count - 1);
    }
}

static void finish_forward_sums(const forward *f, int64_t cell) {
    piece p = piece_at(&f->cells, cell, 1, 0);
    cld_cut cut = cld_cut_of(f->cells.parts, f->cells.images);
    cld_norm_pair out = cld_norm_pair_of(f->sums, &cut, (int)p.part);
    for (int i = 0; i < p.shape.lanes; i++) {
        merged all = merge_chunks(f, &p, i);
        int64_t c = channel(&p.shape, p.block, i);
        out.first[c] = all.count * all.mean;
        out.second[c] = all.m2 + all.count * all.mean * all.mean;
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
            for (int64_t cell = first; cell < first + count; cell++)
                f->sums ? finish_forward_sums(f, cell) : finish_statistics(f, cell);
        }
        if (!f->y) continue;
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

/* In evaluation: uses the running statistics. */
static void use_running_statistics(const cld_array *mean, const cld_array *invstd,
                                   const cld_array *running_mean, const cld_array *running_var,
                                   int64_t channels, double eps) {
    for (int64_t c = 0; c < channels; c++) {
        set(mean, c, value(running_mean, c, 0));
        set(invstd, c, 1 / sqrt(value(running_var, c, 1) + eps));
    }
}

static size_t moments_bytes(const cells *c) {
    return (size_t)(c->count * c->shape.chunks) * sizeof(cld_norm_moments);
}

cld_status cld_cpu_norm(const cld_array *y, const cld_array *mask, const cld_array *mean,
                        const cld_array *invstd, const cld_array *x, const cld_array *residual,
                        const cld_array *weight, const cld_array *bias, const cld_array *running_mean,
                        const cld_array *running_var, const cld_array *batches, const cld_array *sums,
                        const cld_norm_params *p) {
    (void)mask; /* masks is not set */
    if (x->dtype != CLD_F32 && x->dtype != CLD_F64) return unsupported();
    forward f = {
        .y = y, .mean = mean, .invstd = invstd, .x = x, .residual = residual, .weight = weight, .bias = bias};
    cld_parts whole = cld_parts_whole(&p->parts);
    int64_t channels = x->shape[1], statistics = channels * cld_part_count(&whole);
    f.params = p;
    f.cells = cells_of(x, &p->parts);
    size_t chunks = x->dtype == CLD_F32 && !sums ? moments_bytes(&f.cells) : 0;
    size_t bytes = chunks + 2 * (size_t)statistics * sizeof(double);
    void *workspace = NULL;
    if (p->training) {
        CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
        f.batch.mean = (double *)((char *)workspace + chunks);
        f.batch.var = f.batch.mean + statistics;
        f.moments = sums ? NULL : workspace;
    } else if (x->dtype == CLD_F32) {
        use_running_statistics(mean, invstd, running_mean, running_var, channels, p->eps);
    }
    if (sums) cld_norm_use_sums(mean, invstd, &f.batch, sums, x, p);
    if (x->dtype == CLD_F32)
        run_forward(&f);
    else if (sums)
        cld_reference_norm_apply(y, x, residual, weight, bias, mean, invstd, p);
    else
        cld_reference_norm(y, mean, invstd, x, residual, weight, bias, running_mean, running_var, &f.batch,
                           p);
    if (p->training) cld_norm_move_running(running_mean, running_var, batches, &f.batch, x, p);
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}

cld_status cld_cpu_norm_sums(const cld_array *sums, const cld_array *x, const cld_norm_params *p) {
    if (x->dtype != CLD_F32 && x->dtype != CLD_F64) return unsupported();
    cld_norm_clear_sums(sums);
    if (x->dtype == CLD_F64) {
        cld_reference_norm_sums(sums, x, p);
        return CLD_OK;
    }
    forward f = {.x = x, .params = p, .cells = cells_of(x, &p->parts), .sums = sums};
    size_t bytes = moments_bytes(&f.cells);
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    f.moments = workspace;
    run_forward(&f);
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
