/* Cross entropy of rows of logits with labels: one pass over the logits gives the loss and, if it is wanted, its
 * gradient; backward only scales that. With probabilities as labels it is composed of other ops. */
#include "runtime/ops/ops.h"

#include <math.h>

/* dlogits = dloss times the gradient that forward computed. */
static cld_status cross_entropy_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *gradient = cld_node_saved(n, 0); /* (n, classes) */
    if (!gradient) return cld_error_code();
    bool each = dout[0]->a.ndim == 1;
    CLD_AUTO cld_tensor *dloss = each ? cld_unsqueeze(dout[0], 1) : cld_tensor_retain(dout[0]);
    din[0] = dloss ? cld_mul(gradient, dloss) : NULL;
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op cross_entropy_op = {.name = "cross_entropy", .backward = cross_entropy_backward};

static cld_status check_params(const cld_cross_entropy_params *p) {
    if (!(p->label_smoothing >= 0 && p->label_smoothing <= 1))
        return cld_fail(CLD_INVALID, "cross_entropy: label_smoothing must be from 0 to 1, got %g",
                        p->label_smoothing);
    if (!(p->temperature > 0 && isfinite(p->temperature)))
        return cld_fail(CLD_INVALID, "cross_entropy: the temperature is %g; expected a number above 0",
                        p->temperature);
    return CLD_OK;
}

static cld_status check(const cld_tensor *logits, const cld_tensor *labels,
                        const cld_cross_entropy_params *p) {
    bool fits = logits->a.ndim > 0 && cld_dtype_is_float(logits->a.dtype) && labels->a.dtype == CLD_I64 &&
                labels->a.ndim == logits->a.ndim - 1;
    for (int d = 0; fits && d < labels->a.ndim; d++)
        fits = labels->a.shape[d] == logits->a.shape[d == 0 ? 0 : d + 1];
    if (!fits)
        return cld_fail(
            CLD_INVALID,
            "cross_entropy: expected logits (n, classes) and i64 labels (n), or (n, classes, ...) "
            "and (n, ...), or probabilities of the logits' shape, got %s and %s",
            cld_describe(&logits->a), cld_describe(&labels->a));
    return check_params(p) == CLD_OK ? cld_check_same_device("cross_entropy", logits, labels)
                                     : cld_error_code();
}
static cld_tensor *of_rows(cld_tensor **accuracy, cld_tensor *given, cld_tensor *labels,
                           const cld_cross_entropy_params *p) {
    const cld_backend *device = cld_device(given);
    CLD_AUTO cld_tensor *logits = cld_unrounded(given);
    CLD_AUTO cld_tensor *rows = logits ? cld_tensor_contiguous(logits) : NULL;
    CLD_AUTO cld_tensor *targets = rows ? cld_tensor_contiguous(labels) : NULL;
    if (!targets) return NULL;
    int ndim = p->reduction == CLD_EACH_ROW ? 1 : 0;
    bool recorded = cld_needs_grad(&logits, 1);
    CLD_AUTO cld_tensor *loss = cld_tensor_new(rows->a.dtype, ndim, rows->a.shape, device);
    CLD_AUTO cld_tensor *share = loss && accuracy ? cld_tensor_new(CLD_F32, 0, NULL, device) : NULL;
    CLD_AUTO cld_tensor *gradient = loss && recorded ? cld_tensor_new_like(rows) : NULL;
    if (!loss || (accuracy && !share) || (recorded && !gradient)) return NULL;
    CLD_TRY_NULL(cld_kernel(device, math, cross_entropy, &loss->a, cld_array_of(share),
                            cld_array_of(gradient), &rows->a, &targets->a, p));
    cld_node *n = cld_record(&cross_entropy_op, &loss, 1, &logits, 1);
    if (n) cld_node_save(n, 0, gradient);
    if (accuracy) *accuracy = cld_tensor_steal(&share);
    return cld_tensor_steal(&loss);
}

/* (classes) as (1, classes), (n, classes, ...) as (n ..., classes). */
static cld_tensor *rows_of(cld_tensor *logits) {
    int dims[CLD_MAX_DIMS] = {0}, last = logits->a.ndim - 1;
    if (last == 0) return cld_unsqueeze(logits, 0);
    for (int d = 1; d < last; d++) dims[d] = d + 1;
    dims[last] = 1;
    CLD_AUTO cld_tensor *moved = cld_permute(logits, dims);
    return moved ? cld_flatten(moved, 0, -2) : NULL;
}

/* ---- probabilities ---- */

static cld_status check_soft(bool accuracy, const cld_tensor *logits, const cld_tensor *targets,
                             const cld_cross_entropy_params *p) {
    if (accuracy)
        return cld_fail(CLD_INVALID, "cross_entropy: accuracy needs i64 labels, got the probabilities %s",
                        cld_describe(&targets->a));
    if (p->ignores && p->ignored >= 0)
        return cld_fail(CLD_INVALID, "cross_entropy: ignore_index needs i64 labels, got the probabilities %s",
                        cld_describe(&targets->a));
    CLD_TRY(check_params(p));
    return cld_check_same_device("cross_entropy", logits, targets);
}

/* (1 - s) q + s / classes */
static cld_tensor *softened(cld_tensor *q, double s, int64_t classes) {
    if (s == 0) return cld_tensor_retain(q);
    CLD_AUTO cld_tensor *scaled = cld_mul_scalar(q, 1 - s);
    return scaled ? cld_add_scalar(scaled, s / (double)classes) : NULL;
}

/* -sum_c q_c log p_c, the mean over everything except the classes. Both are differentiable. */
static cld_tensor *of_probabilities(cld_tensor *given, cld_tensor *targets,
                                    const cld_cross_entropy_params *p) {
    int dim = given->a.ndim == 1 ? 0 : 1;
    int64_t classes = given->a.shape[dim], rows = classes ? cld_numel(&given->a) / classes : 0;
    CLD_AUTO cld_tensor *logits = cld_unrounded(given), *q = NULL, *scaled = NULL;
    if (logits)
        scaled = p->temperature == 1 ? cld_tensor_retain(logits) : cld_mul_scalar(logits, 1 / p->temperature);
    CLD_AUTO cld_tensor *log_p = scaled ? cld_log_softmax(scaled, dim) : NULL;
    q = log_p ? softened(targets, p->label_smoothing, classes) : NULL;
    CLD_AUTO cld_tensor *product = q ? cld_mul(q, log_p) : NULL, *sum = NULL;
    if (!product) return NULL;
    if (p->reduction == CLD_EACH_ROW) {
        sum = cld_sum(product, &dim, 1, false);
        return sum ? cld_unary_op(CLD_NEG, sum, 0, 0) : NULL;
    }
    sum = cld_sum(product, NULL, 0, false);
    return sum ? cld_mul_scalar(sum, p->reduction == CLD_MEAN_OF_ROWS ? -1 / (double)rows : -1) : NULL;
}

cld_tensor *cld_cross_entropy(cld_tensor **accuracy, cld_tensor *logits, cld_tensor *labels,
                              const cld_cross_entropy_params *p) {
    if (logits->a.ndim > 0 && cld_dtype_is_float(logits->a.dtype) && cld_dtype_is_float(labels->a.dtype) &&
        cld_same_shape(&logits->a, &labels->a)) {
        CLD_TRY_NULL(check_soft(accuracy != NULL, logits, labels, p));
        return of_probabilities(logits, labels, p);
    }
    CLD_TRY_NULL(check(logits, labels, p));
    if (logits->a.ndim == 2) return of_rows(accuracy, logits, labels, p);
    CLD_AUTO cld_tensor *rows = rows_of(logits);
    CLD_AUTO cld_tensor *targets = rows ? cld_reshape(labels, 1, (int64_t[]){-1}) : NULL;
    CLD_AUTO cld_tensor *loss = targets ? of_rows(accuracy, rows, targets, p) : NULL;
    if (!loss || p->reduction != CLD_EACH_ROW) return cld_tensor_steal(&loss);
    return cld_reshape(loss, labels->a.ndim, labels->a.shape);
}
