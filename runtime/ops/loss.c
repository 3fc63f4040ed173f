/* Losses of two tensors of the same shape: elementwise, then a sum or a mean. Composed of other ops. For 16 bits they
 * are computed as features are (precision.h). */
#include "runtime/ops/ops.h"

static cld_status check(const char *op, const cld_tensor *x, const cld_tensor *target) {
    CLD_TRY(cld_check_float(op, x));
    CLD_TRY(cld_check_float(op, target));
    CLD_TRY(cld_check_same_device(op, x, target));
    if (cld_same_shape(&x->a, &target->a)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the input is %s, the target %s; they must have the same shape", op,
                    cld_describe(&x->a), cld_describe(&target->a));
}

static cld_tensor *reduced(const char *op, cld_tensor *losses, cld_loss_reduction reduction) {
    if (!losses || reduction == CLD_LOSS_NONE) return losses ? cld_tensor_retain(losses) : NULL;
    if (reduction == CLD_LOSS_MEAN) return cld_mean(losses, NULL, 0, false);
    CLD_AUTO cld_tensor *sum = cld_sum(losses, NULL, 0, false);
    if (!sum || reduction == CLD_LOSS_SUM) return cld_tensor_steal(&sum);
    if (losses->a.ndim == 0)
        return cld_fail_null(CLD_INVALID, "%s: 'batchmean' needs a first dimension, but the input has none",
                             op);
    return cld_mul_scalar(sum, 1 / (double)losses->a.shape[0]);
}

cld_tensor *cld_mse_loss(cld_tensor *given, cld_tensor *target, cld_loss_reduction reduction) {
    CLD_TRY_NULL(check("mse_loss", given, target));
    CLD_AUTO cld_tensor *x = cld_unrounded(given);
    CLD_AUTO cld_tensor *difference = x ? cld_sub(x, target) : NULL;
    CLD_AUTO cld_tensor *losses = difference ? cld_unary_op(CLD_SQUARE, difference, 0, 0) : NULL;
    return reduced("mse_loss", losses, reduction);
}

/* ---- binary cross entropy ---- */

/* It must broadcast to x without making x larger. */
static cld_status check_weight(const char *what, const cld_tensor *x, const cld_tensor *weight) {
    const char *op = "bce_with_logits";
    cld_shape shape;
    if (!weight) return CLD_OK;
    CLD_TRY(cld_check_float(op, weight));
    CLD_TRY(cld_check_same_device(op, x, weight));
    bool fits = cld_broadcast_shapes(op, &x->a, &weight->a, &shape) == CLD_OK && shape.ndim == x->a.ndim;
    for (int d = 0; fits && d < shape.ndim; d++) fits = shape.extents[d] == x->a.shape[d];
    if (fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: %s %s does not broadcast to the input %s", op, what,
                    cld_describe(&weight->a), cld_describe(&x->a));
}

/* softplus(-x), times 1 + (pos_weight - 1) target. */
static cld_tensor *log_term(cld_tensor *x, cld_tensor *target, cld_tensor *pos_weight) {
    CLD_AUTO cld_tensor *negative = cld_unary_op(CLD_NEG, x, 0, 0);
    CLD_AUTO cld_tensor *term = negative ? cld_unary_op(CLD_SOFTPLUS, negative, 0, 0) : NULL;
    if (!term || !pos_weight) return cld_tensor_steal(&term);
    CLD_AUTO cld_tensor *more = cld_add_scalar(pos_weight, -1);
    CLD_AUTO cld_tensor *share = more ? cld_mul(target, more) : NULL;
    CLD_AUTO cld_tensor *factor = share ? cld_add_scalar(share, 1) : NULL;
    return factor ? cld_mul(term, factor) : NULL;
}

/* (1 - target) x + softplus(-x) = -target log sigmoid(x) - (1 - target) log(1 - sigmoid(x)), which never overflows. */
cld_tensor *cld_bce_with_logits(cld_tensor *given, cld_tensor *target, cld_tensor *weight,
                                cld_tensor *pos_weight, cld_loss_reduction reduction) {
    CLD_TRY_NULL(check("bce_with_logits", given, target));
    CLD_TRY_NULL(check_weight("weight", given, weight));
    CLD_TRY_NULL(check_weight("pos_weight", given, pos_weight));
    CLD_AUTO cld_tensor *x = cld_unrounded(given);
    CLD_AUTO cld_tensor *rest = x ? cld_unary_op(CLD_RSUB_SCALAR, target, 1, 0) : NULL;
    CLD_AUTO cld_tensor *linear = rest ? cld_mul(rest, x) : NULL;
    CLD_AUTO cld_tensor *term = linear ? log_term(x, target, pos_weight) : NULL;
    CLD_AUTO cld_tensor *sum = term ? cld_add(linear, term) : NULL;
    CLD_AUTO cld_tensor *losses = sum && weight ? cld_mul(sum, weight) : cld_tensor_steal(&sum);
    return reduced("bce_with_logits", losses, reduction);
}

/* ---- Kullback-Leibler divergence ---- */

/* target log target; 0 at 0, without a gradient there. */
static cld_tensor *entropy_term(cld_tensor *target) {
    CLD_AUTO cld_tensor *some = cld_unary_op(CLD_NE_SCALAR, target, 0, 0);
    CLD_AUTO cld_tensor *one = some ? cld_tensor_full(target->a.dtype, 0, NULL, cld_device(target), 1) : NULL;
    CLD_AUTO cld_tensor *safe = one ? cld_where(some, target, one) : NULL;
    CLD_AUTO cld_tensor *log = safe ? cld_unary_op(CLD_LOG, safe, 0, 0) : NULL;
    return log ? cld_mul(target, log) : NULL;
}

cld_tensor *cld_kl_div(cld_tensor *given, cld_tensor *target, bool log_target, cld_loss_reduction reduction) {
    CLD_TRY_NULL(check("kl_div", given, target));
    CLD_AUTO cld_tensor *x = cld_unrounded(given), *losses = NULL;
    if (!x) return NULL;
    if (log_target) {
        CLD_AUTO cld_tensor *p = cld_unary_op(CLD_EXP, target, 0, 0);
        CLD_AUTO cld_tensor *difference = p ? cld_sub(target, x) : NULL;
        losses = difference ? cld_mul(p, difference) : NULL;
    } else {
        CLD_AUTO cld_tensor *entropy = entropy_term(target);
        CLD_AUTO cld_tensor *cross = entropy ? cld_mul(target, x) : NULL;
        losses = cross ? cld_sub(entropy, cross) : NULL;
    }
    return reduced("kl_div", losses, reduction);
}
