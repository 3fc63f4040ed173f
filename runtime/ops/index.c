/* Reading and writing by index. Index tensors are i64 and 0-based; the device checks every entry. All except
 * index_assign are out of place: index_add, index_copy and scatter_add start from a copy of x. */
#include "runtime/ops/ops.h"

typedef struct index_params {
    int dim;
    cld_shape x, source; /* shapes of the inputs; source as x if there is none */
} index_params;

/* ---- shapes -------------------------------------------------------------------------------------------- */

/* x's shape, with `extent` along dim. */
static cld_shape shape_with(const cld_tensor *x, int dim, int64_t extent) {
    cld_shape s = cld_shape_of(&x->a);
    s.extents[dim] = extent;
    return s;
}

static cld_status check_common(const char *op, const cld_tensor *x, int dim, const cld_tensor *index,
                               int *out) {
    CLD_TRY(cld_check_dim(op, x, dim, out));
    CLD_TRY(cld_check_index(op, index));
    CLD_TRY(cld_check_same_device(op, x, index));
    if (x->a.ndim > 0) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: a 0-d tensor cannot be indexed; reshape it to (1)", op);
}

/* gather, scatter_add: index has x's number of dimensions, fits into x except along dim, and fits into the source. */
static cld_status check_elements(const char *op, const cld_tensor *x, int dim, const cld_tensor *index,
                                 const cld_tensor *source) {
    bool fits = index->a.ndim == x->a.ndim && (!source || source->a.ndim == x->a.ndim);
    for (int d = 0; fits && d < x->a.ndim; d++)
        fits = (d == dim || index->a.shape[d] <= x->a.shape[d]) &&
               (!source || index->a.shape[d] <= source->a.shape[d]);
    if (fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the index %s does not fit along dimension %d of %s%s%s", op,
                    cld_describe(&index->a), dim + 1, cld_describe(&x->a), source ? " and the source " : "",
                    source ? cld_describe(&source->a) : "");
}

/* index_add, index_copy: source has x's shape, with the index's length along dim. */
static cld_status check_slices(const char *op, const cld_tensor *x, int dim, const cld_tensor *index,
                               const cld_tensor *source) {
    bool fits = index->a.ndim <= 1 && source->a.ndim == x->a.ndim;
    for (int d = 0; fits && d < x->a.ndim; d++)
        fits = source->a.shape[d] == (d == dim ? cld_numel(&index->a) : x->a.shape[d]);
    if (fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the source %s does not match %s along dimension %d with the index %s",
                    op, cld_describe(&source->a), cld_describe(&x->a), dim + 1, cld_describe(&index->a));
}

static cld_status check_source(const char *op, const cld_tensor *x, const cld_tensor *source) {
    CLD_TRY(cld_check_same_device(op, x, source));
    if (x->a.dtype == source->a.dtype) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the source %s must have the dtype of %s", op, cld_describe(&source->a),
                    cld_describe(&x->a));
}

/* ---- off the tape: the parts of forward and backward --------------------------------------------------- */

typedef cld_status reader(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
typedef cld_status writer(const cld_array *out, int dim, const cld_array *index, const cld_array *x);

static cld_tensor *read_with(reader *read, const char *op, const cld_shape *shape, cld_tensor *x, int dim,
                             cld_tensor *index) {
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *y =
        strided ? cld_tensor_new(x->a.dtype, shape->ndim, shape->extents, cld_device(x)) : NULL;
    if (!y) return NULL;
    if (!read) return (void)cld_unsupported(op, cld_device(x)), NULL;
    if (read(&y->a, &strided->a, dim, &index->a) != CLD_OK) {
        cld_fail_in("%s: %s along dimension %d", op, cld_describe(&x->a), dim + 1);
        return NULL;
    }
    return cld_tensor_steal(&y);
}

/* y with source written into it; takes over the reference y, NULL passes through. */
static cld_tensor *write_with(writer *write, const char *op, cld_tensor *y, int dim, cld_tensor *index,
                              cld_tensor *source) {
    CLD_AUTO cld_tensor *target = y;
    CLD_AUTO cld_tensor *strided = target ? cld_tensor_strided(source) : NULL;
    if (!strided) return NULL;
    if (!write) return (void)cld_unsupported(op, cld_device(target)), NULL;
    if (write(&target->a, dim, &index->a, &strided->a) != CLD_OK) {
        cld_fail_in("%s: %s along dimension %d", op, cld_describe(&target->a), dim + 1);
        return NULL;
    }
    return cld_tensor_steal(&target);
}

static cld_tensor *copy_of(const cld_tensor *x) { return cld_tensor_cast(x, x->a.dtype); }

static void remember(cld_node *n, int dim, cld_tensor *x, cld_tensor *index, cld_tensor *source) {
    if (!n) return;
    *cld_node_params(n, index_params) = (index_params){dim, cld_shape_of(&x->a), cld_shape_of(&source->a)};
    cld_node_save(n, 0, index);
}

typedef cld_status shape_check(const char *op, const cld_tensor *x, int dim, const cld_tensor *index,
                               const cld_tensor *source);

/* A copy of x with source written into it, on the tape. */
static cld_tensor *written(const cld_op *op, writer *write, shape_check *check, cld_tensor *x, int dim,
                           cld_tensor *index, cld_tensor *source) {
    CLD_TRY_NULL(check_common(op->name, x, dim, index, &dim));
    CLD_TRY_NULL(check_source(op->name, x, source));
    CLD_TRY_NULL(check(op->name, x, dim, index, source));
    CLD_AUTO cld_tensor *y = write_with(write, op->name, copy_of(x), dim, index, source);
    if (!y) return NULL;
    cld_tensor *inputs[] = {x, source};
    remember(cld_record(op, &y, 1, inputs, 2), dim, x, index, source);
    return cld_tensor_steal(&y);
}

/* ---- gather, index_select ------------------------------------------------------------------------------ */

/* y[i] = x[index[i]], so dx[index[i]] += dy[i] */
static cld_status read_backward(cld_node *n, writer *add, cld_tensor *dy, cld_tensor **dx) {
    const index_params *p = cld_node_params(n, index_params);
    CLD_AUTO cld_tensor *index = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *zeros =
        index ? cld_tensor_full(dy->a.dtype, p->x.ndim, p->x.extents, n->device, 0) : NULL;
    *dx = write_with(add, n->op->name, cld_tensor_steal(&zeros), p->dim, index, dy);
    return *dx ? CLD_OK : cld_error_code();
}

static cld_status gather_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    return read_backward(n, cld_slot(n->device, math, scatter_add), dout[0], &din[0]);
}
static cld_status index_select_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    return read_backward(n, cld_slot(n->device, math, index_add), dout[0], &din[0]);
}
static const cld_op gather_op = {.name = "gather", .backward = gather_backward};
static const cld_op index_select_op = {.name = "index_select", .backward = index_select_backward};

cld_tensor *cld_gather(cld_tensor *x, int dim, cld_tensor *index) {
    CLD_TRY_NULL(check_common("gather", x, dim, index, &dim));
    CLD_TRY_NULL(check_elements("gather", x, dim, index, NULL));
    cld_shape shape = cld_shape_of(&index->a);
    CLD_AUTO cld_tensor *y =
        read_with(cld_slot(cld_device(x), math, gather), "gather", &shape, x, dim, index);
    if (!y) return NULL;
    remember(cld_record(&gather_op, &y, 1, &x, 1), dim, x, index, x);
    return cld_tensor_steal(&y);
}

cld_tensor *cld_index_select(cld_tensor *x, int dim, cld_tensor *index) {
    CLD_TRY_NULL(check_common("index_select", x, dim, index, &dim));
    if (index->a.ndim > 1)
        return cld_fail_null(CLD_INVALID, "index_select: the index must be 1-d, got %s",
                             cld_describe(&index->a));
    cld_shape shape = shape_with(x, dim, cld_numel(&index->a));
    CLD_AUTO cld_tensor *y =
        read_with(cld_slot(cld_device(x), math, index_select), "index_select", &shape, x, dim, index);
    if (!y) return NULL;
    remember(cld_record(&index_select_op, &y, 1, &x, 1), dim, x, index, x);
    return cld_tensor_steal(&y);
}

/* ---- scatter_add, index_add ---------------------------------------------------------------------------- */

/* y = x, then y[index[i]] += source[i]: dx = dy, dsource[i] = dy[index[i]] */
static cld_status scatter_add_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const index_params *p = cld_node_params(n, index_params);
    if (cld_node_needs(n, 0)) din[0] = cld_tensor_retain(dout[0]);
    if (!cld_node_needs(n, 1)) return CLD_OK;
    CLD_AUTO cld_tensor *index = cld_node_saved(n, 0);
    if (!index) return cld_error_code();
    cld_shape read = cld_shape_of(&index->a);
    CLD_AUTO cld_tensor *part =
        read_with(cld_slot(n->device, math, gather), "scatter_add", &read, dout[0], p->dim, index);
    /* The index may be smaller than the source: elements that it leaves out have gradient 0. */
    CLD_AUTO cld_tensor *whole =
        part ? cld_tensor_full(part->a.dtype, p->source.ndim, p->source.extents, n->device, 0) : NULL;
    CLD_AUTO cld_tensor *corner =
        whole ? cld_tensor_view(whole, read.ndim, read.extents, whole->a.strides, whole->a.data) : NULL;
    if (!corner) return cld_error_code();
    CLD_TRY(cld_tensor_copy(corner, part));
    din[1] = cld_tensor_steal(&whole);
    return CLD_OK;
}
static cld_status index_add_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const index_params *p = cld_node_params(n, index_params);
    if (cld_node_needs(n, 0)) din[0] = cld_tensor_retain(dout[0]);
    if (!cld_node_needs(n, 1)) return CLD_OK;
    CLD_AUTO cld_tensor *index = cld_node_saved(n, 0);
    din[1] = index ? read_with(cld_slot(n->device, math, index_select), "index_add", &p->source, dout[0],
                               p->dim, index)
                   : NULL;
    return din[1] ? CLD_OK : cld_error_code();
}
static const cld_op scatter_add_op = {.name = "scatter_add", .backward = scatter_add_backward};
static const cld_op index_add_op = {.name = "index_add", .backward = index_add_backward};

cld_tensor *cld_scatter_add(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source) {
    return written(&scatter_add_op, cld_slot(cld_device(x), math, scatter_add), check_elements, x, dim, index,
                   source);
}

cld_tensor *cld_index_add(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source) {
    return written(&index_add_op, cld_slot(cld_device(x), math, index_add), check_slices, x, dim, index,
                   source);
}

/* ---- index_copy ---------------------------------------------------------------------------------------- */

/* y = x, then y[index[i]] = source[i]: dx = dy but 0 at the index, dsource[i] = dy[index[i]]. If an index occurs twice,
 * the last one wins; as in PyTorch, the gradient assumes that indices are distinct. */
static cld_status index_copy_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const index_params *p = cld_node_params(n, index_params);
    CLD_AUTO cld_tensor *index = cld_node_saved(n, 0);
    if (!index) return cld_error_code();
    if (cld_node_needs(n, 0)) {
        CLD_AUTO cld_tensor *zero =
            cld_tensor_full(dout[0]->a.dtype, p->source.ndim, p->source.extents, n->device, 0);
        din[0] = zero ? write_with(cld_slot(n->device, math, index_copy), "index_copy", copy_of(dout[0]),
                                   p->dim, index, zero)
                      : NULL;
        if (!din[0]) return cld_error_code();
    }
    if (cld_node_needs(n, 1)) {
        din[1] = read_with(cld_slot(n->device, math, index_select), "index_copy", &p->source, dout[0], p->dim,
                           index);
        if (!din[1]) return cld_error_code();
    }
    return CLD_OK;
}
static const cld_op index_copy_op = {.name = "index_copy", .backward = index_copy_backward};

cld_tensor *cld_index_copy(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source) {
    return written(&index_copy_op, cld_slot(cld_device(x), math, index_copy), check_slices, x, dim, index,
                   source);
}

/* ---- x[index], x[index] = source ----------------------------------------------------------------------- */

cld_tensor *cld_index_rows(cld_tensor *x, cld_tensor *index) {
    CLD_AUTO cld_tensor *line = cld_flatten(index, 0, -1);
    CLD_AUTO cld_tensor *rows = line ? cld_index_select(x, 0, line) : NULL;
    if (!rows || index->a.ndim == 1) return cld_tensor_steal(&rows);
    cld_shape shape = cld_shape_of(&index->a);
    if (shape.ndim + x->a.ndim - 1 > CLD_MAX_DIMS)
        return cld_fail_null(CLD_INVALID, "selection by index: %s by %s would have more than %d dimensions",
                             cld_describe(&x->a), cld_describe(&index->a), CLD_MAX_DIMS);
    for (int d = 1; d < x->a.ndim; d++) shape.extents[shape.ndim++] = x->a.shape[d];
    return cld_reshape(rows, shape.ndim, shape.extents);
}

cld_status cld_index_assign(cld_tensor *x, cld_tensor *index, cld_tensor *source) {
    int dim;
    CLD_TRY(cld_check_in_place("assignment by index", x));
    CLD_TRY(check_common("assignment by index", x, 0, index, &dim));
    CLD_TRY(cld_check_same_device("assignment by index", x, source));
    cld_shape shape = shape_with(x, 0, cld_numel(&index->a)), fits;
    cld_array rows = {.ndim = shape.ndim, .dtype = x->a.dtype};
    for (int d = 0; d < shape.ndim; d++) rows.shape[d] = shape.extents[d];
    CLD_TRY(cld_broadcast_shapes("assignment by index", &rows, &source->a, &fits));
    CLD_AUTO cld_tensor *wide = cld_expand(source, shape.ndim, shape.extents);
    CLD_AUTO cld_tensor *cast = wide ? cld_tensor_cast(wide, x->a.dtype) : NULL;
    CLD_AUTO cld_tensor *own = !cast                          ? NULL
                               : index->storage == x->storage ? copy_of(index)
                                                              : cld_tensor_retain(index);
    CLD_AUTO cld_tensor *line = own ? cld_flatten(own, 0, -1) : NULL;
    if (!line) return cld_error_code();
    CLD_AUTO cld_tensor *target = cld_tensor_strided(x);
    if (!target) return cld_error_code();
    atomic_fetch_add(&target->storage->version, 1);
    CLD_TRY(cld_kernel(cld_device(x), math, index_copy, &target->a, 0, &line->a, &cast->a));
    return target->storage == x->storage ? CLD_OK : cld_tensor_copy(x, target);
}
