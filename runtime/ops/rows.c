/* The rows of several tensors as one tensor, and back: how the views of a batch go through a network together. */
#include <stdlib.h>
#include <string.h>

#include "runtime/ops/ops.h"

/* ---- join ---------------------------------------------------------------------------------------------- */

static bool is_dense(const cld_array *a) { return a->layout == CLD_BLOCKED || cld_is_contiguous(a); }

static bool alike_but_rows(const cld_array *a, const cld_array *b) {
    if (a->ndim == 0 || a->ndim != b->ndim || a->dtype != b->dtype || a->layout != b->layout) return false;
    return memcmp(a->shape + 1, b->shape + 1, (size_t)(a->ndim - 1) * sizeof *a->shape) == 0;
}

/* Does each begin where the one before ends, in the same memory, and off the tape? */
static bool lie_together(cld_tensor *const *xs, int count) {
    const char *next = xs[0]->a.data;
    for (int i = 0; i < count; i++) {
        const cld_array *a = &xs[i]->a;
        if (cld_wants_grad(xs[i]) || xs[i]->storage != xs[0]->storage || !alike_but_rows(a, &xs[0]->a) ||
            !is_dense(a) || (const char *)a->data != next)
            return false;
        next += (size_t)cld_numel(a) * cld_dtype_size(a->dtype);
    }
    return true;
}

cld_tensor *cld_join_rows(cld_tensor *const *xs, int count) {
    if (count < 1 || !lie_together(xs, count)) return cld_cat(xs, count, 0);
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, xs[0]->a.shape, sizeof shape);
    for (int i = 1; i < count; i++) shape[0] += xs[i]->a.shape[0];
    return cld_tensor_view(xs[0], xs[0]->a.ndim, shape, xs[0]->a.strides, xs[0]->a.data);
}

/* ---- split --------------------------------------------------------------------------------------------- */

/* dx is the gradients one below the other, zero where there is none. */
static cld_status split_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const cld_array *first = &n->output_meta[0];
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, first->shape, sizeof shape);
    shape[0] *= n->outputs;
    CLD_AUTO cld_tensor *dx = cld_tensor_new(first->dtype, first->ndim, shape, n->device);
    if (!dx) return cld_error_code();
    for (int i = 0; i < n->outputs; i++) {
        CLD_AUTO cld_tensor *part = cld_narrow(dx, 0, i * first->shape[0], first->shape[0]);
        if (!part) return cld_error_code();
        CLD_TRY(dout[i] ? cld_tensor_copy(part, dout[i]) : cld_tensor_fill(part, cld_integer(0)));
    }
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}

static const cld_op split_op = {.name = "split_rows", .backward = split_backward};

cld_status cld_split_rows(cld_tensor **out, cld_tensor *x, int count) {
    int64_t rows = x->a.ndim ? x->a.shape[0] : 0;
    memset(out, 0, (size_t)(count > 0 ? count : 0) * sizeof *out);
    if (x->a.ndim == 0 || count < 1 || rows % count != 0)
        return cld_fail(CLD_INVALID, "split_rows: %s cannot be split into %d equal parts along dimension 1",
                        cld_describe(&x->a), count);
    CLD_TRY(cld_tensor_unblock(x));
    int64_t shape[CLD_MAX_DIMS], step = rows / count * x->a.strides[0];
    memcpy(shape, x->a.shape, sizeof shape);
    shape[0] = rows / count;
    for (int i = 0; i < count; i++) {
        void *data = (char *)x->a.data + (size_t)(i * step) * cld_dtype_size(x->a.dtype);
        out[i] = cld_tensor_view(x, x->a.ndim, shape, x->a.strides, data);
        if (out[i]) continue;
        for (int k = 0; k < i; k++) cld_tensor_free(out[k]);
        return cld_error_code();
    }
    cld_record(&split_op, out, count, &x, 1);
    return CLD_OK;
}
