/* What op files share: argument checks, type promotion, and the shapes of broadcasting and its gradient. */
#include "runtime/ops/ops.h"

cld_status cld_check_dim(const char *op, const cld_tensor *x, int dim, int *out) {
    int ndim = x->a.ndim, room = ndim > 0 ? ndim : 1; /* a 0-d tensor counts as one line, as in PyTorch */
    if (dim < -room || dim >= room)
        return cld_fail(CLD_INVALID, "%s: dimension %d of %s; expected 1 to %d, or -%d to -1", op,
                        dim < 0 ? dim : dim + 1, cld_describe(&x->a), room, room);
    *out = dim < 0 ? dim + room : dim;
    return CLD_OK;
}

cld_status cld_check_same_device(const char *op, const cld_tensor *a, const cld_tensor *b) {
    if (cld_device(a) == cld_device(b)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: one tensor is on %s, the other on %s", op, cld_device(a)->name,
                    cld_device(b)->name);
}

cld_status cld_check_index(const char *op, const cld_tensor *index) {
    if (index->a.dtype == CLD_I64) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the index must be i64, got %s", op, cld_describe(&index->a));
}

cld_status cld_check_float(const char *op, const cld_tensor *x) {
    if (cld_dtype_is_float(x->a.dtype)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: expected a floating point tensor, got %s; float() makes one", op,
                    cld_describe(&x->a));
}

cld_status cld_check_mask(const char *op, const cld_tensor *mask) {
    if (mask->a.dtype == CLD_U8) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: a mask is u8, as comparisons give it, got %s", op,
                    cld_describe(&mask->a));
}

cld_status cld_check_holds(const char *op, cld_dtype dtype, double least, double most) {
    bool fits = dtype == CLD_U8 ? least >= 0 && most <= UINT8_MAX
                                : dtype != CLD_I32 || (least >= INT32_MIN && most <= INT32_MAX);
    if (fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: %.0f to %.0f is more than %s can hold", op, least, most,
                    cld_dtype_name(dtype));
}

static cld_dtype promote(cld_dtype a, cld_dtype b) {
    static const int rank[] = {[CLD_U8] = 0,   [CLD_I32] = 1, [CLD_I64] = 2, [CLD_F16] = 3,
                               [CLD_BF16] = 3, [CLD_F32] = 4, [CLD_F64] = 5};
    if (a != b && rank[a] == rank[b]) return CLD_F32;
    return rank[a] > rank[b] ? a : b;
}

cld_dtype cld_result_dtype(const cld_array *a, const cld_array *b) {
    bool a_float = cld_dtype_is_float(a->dtype), b_float = cld_dtype_is_float(b->dtype);
    if ((a->ndim == 0) != (b->ndim == 0)) {
        if (b->ndim == 0 && (a_float || !b_float)) return a->dtype;
        if (a->ndim == 0 && (b_float || !a_float)) return b->dtype;
    }
    return promote(a->dtype, b->dtype);
}

cld_shape cld_shape_of(const cld_array *a) {
    cld_shape s = {.ndim = a->ndim};
    for (int i = 0; i < a->ndim; i++) s.extents[i] = a->shape[i];
    return s;
}

cld_status cld_broadcast_shapes(const char *op, const cld_array *a, const cld_array *b, cld_shape *out) {
    out->ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 1; i <= out->ndim; i++) {
        int64_t p = i <= a->ndim ? a->shape[a->ndim - i] : 1, q = i <= b->ndim ? b->shape[b->ndim - i] : 1;
        if (p != q && p != 1 && q != 1)
            return cld_fail(CLD_INVALID, "%s: %s and %s do not broadcast: %lld against %lld in dimension -%d",
                            op, cld_describe(a), cld_describe(b), (long long)p, (long long)q, i);
        out->extents[out->ndim - i] = p == 1 ? q : p;
    }
    return CLD_OK;
}

cld_array cld_broadcast_array(const cld_array *a, const cld_shape *shape) {
    cld_array wide = *a;
    wide.ndim = shape->ndim;
    for (int i = 1; i <= shape->ndim; i++) {
        bool repeated = i > a->ndim || a->shape[a->ndim - i] == 1;
        wide.shape[shape->ndim - i] = shape->extents[shape->ndim - i];
        wide.strides[shape->ndim - i] = repeated ? 0 : a->strides[a->ndim - i];
    }
    return wide;
}

cld_tensor *cld_reshaped(const cld_tensor *dense, const cld_shape *shape) {
    int64_t strides[CLD_MAX_DIMS], inside = 1;
    for (int i = shape->ndim - 1; i >= 0; inside *= shape->extents[i--]) strides[i] = inside;
    return cld_tensor_view(dense, shape->ndim, shape->extents, strides, dense->a.data);
}

cld_tensor *cld_sum_to(cld_tensor *g, const cld_shape *shape) {
    int dims[CLD_MAX_DIMS], count = 0, lead = g->a.ndim - shape->ndim;
    for (int i = 0; i < g->a.ndim; i++)
        if (i < lead || (shape->extents[i - lead] == 1 && g->a.shape[i] != 1)) dims[count++] = i;
    if (count == 0) return cld_tensor_retain(g);
    CLD_AUTO cld_tensor *sum = cld_sum(g, dims, count, true);
    if (!sum) return NULL;
    return cld_reshaped(sum, shape); /* without the leading ones */
}

cld_status cld_check_condition(const char *op, const cld_tensor *condition, const cld_backend *device) {
    if (!condition) return CLD_OK;
    if (condition->a.dtype != CLD_U8 || cld_numel(&condition->a) != 1)
        return cld_fail(CLD_INVALID, "%s: expected the condition as one element of u8, got %s", op,
                        cld_describe(&condition->a));
    if (cld_device(condition) != device)
        return cld_fail(CLD_INVALID, "%s: the condition is on %s, everything else on %s", op,
                        cld_device(condition)->name, device->name);
    return CLD_OK;
}
