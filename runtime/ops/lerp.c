/* Sums with a factor: x + w (y - x), x + v a b, x + v a / b. Each writes in place, in as few passes as the kernels
 * allow: what optimizers and averages that are written in Lua consist of. */
#include "runtime/ops/ops.h"

static cld_status check_factor(const char *op, const char *what, const cld_tensor *x, cld_factor f) {
    if (!f.tensor) return CLD_OK;
    CLD_TRY(cld_check_same_device(op, x, f.tensor));
    if (cld_numel(&f.tensor->a) == 1) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the %s is %s; expected a number or a tensor of one element", op, what,
                    cld_describe(&f.tensor->a));
}

/* ---- lerp ---------------------------------------------------------------------------------------------- */

static bool is_wide(cld_dtype dtype) { return dtype == CLD_F32 || dtype == CLD_F64; }

/* The average's kernel: one pass, exact at the weights 0 and 1. keep: 1 - weight, in f64. */
static cld_status average(cld_tensor *x, const cld_tensor *y, double keep, const cld_tensor *keep_at) {
    atomic_fetch_add(&x->storage->version, 1);
    return cld_kernel(cld_device(x), optim, ema, 1, &x->a, &y->a, keep, cld_array_of(keep_at), NULL);
}

/* y as x's kernel wants it: of this dtype, dense, of x's shape. */
static cld_tensor *dense_as(cld_tensor *y, const cld_tensor *x, cld_dtype dtype) {
    CLD_AUTO cld_tensor *wide = cld_expand_for("lerp_", y, x->a.ndim, x->a.shape);
    CLD_AUTO cld_tensor *cast = wide ? cld_cast(wide, dtype) : NULL;
    return cast ? cld_tensor_contiguous(cast) : NULL;
}

cld_status cld_lerp_(cld_tensor *x, cld_tensor *y, cld_factor weight) {
    CLD_TRY(cld_check_in_place("lerp_", x));
    CLD_TRY(cld_check_float("lerp_", x));
    CLD_TRY(cld_check_same_device("lerp_", x, y));
    CLD_TRY(check_factor("lerp_", "weight", x, weight));
    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    cld_dtype dtype = is_wide(x->a.dtype) ? x->a.dtype : CLD_F32;
    CLD_AUTO cld_tensor *keep_at = NULL;
    CLD_AUTO cld_tensor *to = dense_as(y, x, dtype);
    if (to && weight.tensor) {
        CLD_AUTO cld_tensor *w = cld_cast(weight.tensor, CLD_F64);
        keep_at = w ? cld_unary_op(CLD_RSUB_SCALAR, w, 1, 0) : NULL;
    }
    cld_grad_scope_end(&off);
    if (!to || (weight.tensor && !keep_at)) return cld_error_code();
    bool direct = x->a.dtype == dtype && cld_is_contiguous(&x->a) && !cld_tensor_overlaps(x, to);
    if (direct) return average(x, to, 1 - weight.number.d, keep_at);
    CLD_AUTO cld_tensor *dense = cld_tensor_cast(x, dtype);
    if (!dense) return cld_error_code();
    CLD_TRY(average(dense, to, 1 - weight.number.d, keep_at));
    return cld_tensor_copy(x, dense);
}

/* ---- addcmul, addcdiv ---------------------------------------------------------------------------------- */

/* a op b times the value. */
static cld_tensor *scaled(const char *op, cld_binary kind, cld_tensor *a, cld_tensor *b, cld_factor value) {
    CLD_AUTO cld_tensor *y = cld_binary_op(kind, a, b);
    if (!y) return NULL;
    if (value.tensor) {
        CLD_TRY_NULL(cld_binary_(op, CLD_MUL, y, value.tensor));
    } else if (value.number.d != 1) {
        CLD_TRY_NULL(cld_binary_scalar_(op, CLD_MUL, y, value.number));
    }
    return cld_tensor_steal(&y);
}

cld_status cld_add_scaled_(const char *op, cld_binary kind, cld_tensor *x, cld_tensor *a, cld_tensor *b,
                           cld_factor value) {
    CLD_TRY(cld_check_in_place(op, x));
    CLD_TRY(cld_check_same_device(op, x, a));
    CLD_TRY(check_factor(op, "value", x, value));
    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    CLD_AUTO cld_tensor *term = scaled(op, kind, a, b, value);
    cld_grad_scope_end(&off);
    if (!term) return cld_error_code();
    return cld_binary_(op, CLD_ADD, x, term);
}
