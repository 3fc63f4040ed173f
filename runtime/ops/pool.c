/* max_pool2d and avg_pool2d: shape rule, forward, gradient. A global average is avg_pool2d with the map's own
 * size as its kernel. */
#include "runtime/ops/ops.h"

#include <string.h>

/* ---- shape rule, shared -------------------------------------------------------------------------------- */

static cld_status output_shape(int64_t shape[4], const char *op, const cld_array *x,
                               const cld_pool_params *p) {
    const char *input = cld_describe(x);
    if (x->ndim != 4)
        return cld_fail(CLD_INVALID, "%s: expected a 4-d input (N, C, H, W), got %s", op, input);
    if (!cld_dtype_is_float(x->dtype))
        return cld_fail(CLD_INVALID, "%s: expected a floating-point input, got %s", op, input);
    shape[0] = x->shape[0];
    shape[1] = x->shape[1];
    for (int i = 0; i < 2; i++) {
        int64_t padded = x->shape[2 + i] + 2 * (int64_t)p->padding[i];
        if (p->kernel[i] < 1 || p->stride[i] < 1)
            return cld_fail(CLD_INVALID, "%s: kernel and stride must be at least 1, got %d and %d", op,
                            p->kernel[i], p->stride[i]);
        if (p->padding[i] < 0 || p->padding[i] > p->kernel[i] / 2)
            return cld_fail(CLD_INVALID, "%s: padding must be from 0 to half the kernel (%d), got %d", op,
                            p->kernel[i] / 2, p->padding[i]);
        if (p->kernel[i] > padded)
            return cld_fail(CLD_INVALID,
                            "%s: the kernel has %d %s, but input %s has only %lld with its padding", op,
                            p->kernel[i], i ? "columns" : "rows", input, (long long)padded);
        shape[2 + i] = (padded - p->kernel[i]) / p->stride[i] + 1;
    }
    return CLD_OK;
}

typedef struct pool_node {
    cld_pool_params params;
    int64_t x[4]; /* its shape */
    cld_dtype dtype;
} pool_node;

enum { SAVED_ARGMAX };

static void set_node(cld_node *n, const cld_tensor *x, const cld_pool_params *p) {
    pool_node *node = cld_node_params(n, pool_node);
    node->params = *p;
    memcpy(node->x, x->a.shape, sizeof node->x);
    node->dtype = x->a.dtype;
}

static cld_status pool_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const pool_node *p = cld_node_params(n, pool_node);
    CLD_AUTO cld_tensor *dy = cld_to_activation(dout[0]);
    CLD_AUTO cld_tensor *dx = cld_tensor_new_activation(p->dtype, p->x, n->device);
    if (!dy || !dx) return cld_error_code();
    if (cld_node_has(n, SAVED_ARGMAX)) {
        CLD_AUTO cld_tensor *argmax = cld_node_saved(n, SAVED_ARGMAX);
        if (!argmax) return cld_error_code();
        CLD_TRY(cld_kernel(n->device, conv, max_pool_backward, &dx->a, &dy->a, &argmax->a, &p->params));
    } else {
        CLD_TRY(cld_kernel(n->device, conv, avg_pool_backward, &dx->a, &dy->a, &p->params));
    }
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}

/* ---- the two pools ------------------------------------------------------------------------------------- */

/* For 16 bits, if the device has no kernels for them: computed in f32, and rounded to dtype. */
static cld_tensor *in_f32(cld_tensor *(*pool)(cld_tensor *, const cld_pool_params *), cld_tensor *x,
                          const cld_pool_params *p, cld_dtype dtype) {
    CLD_AUTO cld_tensor *wide = cld_cast(x, CLD_F32);
    if (!wide) return NULL;
    CLD_AUTO cld_tensor *y = pool(wide, p);
    return y ? cld_cast(y, dtype) : NULL;
}

cld_tensor *cld_max_pool2d(cld_tensor *x, const cld_pool_params *p) {
    static const cld_op op = {.name = "max_pool2d", .backward = pool_backward};
    const cld_backend *device = cld_device(x);
    int64_t shape[4];
    CLD_TRY_NULL(output_shape(shape, op.name, &x->a, p));
    if (cld_dtype_is_half(x->a.dtype) && !cld_device_accepts_half(device))
        return in_f32(cld_max_pool2d, x, p, x->a.dtype);
    CLD_AUTO cld_tensor *input = cld_to_activation(x), *argmax = cld_tensor_new(CLD_I32, 4, shape, device);
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(x->a.dtype, shape, device);
    if (!input || !argmax || !y) return NULL;
    argmax->a.layout = y->a.layout;
    CLD_TRY_NULL(cld_kernel(device, conv, max_pool, &y->a, &argmax->a, &input->a, p));
    cld_node *n = cld_record(&op, &y, 1, &x, 1);
    if (n) {
        set_node(n, x, p);
        cld_node_save(n, SAVED_ARGMAX, argmax);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_avg_pool2d(cld_tensor *x, const cld_pool_params *p) {
    static const cld_op op = {.name = "avg_pool2d", .backward = pool_backward};
    const cld_backend *device = cld_device(x);
    int64_t shape[4];
    CLD_TRY_NULL(output_shape(shape, op.name, &x->a, p));
    /* A single value per map is not a map but a feature. */
    cld_dtype dtype = shape[2] == 1 && shape[3] == 1 ? cld_feature_dtype(x) : x->a.dtype;
    if (cld_dtype_is_half(x->a.dtype) && !cld_device_accepts_half(device))
        return in_f32(cld_avg_pool2d, x, p, dtype);
    CLD_AUTO cld_tensor *input = cld_to_activation(x);
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(dtype, shape, device);
    if (!input || !y) return NULL;
    CLD_TRY_NULL(cld_kernel(device, conv, avg_pool, &y->a, &input->a, p));
    cld_node *n = cld_record(&op, &y, 1, &x, 1);
    if (n) set_node(n, x, p);
    return cld_tensor_steal(&y);
}

cld_tensor *cld_global_avg_pool2d(cld_tensor *x) {
    if (x->a.ndim != 4)
        return cld_fail_null(CLD_INVALID, "adaptive_avg_pool2d: expected a 4-d input (N, C, H, W), got %s",
                             cld_describe(&x->a));
    int64_t height = x->a.shape[2], width = x->a.shape[3];
    if (height > INT32_MAX || width > INT32_MAX)
        return cld_fail_null(CLD_INVALID, "adaptive_avg_pool2d: the maps of %s are too large",
                             cld_describe(&x->a));
    return cld_avg_pool2d(x, &(cld_pool_params){.kernel = {(int)height, (int)width}, .stride = {1, 1}});
}
