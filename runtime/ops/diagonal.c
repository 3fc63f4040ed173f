/* The diagonals of matrices, as views, and the matrix that has a given diagonal. */
#include "runtime/ops/ops.h"
#include "runtime/tensor/create.h"

typedef struct diagonal_params {
    cld_shape shape; /* x's */
    int64_t offset;
    int rows, columns; /* dimensions of x */
} diagonal_params;

/* The elements (i, i + offset) of the two dimensions, as the last dimension; off the tape. */
static cld_tensor *view_of(const cld_tensor *x, int64_t offset, int rows, int columns) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS], first = 0;
    int64_t down = x->a.shape[rows] + (offset < 0 ? offset : 0);
    int64_t right = x->a.shape[columns] - (offset > 0 ? offset : 0), length = down < right ? down : right;
    int ndim = 0;
    for (int d = 0; d < x->a.ndim; d++) {
        if (d == rows || d == columns) continue;
        shape[ndim] = x->a.shape[d];
        strides[ndim++] = x->a.strides[d];
    }
    shape[ndim] = length > 0 ? length : 0;
    strides[ndim++] = x->a.strides[rows] + x->a.strides[columns];
    if (length > 0) first = offset < 0 ? -offset * x->a.strides[rows] : offset * x->a.strides[columns];
    return cld_tensor_view(x, ndim, shape, strides,
                           (char *)x->a.data + first * (int64_t)cld_dtype_size(x->a.dtype));
}

/* dx is zero except on the diagonal that y showed. */
static cld_status diagonal_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const diagonal_params *p = cld_node_params(n, diagonal_params);
    CLD_AUTO cld_tensor *dx =
        cld_tensor_full(n->output_meta[0].dtype, p->shape.ndim, p->shape.extents, n->device, 0.0);
    CLD_AUTO cld_tensor *part = dx ? view_of(dx, p->offset, p->rows, p->columns) : NULL;
    if (!part) return cld_error_code();
    CLD_TRY(cld_tensor_copy(part, dout[0]));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}

static const cld_op diagonal_op = {.name = "diagonal", .backward = diagonal_backward};

cld_tensor *cld_diagonal(cld_tensor *x, int64_t offset, int rows, int columns) {
    if (x->a.ndim < 2)
        return cld_fail_null(CLD_INVALID, "diagonal: expected at least two dimensions, got %s",
                             cld_describe(&x->a));
    CLD_TRY_NULL(cld_check_dim("diagonal", x, rows, &rows));
    CLD_TRY_NULL(cld_check_dim("diagonal", x, columns, &columns));
    if (rows == columns)
        return cld_fail_null(CLD_INVALID, "diagonal: dimension %d of %s is listed twice", rows + 1,
                             cld_describe(&x->a));
    int64_t most = x->a.shape[rows] > x->a.shape[columns] ? x->a.shape[rows] : x->a.shape[columns];
    if (offset > most) offset = most; /* there is nothing further out */
    if (offset < -most) offset = -most;
    CLD_TRY_NULL(cld_tensor_unblock(x));
    cld_tensor *y = view_of(x, offset, rows, columns);
    cld_node *n = y ? cld_record(&diagonal_op, &y, 1, &x, 1) : NULL;
    if (n)
        *cld_node_params(n, diagonal_params) = (diagonal_params){cld_shape_of(&x->a), offset, rows, columns};
    return y;
}

/* Zeros, with the vector on that diagonal. */
static cld_tensor *matrix_of(cld_tensor *x, int64_t offset) {
    int64_t count = x->a.shape[0], aside = offset < 0 ? (int64_t)(0 - (uint64_t)offset) : offset, size,
            elements;
    if (offset == INT64_MIN || __builtin_add_overflow(count, aside, &size) ||
        __builtin_mul_overflow(size, size, &elements))
        return cld_fail_null(CLD_INVALID, "diag: the offset %lld is too far from %s", (long long)offset,
                             cld_describe(&x->a));
    int64_t first = offset < 0 ? aside * size : aside;
    CLD_AUTO cld_tensor *zeros = cld_tensor_full(x->a.dtype, 1, &elements, cld_device(x), 0.0);
    CLD_AUTO cld_tensor *places =
        zeros ? cld_tensor_arange(CLD_I64, cld_integer(first), cld_integer(first + count * (size + 1)),
                                  cld_integer(size + 1), cld_device(x))
              : NULL;
    CLD_AUTO cld_tensor *line = places ? cld_index_copy(zeros, 0, places, x) : NULL;
    return line ? cld_reshape(line, 2, (int64_t[]){size, size}) : NULL;
}

cld_tensor *cld_diag(cld_tensor *x, int64_t offset) {
    if (x->a.ndim == 1) return matrix_of(x, offset);
    if (x->a.ndim != 2)
        return cld_fail_null(CLD_INVALID, "diag: expected a vector or a matrix, got %s", cld_describe(&x->a));
    CLD_AUTO cld_tensor *view = cld_diagonal(x, offset, 0, 1);
    return view ? cld_clone(view) : NULL;
}
