/* Cumulative sums. */
#include "runtime/ops/ops.h"

static cld_tensor *cumsum_of(cld_tensor *x, int dim, bool reverse) {
    cld_dtype dtype = cld_dtype_is_float(x->a.dtype) ? x->a.dtype : CLD_I64;
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *y = strided ? cld_tensor_new(dtype, x->a.ndim, x->a.shape, cld_device(x)) : NULL;
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, cumsum, &y->a, &strided->a, dim, reverse));
    return cld_tensor_steal(&y);
}

/* y_i = sum of x_j, j <= i, so dx_j = sum of dy_i, i >= j */
static cld_status cumsum_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    din[0] = cumsum_of(dout[0], *cld_node_params(n, int), true);
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op cumsum_op = {.name = "cumsum", .backward = cumsum_backward};

cld_tensor *cld_cumsum(cld_tensor *x, int dim) {
    CLD_TRY_NULL(cld_check_dim("cumsum", x, dim, &dim));
    if (x->a.ndim == 0) return cld_clone(x);
    CLD_AUTO cld_tensor *y = cumsum_of(x, dim, false);
    if (!y) return NULL;
    cld_node *n = cld_record(&cumsum_op, &y, 1, &x, 1);
    if (n) *cld_node_params(n, int) = dim;
    return cld_tensor_steal(&y);
}
