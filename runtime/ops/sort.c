/* topk and sort: the first k of each line along a dimension, in order, with their positions (i64, 0-based). Equal
 * values keep their order; NaN counts as the largest. */
#include "runtime/ops/ops.h"

typedef struct sort_params {
    int dim;
    cld_shape x;
} sort_params;

/* values[i] = x[index[i]], so dx[index[i]] = dvalues[i] */
static cld_status sort_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const sort_params *p = cld_node_params(n, sort_params);
    CLD_AUTO cld_tensor *index = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *dy = index ? cld_tensor_strided(dout[0]) : NULL;
    CLD_AUTO cld_tensor *dx = dy ? cld_tensor_full(dy->a.dtype, p->x.ndim, p->x.extents, n->device, 0) : NULL;
    if (!dx) return cld_error_code();
    CLD_TRY(cld_kernel(n->device, math, scatter_add, &dx->a, p->dim, &index->a, &dy->a));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op topk_op = {.name = "topk", .backward = sort_backward};
static const cld_op sort_op = {.name = "sort", .backward = sort_backward};

static cld_tensor *first_k(const cld_op *op, cld_tensor **index, cld_tensor *x, int64_t k, int dim,
                           bool descending) {
    cld_shape shape = cld_shape_of(&x->a);
    shape.extents[dim] = k;
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *places =
        strided ? cld_tensor_new(CLD_I64, shape.ndim, shape.extents, cld_device(x)) : NULL;
    CLD_AUTO cld_tensor *values =
        places ? cld_tensor_new(x->a.dtype, shape.ndim, shape.extents, cld_device(x)) : NULL;
    if (!values) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, topk, &values->a, &places->a, &strided->a, dim, descending));
    cld_node *n = cld_record(op, &values, 1, &x, 1);
    if (n) {
        *cld_node_params(n, sort_params) = (sort_params){dim, cld_shape_of(&x->a)};
        cld_node_save(n, 0, places);
    }
    *index = cld_tensor_steal(&places);
    return cld_tensor_steal(&values);
}

/* A 0-d tensor counts as one line of one element. */
static cld_tensor *of_scalar(cld_tensor **index, cld_tensor *x) {
    *index = cld_tensor_full(CLD_I64, 0, NULL, cld_device(x), 0);
    return *index ? cld_mul_scalar(x, 1) : NULL;
}

cld_tensor *cld_topk(cld_tensor **index, cld_tensor *x, int64_t k, int dim, bool largest) {
    *index = NULL;
    CLD_TRY_NULL(cld_check_dim("topk", x, dim, &dim));
    int64_t extent = x->a.ndim ? x->a.shape[dim] : 1;
    if (k < 0 || k > extent)
        return cld_fail_null(CLD_INVALID, "topk: k = %lld, but dimension %d of %s has %lld elements",
                             (long long)k, dim + 1, cld_describe(&x->a), (long long)extent);
    if (x->a.ndim == 0) return of_scalar(index, x);
    return first_k(&topk_op, index, x, k, dim, largest);
}

cld_tensor *cld_sort(cld_tensor **index, cld_tensor *x, int dim, bool descending) {
    *index = NULL;
    CLD_TRY_NULL(cld_check_dim("sort", x, dim, &dim));
    if (x->a.ndim == 0) return of_scalar(index, x);
    return first_k(&sort_op, index, x, x->a.shape[dim], dim, descending);
}
