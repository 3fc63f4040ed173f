/* Writes into an existing tensor. They are not recorded, so a tensor that backward will pass through is refused. A
 * source that shares memory with the target is read with its old values. */
#include "runtime/ops/ops.h"

static cld_status check_elements_apart(const char *op, const cld_tensor *x) {
    bool shared = false;
    for (int i = 0; i < x->a.ndim; i++) shared |= x->a.strides[i] == 0 && x->a.shape[i] > 1;
    if (!shared || x->a.layout == CLD_BLOCKED || cld_numel(&x->a) == 0) return CLD_OK;
    return cld_fail(CLD_INVALID,
                    "%s: several elements of %s share one place in memory; clone() the expanded tensor first",
                    op, cld_describe(&x->a));
}

cld_status cld_check_off_tape(const char *op, const cld_tensor *x) {
    if (!cld_grad_enabled() || !(x->requires_grad || x->node)) return CLD_OK;
    return cld_fail(CLD_INVALID,
                    "%s: cannot write in place to %s, which %s; write y = x op z, or wrap it in cld.no_grad",
                    op, cld_describe(&x->a), x->node ? "backward will pass through" : "requires a gradient");
}

cld_status cld_check_in_place(const char *op, const cld_tensor *x) {
    CLD_TRY(cld_check_off_tape(op, x));
    return check_elements_apart(op, x);
}

static cld_status copy_across(cld_tensor *x, const cld_tensor *y) {
    if (cld_device(x) == cld_device(y)) return cld_tensor_copy(x, y);
    CLD_AUTO cld_tensor *near = cld_tensor_to(y, cld_device(x));
    return near ? cld_tensor_copy(x, near) : cld_error_code();
}

cld_status cld_copy_(const char *op, cld_tensor *x, const cld_tensor *y) {
    CLD_TRY(cld_check_in_place(op, x));
    return copy_across(x, y) == CLD_OK ? CLD_OK : cld_fail_in("%s", op);
}

/* Does y broadcast to x's own shape? */
static bool broadcasts_to(const cld_tensor *y, const cld_tensor *x) {
    cld_shape own = cld_shape_of(&x->a), shape;
    if (cld_broadcast_shapes("in place", &x->a, &y->a, &shape) != CLD_OK || shape.ndim != own.ndim)
        return false;
    for (int i = 0; i < own.ndim; i++)
        if (shape.extents[i] != own.extents[i]) return false;
    return true;
}

/* x = x op y in one pass; y broadcasts to x's shape and is cast to its dtype. */
static cld_status binary_into(cld_binary kind, cld_tensor *x, cld_tensor *y) {
    cld_shape own = cld_shape_of(&x->a);
    CLD_AUTO cld_tensor *same_layout = NULL;
    if (y->a.layout == x->a.layout && y->a.dtype == x->a.dtype && !cld_tensor_overlaps(x, y)) {
        same_layout = cld_tensor_retain(y);
    } else {
        same_layout = cld_tensor_new(x->a.dtype, y->a.ndim, y->a.shape, cld_device(x));
        if (!same_layout) return cld_error_code();
        if (cld_same_shape(&x->a, &y->a)) same_layout->a.layout = x->a.layout;
        CLD_TRY(cld_tensor_copy(same_layout, y));
    }
    const cld_array *term = &same_layout->a;
    cld_array wide = term->layout == CLD_BLOCKED ? *term : cld_broadcast_array(term, &own);
    atomic_fetch_add(&x->storage->version, 1);
    return cld_kernel(cld_device(x), math, binary, kind, &x->a, &x->a, &wide);
}

cld_status cld_add_(cld_tensor *x, cld_tensor *y) {
    CLD_TRY(cld_check_in_place("add_", x));
    CLD_TRY(cld_check_same_device("add_", x, y));
    cld_shape shape;
    CLD_TRY(cld_broadcast_shapes("add_", &x->a, &y->a, &shape));
    if (!broadcasts_to(y, x) || (cld_dtype_is_float(y->a.dtype) && !cld_dtype_is_float(x->a.dtype)))
        return cld_fail(CLD_INVALID, "add_: %s cannot hold the sum with %s", cld_describe(&x->a),
                        cld_describe(&y->a));
    return binary_into(CLD_ADD, x, y);
}

cld_status cld_store_(const char *op, cld_tensor *x, const cld_tensor *y) {
    if (!cld_same_shape(&x->a, &y->a))
        return cld_fail(CLD_INVALID, "%s: the result would be %s and does not fit into %s", op,
                        cld_describe(&y->a), cld_describe(&x->a));
    if (cld_dtype_is_float(y->a.dtype) && !cld_dtype_is_float(x->a.dtype))
        return cld_fail(CLD_INVALID, "%s: the result is %s, which %s cannot hold", op,
                        cld_dtype_name(y->a.dtype), cld_describe(&x->a));
    return cld_tensor_copy(x, y);
}

cld_status cld_binary_(const char *op, cld_binary kind, cld_tensor *x, cld_tensor *y) {
    CLD_TRY(cld_check_in_place(op, x));
    bool direct = cld_device(x) == cld_device(y) && kind <= CLD_MINIMUM && cld_dtype_is_float(x->a.dtype) &&
                  cld_result_dtype(&x->a, &y->a) == x->a.dtype && broadcasts_to(y, x) &&
                  (x->a.layout == CLD_STRIDED || cld_same_shape(&x->a, &y->a));
    if (direct) return binary_into(kind, x, y);
    CLD_AUTO cld_tensor *result = cld_binary_op(kind, x, y);
    return result ? cld_store_(op, x, result) : cld_error_code();
}

cld_status cld_unary_(const char *op, cld_unary kind, cld_tensor *x) {
    CLD_TRY(cld_check_in_place(op, x));
    if (cld_dtype_is_float(x->a.dtype)) {
        atomic_fetch_add(&x->storage->version, 1);
        return cld_kernel(cld_device(x), math, unary, kind, &x->a, &x->a, cld_integer(0), cld_integer(0));
    }
    CLD_AUTO cld_tensor *result = cld_unary_op(kind, x, 0, 0);
    return result ? cld_store_(op, x, result) : cld_error_code();
}
