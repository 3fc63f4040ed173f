/* Lines to unit length. The kernel takes rows; another dimension is moved last around it, and the result is
 * row-major again. A zero line stays zero and gets no gradient (PyTorch divides by a small eps instead, which is
 * the same but for lines shorter than it). */
#include "runtime/ops/ops.h"

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
