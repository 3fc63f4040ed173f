/* Batch normalization in f64 by plain loops over row-major arrays: slow, obvious, and the reference for norm.c. For
 * each part of the batch separately:
 *
 *     xhat = (x - mean) invstd,  y = relu(xhat weight + bias + residual)
 *     g = dy where y > 0,  dbias = sum g,  dweight = sum g xhat,
 *     dx = weight invstd (g - mean of g - xhat mean of (g xhat))
 *
 * With running statistics the two means are absent, since the statistics do not depend on x.
 */
#include "kernels/cpu/norm.h"

#include <math.h>

static double *element(const cld_array *a, int64_t n, int64_t c, int64_t position) {
    return (double *)a->data + (n * a->shape[1] + c) * a->shape[2] * a->shape[3] + position;
}

static double *entry(const cld_array *a, int64_t c) { return (double *)a->data + c; }
static double value(const cld_array *a, int64_t c, double otherwise) { return a ? *entry(a, c) : otherwise; }

/* A channel in one part of the batch: images begin to end. */
typedef struct slice {
    int64_t c, begin, end;
    int64_t at; /* offset of its statistics in arrays of (parts, channels) */
} slice;

static slice slice_of(const cld_array *x, const cld_norm_params *p, int part, int64_t c) {
    return (slice){c, cld_part_begin(&p->parts, x->shape[0], part),
                   cld_part_begin(&p->parts, x->shape[0], part + 1), part * x->shape[1] + c};
}

static double count_of(const slice *s, const cld_array *x) {
    return (double)((s->end - s->begin) * x->shape[2] * x->shape[3]);
}

/* The number of positions of the part's whole block. */
static double whole_count(const cld_array *x, const cld_norm_params *p, int part) {
    return (double)(cld_part_whole_rows(&p->parts, x->shape[0], part) * x->shape[2] * x->shape[3]);
}

/* A loop over a slice's elements: f(n, i), n the image, i the position. */
#define EACH(s, a)                                                                                           \
    for (int64_t n = (s)->begin; n < (s)->end; n++)                                                          \
        for (int64_t i = 0; i < (a)->shape[2] * (a)->shape[3]; i++)

typedef struct moments {
    double mean, m2; /* the sum of squared differences from it */
} moments;

static moments moments_of(const cld_array *x, const slice *s, double count) {
    double sum = 0, squares = 0;
    EACH(s, x) sum += *element(x, n, s->c, i);
    EACH(s, x) {
        double d = *element(x, n, s->c, i) - sum / count;
        squares += d * d;
    }
    return (moments){sum / count, squares};
}

static void statistics(const cld_array *mean, const cld_array *invstd, const cld_array *x,
                       const cld_array *running_mean, const cld_array *running_var,
                       const cld_batch_statistics *batch, const cld_norm_params *p, const slice *s) {
    double count = count_of(s, x);
    if (!p->training) {
        *entry(mean, s->at) = value(running_mean, s->c, 0);
        *entry(invstd, s->at) = 1 / sqrt(value(running_var, s->c, 1) + p->eps);
        return;
    }
    moments m = moments_of(x, s, count);
    *entry(mean, s->at) = m.mean;
    *entry(invstd, s->at) = 1 / sqrt(m.m2 / count + p->eps);
    batch->mean[s->at] = m.mean;
    batch->var[s->at] = m.m2 / (count - 1);
}

static double normalized(const cld_array *x, const cld_array *weight, const cld_array *bias,
                         const cld_array *mean, const cld_array *invstd, const slice *s, int64_t n,
                         int64_t i) {
    double xhat = (*element(x, n, s->c, i) - *entry(mean, s->at)) * *entry(invstd, s->at);
    return xhat * value(weight, s->c, 1) + value(bias, s->c, 0);
}

void cld_reference_norm_apply(const cld_array *y, const cld_array *x, const cld_array *residual,
                              const cld_array *weight, const cld_array *bias, const cld_array *mean,
                              const cld_array *invstd, const cld_norm_params *p) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++)
        for (int part = 0; part < cld_part_count(&p->parts); part++) {
            slice s = slice_of(x, p, part, c);
            EACH(&s, x) {
                double v = normalized(x, weight, bias, mean, invstd, &s, n, i);
                if (residual) v += *element(residual, n, c, i);
                *element(y, n, c, i) = p->relu && v <= 0 ? 0 : v;
            }
        }
}

void cld_reference_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                        const cld_array *x, const cld_array *residual, const cld_array *weight,
                        const cld_array *bias, const cld_array *running_mean, const cld_array *running_var,
                        const cld_batch_statistics *batch, const cld_norm_params *p) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++)
        for (int part = 0; part < cld_part_count(&p->parts); part++) {
            slice s = slice_of(x, p, part, c);
            statistics(mean, invstd, x, running_mean, running_var, batch, p, &s);
        }
    cld_reference_norm_apply(y, x, residual, weight, bias, mean, invstd, p);
}

void cld_reference_norm_sums(const cld_array *sums, const cld_array *x, const cld_norm_params *p) {
    cld_cut cut = cld_cut_of(&p->parts, x->shape[0]);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++)
        for (int part = 0; part < cld_part_count(&p->parts); part++) {
            slice s = slice_of(x, p, part, c);
            cld_norm_pair out = cld_norm_pair_of(sums, &cut, part);
            double count = count_of(&s, x);
            moments m = moments_of(x, &s, count);
            out.first[c] = count * m.mean;
            out.second[c] = m.m2 + count * m.mean * m.mean;
        }
}

/* ---- backward ------------------------------------------------------------------------------------------ */

typedef struct backward {
    const cld_array *dx, *dresidual, *dy, *x, *y, *weight, *bias, *mean, *invstd;
    const cld_norm_params *params;
} backward;

static double xhat_at(const backward *b, const slice *s, int64_t n, int64_t i) {
    return (*element(b->x, n, s->c, i) - *entry(b->mean, s->at)) * *entry(b->invstd, s->at);
}

static double masked_dy(const backward *b, const slice *s, int64_t n, int64_t i) {
    double out =
        b->y ? *element(b->y, n, s->c, i) : normalized(b->x, b->weight, b->bias, b->mean, b->invstd, s, n, i);
    return b->params->relu && out <= 0 ? 0 : *element(b->dy, n, s->c, i);
}

/* Sums of g and of g xhat. */
typedef struct pair {
    double g, g_xhat;
} pair;

static pair slice_sums(const backward *b, const slice *s) {
    pair sum = {0, 0};
    EACH(s, b->x) {
        double g = masked_dy(b, s, n, i);
        sum.g += g;
        sum.g_xhat += g * xhat_at(b, s, n, i);
        if (b->dresidual) *element(b->dresidual, n, s->c, i) = g;
    }
    return sum;
}

static void slice_gradient(const backward *b, const slice *s, pair sum, double count) {
    double scale = value(b->weight, s->c, 1) * *entry(b->invstd, s->at);
    EACH(s, b->x) {
        double through = b->params->training ? (sum.g + xhat_at(b, s, n, i) * sum.g_xhat) / count : 0;
        *element(b->dx, n, s->c, i) = scale * (masked_dy(b, s, n, i) - through);
    }
}

static void set_weight_gradients(const cld_array *dweight, const cld_array *dbias, int64_t c, pair sum) {
    if (dbias) *entry(dbias, c) = sum.g;
    if (dweight) *entry(dweight, c) = sum.g_xhat;
}

static pair add(pair a, pair b) { return (pair){a.g + b.g, a.g_xhat + b.g_xhat}; }

/* If sums are given, dresidual is already masked; masking dy again gives the same. */
void cld_reference_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                 const cld_array *y, const cld_array *weight, const cld_array *bias,
                                 const cld_array *mean, const cld_array *invstd, const cld_array *sums,
                                 const cld_norm_params *p) {
    const backward b = {dx, dresidual, dy, x, y, weight, bias, mean, invstd, p};
    cld_cut cut = cld_cut_of(&p->parts, x->shape[0]);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++) {
        pair all = {0, 0};
        for (int part = 0; part < cld_part_count(&p->parts); part++) {
            slice s = slice_of(x, p, part, c);
            pair sum;
            if (sums) {
                cld_norm_pair given = cld_norm_pair_of(sums, &cut, part);
                sum = (pair){given.first[c], given.second[c] * *entry(invstd, s.at)};
            } else {
                sum = slice_sums(&b, &s);
                all = add(all, sum);
            }
            if (dx) slice_gradient(&b, &s, sum, whole_count(x, p, part));
        }
        if (!sums) set_weight_gradients(dweight, dbias, c, all);
    }
}

void cld_reference_norm_backward_sums(const cld_array *sums, const cld_array *dresidual,
                                      const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                      const cld_array *x, const cld_array *y, const cld_array *weight,
                                      const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                      const cld_norm_params *p) {
    const backward b = {NULL, dresidual, dy, x, y, weight, bias, mean, invstd, p};
    cld_cut cut = cld_cut_of(&p->parts, x->shape[0]);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++) {
        pair all = {0, 0};
        for (int part = 0; part < cld_part_count(&p->parts); part++) {
            slice s = slice_of(x, p, part, c);
            pair sum = slice_sums(&b, &s);
            cld_norm_pair out = cld_norm_pair_of(sums, &cut, part);
            out.first[c] = sum.g;
            out.second[c] = sum.g_xhat / *entry(invstd, s.at);
            all = add(all, sum);
        }
        set_weight_gradients(dweight, dbias, c, all);
    }
}
