/* conv2d: shape rule, forward, gradient.
 *
 * If the device decides that it pays (`rebuilds` in kernels/backend.h), an output is recomputed in backward from what
 * is saved for the convolution's own gradient. Then a following batch norm keeps no copy of its input.
 *
 * With a 16-bit precision (precision.h), x and y have 16 bits, the weight is rounded to them, and its gradient is in
 * f32. A device without such kernels computes in f32 from inputs that are rounded all the same; the casts of x and y
 * are then separate ops on the tape. */
#include "runtime/ops/ops.h"

#include <string.h>

/* ---- shared by conv.c, norm.c, pool.c ------------------------------------------------------------------ */

cld_tensor *cld_to_activation(cld_tensor *x) {
    const cld_backend *device = cld_device(x);
    cld_layout wanted =
        cld_slot(device, conv, layout) ? device->conv->layout(x->a.dtype, x->a.shape) : CLD_STRIDED;
    if (wanted == CLD_STRIDED) return cld_tensor_contiguous(x);
    if (x->a.layout == wanted) return cld_tensor_retain(x);
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(x->a.dtype, x->a.shape, device);
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(device, math, copy, &y->a, &x->a));
    return cld_tensor_steal(&y);
}

/* ---- shape rule ---------------------------------------------------------------------------------------- */

static cld_status check_params(const cld_conv_params *p) {
    for (int i = 0; i < 2; i++) {
        if (p->stride[i] < 1)
            return cld_fail(CLD_INVALID, "conv2d: stride must be at least 1, got %d", p->stride[i]);
        if (p->dilation[i] < 1)
            return cld_fail(CLD_INVALID, "conv2d: dilation must be at least 1, got %d", p->dilation[i]);
        if (p->padding[i] < 0)
            return cld_fail(CLD_INVALID, "conv2d: padding must not be negative, got %d", p->padding[i]);
    }
    if (p->groups < 1) return cld_fail(CLD_INVALID, "conv2d: groups must be at least 1, got %d", p->groups);
    return CLD_OK;
}

/* May a weight or bias have that dtype if x has this one? */
static bool goes_with(cld_dtype weight, cld_dtype x) {
    return cld_dtype_is_float(x) && (weight == x || (cld_dtype_is_half(x) && weight == CLD_F32));
}

static cld_status check_channels(const cld_array *x, const cld_array *w, const cld_array *bias, int groups) {
    const char *in = cld_describe(x), *weight = cld_describe(w);
    if (x->ndim != 4) return cld_fail(CLD_INVALID, "conv2d: expected a 4-d input (N, C, H, W), got %s", in);
    if (w->ndim != 4)
        return cld_fail(CLD_INVALID,
                        "conv2d: expected a 4-d weight (out, in / groups, height, width), got %s", weight);
    if (!goes_with(w->dtype, x->dtype) || (bias && !goes_with(bias->dtype, x->dtype)))
        return cld_fail(
            CLD_INVALID,
            "conv2d: input, weight and bias must share a floating-point dtype, or the input has 16 "
            "bits and the others f32: input %s, weight %s%s%s",
            in, weight, bias ? ", bias " : "", bias ? cld_describe(bias) : "");
    int64_t channels;
    if (__builtin_mul_overflow(w->shape[1], groups, &channels) || x->shape[1] != channels) {
        if (groups == 1)
            return cld_fail(CLD_INVALID,
                            "conv2d: x has %lld channels, the weight takes %lld (x is %s, the weight %s)",
                            (long long)x->shape[1], (long long)w->shape[1], in, weight);
        return cld_fail(
            CLD_INVALID,
            "conv2d: x has %lld channels, the weight in %d groups takes %lld (x is %s, the weight %s)",
            (long long)x->shape[1], groups, (long long)channels, in, weight);
    }
    if (w->shape[0] % groups != 0)
        return cld_fail(CLD_INVALID,
                        "conv2d: the %lld output channels of weight %s cannot be split into %d groups",
                        (long long)w->shape[0], weight, groups);
    if (bias && (bias->ndim != 1 || bias->shape[0] != w->shape[0]))
        return cld_fail(CLD_INVALID,
                        "conv2d: bias %s must have one element for each output channel of weight %s",
                        cld_describe(bias), weight);
    return CLD_OK;
}

/* floor((extent + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 along both axes. */
static cld_status output_shape(int64_t shape[4], const cld_array *x, const cld_array *w,
                               const cld_conv_params *p) {
    shape[0] = x->shape[0];
    shape[1] = w->shape[0];
    for (int i = 0; i < 2; i++) {
        int64_t reach = p->dilation[i] * (w->shape[2 + i] - 1) + 1,
                padded = x->shape[2 + i] + 2 * (int64_t)p->padding[i];
        if (w->shape[2 + i] < 1 || reach > padded)
            return cld_fail(
                CLD_INVALID,
                "conv2d: the kernel of weight %s spans %lld %s, but input %s has only %lld with its padding",
                cld_describe(w), (long long)reach, i ? "columns" : "rows", cld_describe(x),
                (long long)padded);
        shape[2 + i] = (padded - reach) / p->stride[i] + 1;
    }
    return CLD_OK;
}

/* ---- gradient ------------------------------------------------------------------------------------------ */

enum { SAVED_X, SAVED_W };
enum { INPUT_X, INPUT_W, INPUT_BIAS, INPUTS };

typedef struct conv_node {
    cld_conv_params params;
    int64_t x[4], w[4]; /* their shapes */
    cld_dtype weight, bias;
} conv_node;

/* A separate function, so that an x rebuilt for it is freed before dx is allocated. */
static cld_status weight_gradient(cld_node *n, cld_tensor *dy, cld_tensor **dw, cld_tensor **dbias) {
    const conv_node *c = cld_node_params(n, conv_node);
    cld_dtype dtype = cld_vector_dtype(dy->a.dtype);
    bool as_it_comes = n->device->conv->weight_like && n->edges[INPUT_W].leaf;
    CLD_AUTO cld_tensor *x = cld_node_saved(n, SAVED_X);
    if (!x) return cld_error_code();
    CLD_AUTO cld_tensor *weight = cld_tensor_new(as_it_comes ? dy->a.dtype : dtype, 4, c->w, n->device),
                        *bias = NULL;
    if (!weight) return cld_error_code();
    if (as_it_comes) weight->a.layout = n->device->conv->weight_layout(dy->a.dtype, c->w);
    if (cld_node_needs(n, INPUT_BIAS)) {
        bias = cld_tensor_new(dtype, 1, c->w, n->device);
        if (!bias) return cld_error_code();
    }
    CLD_TRY(cld_kernel(n->device, conv, conv2d_weight, &weight->a, cld_array_of(bias), &x->a, &dy->a,
                       &c->params));
    *dw = as_it_comes ? cld_tensor_retain(weight) : cld_tensor_as(weight, c->weight, n->device);
    *dbias = bias ? cld_tensor_as(bias, c->bias, n->device) : NULL;
    return *dw && (*dbias || !bias) ? CLD_OK : cld_error_code();
}

static cld_tensor *data_gradient(cld_node *n, cld_tensor *dy) {
    const conv_node *c = cld_node_params(n, conv_node);
    CLD_AUTO cld_tensor *w = cld_node_saved(n, SAVED_W);
    if (!w) return NULL;
    CLD_AUTO cld_tensor *dx = cld_tensor_new_activation(dy->a.dtype, c->x, n->device);
    if (!dx) return NULL;
    CLD_TRY_NULL(cld_kernel(n->device, conv, conv2d_data, &dx->a, &dy->a, &w->a, &c->params));
    return cld_tensor_steal(&dx);
}

static cld_status conv_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *dy = cld_to_activation(dout[0]);
    if (!dy) return cld_error_code();
    if (cld_node_needs(n, INPUT_W) || cld_node_needs(n, INPUT_BIAS))
        CLD_TRY(weight_gradient(n, dy, &din[INPUT_W], &din[INPUT_BIAS]));
    if (cld_node_needs(n, INPUT_X)) {
        din[INPUT_X] = data_gradient(n, dy);
        if (!din[INPUT_X]) return cld_error_code();
    }
    return CLD_OK;
}

/* Recomputes the output. Its input is kept, because the convolution's own gradient comes next and needs it too. */
static cld_tensor *conv_rebuild(cld_node *n) {
    const conv_node *c = cld_node_params(n, conv_node);
    const cld_array *out = &n->output_meta[0];
    CLD_AUTO cld_tensor *x = cld_node_saved_kept(n, SAVED_X), *w = NULL;
    if (x) w = cld_node_saved(n, SAVED_W);
    if (!w) return NULL;
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(out->dtype, out->shape, n->device);
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(n->device, conv, conv2d, &y->a, &x->a, &w->a, NULL, &c->params));
    return cld_tensor_steal(&y);
}

static const cld_op conv_op = {.name = "conv2d", .backward = conv_backward, .rebuild = conv_rebuild};

/* Only from what is saved anyway, without a bias; and the device must decide that it pays. */
static bool can_rebuild(const cld_node *n, const cld_tensor *bias) {
    const conv_node *c = cld_node_params(n, conv_node);
    bool saved = cld_node_has(n, SAVED_X) && cld_node_has(n, SAVED_W);
    return saved && !bias && cld_slot(n->device, conv, rebuilds) &&
           n->device->conv->rebuilds(c->x, c->w, n->output_meta[0].shape);
}

/* ---- forward ------------------------------------------------------------------------------------------- */

/* x in the dtype and in the device's layout, in one pass if the cast needs no gradient. */
static cld_tensor *rounded_activation(cld_tensor *x, cld_dtype dtype) {
    if (cld_needs_grad(&x, 1)) return cld_cast(x, dtype);
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(dtype, x->a.shape, cld_device(x));
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, copy, &y->a, &x->a));
    return cld_tensor_steal(&y);
}

/* x is in the form that the device's kernels take; the weight is rounded. */
static cld_tensor *convolve(cld_tensor *x, cld_tensor *weight, cld_tensor *bias, cld_dtype rounded,
                            const cld_conv_params *p, const int64_t shape[4]) {
    const cld_backend *device = cld_device(x);
    cld_weight_form form = {.rounded = rounded, .dtype = x->a.dtype, .layout = CLD_STRIDED};
    if (cld_slot(device, conv, weight_layout))
        form.layout = device->conv->weight_layout(x->a.dtype, weight->a.shape);
    CLD_AUTO cld_tensor *input = cld_to_activation(x), *w = cld_weight_as(weight, form), *b = NULL;
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(x->a.dtype, shape, device);
    if (bias) {
        CLD_AUTO cld_tensor *dense = cld_tensor_contiguous(bias);
        b = dense ? cld_tensor_as(dense, cld_vector_dtype(x->a.dtype), device) : NULL;
    }
    if (!input || !w || !y || (bias && !b)) return NULL;
    CLD_TRY_NULL(cld_kernel(device, conv, conv2d, &y->a, &input->a, &w->a, cld_array_of(b), p));

    cld_node *n = cld_record(&conv_op, &y, 1, (cld_tensor *[]){x, weight, bias}, INPUTS);
    if (n) {
        conv_node *c = cld_node_params(n, conv_node);
        *c = (conv_node){.params = *p, .weight = weight->a.dtype, .bias = bias ? bias->a.dtype : CLD_F32};
        memcpy(c->x, x->a.shape, sizeof c->x);
        memcpy(c->w, weight->a.shape, sizeof c->w);
        if (cld_node_needs(n, INPUT_W) || cld_node_needs(n, INPUT_BIAS)) cld_node_save(n, SAVED_X, input);
        if (cld_node_needs(n, INPUT_X)) cld_node_save(n, SAVED_W, w);
        n->rebuildable = can_rebuild(n, bias);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_conv2d(cld_tensor *x, cld_tensor *weight, cld_tensor *bias, const cld_conv_params *p) {
    const cld_backend *device = cld_device(x);
    cld_dtype dtype = cld_factor_dtype(x);
    int64_t shape[4];
    CLD_TRY_NULL(cld_check_same_device("conv2d", x, weight));
    if (bias) CLD_TRY_NULL(cld_check_same_device("conv2d", x, bias));
    CLD_TRY_NULL(check_params(p));
    CLD_TRY_NULL(check_channels(&x->a, &weight->a, bias ? &bias->a : NULL, p->groups));
    CLD_TRY_NULL(output_shape(shape, &x->a, &weight->a, p));
    CLD_AUTO cld_tensor *input = x->a.dtype == dtype ? cld_tensor_retain(x) : rounded_activation(x, dtype);
    if (!input) return NULL;
    if (!cld_dtype_is_half(dtype) || cld_device_accepts_half(device))
        return convolve(input, weight, bias, dtype, p, shape);
    CLD_AUTO cld_tensor *wide = cld_cast(input, CLD_F32);
    CLD_AUTO cld_tensor *y = wide ? convolve(wide, weight, bias, dtype, p, shape) : NULL;
    return y ? cld_cast(y, dtype) : NULL;
}
