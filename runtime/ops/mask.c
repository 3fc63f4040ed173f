/* Selecting and writing by a mask: nonzero means chosen. The number of chosen elements depends on the data, so these
 * read one number back from the device and do not belong in a training step on CUDA. The selection itself is
 * index_select, which has the gradient. */
#include "runtime/ops/ops.h"

static cld_status check_mask(const char *op, const cld_tensor *x, const cld_tensor *mask) {
    CLD_TRY(cld_check_same_device(op, x, mask));
    return cld_check_mask(op, mask);
}

cld_tensor *cld_nonzero(cld_tensor *x) {
    const cld_backend *device = cld_device(x);
    double count = 0;
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *values = strided ? cld_tensor_detach(strided) : NULL;
    CLD_AUTO cld_tensor *chosen = values ? cld_unary_op(CLD_NE_SCALAR, values, 0, 0) : NULL;
    CLD_AUTO cld_tensor *total = chosen ? cld_sum(chosen, NULL, 0, false) : NULL;
    if (!total) return NULL;
    CLD_TRY_NULL(cld_tensor_item(total, &count));
    CLD_AUTO cld_tensor *places = cld_tensor_new(CLD_I64, 2, (int64_t[]){(int64_t)count, x->a.ndim}, device);
    if (!places) return NULL;
    CLD_TRY_NULL(cld_kernel(device, math, nonzero, &places->a, &strided->a));
    return cld_tensor_steal(&places);
}

/* The positions of chosen elements, in row-major order: i64, one dimension. */
static cld_tensor *flat_places(cld_tensor *mask) {
    CLD_AUTO cld_tensor *flat = cld_flatten(mask, 0, -1);
    CLD_AUTO cld_tensor *places = flat ? cld_nonzero(flat) : NULL;
    return places ? cld_squeeze(places, 1) : NULL;
}

cld_tensor *cld_masked_select(cld_tensor *x, cld_tensor *mask) {
    cld_shape shape;
    CLD_TRY_NULL(check_mask("masked_select", x, mask));
    CLD_TRY_NULL(cld_broadcast_shapes("masked_select", &x->a, &mask->a, &shape));
    CLD_AUTO cld_tensor *wide_mask = cld_expand(mask, shape.ndim, shape.extents);
    CLD_AUTO cld_tensor *wide = wide_mask ? cld_expand(x, shape.ndim, shape.extents) : NULL;
    return wide ? cld_mask_rows(wide, wide_mask) : NULL;
}

cld_tensor *cld_masked_fill(cld_tensor *x, cld_tensor *mask, cld_tensor *value) {
    cld_shape shape;
    CLD_TRY_NULL(check_mask("masked_fill", x, mask));
    CLD_TRY_NULL(cld_broadcast_shapes("masked_fill", &x->a, &mask->a, &shape));
    if (cld_numel(&value->a) != 1)
        return cld_fail_null(CLD_INVALID, "masked_fill: the value must be a number or one element, got %s",
                             cld_describe(&value->a));
    CLD_AUTO cld_tensor *one = cld_reshape(value, 0, NULL);
    return one ? cld_where(mask, one, x) : NULL;
}

cld_status cld_masked_fill_(cld_tensor *x, cld_tensor *mask, cld_tensor *value) {
    CLD_TRY(cld_check_in_place("masked_fill_", x));
    CLD_AUTO cld_tensor *y = cld_masked_fill(x, mask, value);
    return y ? cld_store_("masked_fill_", x, y) : cld_error_code();
}

/* The mask's dimensions are x's first ones; returns x with these joined into one. */
static cld_tensor *masked_rows(const char *op, cld_tensor *x, cld_tensor *mask) {
    bool fits = mask->a.ndim <= x->a.ndim;
    for (int i = 0; fits && i < mask->a.ndim; i++) fits = mask->a.shape[i] == x->a.shape[i];
    CLD_TRY_NULL(check_mask(op, x, mask));
    if (!fits)
        return cld_fail_null(CLD_INVALID,
                             "%s: the mask %s does not fit %s, whose first dimensions it must have", op,
                             cld_describe(&mask->a), cld_describe(&x->a));
    if (mask->a.ndim == 0) return cld_unsqueeze(x, 0);
    return cld_flatten(x, 0, mask->a.ndim - 1);
}

cld_tensor *cld_mask_rows(cld_tensor *x, cld_tensor *mask) {
    CLD_AUTO cld_tensor *rows = masked_rows("selection by a mask", x, mask);
    CLD_AUTO cld_tensor *places = rows ? flat_places(mask) : NULL;
    return places ? cld_index_select(rows, 0, places) : NULL;
}

cld_status cld_mask_assign(cld_tensor *x, cld_tensor *mask, cld_tensor *value) {
    CLD_TRY(cld_check_in_place("assignment by a mask", x));
    CLD_AUTO cld_tensor *plain = cld_tensor_detach(x);
    CLD_AUTO cld_tensor *rows = plain ? masked_rows("assignment by a mask", plain, mask) : NULL;
    CLD_AUTO cld_tensor *places = rows ? flat_places(mask) : NULL;
    if (!places) return cld_error_code();
    CLD_TRY(cld_index_assign(rows, places, value));
    if (rows->storage == x->storage) return CLD_OK;
    CLD_AUTO cld_tensor *result = cld_reshape(rows, x->a.ndim, x->a.shape); /* the rows had to be a copy */
    return result ? cld_tensor_copy(x, result) : cld_error_code();
}
