/* Distances between rows, and whether tensors are close. */
#include <math.h>

#include "runtime/ops/ops.h"

/* ---- cdist --------------------------------------------------------------------------------------------- */

/* How many differences to hold at once: on the host they stay in its caches. */
static int64_t most_differences(const cld_backend *device) {
    return (int64_t)1 << (device == cld_cpu_backend() ? 16 : 24);
}

/* a (batch, n, d), b (batch, m, d), off the tape. Computed from the differences themselves, not as |a|^2 + |b|^2 - 2ab,
 * which is inexact for rows that are close: equal rows have distance 0. */
static cld_tensor *distances(cld_tensor *a, cld_tensor *b, int64_t first, int64_t count) {
    CLD_AUTO cld_tensor *part = cld_narrow(a, 1, first, count);
    CLD_AUTO cld_tensor *rows = part ? cld_unsqueeze(part, 2) : NULL;
    CLD_AUTO cld_tensor *columns = rows ? cld_unsqueeze(b, 1) : NULL;
    CLD_AUTO cld_tensor *apart = columns ? cld_sub(rows, columns) : NULL;
    if (!apart) return NULL;
    CLD_TRY_NULL(cld_unary_("cdist", CLD_SQUARE, apart));
    CLD_AUTO cld_tensor *sums = cld_sum(apart, (int[]){3}, 1, false);
    return sums ? cld_unary_op(CLD_SQRT, sums, 0, 0) : NULL;
}

static cld_status fill_distances(cld_tensor *y, cld_tensor *a, cld_tensor *b) {
    int64_t n = a->a.shape[1], each = a->a.shape[0] * b->a.shape[1] * a->a.shape[2], step = n;
    if (each > 0) step = most_differences(cld_device(a)) / each;
    if (step < 1) step = 1;
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        CLD_AUTO cld_tensor *part = distances(a, b, first, count);
        CLD_AUTO cld_tensor *place = part ? cld_narrow(y, 1, first, count) : NULL;
        CLD_TRY(place ? cld_tensor_copy(place, part) : cld_error_code());
    }
    return CLD_OK;
}

/* g = dy / y, or 0 where y is 0: da_i = sum_j g_ij (a_i - b_j) = a_i sum_j g_ij - (g b)_i */
static cld_tensor *pulled(cld_tensor *g, cld_tensor *a, cld_tensor *b) {
    CLD_AUTO cld_tensor *sums = cld_sum(g, (int[]){2}, 1, true);
    CLD_AUTO cld_tensor *own = sums ? cld_mul(a, sums) : NULL;
    CLD_AUTO cld_tensor *others = own ? cld_matmul(g, b) : NULL;
    return others ? cld_sub(own, others) : NULL;
}

/* Both relative to b's mean: if all rows are far from 0, the two terms of `pulled` would cancel. */
static cld_status center(cld_tensor **a, cld_tensor **b) {
    CLD_AUTO cld_tensor *mean = cld_mean(*b, (int[]){1}, 1, true);
    CLD_AUTO cld_tensor *near_a = mean ? cld_sub(*a, mean) : NULL;
    CLD_AUTO cld_tensor *near_b = near_a ? cld_sub(*b, mean) : NULL;
    if (!near_b) return cld_error_code();
    cld_tensor_free(*a);
    cld_tensor_free(*b);
    *a = cld_tensor_steal(&near_a);
    *b = cld_tensor_steal(&near_b);
    return CLD_OK;
}

static cld_status cdist_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *a = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *b = a ? cld_node_saved(n, 1) : NULL;
    CLD_AUTO cld_tensor *y = b ? cld_node_saved(n, 2) : NULL;
    CLD_AUTO cld_tensor *zero = y ? cld_tensor_full(y->a.dtype, 0, NULL, n->device, 0) : NULL;
    CLD_AUTO cld_tensor *flat = zero ? cld_unary_op(CLD_EQ_SCALAR, y, 0, 0) : NULL;
    CLD_AUTO cld_tensor *slope = flat ? cld_div(dout[0], y) : NULL;
    CLD_AUTO cld_tensor *g = slope ? cld_where(flat, zero, slope) : NULL;
    if (!g) return cld_error_code();
    CLD_TRY(center(&a, &b));
    if (cld_node_needs(n, 0) && !(din[0] = pulled(g, a, b))) return cld_error_code();
    if (!cld_node_needs(n, 1)) return CLD_OK;
    CLD_AUTO cld_tensor *turned = cld_transpose(g, 1, 2);
    din[1] = turned ? pulled(turned, b, a) : NULL;
    return din[1] ? CLD_OK : cld_error_code();
}
static const cld_op cdist_op = {.name = "cdist", .backward = cdist_backward};

static cld_tensor *cdist_batches(cld_tensor *a, cld_tensor *b) {
    int64_t shape[3] = {a->a.shape[0], a->a.shape[1], b->a.shape[1]};
    CLD_AUTO cld_tensor *y = cld_tensor_full(a->a.dtype, 3, shape, cld_device(a), 0);
    CLD_AUTO cld_tensor *left = y ? cld_tensor_detach(a) : NULL;
    CLD_AUTO cld_tensor *right = left ? cld_tensor_detach(b) : NULL;
    if (!right) return NULL;
    CLD_TRY_NULL(fill_distances(y, left, right));
    cld_tensor *inputs[] = {a, b};
    cld_node *n = cld_record(&cdist_op, &y, 1, inputs, 2);
    if (n) {
        cld_node_save(n, 0, a);
        cld_node_save(n, 1, b);
        cld_node_save(n, 2, y);
    }
    return cld_tensor_steal(&y);
}

/* x broadcast to these batch dimensions, as (batch, rows, d). */
static cld_tensor *batched(cld_tensor *x, const cld_shape *batch, int64_t count) {
    cld_shape wide = *batch;
    int64_t flat[3] = {count, x->a.shape[x->a.ndim - 2], x->a.shape[x->a.ndim - 1]};
    wide.extents[wide.ndim++] = flat[1];
    wide.extents[wide.ndim++] = flat[2];
    CLD_AUTO cld_tensor *expanded = cld_expand_for("cdist", x, wide.ndim, wide.extents);
    return expanded ? cld_reshape(expanded, 3, flat) : NULL;
}

static cld_status check_cdist(const cld_tensor *a, const cld_tensor *b) {
    CLD_TRY(cld_check_same_device("cdist", a, b));
    CLD_TRY(cld_check_float("cdist", a));
    CLD_TRY(cld_check_float("cdist", b));
    bool fits = a->a.ndim >= 2 && b->a.ndim >= 2 && a->a.shape[a->a.ndim - 1] == b->a.shape[b->a.ndim - 1];
    if (fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "cdist: expected rows (..., n, d) and (..., m, d), got %s and %s",
                    cld_describe(&a->a), cld_describe(&b->a));
}

cld_tensor *cld_cdist(cld_tensor *a, cld_tensor *b) {
    CLD_TRY_NULL(check_cdist(a, b));
    cld_array batch_a = a->a, batch_b = b->a;
    cld_shape shape;
    int64_t count = 1;
    batch_a.ndim -= 2;
    batch_b.ndim -= 2;
    CLD_TRY_NULL(cld_broadcast_shapes("cdist", &batch_a, &batch_b, &shape));
    for (int i = 0; i < shape.ndim; i++) count *= shape.extents[i];
    cld_dtype dtype = cld_result_dtype(&a->a, &b->a), wide = cld_dtype_is_half(dtype) ? CLD_F32 : dtype;
    CLD_AUTO cld_tensor *left = cld_cast(a, wide);
    CLD_AUTO cld_tensor *right = left ? cld_cast(b, wide) : NULL;
    CLD_AUTO cld_tensor *x0 = right ? batched(left, &shape, count) : NULL;
    CLD_AUTO cld_tensor *x1 = x0 ? batched(right, &shape, count) : NULL;
    CLD_AUTO cld_tensor *y = x1 ? cdist_batches(x0, x1) : NULL;
    if (!y) return NULL;
    shape.extents[shape.ndim++] = y->a.shape[1];
    shape.extents[shape.ndim++] = y->a.shape[2];
    CLD_AUTO cld_tensor *shaped = cld_reshape(y, shape.ndim, shape.extents);
    return shaped ? cld_cast(shaped, dtype) : NULL;
}

/* ---- isclose ------------------------------------------------------------------------------------------- */

static cld_tensor *within(cld_tensor *a, cld_tensor *b, double rtol, double atol) {
    CLD_AUTO cld_tensor *apart = cld_sub(a, b);
    CLD_AUTO cld_tensor *error = apart ? cld_unary_op(CLD_ABS, apart, 0, 0) : NULL;
    CLD_AUTO cld_tensor *size = error ? cld_unary_op(CLD_ABS, b, 0, 0) : NULL;
    CLD_AUTO cld_tensor *relative = size ? cld_mul_scalar(size, rtol) : NULL;
    CLD_AUTO cld_tensor *allowed = relative ? cld_add_scalar(relative, atol) : NULL;
    CLD_AUTO cld_tensor *small = allowed ? cld_binary_op(CLD_LE, error, allowed) : NULL;
    CLD_AUTO cld_tensor *finite = small ? cld_unary_op(CLD_ISFINITE, apart, 0, 0) : NULL;
    return finite ? cld_binary_op(CLD_AND, small, finite) : NULL;
}

static cld_tensor *both_nan(cld_tensor *a, cld_tensor *b) {
    CLD_AUTO cld_tensor *left = cld_unary_op(CLD_ISNAN, a, 0, 0);
    CLD_AUTO cld_tensor *right = left ? cld_unary_op(CLD_ISNAN, b, 0, 0) : NULL;
    return right ? cld_binary_op(CLD_AND, left, right) : NULL;
}

cld_tensor *cld_isclose(cld_tensor *a, cld_tensor *b, double rtol, double atol, bool equal_nan) {
    if (!(rtol >= 0) || !(atol >= 0))
        return cld_fail_null(CLD_INVALID, "allclose: rtol is %g and atol %g; neither may be negative", rtol,
                             atol);
    CLD_TRY_NULL(cld_check_same_device("allclose", a, b));
    /* For integers the difference is in f64, so that nothing wraps around. */
    cld_dtype dtype = cld_result_dtype(&a->a, &b->a) == CLD_F32 ? CLD_F32 : CLD_F64;
    CLD_AUTO cld_tensor *plain_a = cld_tensor_detach(a);
    CLD_AUTO cld_tensor *plain_b = plain_a ? cld_tensor_detach(b) : NULL;
    CLD_AUTO cld_tensor *x = plain_b ? cld_cast(plain_a, dtype) : NULL;
    CLD_AUTO cld_tensor *y = x ? cld_cast(plain_b, dtype) : NULL;
    CLD_AUTO cld_tensor *near = y ? within(x, y, rtol, atol) : NULL;
    CLD_AUTO cld_tensor *equal = near ? cld_binary_op(CLD_EQ, plain_a, plain_b) : NULL;
    CLD_AUTO cld_tensor *close = equal ? cld_binary_op(CLD_OR, near, equal) : NULL;
    if (!close || !equal_nan) return cld_tensor_steal(&close);
    CLD_AUTO cld_tensor *nan = both_nan(x, y);
    return nan ? cld_binary_op(CLD_OR, close, nan) : NULL;
}
