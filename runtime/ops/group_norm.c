/* layer_norm and group_norm: shape rules, forward, gradient. For the device both are a group norm of (n, channels,
 * inner). */
#include "runtime/ops/ops.h"

#include <string.h>

enum { SAVED_X, SAVED_WEIGHT, SAVED_MEAN, SAVED_INVSTD };
enum { INPUT_X, INPUT_WEIGHT, INPUT_BIAS, INPUTS };

/* x's elements as (n, channels, inner). */
typedef struct extents {
    int64_t n, channels, inner;
} extents;

typedef struct group_norm_node {
    extents as;
    cld_shape vector; /* of weight and bias */
} group_norm_node;

/* A dense tensor's elements in that shape. */
static cld_array shaped(const cld_tensor *dense, const extents *e) {
    cld_array a = dense->a;
    a.ndim = 3;
    a.shape[0] = e->n, a.shape[1] = e->channels, a.shape[2] = e->inner;
    a.strides[0] = e->channels * e->inner, a.strides[1] = e->inner, a.strides[2] = 1;
    return a;
}

static cld_array line_of(const cld_tensor *dense) {
    cld_array a = dense->a;
    a.ndim = 1;
    a.shape[0] = cld_numel(&dense->a);
    a.strides[0] = 1;
    return a;
}

/* ---- gradient ------------------------------------------------------------------------------------------ */

static cld_status group_norm_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const group_norm_node *p = cld_node_params(n, group_norm_node);
    CLD_AUTO cld_tensor *x = cld_node_saved(n, SAVED_X), *w = NULL, *dx = NULL, *dw = NULL, *db = NULL;
    CLD_AUTO cld_tensor *mean = x ? cld_node_saved(n, SAVED_MEAN) : NULL;
    CLD_AUTO cld_tensor *invstd = mean ? cld_node_saved(n, SAVED_INVSTD) : NULL;
    CLD_AUTO cld_tensor *dy = invstd ? cld_tensor_contiguous(dout[0]) : NULL;
    if (!dy) return cld_error_code();
    if (cld_node_has(n, SAVED_WEIGHT) && !(w = cld_node_saved(n, SAVED_WEIGHT))) return cld_error_code();
    if (cld_node_needs(n, INPUT_X) && !(dx = cld_tensor_new_like(x))) return cld_error_code();
    if (cld_node_needs(n, INPUT_WEIGHT) || cld_node_needs(n, INPUT_BIAS)) {
        cld_dtype dtype = cld_vector_dtype(x->a.dtype);
        dw = cld_tensor_full(dtype, p->vector.ndim, p->vector.extents, n->device, 0);
        db = cld_tensor_full(dtype, p->vector.ndim, p->vector.extents, n->device, 0);
        if (!dw || !db) return cld_error_code();
    }
    if (cld_numel(&x->a) > 0) {
        cld_array to = {0}, dweight = {0}, dbias = {0}, gradient = shaped(dy, &p->as),
                  from = shaped(x, &p->as);
        cld_array weight = {0};
        if (dx) to = shaped(dx, &p->as);
        if (dw) dweight = line_of(dw), dbias = line_of(db);
        if (w) weight = line_of(w);
        CLD_TRY(cld_kernel(n->device, math, group_norm_backward, dx ? &to : NULL, dw ? &dweight : NULL,
                           dw ? &dbias : NULL, &gradient, &from, w ? &weight : NULL, &mean->a, &invstd->a));
    }
    din[INPUT_X] = cld_tensor_steal(&dx);
    if (cld_node_needs(n, INPUT_WEIGHT)) din[INPUT_WEIGHT] = cld_tensor_steal(&dw);
    if (cld_node_needs(n, INPUT_BIAS)) din[INPUT_BIAS] = cld_tensor_steal(&db);
    return CLD_OK;
}
static const cld_op layer_norm_op = {.name = "layer_norm", .backward = group_norm_backward};
static const cld_op group_norm_op = {.name = "group_norm", .backward = group_norm_backward};

/* ---- forward ------------------------------------------------------------------------------------------- */

static cld_status check_vector(const char *op, const cld_tensor *x, const cld_tensor *v, const char *what,
                               const cld_shape *shape) {
    if (!v) return CLD_OK;
    CLD_TRY(cld_check_same_device(op, x, v));
    cld_array wanted = {.dtype = cld_vector_dtype(x->a.dtype), .ndim = shape->ndim};
    memcpy(wanted.shape, shape->extents, sizeof wanted.shape);
    if (v->a.dtype == wanted.dtype && cld_same_shape(&v->a, &wanted)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the %s must be %s for the input %s, got %s", op, what,
                    cld_describe(&wanted), cld_describe(&x->a), cld_describe(&v->a));
}

static cld_tensor *normed(const cld_op *op, cld_tensor *x, const extents *as, int64_t groups,
                          cld_tensor *weight, cld_tensor *bias, const cld_shape *vector, double eps) {
    const cld_backend *device = cld_device(x);
    CLD_TRY_NULL(check_vector(op->name, x, weight, "weight", vector));
    CLD_TRY_NULL(check_vector(op->name, x, bias, "bias", vector));
    if (!(eps > 0)) return cld_fail_null(CLD_INVALID, "%s: eps must be positive, got %g", op->name, eps);
    int64_t statistics[2] = {as->n, groups};
    CLD_AUTO cld_tensor *input = cld_tensor_contiguous(x), *w = NULL, *b = NULL;
    if (weight) w = cld_tensor_contiguous(weight);
    if (bias) b = cld_tensor_contiguous(bias);
    CLD_AUTO cld_tensor *mean = cld_tensor_new(cld_vector_dtype(x->a.dtype), 2, statistics, device);
    CLD_AUTO cld_tensor *invstd = cld_tensor_new(cld_vector_dtype(x->a.dtype), 2, statistics, device);
    CLD_AUTO cld_tensor *y = cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, device);
    if (!input || (weight && !w) || (bias && !b) || !mean || !invstd || !y) return NULL;
    if (cld_numel(&x->a) > 0) {
        cld_array to = shaped(y, as), from = shaped(input, as), by = {0}, plus = {0};
        if (w) by = line_of(w);
        if (b) plus = line_of(b);
        CLD_TRY_NULL(cld_kernel(device, math, group_norm, &to, &mean->a, &invstd->a, &from, w ? &by : NULL,
                                b ? &plus : NULL, eps));
    }
    cld_node *n = cld_record(op, &y, 1, (cld_tensor *[]){x, weight, bias}, INPUTS);
    if (n) {
        *cld_node_params(n, group_norm_node) = (group_norm_node){*as, *vector};
        cld_node_save(n, SAVED_X, input);
        if (w) cld_node_save(n, SAVED_WEIGHT, w);
        cld_node_save(n, SAVED_MEAN, mean);
        cld_node_save(n, SAVED_INVSTD, invstd);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_layer_norm(cld_tensor *x, int ndim, const int64_t *shape, cld_tensor *weight,
                           cld_tensor *bias, double eps) {
    CLD_TRY_NULL(cld_check_float("layer_norm", x));
    cld_shape vector = {.ndim = ndim};
    extents as = {1, 1, 1};
    bool fits = ndim >= 1 && ndim <= x->a.ndim;
    for (int i = 0; fits && i < x->a.ndim; i++) {
        int at = i - (x->a.ndim - ndim);
        if (at < 0) {
            as.n *= x->a.shape[i];
            continue;
        }
        vector.extents[at] = shape[at];
        as.channels *= shape[at];
        fits = shape[at] == x->a.shape[i];
    }
    if (!fits && ndim == 1 && x->a.ndim >= 1)
        return cld_fail_null(CLD_INVALID, "layer_norm: x has %lld features, the shape takes %lld (x is %s)",
                             (long long)x->a.shape[x->a.ndim - 1], (long long)shape[0], cld_describe(&x->a));
    if (!fits) {
        cld_array wanted = {.dtype = x->a.dtype, .ndim = ndim};
        memcpy(wanted.shape, shape, (size_t)ndim * sizeof *shape);
        return cld_fail_null(CLD_INVALID, "layer_norm: the last dimensions of %s are not those of %s",
                             cld_describe(&x->a), cld_describe(&wanted));
    }
    return normed(&layer_norm_op, x, &as, 1, weight, bias, &vector, eps);
}

cld_tensor *cld_group_norm(cld_tensor *x, int64_t groups, cld_tensor *weight, cld_tensor *bias, double eps) {
    CLD_TRY_NULL(cld_check_float("group_norm", x));
    if (x->a.ndim < 2)
        return cld_fail_null(CLD_INVALID, "group_norm: expected an input (N, C, ...), got %s",
                             cld_describe(&x->a));
    extents as = {x->a.shape[0], x->a.shape[1], 1};
    for (int i = 2; i < x->a.ndim; i++) as.inner *= x->a.shape[i];
    if (groups < 1 || as.channels % groups != 0)
        return cld_fail_null(CLD_INVALID, "group_norm: %lld groups do not divide the %lld channels of %s",
                             (long long)groups, (long long)as.channels, cld_describe(&x->a));
    cld_shape vector = {.ndim = 1, .extents = {as.channels}};
    return normed(&group_norm_op, x, &as, groups, weight, bias, &vector, eps);
}
