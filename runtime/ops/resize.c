/* interpolate and adaptive_avg_pool2d. Along an axis each is a weighted sum over a window, with weights computed on the
 * host. The gradient is the same with the windows transposed: the rows of the result that an element contributes to. 16
 * bits are computed in f32. The weights are PyTorch's (aten/src/ATen/native/UpSample.h, its antialiased filter
 * UpSampleKernel.cpp). */
#include "runtime/ops/ops.h"

#include <math.h>
#include <stdlib.h>

/* ---- windows ------------------------------------------------------------------------------------------- */

typedef enum axis_kind { AREA, NEAREST, LINEAR, ANTIALIASED } axis_kind;

/* `extent` elements become `rows`; one step of the result is `scale` elements. */
typedef struct axis {
    axis_kind kind;
    int64_t extent, rows;
    double scale;
    bool align_corners; /* LINEAR */
    bool wide;          /* for f64: the nearest index is computed in double, else in float, as in PyTorch */
} axis;

/* Row i is the sum of weights[i * width + k] times element first[i] + k. */
typedef struct windows {
    int64_t rows, width;
    int64_t *first;
    double *weights;
} windows;

static void drop_windows(windows *w) {
    free(w->first);
    free(w->weights);
}
#define AUTO_WINDOWS __attribute__((cleanup(drop_windows))) windows

static cld_status new_windows(windows *w, int64_t rows, int64_t width) {
    size_t count = (size_t)rows * (size_t)width;
    *w = (windows){rows, width, malloc((size_t)rows * sizeof *w->first + 1),
                   calloc(count + 1, sizeof *w->weights)};
    return w->first && w->weights ? CLD_OK : cld_fail(CLD_NOMEM, "out of memory for the windows of a resize");
}

static int64_t within(int64_t i, int64_t least, int64_t most) {
    return i < least ? least : i > most ? most : i;
}

/* The elements that row i may need: *begin to *end - 1. */
static void range_of(const axis *a, int64_t i, int64_t *begin, int64_t *end) {
    switch (a->kind) {
    case AREA:
        *begin = i * a->extent / a->rows;
        *end = ((i + 1) * a->extent + a->rows - 1) / a->rows;
        break;
    case NEAREST: {
        int64_t at =
            a->wide ? (int64_t)floor((double)i * a->scale) : (int64_t)floorf((float)i * (float)a->scale);
        *begin = within(at, 0, a->extent - 1);
        *end = *begin + 1;
        break;
    }
    case LINEAR: {
        double at = a->align_corners ? (double)i * a->scale : ((double)i + 0.5) * a->scale - 0.5;
        *begin = within((int64_t)floor(at), 0, a->extent - 1);
        *end = within(*begin + 2, 1, a->extent);
        break;
    }
    default: {
        double support = a->scale > 1 ? a->scale : 1, center = a->scale * ((double)i + 0.5);
        *begin = within((int64_t)(center - support + 0.5), 0, a->extent - 1);
        *end = within((int64_t)(center + support + 0.5), *begin + 1, a->extent);
    }
    }
}

static double linear_weight(const axis *a, int64_t i, int64_t at, int64_t begin) {
    double source = a->align_corners ? (double)i * a->scale : ((double)i + 0.5) * a->scale - 0.5;
    double share = source < 0 ? 0 : source - (double)begin; /* of the next element */
    if (begin == a->extent - 1) share = 0;
    return at == begin ? 1 - share : share;
}

/* The weight of element `at`, before the antialiased ones are divided by their sum. */
static double weight_of(const axis *a, int64_t i, int64_t at, int64_t begin, int64_t end) {
    switch (a->kind) {
    case AREA: return 1 / (double)(end - begin);
    case NEAREST: return 1;
    case LINEAR: return linear_weight(a, i, at, begin);
    default: {
        double center = a->scale * ((double)i + 0.5), by = a->scale > 1 ? 1 / a->scale : 1;
        double distance = fabs(((double)at - center + 0.5) * by);
        return distance < 1 ? 1 - distance : 0;
    }
    }
}

static cld_status windows_of(windows *w, const axis *a) {
    int64_t width = 1, begin, end;
    for (int64_t i = 0; i < a->rows; i++) {
        range_of(a, i, &begin, &end);
        width = end - begin > width ? end - begin : width;
    }
    CLD_TRY(new_windows(w, a->rows, width));
    for (int64_t i = 0; i < a->rows; i++) {
        double sum = 0;
        range_of(a, i, &begin, &end);
        w->first[i] = begin;
        for (int64_t at = begin; at < end; at++)
            sum += w->weights[i * width + at - begin] = weight_of(a, i, at, begin, end);
        for (int64_t at = begin; a->kind == ANTIALIASED && at < end; at++)
            w->weights[i * width + at - begin] /= sum;
    }
    return CLD_OK;
}

/* The windows of the gradient: row j, of `extent`, lists the rows of w that element j contributes to. Both ends of w's
 * windows only grow, so these rows are consecutive. */
static cld_status turned_around(windows *t, const windows *w, int64_t extent) {
    int64_t width = 1, begin = 0, end = 0;
    for (int64_t j = 0; j < extent; j++) {
        while (begin < w->rows && w->first[begin] + w->width <= j) begin++;
        while (end < w->rows && w->first[end] <= j) end++;
        width = end - begin > width ? end - begin : width;
    }
    CLD_TRY(new_windows(t, extent, width));
    begin = 0;
    for (int64_t j = 0; j < extent; j++) {
        while (begin < w->rows && w->first[begin] + w->width <= j) begin++;
        t->first[j] = begin;
        for (int64_t i = begin; i < w->rows && w->first[i] <= j; i++)
            t->weights[j * width + i - begin] = w->weights[i * w->width + j - w->first[i]];
    }
    return CLD_OK;
}

/* ---- one axis ------------------------------------------------------------------------------------------ */

/* x (dense, f32 or f64) with `rows` in place of dimension dim. Off the tape. */
static cld_tensor *apply(const cld_tensor *x, int dim, const windows *w) {
    const cld_backend *device = cld_device(x), *host = cld_cpu_backend();
    cld_shape shape = cld_shape_of(&x->a);
    shape.extents[dim] = w->rows;
    CLD_AUTO cld_tensor *first = cld_tensor_new(CLD_I64, 1, &w->rows, host);
    CLD_AUTO cld_tensor *weights = cld_tensor_new(CLD_F64, 2, (int64_t[]){w->rows, w->width}, host);
    if (!first || !weights) return NULL;
    CLD_TRY_NULL(cld_tensor_from_host(first, w->first, (size_t)w->rows * sizeof *w->first));
    CLD_TRY_NULL(
        cld_tensor_from_host(weights, w->weights, (size_t)(w->rows * w->width) * sizeof *w->weights));
    CLD_AUTO cld_tensor *by = cld_tensor_as(weights, x->a.dtype, host);
    CLD_AUTO cld_tensor *near_first = cld_tensor_as(first, CLD_I64, device);
    CLD_AUTO cld_tensor *near_by = by ? cld_tensor_as(by, x->a.dtype, device) : NULL;
    CLD_AUTO cld_tensor *y = cld_tensor_new(x->a.dtype, shape.ndim, shape.extents, device);
    if (!near_first || !near_by || !y) return NULL;
    int64_t sizes[3] = {1, x->a.shape[dim], 1};
    for (int d = 0; d < shape.ndim; d++)
        sizes[d < dim ? 0 : d > dim ? 2 : 1] *= d == dim ? 1 : shape.extents[d];
    cld_array from = x->a, to = y->a;
    from.ndim = to.ndim = 3;
    for (int d = 0; d < 3; d++) from.shape[d] = to.shape[d] = sizes[d];
    to.shape[1] = w->rows;
    from.strides[2] = to.strides[2] = 1;
    from.strides[1] = to.strides[1] = sizes[2];
    from.strides[0] = sizes[1] * sizes[2];
    to.strides[0] = w->rows * sizes[2];
    CLD_TRY_NULL(cld_kernel(device, math, window_sums, &to, &from, &near_first->a, &near_by->a));
    return cld_tensor_steal(&y);
}

typedef struct resize_node {
    axis along;
    int dim;
} resize_node;

static cld_status resize_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const resize_node *p = cld_node_params(n, resize_node);
    AUTO_WINDOWS w = {0}, back = {0};
    CLD_AUTO cld_tensor *dy = cld_tensor_contiguous(dout[0]);
    if (!dy) return cld_error_code();
    CLD_TRY(windows_of(&w, &p->along));
    CLD_TRY(turned_around(&back, &w, p->along.extent));
    din[0] = apply(dy, p->dim, &back);
    return din[0] ? CLD_OK : cld_error_code();
}

static cld_tensor *resize_axis(const cld_op *op, cld_tensor *x, int dim, const axis *a) {
    if (a->kind != AREA && a->rows == a->extent && a->scale == 1) return cld_tensor_retain(x);
    AUTO_WINDOWS w = {0};
    CLD_AUTO cld_tensor *dense = cld_tensor_contiguous(x);
    if (!dense) return NULL;
    CLD_TRY_NULL(windows_of(&w, a));
    CLD_AUTO cld_tensor *y = apply(dense, dim, &w);
    if (!y) return NULL;
    cld_node *n = cld_record(op, &y, 1, &x, 1);
    if (n) *cld_node_params(n, resize_node) = (resize_node){*a, dim};
    return cld_tensor_steal(&y);
}

/* Rows first, then columns; if the number of rows grows, columns first, which is less work. 16 bits in f32. */
static cld_tensor *resize(const cld_op *op, cld_tensor *x, const axis along[2]) {
    CLD_AUTO cld_tensor *wide = cld_dtype_is_half(x->a.dtype) ? cld_cast(x, CLD_F32) : cld_tensor_retain(x);
    int first = along[0].rows > along[0].extent ? 1 : 0;
    CLD_AUTO cld_tensor *half = wide ? resize_axis(op, wide, 2 + first, &along[first]) : NULL;
    CLD_AUTO cld_tensor *y = half ? resize_axis(op, half, 3 - first, &along[1 - first]) : NULL;
    return y ? cld_cast(y, x->a.dtype) : NULL;
}

static cld_status check(const char *op, const cld_tensor *x) {
    if (x->a.ndim != 4 || !cld_dtype_is_float(x->a.dtype))
        return cld_fail(CLD_INVALID, "%s: expected a floating-point input (N, C, H, W), got %s", op,
                        cld_describe(&x->a));
    if (x->a.shape[2] < 1 || x->a.shape[3] < 1)
        return cld_fail(CLD_INVALID, "%s: the maps of %s are empty", op, cld_describe(&x->a));
    return CLD_OK;
}

enum { MOST = 1 << 20 }; /* rows or columns of a result */

static cld_status check_size(const char *op, const int64_t size[2]) {
    if (size[0] >= 1 && size[1] >= 1 && size[0] <= MOST && size[1] <= MOST) return CLD_OK;
    return cld_fail(CLD_INVALID,
                    "%s: the output would have %lld rows and %lld columns; expected 1 to %d of each", op,
                    (long long)size[0], (long long)size[1], MOST);
}

/* ---- the two ops --------------------------------------------------------------------------------------- */

cld_tensor *cld_adaptive_avg_pool2d(cld_tensor *x, int64_t height, int64_t width) {
    static const cld_op op = {.name = "adaptive_avg_pool2d", .backward = resize_backward};
    int64_t size[2] = {height, width};
    if (height == 1 && width == 1) return cld_global_avg_pool2d(x);
    CLD_TRY_NULL(check(op.name, x));
    CLD_TRY_NULL(check_size(op.name, size));
    int64_t rows = x->a.shape[2], columns = x->a.shape[3];
    if (rows % height == 0 && columns % width == 0 && rows <= INT32_MAX && columns <= INT32_MAX) {
        cld_pool_params p = {.kernel = {(int)(rows / height), (int)(columns / width)}};
        p.stride[0] = p.kernel[0];
        p.stride[1] = p.kernel[1];
        return cld_avg_pool2d(x, &p);
    }
    axis along[2] = {{.kind = AREA, .extent = rows, .rows = height},
                     {.kind = AREA, .extent = columns, .rows = width}};
    return resize(&op, x, along);
}

static cld_status axis_of(axis *a, const cld_tensor *x, const cld_resize_params *p, int i) {
    int64_t extent = x->a.shape[2 + i];
    double factor = p->factor[i];
    if (p->size[i] < 1 && !(factor > 0 && factor * (double)extent < MOST + 1.0))
        return cld_fail(CLD_INVALID,
                        "interpolate: scale_factor %g of %s; expected a number above 0 whose output has "
                        "at most %d rows and columns",
                        factor, cld_describe(&x->a), MOST);
    a->kind = p->mode == CLD_NEAREST ? NEAREST : p->antialias ? ANTIALIASED : LINEAR;
    a->extent = extent;
    a->rows = p->size[i] > 0 ? p->size[i] : (int64_t)floor((double)extent * factor);
    a->align_corners = p->align_corners;
    a->wide = x->a.dtype == CLD_F64;
    if (p->align_corners)
        a->scale = a->rows > 1 ? (double)(extent - 1) / (double)(a->rows - 1) : 0;
    else
        a->scale = p->size[i] > 0 ? (double)extent / (double)a->rows : 1 / factor;
    return CLD_OK;
}

cld_tensor *cld_interpolate(cld_tensor *x, const cld_resize_params *p) {
    static const cld_op op = {.name = "interpolate", .backward = resize_backward};
    axis along[2] = {{0}, {0}};
    CLD_TRY_NULL(check(op.name, x));
    if (p->mode == CLD_NEAREST && (p->align_corners || p->antialias))
        return cld_fail_null(CLD_INVALID, "interpolate: align_corners and antialias need mode 'bilinear'");
    for (int i = 0; i < 2; i++) CLD_TRY_NULL(axis_of(&along[i], x, p, i));
    int64_t size[2] = {along[0].rows, along[1].rows};
    CLD_TRY_NULL(check_size(op.name, size));
    return resize(&op, x, along);
}
