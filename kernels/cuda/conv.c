/* The table for convolution, normalization and pooling. Convolutions are cuDNN's (dnn.h), channels last; here weights
 * are converted to the activations' dtype and to that layout, and the bias is added. If activations have 16 bits, the
 * gradient of a weight is rounded to 16 bits too, because cuDNN has no engine that sums in f32 and stores f32. A caller
 * that can use the rounded gradient gets it as it is: an optimizer reads it, and if it cannot, the gradients of all
 * weights are cast at once (copy_many). */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/dnn.h"

/* A map with one position, or one channel, has the same bytes either way, and strided is simpler: the output of a
 * global average is ready to be flattened. The same holds for weights. */
static cld_layout layout(cld_dtype dtype, const int64_t *shape) {
    bool is_float = dtype == CLD_F32 || dtype == CLD_F64 || dtype == CLD_BF16 || dtype == CLD_F16;
    return is_float && shape[1] > 1 && shape[2] * shape[3] > 1 ? CLD_BLOCKED : CLD_STRIDED;
}

static cld_dnn_shape shape_of(const cld_array *x, const cld_array *y, const cld_array *w,
                              const cld_conv_params *p) {
    cld_dnn_shape s = {.dtype = x->dtype,
                       .n = x->shape[0],
                       .c = x->shape[1],
                       .h = x->shape[2],
                       .w = x->shape[3],
                       .o = y->shape[1],
                       .oh = y->shape[2],
                       .ow = y->shape[3],
                       .groups = p->groups};
    for (int i = 0; i < 2; i++) {
        s.kernel[i] = (int)w->shape[2 + i];
        s.stride[i] = p->stride[i];
        s.padding[i] = p->padding[i];
        s.dilation[i] = p->dilation[i];
    }
    return s;
}

/* A vector as f32, or as f64 if the activation is f64. */
static cld_status vector(cld_array *out, cld_scratch_block *block, const cld_array *a, cld_dtype activation) {
    cld_dtype dtype = activation == CLD_F64 ? CLD_F64 : CLD_F32;
    *out = *a;
    if (a->dtype == dtype) return CLD_OK;
    CLD_TRY(cld_cuda_scratch(block, (size_t)a->shape[0] * cld_dtype_size(dtype)));
    out->data = block->data;
    out->dtype = dtype;
    out->strides[0] = 1;
    return cld_cuda_math.copy(out, a);
}

static cld_status conv2d(const cld_array *y, const cld_array *x, const cld_array *w, const cld_array *bias,
                         const cld_conv_params *p) {
    if (cld_numel(y) == 0) return CLD_OK;
    CLD_SCRATCH y_block = {0};
    CLD_SCRATCH x_block = {0};
    CLD_SCRATCH w_block = {0};
    CLD_SCRATCH bias_block = {0};
    cld_array out, in, weight, add;
    CLD_TRY(cld_cuda_channels_last(&out, &y_block, y, y->dtype, CLD_WRITE));
    if (cld_numel(w) == 0) {
        CLD_TRY(cld_cuda_math.fill(&out, cld_integer(0)));
    } else {
        CLD_TRY(cld_cuda_channels_last(&in, &x_block, x, x->dtype, CLD_READ));
        CLD_TRY(cld_cuda_channels_last(&weight, &w_block, w, x->dtype, CLD_READ));
        cld_dnn_shape s = shape_of(x, y, w, p);
        CLD_TRY(cld_cuda_convolve(CLD_DNN_FORWARD, in.data, weight.data, out.data, &s));
    }
    if (bias) {
        CLD_TRY(vector(&add, &bias_block, bias, y->dtype));
        CLD_TRY(cld_cuda_add_bias(&out, &add));
    }
    return cld_cuda_deliver(y, &out);
}

static cld_status conv2d_data(const cld_array *dx, const cld_array *dy, const cld_array *w,
                              const cld_conv_params *p) {
    if (cld_numel(dx) == 0) return CLD_OK;
    if (cld_numel(dy) == 0) return cld_cuda_math.fill(dx, cld_integer(0));
    CLD_SCRATCH dx_block = {0};
    CLD_SCRATCH dy_block = {0};
    CLD_SCRATCH w_block = {0};
    cld_array out, in, weight;
    CLD_TRY(cld_cuda_channels_last(&out, &dx_block, dx, dx->dtype, CLD_WRITE));
    CLD_TRY(cld_cuda_channels_last(&in, &dy_block, dy, dy->dtype, CLD_READ));
    CLD_TRY(cld_cuda_channels_last(&weight, &w_block, w, dx->dtype, CLD_READ));
    cld_dnn_shape s = shape_of(dx, dy, w, p);
    CLD_TRY(cld_cuda_convolve(CLD_DNN_DATA, out.data, weight.data, in.data, &s));
    return cld_cuda_deliver(dx, &out);
}

static cld_status conv2d_weight(const cld_array *dw, const cld_array *dbias, const cld_array *x,
                                const cld_array *dy, const cld_conv_params *p) {
    if (cld_numel(x) == 0 || cld_numel(dy) == 0) {
        CLD_TRY(cld_cuda_math.fill(dw, cld_integer(0)));
        return dbias ? cld_cuda_math.fill(dbias, cld_integer(0)) : CLD_OK;
    }
    CLD_SCRATCH dw_block = {0};
    CLD_SCRATCH x_block = {0};
    CLD_SCRATCH dy_block = {0};
    cld_array out, in, gradient;
    CLD_TRY(cld_cuda_channels_last(&out, &dw_block, dw, x->dtype, CLD_WRITE));
    CLD_TRY(cld_cuda_channels_last(&in, &x_block, x, x->dtype, CLD_READ));
    CLD_TRY(cld_cuda_channels_last(&gradient, &dy_block, dy, dy->dtype, CLD_READ));
    cld_dnn_shape s = shape_of(x, dy, dw, p);
    CLD_TRY(cld_cuda_convolve(CLD_DNN_WEIGHT, in.data, out.data, gradient.data, &s));
    if (dbias) CLD_TRY(cld_cuda_bias_gradient(dbias, &gradient));
    return cld_cuda_deliver(dw, &out);
}

const cld_conv_ops cld_cuda_conv = {
    .layout = layout,
    .weight_layout = layout,
    .accepts_half = true,
    .weight_like = true,
    .keeps_below = 0.25,
    .adds_dy = true,
    .masks = true,
    .conv2d = conv2d,
    .conv2d_data = conv2d_data,
    .conv2d_weight = conv2d_weight,
    .norm = cld_cuda_norm,
    .norm_apply = cld_cuda_norm_apply,
    .norm_backward = cld_cuda_norm_backward,
    .norm_sums = cld_cuda_norm_sums,
    .norm_backward_sums = cld_cuda_norm_backward_sums,
    .max_pool = cld_cuda_max_pool,
    .max_pool_backward = cld_cuda_max_pool_backward,
    .avg_pool = cld_cuda_avg_pool,
    .avg_pool_backward = cld_cuda_avg_pool_backward,
};
