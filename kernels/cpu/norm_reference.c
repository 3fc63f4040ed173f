/* Batch normalization in f64 by plain loops over row-major arrays: slow, obvious, and what norm.c is compared with. Each
 * part of the batch by itself:
 *
 *     xhat = (x - mean) invstd,  y = relu(xhat weight + bias + residual)
 *     g = dy where y > 0,  dbias = sum g,  dweight = sum g xhat,
 *     dx = weight invstd (g - mean of g - xhat mean of (g xhat))
 *
 * without the two means where the running statistics serve: they do not depend on x.
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
    int64_t at; /* of its statistics in arrays of (parts, channels) */
} slice;

static slice slice_of(const cld_array *x, const cld_norm_params *p, int part, int64_t c) {
    return (slice){c, cld_part_begin(&p->parts, x->shape[0], part),
                   cld_part_begin(&p->parts, x->shape[0], part + 1), part * x->shape[1] + c};
}

static double count_of(const slice *s, const cld_array *x) {
    return (double)((s->end - s->begin) * x->shape[2] * x->shape[3]);
}

/* A loop over a slice's elements: f(n, i), n the image, i the position. */
#define EACH(s, a)                                                                                           \
    for (int64_t n = (s)->begin; n < (s)->end; n++)                                                          \
        for (int64_t i = 0; i < (a)->shape[2] * (a)->shape[3]; i++)

static void statistics(const cld_array *mean, const cld_array *invstd, const cld_array *x,
                       const cld_array *running_mean, const cld_array *running_var,
                       const cld_batch_statistics *batch, const cld_norm_params *p, const slice *s) {
    double count = count_of(s, x), sum = 0, squares = 0;
    if (!p->training) {
        *entry(mean, s->at) = value(running_mean, s->c, 0);
        *entry(invstd, s->at) = 1 / sqrt(value(running_var, s->c, 1) + p->eps);
        return;
    }
    EACH(s, x) sum += *element(x, n, s->c, i);
    EACH(s, x) {
        double d = *element(x, n, s->c, i) - sum / count;
        squares += d * d;
    }
    *entry(mean, s->at) = sum / count;
    *entry(invstd, s->at) = 1 / sqrt(squares / count + p->eps);
    batch->mean[s->at] = sum / count;
    batch->var[s->at] = squares / (count - 1);
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

/* sums: of g and of g xhat, over the parts before; this part's are added. */
static void slice_backward(double sums[2], const cld_array *dx, const cld_array *dresidual,
                           const cld_array *dy, const cld_array *x, const cld_array *y,
                           const cld_array *weight, const cld_array *bias, const cld_array *mean,
                           const cld_array *invstd, const cld_norm_params *p, const slice *s) {
    double sum = 0, sum_xhat = 0, scale = value(weight, s->c, 1) * *entry(invstd, s->at);
    for (int pass = 0; pass < 2; pass++) EACH(s, x) {
            double out = y ? *element(y, n, s->c, i) : normalized(x, weight, bias, mean, invstd, s, n, i);
            double g = p->relu && out <= 0 ? 0 : *element(dy, n, s->c, i);
            double xhat = (*element(x, n, s->c, i) - *entry(mean, s->at)) * *entry(invstd, s->at);
            if (pass == 0) {
                sum += g;
                sum_xhat += g * xhat;
                if (dresidual) *element(dresidual, n, s->c, i) = g;
            } else if (dx) {
                double through = p->training ? (sum + xhat * sum_xhat) / count_of(s, x) : 0;
                *element(dx, n, s->c, i) = scale * (g - through);
            }
        }
    sums[0] += sum;
    sums[1] += sum_xhat;
}

void cld_reference_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                 const cld_array *y, const cld_array *weight, const cld_array *bias,
                                 const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++) {
        double sums[2] = {0, 0};
        for (int part = 0; part < cld_part_count(&p->parts); part++) {
            slice s = slice_of(x, p, part, c);
            slice_backward(sums, dx, dresidual, dy, x, y, weight, bias, mean, invstd, p, &s);
        }
        if (dbias) *entry(dbias, c) = sums[0];
        if (dweight) *entry(dweight, c) = sums[1];
    }
}
