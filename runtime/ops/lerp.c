/* Scaled sums: x + w (y - x), x + v a b, x + v a / b. Each works in place, in as few passes as the kernels allow.
 * Optimizers and averages written in Lua are made of these. */
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

/* y in the form that x's kernel takes: this dtype, dense, x's shape. */
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

/* Elements computed at once on the host, so that the terms stay in its caches. */
#define PIECE ((int64_t)1 << 16)

/* Are all elements adjacent in memory, in x as in a and b? */
static bool is_one_line(const cld_tensor *x, const cld_tensor *a, const cld_tensor *b) {
    const cld_tensor *terms[] = {a, b};
    if (!cld_is_contiguous(&x->a) || !cld_dtype_is_float(x->a.dtype)) return false;
    for (int i = 0; i < 2; i++) {
        const cld_tensor *t = terms[i];
        if (!cld_is_contiguous(&t->a) || !cld_same_shape(&t->a, &x->a) || t->a.dtype != x->a.dtype ||
            cld_tensor_overlaps(x, t))
            return false;
    }
    return true;
}

static cld_array piece_of(const cld_array *a, int64_t first, int64_t count) {
    cld_array piece = {
        .data = (char *)a->data + first * (int64_t)cld_dtype_size(a->dtype), .dtype = a->dtype, .ndim = 1};
    piece.shape[0] = count;
    piece.strides[0] = 1;
    return piece;
}

static cld_status add_pieces(cld_binary kind, cld_tensor *x, const cld_tensor *a, const cld_tensor *b,
                             cld_scalar value) {
    const cld_math_ops *math = cld_device(x)->math;
    int64_t total = cld_numel(&x->a), room = total < PIECE ? total : PIECE;
    CLD_AUTO cld_tensor *term = cld_tensor_new(x->a.dtype, 1, &room, cld_device(x));
    if (!term) return cld_error_code();
    for (int64_t first = 0; first < total; first += PIECE) {
        int64_t count = total - first < PIECE ? total - first : PIECE;
        cld_array t = piece_of(&term->a, 0, count), to = piece_of(&x->a, first, count);
        cld_array p = piece_of(&a->a, first, count), q = piece_of(&b->a, first, count);
        CLD_TRY(math->binary(kind, &t, &p, &q));
        if (value.d != 1) CLD_TRY(math->unary(CLD_MUL_SCALAR, &t, &t, value, cld_integer(0)));
        CLD_TRY(math->binary(CLD_ADD, &to, &to, &t));
    }
    return CLD_OK;
}

cld_status cld_add_scaled_(const char *op, cld_binary kind, cld_tensor *x, cld_tensor *a, cld_tensor *b,
                           cld_factor value) {
    CLD_TRY(cld_check_in_place(op, x));
    CLD_TRY(cld_check_same_device(op, x, a));
    CLD_TRY(check_factor(op, "value", x, value));
    if (cld_device(x) == cld_cpu_backend() && is_one_line(x, a, b)) {
        double number = value.number.d; /* its value is in the host's memory */
        if (value.tensor) CLD_TRY(cld_tensor_item(value.tensor, &number));
        atomic_fetch_add(&x->storage->version, 1);
        return add_pieces(kind, x, a, b, cld_real(number));
    }
    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    CLD_AUTO cld_tensor *term = scaled(op, kind, a, b, value);
    cld_grad_scope_end(&off);
    if (!term) return cld_error_code();
    return cld_binary_(op, CLD_ADD, x, term);
}
