/* t-SNE's descent. The gradient is 4 (sum_j p_ij w_ij (y_i - y_j) - sum_j w_ij^2 (y_i - y_j) / Z), with
 * w = 1 / (1 + |y_i - y_j|^2) and Z the sum of all w. The first sum is over the affinities' pairs; the second and Z are
 * over the tree's cells. Points are doubles. One thread moves each point, and one thread sums Z, so the number of
 * threads changes nothing. */
#include "runtime/core/philox.h"
#include "runtime/core/workers.h"
#include "runtime/embed/embed.h"
#include "runtime/ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double EXAGGERATION = 12, LEAST_GAIN = 0.01, MIN_RATE = 50;
enum { EXPLORING = 250, CHUNK = 64 };

/* The state of a descent: 2 n doubles in each array, n in z. */
typedef struct state {
    cld_affinities near;
    cld_tree tree;
    double *y, *gradient, *update, *gains, *z, *repulsion;
    double angle;
} state;

static void free_state(state *s) {
    cld__free_affinities(&s->near);
    cld__tree_free(&s->tree);
    free(s->y);
}

static cld_status new_state(state *s, int64_t n, double angle) {
    s->angle = angle;
    s->y = calloc((size_t)(11 * n), sizeof *s->y);
    if (!s->y) return cld_fail(CLD_NOMEM, "tsne: out of memory for %lld points", (long long)n);
    s->gradient = s->y + 2 * n, s->update = s->y + 4 * n, s->gains = s->y + 6 * n,
    s->repulsion = s->y + 8 * n;
    s->z = s->y + 10 * n;
    return cld__tree_new(&s->tree, n);
}

/* Without the tree, over all pairs. */
static double exact_repulsion(const double *y, int64_t n, int64_t i, double force[2]) {
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        double dx = y[2 * i] - y[2 * j], dy = y[2 * i + 1] - y[2 * j + 1], w = 1 / (1 + dx * dx + dy * dy);
        sum += w;
        force[0] += w * w * dx, force[1] += w * w * dy;
    }
    return sum;
}

/* The repulsion of all points, and Z. */
static cld_status repel(state *s, double *z) {
    int64_t n = s->near.n;
    memset(s->repulsion, 0, (size_t)(2 * n) * sizeof *s->repulsion);
    if (s->angle > 0) CLD_TRY(cld__tree_build(&s->tree, s->y));
#pragma omp parallel for schedule(dynamic, CHUNK)
    for (int64_t i = 0; i < n; i++) {
        double *force = s->repulsion + 2 * i;
        s->z[i] = s->angle > 0 ? cld__tree_repulsion(&s->tree, s->y + 2 * i, s->angle, force)
                               : exact_repulsion(s->y, n, i, force);
    }
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += s->z[i] - 1;
    *z = fmax(sum, 1e-300);
    return CLD_OK;
}

/* The gradient, with the affinities `exaggeration` times as large. */
static cld_status find_gradient(state *s, double exaggeration, double *z) {
    CLD_TRY(repel(s, z));
    const cld_affinities *a = &s->near;
    const double *y = s->y;
    double share = 1 / *z;
#pragma omp parallel for schedule(dynamic, CHUNK)
    for (int64_t i = 0; i < a->n; i++) {
        double fx = 0, fy = 0;
        for (int64_t e = a->begin[i]; e < a->begin[i + 1]; e++) {
            int64_t j = a->other[e];
            double dx = y[2 * i] - y[2 * j], dy = y[2 * i + 1] - y[2 * j + 1];
            double pull = a->p[e] / (1 + dx * dx + dy * dy);
            fx += pull * dx, fy += pull * dy;
        }
        s->gradient[2 * i] = 4 * (exaggeration * fx - share * s->repulsion[2 * i]);
        s->gradient[2 * i + 1] = 4 * (exaggeration * fy - share * s->repulsion[2 * i + 1]);
    }
    return CLD_OK;
}

/* The sum of p log(p / q), with q = w / Z, over the affinities' pairs; s->z is overwritten. */
static double divergence(state *s, double z) {
    const cld_affinities *a = &s->near;
    const double *y = s->y;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->n; i++) {
        double sum = 0;
        for (int64_t e = a->begin[i]; e < a->begin[i + 1]; e++) {
            int64_t j = a->other[e];
            double dx = y[2 * i] - y[2 * j], dy = y[2 * i + 1] - y[2 * j + 1], p = a->p[e];
            if (p > 0) sum += p * log(p * z * (1 + dx * dx + dy * dy));
        }
        s->z[i] = sum;
    }
    double sum = 0;
    for (int64_t i = 0; i < a->n; i++) sum += s->z[i];
    return sum;
}

/* `iterations` steps, from rest. */
static cld_status descend(state *s, int64_t iterations, double momentum, double exaggeration) {
    int64_t n = s->near.n;
    double rate = fmax((double)n / EXAGGERATION / 4, MIN_RATE), z;
    memset(s->update, 0, (size_t)(2 * n) * sizeof *s->update);
    for (int64_t i = 0; i < 2 * n; i++) s->gains[i] = 1;
    for (int64_t step = 0; step < iterations; step++) {
        if (cld_is_signalled()) return cld_fail(CLD_INTERRUPTED, "tsne: interrupted!");
        CLD_TRY(find_gradient(s, exaggeration, &z));
        for (int64_t i = 0; i < 2 * n; i++) {
            double gain = s->update[i] * s->gradient[i] < 0 ? s->gains[i] + 0.2 : s->gains[i] * 0.8;
            s->gains[i] = fmax(gain, LEAST_GAIN);
            s->update[i] = momentum * s->update[i] - rate * s->gains[i] * s->gradient[i];
            s->y[i] += s->update[i];
        }
    }
    return CLD_OK;
}

/* Starts at the first two principal components, scaled so small that points hardly repel each other, plus a little
 * noise. */
static cld_status begin(state *s, cld_tensor *x, uint64_t seed) {
    int64_t n = s->near.n, dims = x->a.shape[1] < 2 ? 1 : 2;
    CLD_AUTO cld_tensor *components = cld_pca(x, dims);
    if (!components) return cld_error_code();
    const float *c = components->a.data;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)c[i * dims] * c[i * dims] / (double)n;
    double scale = sum > 0 ? 1e-4 / sqrt(sum) : 0;
    cld_philox random = cld_philox_at(seed, CLD_RNG_GENERATOR, 0, 0, 0);
    for (int64_t i = 0; i < 2 * n; i++) {
        int64_t axis = i % 2;
        double noise = 2e-6 * (cld_philox_uniform(&random) - 0.5);
        s->y[i] = noise + (axis < dims ? scale * c[i / 2 * dims + axis] : 0);
    }
    return CLD_OK;
}

/* x's rows less their mean, f32, dense, on the cpu. */
static cld_tensor *centred(cld_tensor *x) {
    CLD_AUTO cld_tensor *constant = cld_tensor_detach(x);
    CLD_AUTO cld_tensor *rows = constant ? cld_tensor_as(constant, CLD_F32, cld_cpu_backend()) : NULL;
    CLD_AUTO cld_tensor *mean = rows ? cld_mean(rows, (int[]){0}, 1, true) : NULL;
    CLD_AUTO cld_tensor *less = mean ? cld_sub(rows, mean) : NULL;
    return less ? cld_tensor_contiguous(less) : NULL;
}

static cld_status check(const cld_tensor *x, const cld_tsne_params *p) {
    if (x->a.ndim != 2 || (x->a.dtype != CLD_F32 && x->a.dtype != CLD_F64) || x->a.shape[0] < 4 ||
        x->a.shape[1] < 1)
        return cld_fail(CLD_INVALID, "tsne: expected at least 4 rows (n, d), f32 or f64, got %s",
                        cld_describe(&x->a));
    if (x->a.shape[0] > 1 << 24)
        return cld_fail(CLD_INVALID, "tsne: %lld points; expected at most %d", (long long)x->a.shape[0],
                        1 << 24);
    if (!(p->perplexity >= 1 && p->perplexity < (double)x->a.shape[0]))
        return cld_fail(CLD_INVALID,
                        "tsne: a perplexity of %g for %lld points; expected at least 1, and less than the "
                        "number of points",
                        p->perplexity, (long long)x->a.shape[0]);
    if (!(p->angle >= 0 && p->angle <= 0.7))
        return cld_fail(CLD_INVALID, "tsne: the angle is %g; expected 0 to 0.7", p->angle);
    if (p->iterations < 0 || p->iterations > 1000000)
        return cld_fail(CLD_INVALID, "tsne: %lld iterations; expected 0 to 1000000",
                        (long long)p->iterations);
    return CLD_OK;
}

static cld_status check_finite(const cld_tensor *x) {
    const float *values = x->a.data;
    for (int64_t i = 0; i < cld_numel(&x->a); i++)
        if (!isfinite(values[i]))
            return cld_fail(CLD_INVALID, "tsne: the rows have values that are not finite");
    return CLD_OK;
}

/* The whole descent. */
static cld_status run(state *s, cld_tensor *rows, const cld_tsne_params *p, double *kl) {
    CLD_TRY(begin(s, rows, p->seed));
    int64_t exploring = p->iterations / 4 < EXPLORING ? p->iterations / 4 : EXPLORING;
    CLD_TRY(descend(s, exploring, 0.5, EXAGGERATION));
    CLD_TRY(descend(s, p->iterations - exploring, 0.8, 1));
    s->angle = 0;
    double z;
    CLD_TRY(repel(s, &z));
    *kl = divergence(s, z);
    return CLD_OK;
}

cld_tensor *cld_tsne(double *kl, cld_tensor *x, const cld_tsne_params *p) {
    CLD_TRY_NULL(check(x, p));
    CLD_AUTO cld_tensor *rows = centred(x);
    if (!rows || check_finite(rows) != CLD_OK) return NULL;
    int64_t shape[2] = {x->a.shape[0], 2};
    CLD_AUTO cld_tensor *out = cld_tensor_new(CLD_F32, 2, shape, cld_cpu_backend());
    state s = {0};
    cld_status status = out ? new_state(&s, shape[0], p->angle) : cld_error_code();
    if (status == CLD_OK) status = cld__find_affinities(&s.near, rows, p->perplexity);
    if (status == CLD_OK) status = run(&s, rows, p, kl);
    if (status == CLD_OK)
        for (int64_t i = 0; i < 2 * shape[0]; i++) ((float *)out->a.data)[i] = (float)s.y[i];
    free_state(&s);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}

cld_tensor *cld_tsne_gradient(double *kl, cld_tensor *x, cld_tensor *y, const cld_tsne_params *p) {
    CLD_TRY_NULL(check(x, p));
    int64_t n = x->a.shape[0];
    if (y->a.ndim != 2 || y->a.shape[0] != n || y->a.shape[1] != 2)
        return cld_fail_null(CLD_INVALID, "tsne_gradient: expected a point (n, 2) for each row of %s, got %s",
                             cld_describe(&x->a), cld_describe(&y->a));
    CLD_AUTO cld_tensor *rows = centred(x);
    CLD_AUTO cld_tensor *points = cld_tensor_as(y, CLD_F64, cld_cpu_backend());
    CLD_AUTO cld_tensor *out = cld_tensor_new(CLD_F64, 2, y->a.shape, cld_cpu_backend());
    if (!rows || !points || !out || check_finite(rows) != CLD_OK) return NULL;
    state s = {0};
    double z = 0;
    cld_status status = new_state(&s, n, p->angle);
    if (status == CLD_OK) status = cld__find_affinities(&s.near, rows, p->perplexity);
    if (status == CLD_OK) {
        memcpy(s.y, points->a.data, (size_t)(2 * n) * sizeof *s.y);
        status = find_gradient(&s, 1, &z);
    }
    if (status == CLD_OK) {
        memcpy(out->a.data, s.gradient, (size_t)(2 * n) * sizeof *s.y);
        *kl = divergence(&s, z);
    }
    free_state(&s);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}
