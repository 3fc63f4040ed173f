/* Batch normalization in f32: which thread does what, when, and the arithmetic per channel. The loops over
 * data are in norm_loops.c, f64 is in norm_reference.c.
 *
 * Both directions need a reduction over the whole batch before they can write anything, so they go over the
 * data twice. To find it in the cache the second time, the channels are taken in waves whose data fits there:
 * all threads reduce the wave's chunks, then write them, each thread the same ones. Memory then sees one
 * pass, not two.
 */
#include "kernels/cpu/norm.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <stddef.h>

/* Of all arrays together: about what a shared cache can hold for a few cores. */
#define WAVE_BYTES (8 << 20)

static int64_t at_least_one(int64_t n) { return n > 0 ? n : 1; }

static cld_norm_shape shape_of(const cld_array *x) {
    int64_t channels = x->shape[1], positions = x->shape[2] * x->shape[3];
    /* Maps of one position are row-major, with the bytes of the blocked layout. */
    bool blocked = x->layout == CLD_BLOCKED || (positions == 1 && channels % 16 == 0);
    cld_norm_shape s = {.images = x->shape[0], .lanes = blocked ? 16 : 1};
    s.blocks = channels / s.lanes;
    s.run = positions * s.lanes;
    s.chunks = (s.images * s.run + CLD_NORM_CHUNK - 1) / CLD_NORM_CHUNK;
    return s;
}

static double count_per_channel(const cld_norm_shape *s) { return (double)(s->images * s->run / s->lanes); }

static double count_in_chunk(const cld_norm_shape *s, int64_t chunk) {
    int64_t all = s->images * s->run, start = chunk * CLD_NORM_CHUNK;
    return (double)((all - start < CLD_NORM_CHUNK ? all - start : CLD_NORM_CHUNK) / s->lanes);
}

/* Blocks in a wave, when `arrays` arrays of s's shape are read twice. */
static int64_t wave_of(const cld_norm_shape *s, int arrays) {
    int64_t bytes = at_least_one(s->images * s->run * (int64_t)sizeof(float) * arrays),
            wave = WAVE_BYTES / bytes;
    return wave < 1 ? 1 : wave > s->blocks ? at_least_one(s->blocks) : wave;
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

static const float *floats(const cld_array *a) { return a ? a->data : NULL; }

static void forward_coefficients(cld_norm_coefficients *k, const cld_norm_shape *s, int64_t block,
                                 const cld_array *weight, const cld_array *bias, const cld_array *mean,
                                 const cld_array *invstd) {
    for (int i = 0; i < 16; i++) {
        int64_t c = channel(s, block, i);
        k->mean.at[i] = value(mean, c, 0);
        k->scale.at[i] = value(weight, c, 1) * value(invstd, c, 1);
        k->shift.at[i] = value(bias, c, 0);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------- */

typedef struct forward {
    const cld_array *y, *mean, *invstd, *x, *residual, *weight, *bias;
    const cld_norm_params *params;
    cld_norm_shape shape;
    cld_norm_moments *moments; /* (blocks, chunks); NULL: mean and invstd are given */
    cld_batch_statistics batch;
} forward;

/* Merges the chunks' moments in their order (Chan, Golub and LeVeque, 1979), in double. */
static void finish_statistics(const forward *f, int64_t block) {
    const cld_norm_shape *s = &f->shape;
    for (int i = 0; i < s->lanes; i++) {
        double count = 0, mean = 0, m2 = 0;
        for (int64_t chunk = 0; chunk < s->chunks; chunk++) {
            const cld_norm_moments *part = &f->moments[block * s->chunks + chunk];
            double n = count_in_chunk(s, chunk), delta = part->mean.at[i] - mean;
            mean += delta * n / (count + n);
            m2 += part->m2.at[i] + delta * delta * count * n / (count + n);
            count += n;
        }
        int64_t c = channel(s, block, i);
        set(f->mean, c, mean);
        set(f->invstd, c, 1 / sqrt(m2 / count + f->params->eps));
        f->batch.mean[c] = mean;
        f->batch.var[c] = m2 / (count - 1);
    }
}

static void run_forward(const forward *f) {
    const cld_norm_shape *s = &f->shape;
    int64_t wave = f->moments ? wave_of(s, 1) : at_least_one(s->blocks);
#pragma omp parallel
    for (int64_t first = 0; first < s->blocks; first += wave) {
        int64_t blocks = s->blocks - first < wave ? s->blocks - first : wave;
        if (f->moments) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < blocks * s->chunks; i++) {
                int64_t block = first + i % blocks, chunk = i / blocks;
                cld_norm_chunk_moments(&f->moments[block * s->chunks + chunk], s, block, chunk, f->x->data);
            }
#pragma omp for schedule(static)
            for (int64_t block = first; block < first + blocks; block++) finish_statistics(f, block);
        }
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < blocks * s->chunks; i++) {
            cld_norm_coefficients k;
            int64_t block = first + i % blocks, chunk = i / blocks;
            forward_coefficients(&k, s, block, f->weight, f->bias, f->mean, f->invstd);
            cld_norm_chunk_apply(f->y->data, s, block, chunk, f->x->data, floats(f->residual), &k,
                                 f->params->relu);
        }
    }
}

/* In evaluation: the running statistics are those that count. */
static void use_running_statistics(const cld_array *mean, const cld_array *invstd,
                                   const cld_array *running_mean, const cld_array *running_var, double eps) {
    for (int64_t c = 0; c < mean->shape[0]; c++) {
        set(mean, c, value(running_mean, c, 0));
        set(invstd, c, 1 / sqrt(value(running_var, c, 1) + eps));
    }
}

static void move_one(const cld_array *running, int64_t c, double momentum, double batch) {
    if (!running) return;
    if (running->dtype == CLD_F64) {
        double *v = (double *)running->data + c;
        *v = (1 - momentum) * *v + momentum * batch;
    } else {
        float *v = (float *)running->data + c;
        *v = (float)((1 - momentum) * *v + momentum * batch);
    }
}

/* Not by a batch that is not finite: a step is skipped for it, and what is written here would stay. */
static void move_running_statistics(const cld_array *running_mean, const cld_array *running_var,
                                    const cld_array *batches, const cld_batch_statistics *batch,
                                    int64_t channels, double momentum) {
    const cld_array *given = running_mean ? running_mean : running_var;
    bool wide = !given || given->dtype == CLD_F64;
    for (int64_t c = 0; c < channels; c++) {
        double mean = batch->mean[c], var = batch->var[c];
        if (!isfinite(wide ? mean : (float)mean) || !isfinite(wide ? var : (float)var)) return;
    }
    for (int64_t c = 0; c < channels; c++) {
        move_one(running_mean, c, momentum, batch->mean[c]);
        move_one(running_var, c, momentum, batch->var[c]);
    }
    if (batches) ++*(int64_t *)batches->data;
}

static cld_status unsupported(void) {
    return cld_fail(CLD_UNSUPPORTED, "batch_norm: the cpu computes it in f32 and f64");
}

cld_status cld_cpu_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                        const cld_array *x, const cld_array *residual, const cld_array *weight,
                        const cld_array *bias, const cld_array *running_mean, const cld_array *running_var,
                        const cld_array *batches, const cld_norm_params *p) {
    if (x->dtype != CLD_F32 && x->dtype != CLD_F64) return unsupported();
    forward f = {
        .y = y, .mean = mean, .invstd = invstd, .x = x, .residual = residual, .weight = weight, .bias = bias};
    int64_t channels = x->shape[1];
    f.params = p;
    f.shape = shape_of(x);
    size_t chunks = x->dtype == CLD_F32 ? (size_t)(f.shape.blocks * f.shape.chunks) * sizeof *f.moments : 0;
    size_t bytes = chunks + 2 * (size_t)channels * sizeof(double);
    void *workspace = NULL;
    if (p->training) {
        CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
        f.batch.mean = (double *)((char *)workspace + chunks);
        f.batch.var = f.batch.mean + channels;
        f.moments = workspace;
    } else if (x->dtype == CLD_F32) {
        use_running_statistics(mean, invstd, running_mean, running_var, p->eps);
    }
    if (x->dtype == CLD_F32)
        run_forward(&f);
    else
        cld_reference_norm(y, mean, invstd, x, residual, weight, bias, running_mean, running_var, &f.batch,
                           p);
    if (p->training)
        move_running_statistics(running_mean, running_var, batches, &f.batch, channels, p->momentum);
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
                           .shape = shape_of(x)});
    return CLD_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------ */

typedef struct backward {
    const cld_array *dx, *dresidual, *dweight, *dbias, *dy, *x, *y, *weight, *bias, *mean, *invstd;
    const cld_norm_params *params;
    cld_norm_shape shape;
    cld_norm_mask mask;
    cld_norm_sums *sums; /* (blocks, chunks) */
    double *totals;      /* (channels, 2): dy and dy * (x - mean) over the batch */
} backward;

static void finish_sums(const backward *b, int64_t block) {
    const cld_norm_shape *s = &b->shape;
    for (int i = 0; i < s->lanes; i++) {
        int64_t c = channel(s, block, i);
        double dy = 0, dy_x = 0;
        for (int64_t chunk = 0; chunk < s->chunks; chunk++) {
            const cld_norm_sums *part = &b->sums[block * s->chunks + chunk];
            dy += part->dy.at[i];
            dy_x += part->dy_x.at[i];
        }
        b->totals[2 * c] = dy;
        b->totals[2 * c + 1] = dy_x;
        set(b->dbias, c, dy);
        set(b->dweight, c, dy_x * value(b->invstd, c, 1));
    }
}

/* With xhat = (x - mean) invstd and M positions per channel, in training:
 *     dx = weight invstd (dy - sum(dy) / M - xhat sum(dy xhat) / M)
 * The last two terms are how mean and invstd depend on x; with running statistics they do not. */
static void backward_coefficients(cld_norm_coefficients *k, const backward *b, int64_t block) {
    const cld_norm_shape *s = &b->shape;
    double count = count_per_channel(s);
    forward_coefficients(k, s, block, b->weight, b->bias, b->mean, b->invstd);
    for (int i = 0; i < 16; i++) {
        int64_t c = channel(s, block, i);
        double scale = k->scale.at[i], invstd = value(b->invstd, c, 1);
        bool training = b->params->training;
        k->dy_scale.at[i] = k->scale.at[i];
        k->dx_shift.at[i] = training ? (float)(-scale * b->totals[2 * c] / count) : 0;
        k->x_scale.at[i] = training ? (float)(-scale * invstd * invstd * b->totals[2 * c + 1] / count) : 0;
    }
}

static void run_backward(const backward *b) {
    const cld_norm_shape *s = &b->shape;
    int64_t wave = wave_of(s, 2);
    /* Where the masked dy was written, the second pass reads that. */
    const float *x = b->x->data, *y = floats(b->y), *dy = b->dy->data;
    float *masked = b->dresidual ? b->dresidual->data : NULL;
    const float *dy_again = masked ? masked : dy;
    cld_norm_mask mask_again = masked ? CLD_MASK_NONE : b->mask;
#pragma omp parallel
    for (int64_t first = 0; first < s->blocks; first += wave) {
        int64_t blocks = s->blocks - first < wave ? s->blocks - first : wave;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < blocks * s->chunks; i++) {
            cld_norm_coefficients k;
            int64_t block = first + i % blocks, chunk = i / blocks;
            forward_coefficients(&k, s, block, b->weight, b->bias, b->mean, b->invstd);
            cld_norm_chunk_sums(&b->sums[block * s->chunks + chunk], masked, s, block, chunk, dy, x, y, &k,
                                b->mask);
        }
#pragma omp for schedule(static)
        for (int64_t block = first; block < first + blocks; block++) finish_sums(b, block);
        if (!b->dx) continue;
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < blocks * s->chunks; i++) {
            cld_norm_coefficients k;
            int64_t block = first + i % blocks, chunk = i / blocks;
            backward_coefficients(&k, b, block);
            cld_norm_chunk_gradient(b->dx->data, s, block, chunk, dy_again, x, y, &k, mask_again);
        }
    }
}

cld_status cld_cpu_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                 const cld_array *y, const cld_array *weight, const cld_array *bias,
                                 const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
    if (x->dtype == CLD_F64) {
        cld_reference_norm_backward(dx, dresidual, dweight, dbias, dy, x, y, weight, bias, mean, invstd, p);
        return CLD_OK;
    }
    if (x->dtype != CLD_F32) return unsupported();
    backward b = {dx,          dresidual,
                  dweight,     dbias,
                  dy,          x,
                  y,           weight,
                  bias,        mean,
                  invstd,      p,
                  shape_of(x), !p->relu ? CLD_MASK_NONE : y ? CLD_MASK_FROM_Y : CLD_MASK_FROM_X,
                  NULL,        NULL};
    size_t sums = (size_t)(b.shape.blocks * b.shape.chunks) * sizeof *b.sums;
    size_t totals = (size_t)(2 * x->shape[1]) * sizeof *b.totals;
    void *scratch;
    CLD_TRY(cld_cpu_memory.allocate(&scratch, sums + totals));
    b.sums = scratch;
    b.totals = (double *)(void *)((char *)scratch + sums);
    run_backward(&b);
    cld_cpu_memory.release(scratch, sums + totals);
    return CLD_OK;
}
