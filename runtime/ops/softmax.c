/* softmax, log_softmax and the cross entropy made of it. Backward needs only the output. */
#include "runtime/ops/ops.h"

typedef struct softmax_params {
    int dim;
    bool log;
} softmax_params;

/* The kernel's output for a strided x. */
static cld_tensor *softmax_of(cld_tensor *x, int dim, bool log) {
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *y =
        strided ? cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, cld_device(x)) : NULL;
    if (!y) return NULL;
    CLD_TRY_NULL(cld_device(x)->math->softmax(&y->a, &strided->a, dim, log));
    return cld_tensor_steal(&y);
}

/* y = softmax(x):     dx = y (dy - sum(y dy))
 * y = log_softmax(x): dx = dy - exp(y) sum(dy) */
static cld_status softmax_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const softmax_params *p = cld_node_params(n, softmax_params);
    CLD_AUTO cld_tensor *y = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *dy = y ? cld_tensor_strided(dout[0]) : NULL;
    CLD_AUTO cld_tensor *dx = dy ? cld_tensor_new_like(y) : NULL;
    if (!dx) return cld_error_code();
    CLD_TRY(n->device->math->softmax_backward(&dx->a, &y->a, &dy->a, p->dim, p->log));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op softmax_op = {.name = "softmax", .backward = softmax_backward};
static const cld_op log_softmax_op = {.name = "log_softmax", .backward = softmax_backward};

static cld_tensor *softmax(const cld_op *op, cld_tensor *x, int dim, bool log) {
    CLD_TRY_NULL(cld_check_float(op->name, x));
    CLD_TRY_NULL(cld_check_dim(op->name, x, dim, &dim));
    if (x->a.ndim == 0) { /* one line of one element */
        CLD_AUTO cld_tensor *line = cld_unsqueeze(x, 0);
        CLD_AUTO cld_tensor *result = line ? softmax(op, line, 0, log) : NULL;
        return result ? cld_squeeze(result, 0) : NULL;
    }
    CLD_AUTO cld_tensor *y = softmax_of(x, dim, log);
    if (!y) return NULL;
    cld_node *n = cld_record(op, &y, 1, &x, 1);
    if (n) {
        *cld_node_params(n, softmax_params) = (softmax_params){dim, log};
        cld_node_save(n, 0, y);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_softmax(cld_tensor *x, int dim) { return softmax(&softmax_op, x, dim, false); }
cld_tensor *cld_log_softmax(cld_tensor *x, int dim) { return softmax(&log_softmax_op, x, dim, true); }

/* ---- cross entropy ------------------------------------------------------------------------------------- */

/* loss = -(1/n) sum log p[i, label i], p = softmax(x): dx = dloss / n (p - one at the label) */
static cld_status cross_entropy_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *log_p = cld_node_saved(n, 0);                /* (n, classes) */
    CLD_AUTO cld_tensor *label = log_p ? cld_node_saved(n, 1) : NULL; /* (n, 1) */
    CLD_AUTO cld_tensor *share = label ? cld_mul_scalar(dout[0], 1.0 / (double)log_p->a.shape[0]) : NULL;
    CLD_AUTO cld_tensor *p = share ? cld_unary_op(CLD_EXP, log_p, 0, 0) : NULL;
    CLD_AUTO cld_tensor *dx = p ? cld_mul(p, share) : NULL;
    CLD_AUTO cld_tensor *minus = dx ? cld_unary_op(CLD_NEG, share, 0, 0) : NULL;
    CLD_AUTO cld_tensor *at_label = minus ? cld_expand(minus, 2, label->a.shape) : NULL;
    if (!at_label) return cld_error_code();
    CLD_TRY(n->device->math->scatter_add(&dx->a, 1, &label->a, &at_label->a));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op cross_entropy_op = {.name = "cross_entropy", .backward = cross_entropy_backward};

/* The device found a label that no class has: say which. Another failure stays as it is. */
static cld_tensor *name_bad_label(const cld_tensor *labels, int64_t classes) {
    for (int64_t row = 0; row < labels->a.shape[0] && cld_error_code() == CLD_INVALID; row++) {
        double label;
        CLD_TRY_NULL(cld_tensor_read(labels, &row, &label));
        if (!(label >= 0 && label < (double)classes))
            return cld_fail_null(CLD_INVALID,
                                 "cross_entropy: the label of row %lld is %.0f; expected 0 to %lld",
                                 (long long)row + 1, label, (long long)classes - 1);
    }
    return NULL;
}

cld_tensor *cld_cross_entropy(cld_tensor *logits, cld_tensor *labels) {
    if (logits->a.ndim != 2 || !cld_dtype_is_float(logits->a.dtype) || labels->a.ndim != 1 ||
        labels->a.dtype != CLD_I64 || labels->a.shape[0] != logits->a.shape[0])
        return cld_fail_null(CLD_INVALID,
                             "cross_entropy: expected logits (n, classes) and i64 labels (n), got %s and %s",
                             cld_describe(&logits->a), cld_describe(&labels->a));
    CLD_TRY_NULL(cld_check_same_device("cross_entropy", logits, labels));
    const cld_backend *device = cld_device(logits);
    int64_t rows = logits->a.shape[0];
    CLD_AUTO cld_tensor *log_p = softmax_of(logits, 1, true);
    CLD_AUTO cld_tensor *label = log_p ? cld_tensor_view(labels, 2, (int64_t[]){rows, 1},
                                                         (int64_t[]){labels->a.strides[0], 1}, labels->a.data)
                                       : NULL;
    CLD_AUTO cld_tensor *picked = label ? cld_tensor_new(log_p->a.dtype, 2, label->a.shape, device) : NULL;
    if (!picked) return NULL;
    if (device->math->gather(&picked->a, &log_p->a, 1, &label->a) != CLD_OK)
        return name_bad_label(labels, logits->a.shape[1]);
    CLD_AUTO cld_tensor *mean = cld_mean(picked, NULL, 0, false);
    CLD_AUTO cld_tensor *loss = mean ? cld_unary_op(CLD_NEG, mean, 0, 0) : NULL;
    if (!loss) return NULL;
    cld_node *n = cld_record(&cross_entropy_op, &loss, 1, &logits, 1);
    if (n) {
        cld_node_save(n, 0, log_p);
        cld_node_save(n, 1, label);
    }
    return cld_tensor_steal(&loss);
}
