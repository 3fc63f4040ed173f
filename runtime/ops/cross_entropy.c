/* Cross entropy of rows of logits with labels. What is kept for backward is the log-softmax.
 *
 * A row's target q is 1 at its label, softened by s (label_smoothing): 1 - s there, plus s / classes everywhere. */
#include "runtime/ops/ops.h"

/* Row i's loss is -sum_c q_c log p_c, p = softmax(x); so dx = dloss_i (p - q). */
static cld_status cross_entropy_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const cld_cross_entropy_params *options = cld_node_params(n, cld_cross_entropy_params);
    CLD_AUTO cld_tensor *log_p = cld_node_saved(n, 0);                /* (n, classes) */
    CLD_AUTO cld_tensor *label = log_p ? cld_node_saved(n, 1) : NULL; /* (n, 1) */
    if (!label) return cld_error_code();
    double rows = (double)log_p->a.shape[0], classes = (double)log_p->a.shape[1],
           s = options->label_smoothing;
    bool each = options->reduction == CLD_EACH_ROW;
    CLD_AUTO cld_tensor *column = each ? cld_unsqueeze(dout[0], 1) : cld_tensor_retain(dout[0]);
    CLD_AUTO cld_tensor *share =
        column ? cld_mul_scalar(column, options->reduction == CLD_MEAN_OF_ROWS ? 1 / rows : 1) : NULL;
    CLD_AUTO cld_tensor *p = share ? cld_unary_op(CLD_EXP, log_p, 0, 0) : NULL;
    CLD_AUTO cld_tensor *less = p && s != 0 ? cld_add_scalar(p, -s / classes) : cld_tensor_steal(&p);
    CLD_AUTO cld_tensor *dx = less ? cld_mul(less, share) : NULL;
    CLD_AUTO cld_tensor *minus = dx ? cld_mul_scalar(share, s - 1) : NULL;
    CLD_AUTO cld_tensor *at_label = minus ? cld_expand(minus, 2, label->a.shape) : NULL;
    if (!at_label) return cld_error_code();
    CLD_TRY(cld_kernel(n->device, math, scatter_add, &dx->a, 1, &label->a, &at_label->a));
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

static cld_status check(const cld_tensor *logits, const cld_tensor *labels,
                        const cld_cross_entropy_params *options) {
    if (logits->a.ndim != 2 || !cld_dtype_is_float(logits->a.dtype) || labels->a.ndim != 1 ||
        labels->a.dtype != CLD_I64 || labels->a.shape[0] != logits->a.shape[0])
        return cld_fail(CLD_INVALID,
                        "cross_entropy: expected logits (n, classes) and i64 labels (n), got %s and %s",
                        cld_describe(&logits->a), cld_describe(&labels->a));
    if (!(options->label_smoothing >= 0 && options->label_smoothing <= 1))
        return cld_fail(CLD_INVALID, "cross_entropy: label_smoothing must lie in 0 to 1, got %g",
                        options->label_smoothing);
    return cld_check_same_device("cross_entropy", logits, labels);
}

/* log p at the labels, softened: (n, 1). */
static cld_tensor *log_likelihood(cld_tensor *log_p, cld_tensor *label, double s) {
    CLD_AUTO cld_tensor *picked = cld_gather(log_p, 1, label);
    if (!picked || s == 0) return cld_tensor_steal(&picked);
    CLD_AUTO cld_tensor *mean = cld_mean(log_p, (int[]){1}, 1, true);
    CLD_AUTO cld_tensor *soft = mean ? cld_mul_scalar(mean, s) : NULL;
    CLD_AUTO cld_tensor *sharp = soft ? cld_mul_scalar(picked, 1 - s) : NULL;
    return sharp ? cld_add(sharp, soft) : NULL;
}

static cld_tensor *reduced(cld_tensor *rows, cld_row_reduction reduction) {
    if (reduction == CLD_MEAN_OF_ROWS) return cld_mean(rows, NULL, 0, false);
    return reduction == CLD_SUM_OF_ROWS ? cld_sum(rows, NULL, 0, false) : cld_squeeze(rows, 1);
}

cld_tensor *cld_cross_entropy_with(cld_tensor *given, cld_tensor *labels,
                                   const cld_cross_entropy_params *options) {
    CLD_TRY_NULL(check(given, labels, options));
    CLD_AUTO cld_tensor *logits = cld_unrounded(given);
    if (!logits) return NULL;
    CLD_AUTO cld_tensor *constant = cld_tensor_detach(logits);
    CLD_AUTO cld_tensor *log_p = constant ? cld_log_softmax(constant, 1) : NULL;
    CLD_AUTO cld_tensor *label = log_p ? cld_unsqueeze(labels, 1) : NULL;
    if (!label) return NULL;
    CLD_AUTO cld_tensor *gain = log_likelihood(log_p, label, options->label_smoothing);
    if (!gain) return name_bad_label(labels, logits->a.shape[1]);
    CLD_AUTO cld_tensor *sum = reduced(gain, options->reduction);
    CLD_AUTO cld_tensor *loss = sum ? cld_unary_op(CLD_NEG, sum, 0, 0) : NULL;
    if (!loss) return NULL;
    cld_node *n = cld_record(&cross_entropy_op, &loss, 1, &logits, 1);
    if (n) {
        *cld_node_params(n, cld_cross_entropy_params) = *options;
        cld_node_save(n, 0, log_p);
        cld_node_save(n, 1, label);
    }
    return cld_tensor_steal(&loss);
}
