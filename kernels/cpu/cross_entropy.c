/* Cross entropy of rows of logits, with its gradient: a pass for the maximum, one for the sum, one to write. If the
 * gradient has the compute dtype, the second pass leaves the exponentials in its memory, and the third scales them. The
 * rows' losses are added up in order, so the sum does not depend on the number of threads. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include <string.h>

/* What a call computes, the same for every row. */
typedef struct job {
    const cld_array *logits, *dlogits;
    cld_compute compute;
    int64_t classes;
    double scale, smoothing; /* scale: 1 / temperature */
    double weight;           /* weight of a row in the loss */
    bool keeps;              /* keeps the exponentials in the gradient's memory */
} job;

/* State of one row. */
typedef struct row {
    const char *x;
    int64_t label;
    double at_label, largest, sum; /* the logit there; sum of exp(scale (x - largest)) */
} row;

/* ---- loops --------------------------------------------------------------------------------------------- */

/* dx = (p - soft) * weight, p = exp(scale (x - m)) * share. Also two tests, both true for NaN: is any of x not below v,
 * and is any not at most v? */
#define DEFINE_LOOPS(name, T, E)                                                                             \
    CLD_SIMD static T max_##name(const T *x, int64_t n, T m) { CLD_LANE_MAX(T, m); }                         \
    CLD_SIMD static double sum_exp_##name(const T *x, int64_t n, T m, T scale) {                             \
        CLD_LANE_SUM(T, E((x[i] - m) * scale));                                                              \
    }                                                                                                        \
    CLD_SIMD static double keep_exp_##name(T *e, const T *x, int64_t n, T m, T scale) {                      \
        for (int64_t i = 0; i < n; i++) e[i] = E((x[i] - m) * scale);                                        \
        CLD_LANE_SUM(T, e[i]);                                                                               \
    }                                                                                                        \
    CLD_SIMD static void scale_##name(T *dx, int64_t n, T share, T soft, T weight) {                         \
        for (int64_t i = 0; i < n; i++) dx[i] = (dx[i] * share - soft) * weight;                             \
    }                                                                                                        \
    CLD_SIMD static double sum_##name(const T *x, int64_t n) { CLD_LANE_SUM(double, (double)x[i]); }         \
    CLD_SIMD static void gradient_##name(T *dx, const T *x, int64_t n, T m, T scale, T share, T soft,        \
                                         T weight) {                                                         \
        for (int64_t i = 0; i < n; i++) dx[i] = (E((x[i] - m) * scale) * share - soft) * weight;             \
    }                                                                                                        \
    CLD_SIMD static bool any_not_below_##name(const T *x, int64_t n, T v) {                                  \
        int any = 0;                                                                                         \
        for (int64_t i = 0; i < n; i++) any |= !(x[i] < v);                                                  \
        return any;                                                                                          \
    }                                                                                                        \
    CLD_SIMD static bool any_above_##name(const T *x, int64_t n, T v) {                                      \
        int any = 0;                                                                                         \
        for (int64_t i = 0; i < n; i++) any |= !(x[i] <= v);                                                 \
        return any;                                                                                          \
    }

DEFINE_LOOPS(float, float, cld_expf)
DEFINE_LOOPS(double, double, exp)

#define CALL(c, name, ...) ((c) == CLD_COMPUTE_FLOAT ? name##_float(__VA_ARGS__) : name##_double(__VA_ARGS__))

/* ---- a row --------------------------------------------------------------------------------------------- */

#define EACH_PIECE(first, n, start, end)                                                                     \
    for (int64_t first = (start), n; n = (end)-first < CLD_PIECE ? (end)-first : CLD_PIECE, first < (end);   \
         first += CLD_PIECE)

static const void *load(const job *j, cld_piece *buffer, const row *r, int64_t first, int64_t n) {
    cld_dtype dtype = j->logits->dtype;
    return cld__load(j->compute, buffer, r->x + first * (int64_t)cld_dtype_size(dtype), dtype, 1, n);
}

static double logit(const job *j, const row *r, int64_t i) {
    cld_piece buffer;
    const void *x = load(j, &buffer, r, i, 1);
    return j->compute == CLD_COMPUTE_FLOAT ? (double)*(const float *)x : *(const double *)x;
}

static char *gradient_row(const job *j, int64_t i) {
    return (char *)j->dlogits->data + i * j->classes * (int64_t)cld_dtype_size(j->dlogits->dtype);
}

static row read_row(const job *j, int64_t i, int64_t label) {
    cld_piece in;
    size_t bytes = cld_dtype_size(j->logits->dtype);
    row r = {.x = (const char *)j->logits->data + i * j->classes * (int64_t)bytes, .label = label};
    r.at_label = logit(j, &r, label);
    r.largest = -INFINITY;
    EACH_PIECE(first, n, 0, j->classes) {
        r.largest = CALL(j->compute, max, load(j, &in, &r, first, n), n, r.largest);
    }
    char *exps = j->keeps ? gradient_row(j, i) : NULL;
    EACH_PIECE(first, n, 0, j->classes) {
        const void *x = load(j, &in, &r, first, n);
        r.sum += exps ? CALL(j->compute, keep_exp, (void *)(exps + first * (int64_t)bytes), x, n, r.largest,
                             j->scale)
                      : CALL(j->compute, sum_exp, x, n, r.largest, j->scale);
    }
    return r;
}

/* -sum_c q_c log p_c, where log p_c = scale (x_c - largest) - log(sum). The differences remove the offset that all
 * logits share before anything is rounded to its last bit. */
static double loss_of(const job *j, const row *r) {
    double loss = log(r->sum) + j->scale * (1 - j->smoothing) * (r->largest - r->at_label), total = 0;
    if (j->smoothing == 0) return loss;
    cld_piece in;
    EACH_PIECE(first, n, 0, j->classes) total += CALL(j->compute, sum, load(j, &in, r, first, n), n);
    return loss + j->scale * j->smoothing * (r->largest - total / (double)j->classes);
}

/* Is the label's logit the first among the largest? A row with a NaN has no largest. */
static bool is_hit(const job *j, const row *r) {
    cld_piece in;
    bool beaten = isnan(r->at_label);
    EACH_PIECE(first, n, 0, r->label) {
        beaten |= CALL(j->compute, any_not_below, load(j, &in, r, first, n), n, r->at_label);
    }
    EACH_PIECE(first, n, r->label + 1, j->classes) {
        beaten |= CALL(j->compute, any_above, load(j, &in, r, first, n), n, r->at_label);
    }
    return !beaten;
}

static void write_gradient(const job *j, const row *r, int64_t i) {
    cld_piece in, out;
    cld_dtype dtype = j->dlogits->dtype;
    int64_t bytes = (int64_t)cld_dtype_size(dtype);
    char *dx = gradient_row(j, i);
    double soft = j->smoothing / (double)j->classes, weight = j->weight * j->scale;
    if (j->keeps) CALL(j->compute, scale, (void *)dx, j->classes, 1 / r->sum, soft, weight);
    EACH_PIECE(first, n, 0, j->keeps ? 0 : j->classes) {
        const void *x = load(j, &in, r, first, n);
        void *to = cld__store_target(j->compute, &out, dx + first * bytes, dtype, 1);
        CALL(j->compute, gradient, to, x, n, r->largest, j->scale, 1 / r->sum, soft, weight);
        cld__store(j->compute, to, dx + first * bytes, dtype, 1, n);
    }
    double p = exp(j->scale * (r->at_label - r->largest)) / r->sum,
           at_label = (p - soft - (1 - j->smoothing)) * weight;
    cld__store(CLD_COMPUTE_DOUBLE, &at_label, dx + r->label * bytes, dtype, 1, 1);
}

static void clear_gradient(const job *j, int64_t i) {
    size_t bytes = (size_t)j->classes * cld_dtype_size(j->dlogits->dtype);
    memset((char *)j->dlogits->data + (size_t)i * bytes, 0, bytes);
}

/* ---- all rows ------------------------------------------------------------------------------------------ */

static bool is_ignored(const cld_cross_entropy_params *p, int64_t label) {
    return p->ignores && label == p->ignored;
}

/* *counted: the number of rows that are not ignored. */
static cld_status check_labels(const int64_t *labels, int64_t rows, int64_t classes,
                               const cld_cross_entropy_params *p, int64_t *counted) {
    *counted = rows;
    for (int64_t i = 0; i < rows; i++)
        if (is_ignored(p, labels[i]))
            --*counted;
        else if (labels[i] < 0 || labels[i] >= classes)
            return cld_fail(CLD_INVALID, "cross_entropy: the label of row %lld is %lld; expected 0 to %lld",
                            (long long)i + 1, (long long)labels[i], (long long)classes - 1);
    return CLD_OK;
}

cld_status cld__cross_entropy(const cld_array *loss, const cld_array *share, const cld_array *dlogits,
                              const cld_array *logits, const cld_array *labels,
                              const cld_cross_entropy_params *p) {
    int64_t rows = logits->shape[0], classes = logits->shape[1];
    const int64_t *label = labels->data;
    int64_t counted;
    CLD_TRY(check_labels(label, rows, classes, p, &counted));
    double weight = p->reduction == CLD_MEAN_OF_ROWS ? 1 / (double)counted : 1;
    const job j = {.logits = logits,
                   .dlogits = dlogits,
                   .compute = cld__compute_type(logits->dtype),
                   .classes = classes,
                   .scale = 1 / p->temperature,
                   .smoothing = p->label_smoothing,
                   .weight = weight,
                   .keeps = dlogits && dlogits->dtype == logits->dtype &&
                            (logits->dtype == CLD_F32 || logits->dtype == CLD_F64)};
    size_t bytes = (size_t)rows * sizeof(double);
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    double *losses = workspace, sum = 0;
    int64_t hits = 0;
#pragma omp parallel for schedule(static) reduction(+ : hits) if (rows * classes >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < rows; i++) {
        if (is_ignored(p, label[i])) {
            losses[i] = 0;
            if (dlogits) clear_gradient(&j, i);
            continue;
        }
        row r = read_row(&j, i, label[i]);
        losses[i] = loss_of(&j, &r);
        if (share) hits += is_hit(&j, &r);
        if (dlogits) write_gradient(&j, &r, i);
    }
    for (int64_t i = 0; i < rows; i++) sum += losses[i];
    sum *= weight;
    bool each = p->reduction == CLD_EACH_ROW;
    cld__store(CLD_COMPUTE_DOUBLE, each ? losses : &sum, loss->data, loss->dtype, 1, each ? rows : 1);
    if (share) *(float *)share->data = (float)((double)hits / (double)counted);
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}
