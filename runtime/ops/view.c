/* Views: other shapes and strides on the same storage.
 *
 * Every view is one call of make_view, which computes nothing: it records and returns. A blocked activation has no
 * usable strides, so it is first converted to row-major itself, so that writes into the view reach it. */
#include <string.h>

#include "runtime/ops/ops.h"

/* What the gradients need: where the view was in x. */
typedef struct view_params {
    int ndim; /* x's */
    int64_t shape[CLD_MAX_DIMS];
    int dims[CLD_MAX_DIMS]; /* permute: view dimension i is x's dims[i] */
    int dim;                /* narrow, select */
    int64_t start, step;
} view_params;

/* A view on base (x, or the copy that reshape may need), recorded as made from x; extra holds the op's own fields. */
static cld_tensor *make_view(const cld_op *op, cld_tensor *x, cld_tensor *base, int ndim,
                             const int64_t *shape, const int64_t *strides, int64_t offset,
                             view_params extra) {
    void *data = (char *)base->a.data + offset * (int64_t)cld_dtype_size(x->a.dtype);
    cld_tensor *y = cld_tensor_view(base, ndim, shape, strides, data);
    if (!y) return NULL;
    cld_node *n = cld_record(op, &y, 1, &x, 1);
    if (n) {
        extra.ndim = x->a.ndim;
        memcpy(extra.shape, x->a.shape, sizeof extra.shape);
        *cld_node_params(n, view_params) = extra;
    }
    return y;
}

static cld_status status_of(const cld_tensor *gradient) { return gradient ? CLD_OK : cld_error_code(); }

/* ---- reshape, and what only adds, drops or joins dimensions -------------------------------------------- */

/* y holds x's elements in x's order, so dx is dy in x's shape. */
static cld_status reshape_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const view_params *p = cld_node_params(n, view_params);
    din[0] = cld_reshape(dout[0], p->ndim, p->shape);
    return status_of(din[0]);
}

static const cld_op reshape_op = {.name = "reshape", .backward = reshape_backward};
static const cld_op squeeze_op = {.name = "squeeze", .backward = reshape_backward};
static const cld_op unsqueeze_op = {.name = "unsqueeze", .backward = reshape_backward};

/* Fills in the one -1 of wanted; the element count must equal x's. */
static cld_status infer_shape(const char *op, const cld_tensor *x, int ndim, const int64_t *wanted,
                              int64_t *shape) {
    int64_t known = 1, total = cld_numel(&x->a);
    int unknown = -1;
    cld_array as_asked = {.dtype = x->a.dtype, .ndim = ndim};
    if (ndim > CLD_MAX_DIMS)
        return cld_fail(CLD_INVALID, "%s: at most %d dimensions, got %d", op, CLD_MAX_DIMS, ndim);
    for (int i = 0; i < ndim; i++) {
        as_asked.shape[i] = shape[i] = wanted[i];
        if (wanted[i] == -1 && unknown < 0) {
            unknown = i;
        } else if (wanted[i] < 0) {
            return cld_fail(CLD_INVALID, "%s: extent %d cannot be %lld; one -1 stands for 'what is left'", op,
                            i + 1, (long long)wanted[i]);
        } else if (__builtin_mul_overflow(known, wanted[i], &known)) {
            return cld_fail(CLD_INVALID, "%s: the shape is too large for the elements of %s", op,
                            cld_describe(&x->a));
        }
    }
    if (unknown >= 0 && known > 0 && total % known == 0) {
        shape[unknown] = total / known;
        return CLD_OK;
    }
    if (unknown >= 0 || known != total)
        return cld_fail(CLD_INVALID, "%s: %s has %lld elements and cannot become %s", op, cld_describe(&x->a),
                        (long long)total, cld_describe(&as_asked));
    return CLD_OK;
}

/* Strides that show a in the new shape without copying; false if there are none. Walks both shapes from the last
 * dimension: a run of dimensions of a that is dense in itself can be split differently. */
static bool strides_for(const cld_array *a, int ndim, const int64_t *shape, int64_t *strides) {
    int to = ndim - 1;
    if (cld_numel(a) == 0) {
        for (int64_t step = 1; to >= 0; to--) {
            strides[to] = step;
            step *= shape[to] ? shape[to] : 1;
        }
        return true;
    }
    for (int from = a->ndim - 1; from >= 0;) {
        int64_t step = a->strides[from], run = a->shape[from], cut = 1;
        for (from--; from >= 0; from--) {
            if (run == 1)
                step = a->strides[from];
            else if (a->shape[from] != 1 && a->strides[from] != step * run)
                break;
            run *= a->shape[from];
        }
        while (to >= 0 && (cut < run || shape[to] == 1)) {
            strides[to] = step * cut;
            cut *= shape[to--];
        }
        if (cut != run) return false;
    }
    while (to >= 0) strides[to--] = 1; /* a is 0-d: all of these have extent 1 */
    return true;
}

cld_tensor *cld_reshape_for(const char *op, cld_tensor *x, int ndim, const int64_t *wanted) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    CLD_TRY_NULL(infer_shape(op, x, ndim, wanted, shape));
    CLD_TRY_NULL(cld_tensor_unblock(x));
    CLD_AUTO cld_tensor *base = cld_tensor_retain(x);
    if (!strides_for(&base->a, ndim, shape, strides)) {
        cld_tensor *dense = cld_tensor_contiguous(base);
        if (!dense) return NULL;
        cld_tensor_free(base);
        base = dense;
        strides_for(&base->a, ndim, shape, strides);
    }
    return make_view(&reshape_op, x, base, ndim, shape, strides, 0, (view_params){0});
}

cld_tensor *cld_flatten(cld_tensor *x, int first, int last) {
    int64_t shape[CLD_MAX_DIMS];
    int ndim = 0;
    if (x->a.ndim == 0) return cld_reshape(x, 1, (int64_t[]){1});
    CLD_TRY_NULL(cld_check_dim("flatten", x, first, &first));
    CLD_TRY_NULL(cld_check_dim("flatten", x, last, &last));
    if (first > last)
        return cld_fail_null(CLD_INVALID, "flatten: dimension %d lies after dimension %d", first + 1,
                             last + 1);
    for (int i = 0; i < x->a.ndim; i++) {
        if (i > first && i <= last)
            shape[ndim - 1] *= x->a.shape[i];
        else
            shape[ndim++] = x->a.shape[i];
    }
    return cld_reshape(x, ndim, shape);
}

cld_tensor *cld_squeeze(cld_tensor *x, int dim) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    int ndim = 0;
    CLD_TRY_NULL(cld_check_dim("squeeze", x, dim, &dim));
    if (x->a.ndim == 0 || x->a.shape[dim] != 1) return cld_tensor_retain(x);
    CLD_TRY_NULL(cld_tensor_unblock(x));
    for (int i = 0; i < x->a.ndim; i++) {
        if (i == dim) continue;
        shape[ndim] = x->a.shape[i];
        strides[ndim++] = x->a.strides[i];
    }
    return make_view(&squeeze_op, x, x, ndim, shape, strides, 0, (view_params){0});
}

cld_tensor *cld_squeeze_all(cld_tensor *x, const int *dims, int ndims) {
    cld_shape shape = {0};
    bool drop[CLD_MAX_DIMS] = {false};
    for (int i = 0; i < ndims; i++) {
        int dim;
        CLD_TRY_NULL(cld_check_dim("squeeze", x, dims[i], &dim));
        drop[dim] = true;
    }
    for (int d = 0; d < x->a.ndim; d++)
        if (!drop[d] || x->a.shape[d] != 1) shape.extents[shape.ndim++] = x->a.shape[d];
    return shape.ndim == x->a.ndim ? cld_tensor_retain(x) : cld_reshape(x, shape.ndim, shape.extents);
}

cld_tensor *cld_unsqueeze(cld_tensor *x, int dim) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    int ndim = x->a.ndim + 1;
    if (dim < 0) dim += ndim;
    if (dim < 0 || dim >= ndim || ndim > CLD_MAX_DIMS)
        return cld_fail_null(CLD_INVALID, "unsqueeze: cannot insert dimension %d into %s", dim + 1,
                             cld_describe(&x->a));
    CLD_TRY_NULL(cld_tensor_unblock(x));
    for (int i = 0, from = 0; i < ndim; i++) {
        shape[i] = i == dim ? 1 : x->a.shape[from];
        strides[i] = i == dim ? 1 : x->a.strides[from];
        from += i != dim;
    }
    return make_view(&unsqueeze_op, x, x, ndim, shape, strides, 0, (view_params){0});
}

/* ---- permute ------------------------------------------------------------------------------------------- */

/* y's dimension i was x's dims[i]; so dx's dimension dims[i] is dy's i. */
static cld_status permute_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const view_params *p = cld_node_params(n, view_params);
    int inverse[CLD_MAX_DIMS];
    for (int i = 0; i < p->ndim; i++) inverse[p->dims[i]] = i;
    din[0] = cld_permute(dout[0], inverse);
    return status_of(din[0]);
}

static const cld_op permute_op = {.name = "permute", .backward = permute_backward};

cld_tensor *cld_permute(cld_tensor *x, const int *dims) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    view_params p = {.ndim = x->a.ndim};
    bool taken[CLD_MAX_DIMS] = {false};
    CLD_TRY_NULL(cld_tensor_unblock(x));
    for (int i = 0; i < x->a.ndim; i++) {
        CLD_TRY_NULL(cld_check_dim("permute", x, dims[i], &p.dims[i]));
        if (taken[p.dims[i]])
            return cld_fail_null(CLD_INVALID, "permute: dimension %d of %s is listed twice", p.dims[i] + 1,
                                 cld_describe(&x->a));
        taken[p.dims[i]] = true;
        shape[i] = x->a.shape[p.dims[i]];
        strides[i] = x->a.strides[p.dims[i]];
    }
    return make_view(&permute_op, x, x, x->a.ndim, shape, strides, 0, p);
}

cld_tensor *cld_transpose(cld_tensor *x, int dim0, int dim1) {
    int dims[CLD_MAX_DIMS];
    CLD_TRY_NULL(cld_check_dim("transpose", x, dim0, &dim0));
    CLD_TRY_NULL(cld_check_dim("transpose", x, dim1, &dim1));
    for (int i = 0; i < x->a.ndim; i++) dims[i] = i == dim0 ? dim1 : i == dim1 ? dim0 : i;
    return cld_permute(x, dims);
}

cld_tensor *cld_movedim(cld_tensor *x, const int *from, const int *to, int count) {
    int dims[CLD_MAX_DIMS], next = 0;
    bool moved[CLD_MAX_DIMS] = {false}, taken[CLD_MAX_DIMS] = {false};
    for (int i = 0; i < count; i++) {
        int source, target;
        CLD_TRY_NULL(cld_check_dim("movedim", x, from[i], &source));
        CLD_TRY_NULL(cld_check_dim("movedim", x, to[i], &target));
        if (moved[source] || taken[target])
            return cld_fail_null(CLD_INVALID, "movedim: dimension %d of %s is listed twice",
                                 (moved[source] ? source : target) + 1, cld_describe(&x->a));
        moved[source] = taken[target] = true;
        dims[target] = source;
    }
    for (int d = 0; d < x->a.ndim; d++) {
        if (taken[d]) continue;
        while (moved[next]) next++;
        dims[d] = next++;
    }
    return cld_permute(x, dims);
}

cld_tensor *cld_t(cld_tensor *x) {
    if (x->a.ndim < 2) return cld_tensor_retain(x);
    if (x->a.ndim == 2) return cld_transpose(x, 0, 1);
    return cld_fail_null(CLD_INVALID, "t: expected at most two dimensions, got %s", cld_describe(&x->a));
}

/* ---- narrow and select: a part of x -------------------------------------------------------------------- */

/* dx is zero outside the part that y showed; select also dropped the dimension. */
static cld_status part_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const view_params *p = cld_node_params(n, view_params);
    const cld_array *y = &n->output_meta[0];
    CLD_AUTO cld_tensor *dx = cld_tensor_full(y->dtype, p->ndim, p->shape, n->device, 0.0);
    if (!dx) return cld_error_code();
    CLD_AUTO cld_tensor *part = y->ndim < p->ndim
                                    ? cld_select(dx, p->dim, p->start)
                                    : cld_slice(dx, p->dim, p->start, y->shape[p->dim], p->step);
    if (!part) return cld_error_code();
    CLD_TRY(cld_tensor_copy(part, dout[0]));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}

static const cld_op narrow_op = {.name = "narrow", .backward = part_backward};

static cld_tensor *slice(cld_tensor *x, int dim, int64_t start, int64_t length, int64_t step) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    CLD_TRY_NULL(cld_tensor_unblock(x));
    memcpy(shape, x->a.shape, sizeof shape);
    memcpy(strides, x->a.strides, sizeof strides);
    shape[dim] = length;
    strides[dim] *= step;
    return make_view(&narrow_op, x, x, x->a.ndim, shape, strides, start * x->a.strides[dim],
                     (view_params){.dim = dim, .start = start, .step = step});
}

/* A negative position counts from the end. */
static int64_t from_start(int64_t position, int64_t extent) {
    return position < 0 && position != CLD_NOWHERE ? position + extent : position;
}

/* The position as the user wrote it. */
static long long as_written(int64_t position) {
    return position == CLD_NOWHERE ? 0 : position < 0 ? position : position + 1;
}

cld_tensor *cld_narrow(cld_tensor *x, int dim, int64_t start, int64_t length) {
    CLD_TRY_NULL(cld_check_dim("narrow", x, dim, &dim));
    if (x->a.ndim == 0)
        return cld_fail_null(CLD_INVALID, "narrow: %s has no dimension to cut", cld_describe(&x->a));
    int64_t extent = x->a.shape[dim], first = from_start(start, extent);
    if (first < 0 || length < 0 || first > extent - length)
        return cld_fail_null(CLD_INVALID,
                             "narrow: a length of %lld from position %lld does not fit in dimension %d of %s",
                             (long long)length, as_written(start), dim + 1, cld_describe(&x->a));
    return slice(x, dim, first, length, 1);
}

cld_tensor *cld_slice(cld_tensor *x, int dim, int64_t start, int64_t length, int64_t step) {
    CLD_TRY_NULL(cld_check_dim("slice", x, dim, &dim));
    int64_t extent = x->a.ndim ? x->a.shape[dim] : 0, reach = length > 0 ? (length - 1) * step + 1 : 0;
    if (x->a.ndim == 0 || start < 0 || length < 0 || step < 1 || start > extent - reach)
        return cld_fail_null(
            CLD_INVALID,
            "slice: a length of %lld from position %lld in steps of %lld does not fit in dimension %d of %s",
            (long long)length, (long long)start + 1, (long long)step, dim + 1, cld_describe(&x->a));
    return slice(x, dim, start, length, step);
}

static const cld_op select_op = {.name = "select", .backward = part_backward};

cld_tensor *cld_select(cld_tensor *x, int dim, int64_t position) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    int ndim = 0;
    CLD_TRY_NULL(cld_check_dim("select", x, dim, &dim));
    int64_t extent = x->a.ndim ? x->a.shape[dim] : 0, index = from_start(position, extent);
    if (index < 0 || index >= extent)
        return cld_fail_null(CLD_INVALID,
                             "select: there is no position %lld in dimension %d of %s, which has 1 to %lld",
                             as_written(position), dim + 1, cld_describe(&x->a), (long long)extent);
    CLD_TRY_NULL(cld_tensor_unblock(x));
    for (int i = 0; i < x->a.ndim; i++) {
        if (i == dim) continue;
        shape[ndim] = x->a.shape[i];
        strides[ndim++] = x->a.strides[i];
    }
    return make_view(&select_op, x, x, ndim, shape, strides, index * x->a.strides[dim],
                     (view_params){.dim = dim, .start = index});
}

/* ---- expand -------------------------------------------------------------------------------------------- */

/* Each element of x was shown several times: dx sums dy over the expanded dimensions. */
static cld_status expand_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const view_params *p = cld_node_params(n, view_params);
    cld_shape shape = {.ndim = p->ndim};
    memcpy(shape.extents, p->shape, sizeof shape.extents);
    din[0] = cld_sum_to(dout[0], &shape);
    return status_of(din[0]);
}

static const cld_op expand_op = {.name = "expand", .backward = expand_backward};

static cld_tensor *cannot_expand(const char *op, const cld_tensor *x, int ndim, const int64_t *wanted) {
    cld_array as_asked = {.dtype = x->a.dtype, .ndim = ndim < CLD_MAX_DIMS ? ndim : CLD_MAX_DIMS};
    for (int i = 0; i < as_asked.ndim; i++) as_asked.shape[i] = wanted[i];
    return cld_fail_null(CLD_INVALID,
                         "%s: %s cannot become %s; only extents of 1 grow, and new dimensions come first", op,
                         cld_describe(&x->a), cld_describe(&as_asked));
}

cld_tensor *cld_expand_for(const char *op, cld_tensor *x, int ndim, const int64_t *wanted) {
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    int lead = ndim - x->a.ndim;
    if (lead < 0 || ndim > CLD_MAX_DIMS) return cannot_expand(op, x, ndim, wanted);
    CLD_TRY_NULL(cld_tensor_unblock(x));
    for (int i = 0; i < ndim; i++) {
        int64_t extent = i < lead ? 1 : x->a.shape[i - lead];
        shape[i] = wanted[i] == -1 && i >= lead ? extent : wanted[i];
        strides[i] = i < lead || extent != shape[i] ? 0 : x->a.strides[i - lead];
        if (shape[i] < 0 || (extent != shape[i] && extent != 1)) return cannot_expand(op, x, ndim, wanted);
    }
    return make_view(&expand_op, x, x, ndim, shape, strides, 0, (view_params){0});
}

/* ---- copies: the gradient passes through --------------------------------------------------------------- */

static cld_status copy_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    (void)n;
    din[0] = cld_tensor_retain(dout[0]);
    return CLD_OK;
}

static const cld_op clone_op = {.name = "clone", .backward = copy_backward};

cld_tensor *cld_clone(cld_tensor *x) {
    cld_tensor *y = cld_tensor_cast(x, x->a.dtype);
    if (y) cld_record(&clone_op, &y, 1, &x, 1);
    return y;
}

cld_tensor *cld_contiguous(cld_tensor *x) {
    return cld_is_contiguous(&x->a) ? cld_tensor_retain(x) : cld_clone(x);
}
