/* Lines to unit length. The kernel takes rows; another dimension is moved last around it, and the result is row-major
 * again. A zero line stays zero and gets no gradient. (PyTorch divides by max(|x|, eps), which is the same except for
 * lines shorter than eps.) */
#include "runtime/ops/ops.h"

#include <math.h>

/* y = x / |x|: dx = (dy - y (y . dy)) / |x| */
static cld_status normalize_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *y = cld_node_saved(n, 0);                /* (rows, dim) */
    CLD_AUTO cld_tensor *norms = y ? cld_node_saved(n, 1) : NULL; /* (rows) */
    CLD_AUTO cld_tensor *dy = norms ? cld_tensor_strided(dout[0]) : NULL;
    CLD_AUTO cld_tensor *dx = dy ? cld_tensor_new_like(y) : NULL;
    if (!dx) return cld_error_code();
    CLD_TRY(cld_kernel(n->device, math, normalize_backward, &dx->a, &y->a, &norms->a, &dy->a));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op normalize_op = {.name = "normalize", .backward = normalize_backward};

static cld_tensor *normalize_rows(cld_tensor *x) {
    const cld_backend *device = cld_device(x);
    cld_dtype wide = x->a.dtype == CLD_F64 ? CLD_F64 : CLD_F32;
    CLD_AUTO cld_tensor *norms = cld_tensor_new(wide, 1, x->a.shape, device);
    CLD_AUTO cld_tensor *y = norms ? cld_tensor_new(x->a.dtype, 2, x->a.shape, device) : NULL;
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(device, math, normalize, &y->a, &norms->a, &x->a));
    cld_node *n = cld_record(&normalize_op, &y, 1, &x, 1);
    if (n) {
        cld_node_save(n, 0, y);
        cld_node_save(n, 1, norms);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_normalize(cld_tensor *given, int dim) {
    CLD_TRY_NULL(cld_check_float("normalize", given));
    CLD_AUTO cld_tensor *x = cld_unrounded(given);
    if (!x) return NULL;
    CLD_TRY_NULL(cld_check_dim("normalize", x, dim, &dim));
    if (x->a.ndim == 2 && dim == 1) return normalize_rows(x);
    int last = x->a.ndim - 1;
    int64_t length = x->a.ndim ? x->a.shape[dim] : 1;
    int64_t rows = length ? cld_numel(&x->a) / length : 0;
    CLD_AUTO cld_tensor *moved = x->a.ndim ? cld_transpose(x, dim, last) : cld_tensor_retain(x);
    CLD_AUTO cld_tensor *flat = moved ? cld_reshape(moved, 2, (int64_t[]){rows, length}) : NULL;
    CLD_AUTO cld_tensor *unit = flat ? normalize_rows(flat) : NULL;
    CLD_AUTO cld_tensor *shaped = unit ? cld_reshape(unit, x->a.ndim, moved->a.shape) : NULL;
    if (!shaped || x->a.ndim == 0) return cld_tensor_steal(&shaped);
    CLD_AUTO cld_tensor *back = cld_transpose(shaped, dim, last);
    return back ? cld_contiguous(back) : NULL;
}

/* x / max(|x|, eps), lines along dim. */
static cld_tensor *to_unit(cld_tensor *x, int dim, double eps) {
    CLD_AUTO cld_tensor *norm = cld_norm(x, 2, &dim, 1, true);
    CLD_AUTO cld_tensor *least = norm ? cld_unary_op(CLD_CLAMP, norm, eps, INFINITY) : NULL;
    return least ? cld_div(x, least) : NULL;
}

cld_tensor *cld_cosine_similarity(cld_tensor *a, cld_tensor *b, int dim, double eps) {
    const char *op = "cosine_similarity";
    cld_shape shape;
    CLD_TRY_NULL(cld_check_float(op, a));
    CLD_TRY_NULL(cld_check_float(op, b));
    CLD_TRY_NULL(cld_check_same_device(op, a, b));
    CLD_TRY_NULL(cld_broadcast_shapes(op, &a->a, &b->a, &shape));
    if (!(eps >= 0)) return cld_fail_null(CLD_INVALID, "%s: eps must not be negative, got %g", op, eps);
    CLD_AUTO cld_tensor *x = cld_unrounded(a), *y = x ? cld_unrounded(b) : NULL;
    CLD_AUTO cld_tensor *wide_x = y ? cld_expand_for(op, x, shape.ndim, shape.extents) : NULL;
    CLD_AUTO cld_tensor *wide_y = wide_x ? cld_expand_for(op, y, shape.ndim, shape.extents) : NULL;
    if (!wide_y) return NULL;
    CLD_TRY_NULL(cld_check_dim(op, wide_x, dim, &dim));
    CLD_AUTO cld_tensor *unit_x = to_unit(wide_x, dim, eps);
    CLD_AUTO cld_tensor *unit_y = unit_x ? to_unit(wide_y, dim, eps) : NULL;
    CLD_AUTO cld_tensor *product = unit_y ? cld_mul(unit_x, unit_y) : NULL;
    return product ? cld_sum(product, &dim, 1, false) : NULL;
}
