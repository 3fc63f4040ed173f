/* The CPU's table for convolution, normalization and pooling, and the choice of a convolution: for f32, matrix products
 * on maps of a few pixels, Winograd's algorithm or oneDNN; for f64, plain loops. */
#include "kernels/cpu/conv_matrix.h"
#include "kernels/cpu/conv_onednn.h"
#include "kernels/cpu/conv_reference.h"
#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/pool.h"

#include <stdatomic.h>
#include <string.h>

#define MOST_PRODUCTS 128 /* per element that is recomputed in backward */

static atomic_bool use_winograd = true;

static bool set_winograd(bool on) { return atomic_exchange(&use_winograd, on); }

/* 16 adjacent channels fill a vector. A 1 x 1 map has the same bytes either way, and strided is simpler. */
static cld_layout layout(cld_dtype dtype, const int64_t *shape) {
    bool blocked = dtype == CLD_F32 && shape[1] > 0 && shape[1] % 16 == 0 && shape[2] * shape[3] != 1;
    return blocked && cld_onednn_isa() != CLD_ISA_OTHER ? CLD_BLOCKED : CLD_STRIDED;
}

/* True for an output that is larger than its input and has few products per element: the third convolution of a
 * bottleneck, and the shortcut beside it. ResNet-50 at 224 pixels: 3 to 5 % more time, a quarter less memory. */
static bool rebuilds(const int64_t *x, const int64_t *w, const int64_t *y) {
    bool larger = y[1] * y[2] * y[3] > x[1] * x[2] * x[3];
    return larger && w[1] * w[2] * w[3] <= MOST_PRODUCTS;
}

/* oneDNN has Winograd's algorithm only for AVX-512, and is faster there than ours if there are many channels. */
static cld_status convolve(cld_conv_direction direction, const cld_conv_arrays *arrays,
                           const cld_conv_params *p) {
    bool winograd = use_winograd;
    if (cld_matrix_takes(arrays, p)) return cld_matrix_conv(direction, arrays, p);
    if (winograd && cld_onednn_isa() != CLD_ISA_OTHER && cld_winograd_takes(arrays, p))
        return cld_winograd_conv(direction, arrays, p);
    return cld_onednn_conv(direction, arrays, p, winograd);
}

static bool is_empty(const cld_array *a) {
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] == 0) return true;
    return false;
}

static void zero(const cld_array *a) {
    size_t bytes = a->dtype == CLD_F64 ? 8 : 4;
    for (int i = 0; i < a->ndim; i++) bytes *= (size_t)a->shape[i];
    memset(a->data, 0, bytes);
}

static cld_status unsupported(const char *op) {
    return cld_fail(CLD_UNSUPPORTED, "%s: the cpu computes it in f32 and f64", op);
}

static cld_status conv2d(const cld_array *y, const cld_array *x, const cld_array *w, const cld_array *bias,
                         const cld_conv_params *p) {
    if (is_empty(y)) return CLD_OK;
    if (x->dtype == CLD_F32) return convolve(CLD_CONV_FORWARD, &(cld_conv_arrays){x, w, y, bias}, p);
    if (x->dtype != CLD_F64) return unsupported("conv2d");
    cld_reference_conv2d(y, x, w, bias, p);
    return CLD_OK;
}

static cld_status conv2d_data(const cld_array *dx, const cld_array *dy, const cld_array *w,
                              const cld_conv_params *p) {
    if (is_empty(dx)) return CLD_OK;
    if (dx->dtype == CLD_F32) return convolve(CLD_CONV_DATA, &(cld_conv_arrays){dx, w, dy, NULL}, p);
    if (dx->dtype != CLD_F64) return unsupported("conv2d");
    cld_reference_conv2d_data(dx, dy, w, p);
    return CLD_OK;
}

static cld_status conv2d_weight(const cld_array *dw, const cld_array *dbias, const cld_array *x,
                                const cld_array *dy, const cld_conv_params *p) {
    if (is_empty(x)) {
        zero(dw);
        if (dbias) zero(dbias);
        return CLD_OK;
    }
    if (x->dtype == CLD_F32) return convolve(CLD_CONV_WEIGHTS, &(cld_conv_arrays){x, dw, dy, dbias}, p);
    if (x->dtype != CLD_F64) return unsupported("conv2d");
    cld_reference_conv2d_weight(dw, dbias, x, dy, p);
    return CLD_OK;
}

const cld_conv_ops cld_cpu_conv = {
    .layout = layout,
    .set_winograd = set_winograd,
    .rebuilds = rebuilds,
    .conv2d = conv2d,
    .conv2d_data = conv2d_data,
    .conv2d_weight = conv2d_weight,
    .norm = cld_cpu_norm,
    .norm_apply = cld_cpu_norm_apply,
    .norm_backward = cld_cpu_norm_backward,
    .norm_sums = cld_cpu_norm_sums,
    .norm_backward_sums = cld_cpu_norm_backward_sums,
    .max_pool = cld_cpu_max_pool,
    .max_pool_backward = cld_cpu_max_pool_backward,
    .avg_pool = cld_cpu_avg_pool,
    .avg_pool_backward = cld_cpu_avg_pool_backward,
};
