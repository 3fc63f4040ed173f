/* Batch normalization in f64 by plain loops over row-major arrays: slow, obvious, and what norm.c is compared with.
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

/* Sum over channel c of f(n, position), written as a loop over all its elements. */
#define EACH(a)                                                                                              \
    for (int64_t n = 0; n < (a)->shape[0]; n++)                                                              \
        for (int64_t i = 0; i < (a)->shape[2] * (a)->shape[3]; i++)

static void statistics(const cld_array *mean, const cld_array *invstd, const cld_array *x,
                       const cld_array *running_mean, const cld_array *running_var,
                       const cld_batch_statistics *batch, const cld_norm_params *p, int64_t c) {
    double count = (double)(x->shape[0] * x->shape[2] * x->shape[3]), sum = 0, squares = 0;
    if (!p->training) {
        *entry(mean, c) = value(running_mean, c, 0);
        *entry(invstd, c) = 1 / sqrt(value(running_var, c, 1) + p->eps);
        return;
    }
    EACH(x) sum += *element(x, n, c, i);
    EACH(x) {
        double d = *element(x, n, c, i) - sum / count;
        squares += d * d;
    }
    *entry(mean, c) = sum / count;
    *entry(invstd, c) = 1 / sqrt(squares / count + p->eps);
    batch->mean[c] = sum / count;
    batch->var[c] = squares / (count - 1);
}

static double normalized(const cld_array *x, const cld_array *weight, const cld_array *bias,
                         const cld_array *mean, const cld_array *invstd, int64_t n, int64_t c, int64_t i) {
    double xhat = (*element(x, n, c, i) - *entry(mean, c)) * *entry(invstd, c);
    return xhat * value(weight, c, 1) + value(bias, c, 0);
}

void cld_reference_norm_apply(const cld_array *y, const cld_array *x, const cld_array *residual,
                              const cld_array *weight, const cld_array *bias, const cld_array *mean,
                              const cld_array *invstd, const cld_norm_params *p) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++) EACH(x) {
            double v = normalized(x, weight, bias, mean, invstd, n, c, i);
            if (residual) v += *element(residual, n, c, i);
            *element(y, n, c, i) = p->relu && v <= 0 ? 0 : v;
        }
}

void cld_reference_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                        const cld_array *x, const cld_array *residual, const cld_array *weight,
                        const cld_array *bias, const cld_array *running_mean, const cld_array *running_var,
                        const cld_batch_statistics *batch, const cld_norm_params *p) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++)
        statistics(mean, invstd, x, running_mean, running_var, batch, p, c);
    cld_reference_norm_apply(y, x, residual, weight, bias, mean, invstd, p);
}

void cld_reference_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                 const cld_array *y, const cld_array *weight, const cld_array *bias,
                                 const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
    double count = (double)(x->shape[0] * x->shape[2] * x->shape[3]);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < x->shape[1]; c++) {
        double sum = 0, sum_xhat = 0, scale = value(weight, c, 1) * *entry(invstd, c);
        for (int pass = 0; pass < 2; pass++) EACH(x) {
                double out = y ? *element(y, n, c, i) : normalized(x, weight, bias, mean, invstd, n, c, i);
                double g = p->relu && out <= 0 ? 0 : *element(dy, n, c, i);
                double xhat = (*element(x, n, c, i) - *entry(mean, c)) * *entry(invstd, c);
                if (pass == 0) {
                    sum += g;
                    sum_xhat += g * xhat;
                    if (dresidual) *element(dresidual, n, c, i) = g;
                } else if (dx) {
                    double through = p->training ? (sum + xhat * sum_xhat) / count : 0;
                    *element(dx, n, c, i) = scale * (g - through);
                }
            }
        if (dbias) *entry(dbias, c) = sum;
        if (dweight) *entry(dweight, c) = sum_xhat;
    }
}
