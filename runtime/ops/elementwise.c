/* Binary operations and where. They keep the device's own layout if all their inputs have it, so that the adds and
 * relus between convolutions need no reordering. */
#include "runtime/ops/ops.h"

/* ---- binary -------------------------------------------------------------------------------------------- */

typedef struct binary_params {
    cld_binary kind;
    cld_shape a, b; /* before broadcasting */
} binary_params;

/* Half of dy where the inputs are equal, none where `loses` (LT or GT) holds between mine and other, else all. */
static cld_tensor *winner_share(cld_binary loses, cld_tensor *dy, cld_tensor *mine, cld_tensor *other) {
    CLD_AUTO cld_tensor *lost = cld_binary_op(loses, mine, other);
    CLD_AUTO cld_tensor *tied = lost ? cld_binary_op(CLD_EQ, mine, other) : NULL;
    CLD_AUTO cld_tensor *half = tied ? cld_mul_scalar(tied, 0.5) : NULL;
    CLD_AUTO cld_tensor *withheld = half ? cld_add(lost, half) : NULL;
    CLD_AUTO cld_tensor *share = withheld ? cld_unary_op(CLD_RSUB_SCALAR, withheld, 1, 0) : NULL;
    CLD_AUTO cld_tensor *factor = share ? cld_cast(share, dy->a.dtype) : NULL;
    return factor ? cld_mul(dy, factor) : NULL;
}

/* y = a^b: da = dy b a^(b-1) */
static cld_tensor *pow_base_gradient(cld_tensor *dy, cld_tensor *a, cld_tensor *b) {
    CLD_AUTO cld_tensor *less = cld_add_scalar(b, -1);
    CLD_AUTO cld_tensor *power = less ? cld_binary_op(CLD_POW, a, less) : NULL;
    CLD_AUTO cld_tensor *slope = power ? cld_mul(b, power) : NULL;
    CLD_AUTO cld_tensor *zero = slope ? cld_tensor_full(slope->a.dtype, 0, NULL, cld_device(dy), 0) : NULL;
    CLD_AUTO cld_tensor *constant = zero ? cld_unary_op(CLD_EQ_SCALAR, b, 0, 0) : NULL;
    CLD_AUTO cld_tensor *safe = constant ? cld_where(constant, zero, slope) : NULL; /* x^0: 0 even at x = 0 */
    return safe ? cld_mul(dy, safe) : NULL;
}

/* y = a^b: db = dy y log(a), 0 where a = 0 and b >= 0 */
static cld_tensor *pow_exponent_gradient(cld_tensor *dy, cld_tensor *a, cld_tensor *b) {
    CLD_AUTO cld_tensor *y = cld_binary_op(CLD_POW, a, b);
    CLD_AUTO cld_tensor *log = y ? cld_unary_op(CLD_LOG, a, 0, 0) : NULL;
    CLD_AUTO cld_tensor *slope = log ? cld_mul(y, log) : NULL;
    CLD_AUTO cld_tensor *zero = slope ? cld_tensor_full(slope->a.dtype, 0, NULL, cld_device(dy), 0) : NULL;
    CLD_AUTO cld_tensor *base_zero = zero ? cld_unary_op(CLD_EQ_SCALAR, a, 0, 0) : NULL;
    CLD_AUTO cld_tensor *power_ok = base_zero ? cld_unary_op(CLD_GE_SCALAR, b, 0, 0) : NULL;
    CLD_AUTO cld_tensor *flat = power_ok ? cld_binary_op(CLD_AND, base_zero, power_ok) : NULL;
    CLD_AUTO cld_tensor *safe = flat ? cld_where(flat, zero, slope) : NULL;
    return safe ? cld_mul(dy, safe) : NULL;
}

static cld_tensor *gradient_of_a(cld_binary kind, cld_tensor *dy, cld_tensor *a, cld_tensor *b) {
    switch (kind) {
    case CLD_ADD:
    case CLD_SUB: return cld_tensor_retain(dy);
    case CLD_MUL: return cld_mul(dy, b);
    case CLD_DIV: return cld_div(dy, b);
    case CLD_POW: return pow_base_gradient(dy, a, b);
    case CLD_MAXIMUM: return winner_share(CLD_LT, dy, a, b);
    case CLD_MINIMUM: return winner_share(CLD_GT, dy, a, b);
    case CLD_FLOOR_DIVIDE: return cld_tensor_full(dy->a.dtype, dy->a.ndim, dy->a.shape, cld_device(dy), 0);
    case CLD_REMAINDER: return cld_tensor_retain(dy);
    default: return cld_binary_op(CLD_RELU_BACKWARD, dy, b);
    }
}

static cld_tensor *gradient_of_b(cld_binary kind, cld_tensor *dy, cld_tensor *a, cld_tensor *b) {
    switch (kind) {
    case CLD_ADD: return cld_tensor_retain(dy);
    case CLD_SUB: return cld_unary_op(CLD_NEG, dy, 0, 0);
    case CLD_MUL: return cld_mul(dy, a);
    case CLD_DIV: { /* y = a / b: db = -dy a / b^2 */
        CLD_AUTO cld_tensor *ratio = cld_div(a, b);
        CLD_AUTO cld_tensor *slope = ratio ? cld_div(ratio, b) : NULL;
        CLD_AUTO cld_tensor *db = slope ? cld_mul(dy, slope) : NULL;
        return db ? cld_unary_op(CLD_NEG, db, 0, 0) : NULL;
    }
    case CLD_POW: return pow_exponent_gradient(dy, a, b);
    case CLD_MAXIMUM: return winner_share(CLD_LT, dy, b, a);
    case CLD_MINIMUM: return winner_share(CLD_GT, dy, b, a);
    case CLD_REMAINDER: { /* y = a - b floor(a / b): db = -dy floor(a / b) */
        CLD_AUTO cld_tensor *times = cld_binary_op(CLD_FLOOR_DIVIDE, a, b);
        CLD_AUTO cld_tensor *db = times ? cld_mul(dy, times) : NULL;
        return db ? cld_unary_op(CLD_NEG, db, 0, 0) : NULL;
    }
    default: return cld_tensor_full(b->a.dtype, b->a.ndim, b->a.shape, cld_device(b), 0);
    }
}

static cld_status binary_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const binary_params *p = cld_node_params(n, binary_params);
    CLD_AUTO cld_tensor *a = NULL, *b = NULL;
    if (cld_node_has(n, 0) && !(a = cld_node_saved(n, 0))) return cld_error_code();
    if (cld_node_has(n, 1) && !(b = cld_node_saved(n, 1))) return cld_error_code();
    for (int i = 0; i < 2; i++) {
        if (!cld_node_needs(n, i)) continue;
        CLD_AUTO cld_tensor *wide = (i == 0 ? gradient_of_a : gradient_of_b)(p->kind, dout[0], a, b);
        din[i] = wide ? cld_sum_to(wide, i == 0 ? &p->a : &p->b) : NULL;
        if (!din[i]) return cld_error_code();
    }
    return CLD_OK;
}

#define BINARY(kind, text) [CLD_##kind] = {.name = text, .backward = binary_backward}
static const cld_op binary_ops[] = {
    BINARY(ADD, "add"),
    BINARY(SUB, "sub"),
    BINARY(MUL, "mul"),
    BINARY(DIV, "div"),
    BINARY(POW, "pow"),
    BINARY(MAXIMUM, "maximum"),
    BINARY(MINIMUM, "minimum"),
    BINARY(EQ, "eq"),
    BINARY(NE, "ne"),
    BINARY(LT, "lt"),
    BINARY(LE, "le"),
    BINARY(GT, "gt"),
    BINARY(GE, "ge"),
    BINARY(AND, "logical_and"),
    BINARY(OR, "logical_or"),
    BINARY(RELU_BACKWARD, "relu_backward"),
    BINARY(GELU_BACKWARD, "gelu_backward"),
    BINARY(GELU_TANH_BACKWARD, "gelu_backward"),
    BINARY(SILU_BACKWARD, "silu_backward"),
    BINARY(FLOOR_DIVIDE, "floor_divide"),
    BINARY(REMAINDER, "remainder"),
};

const char *cld_binary_name(cld_binary kind) { return binary_ops[kind].name; }

static bool is_comparison(cld_binary kind) { return kind >= CLD_EQ && kind <= CLD_OR; }

static void save_for_binary(cld_node *n, cld_binary kind, cld_tensor *a, cld_tensor *b) {
    if (kind == CLD_ADD || kind == CLD_SUB) return;
    bool product = kind == CLD_MUL;
    if (!product || cld_node_needs(n, 1)) cld_node_save(n, 0, a);
    if (!product || cld_node_needs(n, 0)) cld_node_save(n, 1, b);
}

/* Inputs may stay in the device's own layout if each has the output's whole shape, or is a single number. */
static bool stays_blocked(const cld_tensor *const *inputs, int count, const cld_shape *shape) {
    bool some = false;
    for (int i = 0; i < count; i++) {
        const cld_array *x = &inputs[i]->a;
        bool same = x->layout == CLD_BLOCKED && shape->ndim == 4;
        for (int d = 0; same && d < 4; d++) same = x->shape[d] == shape->extents[d];
        if (!same && (x->layout == CLD_BLOCKED || cld_numel(x) != 1)) return false;
        some |= same;
    }
    return some;
}

/* x in a layout that the kernel can read: unchanged, or row-major. */
static cld_tensor *in_layout(cld_tensor *x, bool blocked) {
    return blocked ? cld_tensor_retain(x) : cld_tensor_strided(x);
}

static cld_array as_shape(const cld_tensor *x, const cld_shape *shape) {
    return x->a.layout == CLD_BLOCKED ? x->a : cld_broadcast_array(&x->a, shape);
}

static cld_tensor *new_output(cld_dtype dtype, const cld_shape *shape, bool blocked,
                              const cld_backend *device) {
    cld_tensor *y = cld_tensor_new(dtype, shape->ndim, shape->extents, device);
    if (y && blocked) y->a.layout = CLD_BLOCKED;
    return y;
}

/* Both already have the same dtype. */
static cld_tensor *binary_promoted(cld_binary kind, cld_tensor *a, cld_tensor *b) {
    cld_tensor *inputs[] = {a, b};
    cld_shape shape;
    CLD_TRY_NULL(cld_broadcast_shapes(binary_ops[kind].name, &a->a, &b->a, &shape));
    bool blocked = stays_blocked((const cld_tensor *const *)inputs, 2, &shape);
    cld_dtype dtype = is_comparison(kind) ? CLD_U8 : a->a.dtype;
    CLD_AUTO cld_tensor *left = in_layout(a, blocked);
    CLD_AUTO cld_tensor *right = left ? in_layout(b, blocked) : NULL;
    CLD_AUTO cld_tensor *y = right ? new_output(dtype, &shape, blocked, cld_device(a)) : NULL;
    if (!y) return NULL;
    cld_array x0 = as_shape(left, &shape), x1 = as_shape(right, &shape);
    CLD_TRY_NULL(cld_kernel(cld_device(a), math, binary, kind, &y->a, &x0, &x1));
    cld_node *n = is_comparison(kind) ? NULL : cld_record(&binary_ops[kind], &y, 1, inputs, 2);
    if (n) {
        *cld_node_params(n, binary_params) = (binary_params){kind, cld_shape_of(&a->a), cld_shape_of(&b->a)};
        save_for_binary(n, kind, a, b);
    }
    return cld_tensor_steal(&y);
}

/* Integers have no infinity: an integer division by 0 is an error. A device that would have to be waited for reports it
 * itself. */
static cld_status check_divisor(cld_binary kind, cld_dtype dtype, cld_tensor *b) {
    if (cld_dtype_is_float(dtype) || cld_device(b) != cld_cpu_backend()) return CLD_OK;
    double all = 0;
    CLD_AUTO cld_tensor *none_zero = cld_all(b, NULL, 0, false);
    if (!none_zero) return cld_error_code();
    CLD_TRY(cld_tensor_item(none_zero, &all));
    if (all) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the integer divisor %s contains a 0", binary_ops[kind].name,
                    cld_describe(&b->a));
}

cld_tensor *cld_binary_op(cld_binary kind, cld_tensor *a, cld_tensor *b) {
    CLD_TRY_NULL(cld_check_same_device(binary_ops[kind].name, a, b));
    cld_dtype dtype = cld_result_dtype(&a->a, &b->a);
    if (kind == CLD_DIV && !cld_dtype_is_float(dtype)) dtype = CLD_F32;
    if (kind == CLD_FLOOR_DIVIDE || kind == CLD_REMAINDER) CLD_TRY_NULL(check_divisor(kind, dtype, b));
    CLD_AUTO cld_tensor *x = cld_cast(a, dtype);
    CLD_AUTO cld_tensor *y = x ? cld_cast(b, dtype) : NULL;
    return y ? binary_promoted(kind, x, y) : NULL;
}

/* ---- where --------------------------------------------------------------------------------------------- */

typedef struct where_params {
    cld_shape a, b;
} where_params;

static cld_status where_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const where_params *p = cld_node_params(n, where_params);
    CLD_AUTO cld_tensor *condition = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *zero = condition ? cld_tensor_full(dout[0]->a.dtype, 0, NULL, n->device, 0) : NULL;
    if (!zero) return cld_error_code();
    for (int i = 0; i < 2; i++) { /* y = c ? a : b, so da = c ? dy : 0, db = c ? 0 : dy */
        if (!cld_node_needs(n, i)) continue;
        CLD_AUTO cld_tensor *wide =
            i == 0 ? cld_where(condition, dout[0], zero) : cld_where(condition, zero, dout[0]);
        din[i] = wide ? cld_sum_to(wide, i == 0 ? &p->a : &p->b) : NULL;
        if (!din[i]) return cld_error_code();
    }
    return CLD_OK;
}
static const cld_op where_op = {.name = "where", .backward = where_backward};

static cld_tensor *where_promoted(cld_tensor *condition, cld_tensor *a, cld_tensor *b) {
    cld_tensor *inputs[] = {condition, a, b};
    cld_shape values, shape;
    CLD_TRY_NULL(cld_broadcast_shapes("where", &a->a, &b->a, &values));
    cld_array wide = cld_broadcast_array(&a->a, &values);
    CLD_TRY_NULL(cld_broadcast_shapes("where", &condition->a, &wide, &shape));
    bool blocked = stays_blocked((const cld_tensor *const *)inputs, 3, &shape);
    CLD_AUTO cld_tensor *mask = in_layout(condition, blocked);
    CLD_AUTO cld_tensor *left = mask ? in_layout(a, blocked) : NULL;
    CLD_AUTO cld_tensor *right = left ? in_layout(b, blocked) : NULL;
    CLD_AUTO cld_tensor *y = right ? new_output(a->a.dtype, &shape, blocked, cld_device(a)) : NULL;
    if (!y) return NULL;
    cld_array c = as_shape(mask, &shape), x0 = as_shape(left, &shape), x1 = as_shape(right, &shape);
    CLD_TRY_NULL(cld_kernel(cld_device(a), math, where, &y->a, &c, &x0, &x1));
    cld_node *n = cld_record(&where_op, &y, 1, inputs + 1, 2);
    if (n) {
        *cld_node_params(n, where_params) = (where_params){cld_shape_of(&a->a), cld_shape_of(&b->a)};
        cld_node_save(n, 0, condition);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_where(cld_tensor *condition, cld_tensor *a, cld_tensor *b) {
    CLD_TRY_NULL(cld_check_mask("where", condition));
    CLD_TRY_NULL(cld_check_same_device("where", condition, a));
    CLD_TRY_NULL(cld_check_same_device("where", a, b));
    cld_dtype dtype = cld_result_dtype(&a->a, &b->a);
    CLD_AUTO cld_tensor *x = cld_cast(a, dtype);
    CLD_AUTO cld_tensor *y = x ? cld_cast(b, dtype) : NULL;
    return y ? where_promoted(condition, x, y) : NULL;
}
