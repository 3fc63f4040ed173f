/* Casts and unary operations. All unary gradients are one function: dx = dy * f'(x), with f' one line per operation.
 * The output has the input's layout. */
#include "runtime/ops/ops.h"

#include <math.h>

/* ---- casts --------------------------------------------------------------------------------------------- */

static cld_status cast_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    din[0] = cld_cast(dout[0], *cld_node_params(n, cld_dtype));
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op cast_op = {.name = "to", .backward = cast_backward};

cld_tensor *cld_cast(cld_tensor *x, cld_dtype dtype) {
    if (x->a.dtype == dtype) return cld_tensor_retain(x);
    CLD_AUTO cld_tensor *y = cld_tensor_new(dtype, x->a.ndim, x->a.shape, cld_device(x));
    if (!y) return NULL;
    y->a.layout = x->a.layout;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, copy, &y->a, &x->a));
    cld_node *n = cld_dtype_is_float(dtype) ? cld_record(&cast_op, &y, 1, &x, 1) : NULL;
    if (n) *cld_node_params(n, cld_dtype) = x->a.dtype;
    return cld_tensor_steal(&y);
}

/* ---- unary --------------------------------------------------------------------------------------------- */

typedef enum unary_flags {
    SAVE_X = 1,    /* backward needs the input */
    SAVE_Y = 2,    /* backward needs the output */
    REAL_ONLY = 4, /* integers are cast to f32 first */
    BOOLEAN = 8,   /* gives u8; no gradient */
} unary_flags;

typedef struct unary_rule {
    cld_op op;
    unary_flags flags;
} unary_rule;

static const unary_rule unary_rules[];

typedef struct unary_params {
    cld_unary kind;
    cld_scalar a, b;
} unary_params;

/* f(x), taking over the reference x; NULL passes through. */
static cld_tensor *then(cld_unary kind, cld_tensor *x, double a) {
    CLD_AUTO cld_tensor *input = x;
    return input ? cld_unary_op(kind, input, a, 0) : NULL;
}

/* 1 where a < x < b, else 0: PyTorch gives the bounds themselves no gradient, but an infinite bound is no bound. */
static cld_tensor *within(cld_tensor *x, double a, double b) {
    CLD_AUTO cld_tensor *above = cld_unary_op(isinf(a) ? CLD_GE_SCALAR : CLD_GT_SCALAR, x, a, 0);
    CLD_AUTO cld_tensor *below =
        above ? cld_unary_op(isinf(b) ? CLD_LE_SCALAR : CLD_LT_SCALAR, x, b, 0) : NULL;
    return below ? cld_binary_op(CLD_AND, above, below) : NULL;
}

/* f'(x) from x or y = f(x), whichever was saved; *scale is a constant factor. */
static cld_tensor *unary_slope(const unary_params *p, cld_tensor *x, cld_tensor *y, double *scale) {
    switch (p->kind) {
    case CLD_ABS: return cld_unary_op(CLD_SIGN, x, 0, 0);
    case CLD_EXP: return cld_tensor_retain(y);
    case CLD_RSQRT: *scale = -0.5; return cld_unary_op(CLD_POW_SCALAR, y, 3, 0);
    case CLD_SQUARE: *scale = 2; return cld_tensor_retain(x);
    case CLD_RECIPROCAL: *scale = -1; return cld_unary_op(CLD_SQUARE, y, 0, 0);
    case CLD_SIN: return cld_unary_op(CLD_COS, x, 0, 0);
    case CLD_COS: *scale = -1; return cld_unary_op(CLD_SIN, x, 0, 0);
    case CLD_TANH: return then(CLD_RSUB_SCALAR, cld_unary_op(CLD_SQUARE, y, 0, 0), 1);
    case CLD_SIGMOID: {
        CLD_AUTO cld_tensor *rest = cld_unary_op(CLD_RSUB_SCALAR, y, 1, 0);
        return rest ? cld_mul(y, rest) : NULL;
    }
    case CLD_SOFTPLUS: return cld_unary_op(CLD_SIGMOID, x, 0, 0);
    case CLD_POW_SCALAR: *scale = p->a.d; return cld_unary_op(CLD_POW_SCALAR, x, p->a.d - 1, 0);
    default: return cld_fail_null(CLD_UNSUPPORTED, "%s has no gradient", unary_rules[p->kind].op.name);
    }
}

/* Divides instead of multiplying by a reciprocal, which could overflow where the quotient does not. */
static cld_tensor *divided(cld_tensor *dy, cld_tensor *by, double scale) {
    CLD_AUTO cld_tensor *ratio = cld_div(dy, by);
    return !ratio || scale == 1 ? cld_tensor_steal(&ratio) : cld_mul_scalar(ratio, scale);
}

/* dy where x > 0, elsewhere slope times dy, also where x is NaN, because y is NaN there. */
static cld_tensor *leaky_gradient(cld_tensor *dy, cld_tensor *x, double slope) {
    CLD_AUTO cld_tensor *above = cld_unary_op(CLD_GT_SCALAR, x, 0, 0);
    CLD_AUTO cld_tensor *below = above ? cld_mul_scalar(dy, slope) : NULL;
    return below ? cld_where(above, dy, below) : NULL;
}

static cld_tensor *unary_gradient(const unary_params *p, cld_tensor *dy, cld_tensor *x, cld_tensor *y) {
    double scale = 1;
    switch (p->kind) {
    case CLD_ADD_SCALAR: return cld_tensor_retain(dy);
    case CLD_NEG:
    case CLD_RSUB_SCALAR: return cld_unary_op(CLD_NEG, dy, 0, 0);
    case CLD_MUL_SCALAR: return cld_unary_with(CLD_MUL_SCALAR, dy, p->a, p->b);
    case CLD_RELU: return cld_binary_op(CLD_RELU_BACKWARD, dy, y);
    case CLD_GELU: return cld_binary_op(CLD_GELU_BACKWARD, dy, x);
    case CLD_GELU_TANH: return cld_binary_op(CLD_GELU_TANH_BACKWARD, dy, x);
    case CLD_SILU: return cld_binary_op(CLD_SILU_BACKWARD, dy, x);
    case CLD_LEAKY_RELU: return leaky_gradient(dy, x, p->a.d);
    case CLD_LOG: return divided(dy, x, 1);
    case CLD_SQRT: return divided(dy, y, 0.5);
    case CLD_RDIV_SCALAR: {
        CLD_AUTO cld_tensor *product = cld_mul(dy, y);
        return product ? divided(product, x, -1) : NULL;
    }
    case CLD_SIGN:
    case CLD_FLOOR:
    case CLD_CEIL:
    case CLD_ROUND: return cld_tensor_full(dy->a.dtype, dy->a.ndim, dy->a.shape, cld_device(dy), 0);
    case CLD_CLAMP: {
        CLD_AUTO cld_tensor *zero = cld_tensor_full(dy->a.dtype, 0, NULL, cld_device(dy), 0);
        CLD_AUTO cld_tensor *mask = zero ? within(x, p->a.d, p->b.d) : NULL;
        return mask ? cld_where(mask, dy, zero) : NULL;
    }
    case CLD_POW_SCALAR:
        if (p->a.d == 0) return cld_tensor_full(dy->a.dtype, dy->a.ndim, dy->a.shape, cld_device(dy), 0);
        break;
    default: break;
    }
    CLD_AUTO cld_tensor *slope = unary_slope(p, x, y, &scale);
    CLD_AUTO cld_tensor *dx = slope ? cld_mul(dy, slope) : NULL;
    if (!dx || scale == 1) return cld_tensor_steal(&dx);
    return cld_mul_scalar(dx, scale);
}

static cld_status unary_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *x = NULL, *y = NULL;
    if (cld_node_has(n, 0) && !(x = cld_node_saved(n, 0))) return cld_error_code();
    if (cld_node_has(n, 1) && !(y = cld_node_saved(n, 1))) return cld_error_code();
    din[0] = unary_gradient(cld_node_params(n, unary_params), dout[0], x, y);
    return din[0] ? CLD_OK : cld_error_code();
}

#define RULE(kind, text, f) [CLD_##kind] = {.op = {.name = text, .backward = unary_backward}, .flags = f}
static const unary_rule unary_rules[] = {
    RULE(NEG, "neg", 0),
    RULE(ABS, "abs", SAVE_X),
    RULE(SIGN, "sign", 0),
    RULE(EXP, "exp", SAVE_Y | REAL_ONLY),
    RULE(LOG, "log", SAVE_X | REAL_ONLY),
    RULE(SQRT, "sqrt", SAVE_Y | REAL_ONLY),
    RULE(RSQRT, "rsqrt", SAVE_Y | REAL_ONLY),
    RULE(SQUARE, "square", SAVE_X),
    RULE(RECIPROCAL, "reciprocal", SAVE_Y | REAL_ONLY),
    RULE(SIN, "sin", SAVE_X | REAL_ONLY),
    RULE(COS, "cos", SAVE_X | REAL_ONLY),
    RULE(TANH, "tanh", SAVE_Y | REAL_ONLY),
    RULE(SIGMOID, "sigmoid", SAVE_Y | REAL_ONLY),
    RULE(RELU, "relu", SAVE_Y),
    RULE(FLOOR, "floor", 0),
    RULE(CEIL, "ceil", 0),
    RULE(ROUND, "round", 0),
    RULE(NOT, "logical_not", BOOLEAN),
    RULE(ISNAN, "isnan", BOOLEAN),
    RULE(ISFINITE, "isfinite", BOOLEAN),
    RULE(ADD_SCALAR, "add", 0),
    RULE(MUL_SCALAR, "mul", 0),
    RULE(POW_SCALAR, "pow", SAVE_X),
    RULE(RSUB_SCALAR, "sub", 0),
    RULE(RDIV_SCALAR, "div", SAVE_X | SAVE_Y | REAL_ONLY),
    RULE(CLAMP, "clamp", SAVE_X),
    RULE(GELU, "gelu", SAVE_X | REAL_ONLY),
    RULE(GELU_TANH, "gelu", SAVE_X | REAL_ONLY),
    RULE(SILU, "silu", SAVE_X | REAL_ONLY),
    RULE(SOFTPLUS, "softplus", SAVE_X | REAL_ONLY),
    RULE(LEAKY_RELU, "leaky_relu", SAVE_X | REAL_ONLY),
    RULE(EQ_SCALAR, "eq", BOOLEAN),
    RULE(NE_SCALAR, "ne", BOOLEAN),
    RULE(LT_SCALAR, "lt", BOOLEAN),
    RULE(LE_SCALAR, "le", BOOLEAN),
    RULE(GT_SCALAR, "gt", BOOLEAN),
    RULE(GE_SCALAR, "ge", BOOLEAN),
};

/* Can integers stay integers? A bound that no integer of the dtype reaches is dropped. */
static bool is_whole(cld_unary kind, cld_scalar a, cld_scalar b) {
    if (kind != CLD_CLAMP) return a.is_integer && b.is_integer;
    return (a.is_integer || a.d < -0x1p63) && (b.is_integer || b.d >= 0x1p63);
}

cld_tensor *cld_unary_with(cld_unary kind, cld_tensor *x, cld_scalar a, cld_scalar b) {
    const unary_rule *rule = &unary_rules[kind];
    bool whole = is_whole(kind, a, b);
    if (!cld_dtype_is_float(x->a.dtype)) {
        if (kind == CLD_POW_SCALAR && whole && a.i < 0)
            return cld_fail_null(CLD_INVALID, "pow: %s to the negative power %lld; cast it to a float first",
                                 cld_describe(&x->a), (long long)a.i);
        if ((rule->flags & REAL_ONLY) || !whole) {
            CLD_AUTO cld_tensor *real = cld_tensor_cast(x, CLD_F32);
            return real ? cld_unary_with(kind, real, a, b) : NULL;
        }
    }
    cld_dtype dtype = rule->flags & BOOLEAN ? CLD_U8 : x->a.dtype;
    CLD_AUTO cld_tensor *y = cld_tensor_new(dtype, x->a.ndim, x->a.shape, cld_device(x));
    if (!y) return NULL;
    y->a.layout = x->a.layout;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, unary, kind, &y->a, &x->a, a, b));
    cld_node *n = rule->flags & BOOLEAN ? NULL : cld_record(&rule->op, &y, 1, &x, 1);
    if (n) {
        *cld_node_params(n, unary_params) = (unary_params){kind, a, b};
        if (rule->flags & SAVE_X) cld_node_save(n, 0, x);
        if (rule->flags & SAVE_Y) cld_node_save(n, 1, y);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_isinf(cld_tensor *x) {
    CLD_AUTO cld_tensor *plain = cld_tensor_detach(x);
    CLD_AUTO cld_tensor *size = plain ? cld_unary_op(CLD_ABS, plain, 0, 0) : NULL;
    return size ? cld_binary_scalar(CLD_EQ, size, cld_real(INFINITY), CLD_NUMBER_RIGHT) : NULL;
}
