/* Elements in another order, repeated, or kept only on one side of a diagonal. All are composed of other ops, which
 * provide the gradients. */
#include <stdlib.h>

#include "runtime/ops/ops.h"
#include "runtime/tensor/create.h"

/* ---- tile ---------------------------------------------------------------------------------------------- */

/* x several times along dim. */
static cld_tensor *repeat_along(cld_tensor *x, int dim, int64_t times) {
    if (times == 0) return cld_narrow(x, dim, 0, 0);
    cld_tensor **copies = times <= INT32_MAX ? malloc((size_t)times * sizeof *copies) : NULL;
    if (!copies) return cld_fail_null(CLD_NOMEM, "tile: out of memory");
    for (int64_t i = 0; i < times; i++) copies[i] = x;
    cld_tensor *y = cld_cat(copies, (int)times, dim);
    free(copies);
    return y;
}

cld_tensor *cld_tile(cld_tensor *x, int count, const int64_t *times) {
    cld_shape shape = {.ndim = count > x->a.ndim ? count : x->a.ndim};
    CLD_AUTO cld_tensor *y = NULL;
    for (int d = 0; d < shape.ndim; d++) {
        int own = d - (shape.ndim - x->a.ndim);
        shape.extents[d] = own < 0 ? 1 : x->a.shape[own];
    }
    y = cld_reshape(x, shape.ndim, shape.extents);
    for (int i = 0; y && i < count; i++) {
        int dim = shape.ndim - count + i;
        if (times[i] < 0)
            return cld_fail_null(CLD_INVALID, "tile: dimension %d of %s cannot be repeated %lld times",
                                 dim + 1, cld_describe(&y->a), (long long)times[i]);
        if (times[i] == 1) continue;
        cld_tensor *longer = repeat_along(y, dim, times[i]);
        cld_tensor_free(y);
        y = longer;
    }
    return y ? cld_contiguous(y) : NULL;
}

/* ---- flip, roll ---------------------------------------------------------------------------------------- */

/* x read along dim from start, in steps of 1 or -1, wrapping around. */
static cld_tensor *read_around(cld_tensor *x, int dim, int64_t start, int step) {
    int64_t extent = x->a.shape[dim];
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_I64, 1, &extent, cld_cpu_backend());
    if (!host) return NULL;
    int64_t *places = host->a.data, at = start;
    for (int64_t i = 0; i < extent; i++) {
        places[i] = at;
        at += step;
        if (at < 0) at += extent;
        if (at >= extent) at -= extent;
    }
    CLD_AUTO cld_tensor *index = cld_tensor_to(host, cld_device(x));
    return index ? cld_index_select(x, dim, index) : NULL;
}

static cld_tensor *flip_one(cld_tensor *x, int dim) {
    CLD_TRY_NULL(cld_check_dim("flip", x, dim, &dim));
    if (x->a.ndim == 0) return cld_clone(x);
    return read_around(x, dim, x->a.shape[dim] - 1, -1);
}

cld_tensor *cld_flip(cld_tensor *x, const int *dims, int ndims) {
    CLD_AUTO cld_tensor *y = cld_tensor_retain(x);
    for (int i = 0; y && i < ndims; i++) {
        cld_tensor *next = flip_one(y, dims[i]);
        cld_tensor_free(y);
        y = next;
    }
    return cld_tensor_steal(&y);
}

static cld_tensor *roll_one(cld_tensor *x, int64_t shift, int dim) {
    CLD_TRY_NULL(cld_check_dim("roll", x, dim, &dim));
    if (x->a.ndim == 0 || x->a.shape[dim] == 0) return cld_clone(x);
    int64_t extent = x->a.shape[dim], first = -(shift % extent) % extent;
    return read_around(x, dim, first < 0 ? first + extent : first, 1);
}

cld_tensor *cld_roll(cld_tensor *x, const int64_t *shifts, const int *dims, int ndims) {
    if (ndims == 0) {
        CLD_AUTO cld_tensor *line = cld_flatten(x, 0, -1);
        CLD_AUTO cld_tensor *rolled = line ? roll_one(line, shifts[0], 0) : NULL;
        return rolled ? cld_reshape(rolled, x->a.ndim, x->a.shape) : NULL;
    }
    CLD_AUTO cld_tensor *y = cld_tensor_retain(x);
    for (int i = 0; y && i < ndims; i++) {
        cld_tensor *next = roll_one(y, shifts[i], dims[i]);
        cld_tensor_free(y);
        y = next;
    }
    return cld_tensor_steal(&y);
}

/* ---- triangles ----------------------------------------------------------------------------------------- */

/* column - row of every element of x's last two dimensions. */
static cld_tensor *diagonal_number(const char *op, const cld_tensor *x) {
    if (x->a.ndim < 2)
        return cld_fail_null(CLD_INVALID, "%s: expected at least two dimensions, got %s", op,
                             cld_describe(&x->a));
    int64_t rows = x->a.shape[x->a.ndim - 2], columns = x->a.shape[x->a.ndim - 1];
    CLD_AUTO cld_tensor *row = cld_tensor_range(CLD_I64, rows, cld_device(x));
    CLD_AUTO cld_tensor *column = row ? cld_tensor_range(CLD_I64, columns, cld_device(x)) : NULL;
    CLD_AUTO cld_tensor *down = column ? cld_unsqueeze(row, 1) : NULL;
    return down ? cld_sub(column, down) : NULL;
}

static cld_tensor *triangle(const char *op, cld_tensor *x, cld_unary keep, int64_t diagonal) {
    CLD_AUTO cld_tensor *number = diagonal_number(op, x);
    CLD_AUTO cld_tensor *kept =
        number ? cld_unary_with(keep, number, cld_integer(diagonal), cld_integer(0)) : NULL;
    CLD_AUTO cld_tensor *zero = kept ? cld_tensor_full(x->a.dtype, 0, NULL, cld_device(x), 0) : NULL;
    return zero ? cld_where(kept, x, zero) : NULL;
}

cld_tensor *cld_tril(cld_tensor *x, int64_t diagonal) { return triangle("tril", x, CLD_LE_SCALAR, diagonal); }
cld_tensor *cld_triu(cld_tensor *x, int64_t diagonal) { return triangle("triu", x, CLD_GE_SCALAR, diagonal); }

/* ---- one-hot ------------------------------------------------------------------------------------------- */

cld_tensor *cld_one_hot(cld_tensor *labels, int64_t classes) {
    CLD_TRY_NULL(cld_check_index("one_hot", labels));
    double low = 0, high = -1;
    if (cld_numel(&labels->a) > 0) {
        CLD_AUTO cld_tensor *least = cld_amin(labels, NULL, 0, false);
        CLD_AUTO cld_tensor *most = least ? cld_amax(labels, NULL, 0, false) : NULL;
        if (!most) return NULL;
        CLD_TRY_NULL(cld_tensor_item(least, &low));
        CLD_TRY_NULL(cld_tensor_item(most, &high));
    }
    if (classes == 0) classes = (int64_t)high + 1;
    if (low < 0 || high >= (double)classes)
        return cld_fail_null(CLD_INVALID, "one_hot: labels of %s are from %.0f to %.0f; expected 0 to %lld",
                             cld_describe(&labels->a), low, high, (long long)classes - 1);
    CLD_AUTO cld_tensor *class = cld_tensor_range(CLD_I64, classes, cld_device(labels));
    CLD_AUTO cld_tensor *label = class ? cld_unsqueeze(labels, -1) : NULL;
    CLD_AUTO cld_tensor *hit = label ? cld_binary_op(CLD_EQ, label, class) : NULL;
    return hit ? cld_cast(hit, CLD_I64) : NULL;
}
