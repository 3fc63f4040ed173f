/* cat and stack: tensors joined in new memory. */
#include <stdlib.h>
#include <string.h>

#include "runtime/ops/ops.h"

typedef struct cat_params {
    int dim;
    int64_t *starts; /* where each input begins along dim, then the end */
} cat_params;

/* y = [x0, x1, ...] along dim, so dx_i is its part of dy. */
static cld_status cat_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const cat_params *p = cld_node_params(n, cat_params);
    for (int i = 0; i < n->inputs; i++) {
        if (!cld_node_needs(n, i)) continue;
        din[i] = cld_narrow(dout[0], p->dim, p->starts[i], p->starts[i + 1] - p->starts[i]);
        if (!din[i]) return cld_error_code();
    }
    return CLD_OK;
}

static void cat_destroy(cld_node *n) { free(cld_node_params(n, cat_params)->starts); }

static const cld_op cat_op = {.name = "cat", .backward = cat_backward, .destroy = cat_destroy};

/* Computes y's shape; all dimensions except dim must agree. */
static cld_status cat_shape(cld_tensor *const *xs, int count, int *dim, int64_t *shape) {
    const cld_array *first = count > 0 ? &xs[0]->a : NULL;
    if (!first) return cld_fail(CLD_INVALID, "cat: no tensors to join");
    if (first->ndim == 0)
        return cld_fail(CLD_INVALID, "cat: tensors without dimensions cannot be joined; use stack");
    CLD_TRY(cld_check_dim("cat", xs[0], *dim, dim));
    memcpy(shape, first->shape, sizeof first->shape);
    for (int i = 1; i < count; i++) {
        const cld_array *a = &xs[i]->a;
        bool fits = a->ndim == first->ndim;
        CLD_TRY(cld_check_same_device("cat", xs[0], xs[i]));
        for (int k = 0; fits && k < a->ndim; k++) fits = k == *dim || a->shape[k] == first->shape[k];
        if (!fits)
            return cld_fail(CLD_INVALID, "cat: tensor 1 is %s, tensor %d is %s; only dimension %d may differ",
                            cld_describe(first), i + 1, cld_describe(a), *dim + 1);
        shape[*dim] += a->shape[*dim];
    }
    return CLD_OK;
}

/* Copies the inputs into y, and records where each begins. */
static cld_status cat_copy(cld_tensor *y, cld_tensor *const *xs, int count, int dim, int64_t *starts) {
    starts[0] = 0;
    for (int i = 0; i < count; i++) {
        CLD_AUTO cld_tensor *part = cld_narrow(y, dim, starts[i], xs[i]->a.shape[dim]);
        if (!part) return cld_error_code();
        CLD_TRY(cld_tensor_copy(part, xs[i]));
        starts[i + 1] = starts[i] + xs[i]->a.shape[dim];
    }
    return CLD_OK;
}

/* Joins tensors of one dtype. */
static cld_tensor *joined(cld_tensor *const *xs, int count, int dim) {
    int64_t shape[CLD_MAX_DIMS];
    CLD_TRY_NULL(cat_shape(xs, count, &dim, shape));
    CLD_AUTO cld_tensor *y = cld_tensor_new(xs[0]->a.dtype, xs[0]->a.ndim, shape, cld_device(xs[0]));
    if (!y) return NULL;
    int64_t *starts = malloc(((size_t)count + 1) * sizeof *starts);
    if (!starts) return cld_fail_null(CLD_NOMEM, "cat: out of memory");
    cld_status status = cat_copy(y, xs, count, dim, starts);
    cld_node *n = status == CLD_OK ? cld_record(&cat_op, &y, 1, xs, count) : NULL;
    if (n)
        *cld_node_params(n, cat_params) = (cat_params){.dim = dim, .starts = starts};
    else
        free(starts);
    return status == CLD_OK ? cld_tensor_steal(&y) : NULL;
}

static bool is_left_out(const cld_array *a) { return a->ndim == 1 && a->shape[0] == 0; }

cld_tensor *cld_cat(cld_tensor *const *xs, int count, int dim) {
    int kept = 0;
    bool complete = true;
    cld_array result = count > 0 ? xs[0]->a : (cld_array){0};
    for (int i = 1; i < count; i++) result.dtype = cld_result_dtype(&result, &xs[i]->a);
    cld_tensor **list = calloc((size_t)count + 1, sizeof *list);
    if (!list) return cld_fail_null(CLD_NOMEM, "cat: out of memory");
    for (int i = 0; i < count && complete; i++)
        if (!is_left_out(&xs[i]->a) || (kept == 0 && i == count - 1))
            complete = (list[kept++] = cld_cast(xs[i], result.dtype)) != NULL;
    cld_tensor *y = complete ? joined(list, kept, dim) : NULL;
    for (int i = 0; i < kept; i++) cld_tensor_free(list[i]);
    free(list);
    return y;
}

/* cat of the inputs with a new dimension. */
cld_tensor *cld_stack(cld_tensor *const *xs, int count, int dim) {
    if (count <= 0) return cld_fail_null(CLD_INVALID, "stack: no tensors to join");
    for (int i = 1; i < count; i++)
        if (!cld_same_shape(&xs[0]->a, &xs[i]->a))
            return cld_fail_null(CLD_INVALID,
                                 "stack: tensor 1 is %s, tensor %d is %s; the shapes must be equal",
                                 cld_describe(&xs[0]->a), i + 1, cld_describe(&xs[i]->a));
    cld_tensor **rows = calloc((size_t)count, sizeof *rows);
    if (!rows) return cld_fail_null(CLD_NOMEM, "stack: out of memory");
    bool complete = true;
    for (int i = 0; i < count && complete; i++) complete = (rows[i] = cld_unsqueeze(xs[i], dim)) != NULL;
    cld_tensor *y = complete ? cld_cat(rows, count, dim < 0 ? dim + xs[0]->a.ndim + 1 : dim) : NULL;
    for (int i = 0; i < count; i++) cld_tensor_free(rows[i]);
    free(rows);
    return y;
}
