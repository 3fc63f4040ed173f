/* Reductions. Each is one kernel call into an output that keeps the reduced dimensions with size 1; without keepdim a
 * view drops them. Backward restores them and broadcasts. mean, var, std, norm and logsumexp are composed of sums, in
 * f32 for 16-bit floats. */
#include <math.h>

#include "runtime/ops/ops.h"

/* ---- which dimensions ---------------------------------------------------------------------------------- */

typedef struct reduction {
    unsigned mask;  /* bit d: dimension d is reduced */
    int64_t count;  /* number of elements reduced to one */
    cld_shape x;    /* the input's shape */
    cld_shape kept; /* with 1 in each reduced dimension */
    cld_shape out;  /* as the caller asked for it */
} reduction;

static cld_status reduction_of(const char *op, const cld_tensor *x, const int *dims, int ndims, bool keepdim,
                               reduction *r) {
    *r = (reduction){.count = 1, .x = cld_shape_of(&x->a)};
    if (ndims == 0) r->mask = (1u << x->a.ndim) - 1;
    for (int i = 0; i < ndims; i++) {
        int dim;
        CLD_TRY(cld_check_dim(op, x, dims[i], &dim));
        if (r->mask >> dim & 1)
            return cld_fail(CLD_INVALID, "%s: dimension %d is given twice for %s", op, dim + 1,
                            cld_describe(&x->a));
        r->mask |= 1u << dim;
    }
    r->kept = r->x;
    for (int d = 0; d < x->a.ndim; d++) {
        bool reduced = r->mask >> d & 1;
        if (reduced) r->kept.extents[d] = 1;
        if (reduced) r->count *= x->a.shape[d];
        if (!reduced || keepdim) r->out.extents[r->out.ndim++] = r->kept.extents[d];
    }
    return CLD_OK;
}

/* A gradient or an output of the reduction, with the reduced dimensions restored as 1. */
static cld_tensor *with_kept(cld_tensor *t, const reduction *r) {
    CLD_AUTO cld_tensor *dense = cld_tensor_contiguous(t);
    return dense ? cld_reshaped(dense, &r->kept) : NULL;
}

static cld_tensor *reduce(cld_reduction kind, cld_dtype dtype, cld_tensor *x, const reduction *r) {
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *kept =
        strided ? cld_tensor_new(dtype, r->kept.ndim, r->kept.extents, cld_device(x)) : NULL;
    if (!kept) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, reduce, kind, &kept->a, &strided->a));
    return cld_reshaped(kept, &r->out);
}

static cld_status need_elements(const char *op, const cld_tensor *x, const reduction *r) {
    if (r->count > 0 || cld_numel(&x->a) > 0) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: no elements to choose from in %s", op, cld_describe(&x->a));
}

static cld_dtype sum_dtype(const cld_tensor *x) {
    return cld_dtype_is_float(x->a.dtype) ? x->a.dtype : CLD_I64;
}

/* ---- sum, mean, var ------------------------------------------------------------------------------------ */

static cld_status sum_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const reduction *r = cld_node_params(n, reduction);
    CLD_AUTO cld_tensor *dy = with_kept(dout[0], r);
    CLD_AUTO cld_tensor *dx = dy ? cld_tensor_new(dy->a.dtype, r->x.ndim, r->x.extents, n->device) : NULL;
    if (!dx) return cld_error_code();
    CLD_TRY(cld_tensor_copy(dx, dy)); /* y = sum of x, so every x has dy */
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op sum_op = {.name = "sum", .backward = sum_backward};

cld_tensor *cld_sum(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    reduction r;
    CLD_TRY_NULL(reduction_of("sum", x, dims, ndims, keepdim, &r));
    CLD_AUTO cld_tensor *y = reduce(CLD_SUM, sum_dtype(x), x, &r);
    if (!y) return NULL;
    cld_node *n = cld_record(&sum_op, &y, 1, &x, 1);
    if (n) *cld_node_params(n, reduction) = r;
    return cld_tensor_steal(&y);
}

/* 16-bit floats would lose precision in a long sum, so they are added in f32. */
static cld_tensor *widened(cld_tensor *x) { return cld_cast(x, x->a.dtype == CLD_F64 ? CLD_F64 : CLD_F32); }

cld_tensor *cld_mean(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    reduction r;
    CLD_TRY_NULL(cld_check_float("mean", x));
    CLD_TRY_NULL(reduction_of("mean", x, dims, ndims, keepdim, &r));
    CLD_AUTO cld_tensor *wide = widened(x);
    CLD_AUTO cld_tensor *sum = wide ? cld_sum(wide, dims, ndims, keepdim) : NULL;
    CLD_AUTO cld_tensor *mean = sum ? cld_mul_scalar(sum, 1.0 / (double)r.count) : NULL;
    return mean ? cld_cast(mean, x->a.dtype) : NULL;
}

/* The variance, in the wider dtype. */
static cld_tensor *variance(const char *op, cld_tensor *x, const int *dims, int ndims, bool unbiased,
                            bool keepdim) {
    reduction r;
    CLD_TRY_NULL(cld_check_float(op, x));
    CLD_TRY_NULL(reduction_of(op, x, dims, ndims, keepdim, &r));
    double degrees = (double)r.count - (unbiased ? 1 : 0);
    CLD_AUTO cld_tensor *wide = widened(x);
    CLD_AUTO cld_tensor *mean = wide ? cld_mean(wide, dims, ndims, true) : NULL;
    CLD_AUTO cld_tensor *deviation = mean ? cld_sub(wide, mean) : NULL;
    CLD_AUTO cld_tensor *squared = deviation ? cld_unary_op(CLD_SQUARE, deviation, 0, 0) : NULL;
    CLD_AUTO cld_tensor *sum = squared ? cld_sum(squared, dims, ndims, keepdim) : NULL;
    return sum ? cld_mul_scalar(sum, 1.0 / (degrees > 0 ? degrees : 0)) : NULL;
}

cld_tensor *cld_var(cld_tensor *x, const int *dims, int ndims, bool unbiased, bool keepdim) {
    CLD_AUTO cld_tensor *var = variance("var", x, dims, ndims, unbiased, keepdim);
    return var ? cld_cast(var, x->a.dtype) : NULL;
}

/* y = sqrt(var): dvar = dy / (2 y), but 0 where y = 0. Equal values have no direction of deviation, and as in PyTorch
 * such a row (a collapsed feature) gets a zero gradient instead of NaN. */
static cld_status std_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *y = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *zero = y ? cld_tensor_full(y->a.dtype, 0, NULL, n->device, 0) : NULL;
    CLD_AUTO cld_tensor *is_zero = zero ? cld_unary_op(CLD_EQ_SCALAR, y, 0, 0) : NULL;
    CLD_AUTO cld_tensor *twice = is_zero ? cld_mul_scalar(y, 2) : NULL;
    CLD_AUTO cld_tensor *ratio = twice ? cld_div(dout[0], twice) : NULL;
    din[0] = ratio ? cld_where(is_zero, zero, ratio) : NULL;
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op std_op = {.name = "std", .backward = std_backward};

cld_tensor *cld_std(cld_tensor *x, const int *dims, int ndims, bool unbiased, bool keepdim) {
    CLD_AUTO cld_tensor *var = variance("std", x, dims, ndims, unbiased, keepdim);
    CLD_AUTO cld_tensor *constant = var ? cld_tensor_detach(var) : NULL;
    CLD_AUTO cld_tensor *y = constant ? cld_unary_op(CLD_SQRT, constant, 0, 0) : NULL;
    if (!y) return NULL;
    cld_node *n = cld_record(&std_op, &y, 1, &var, 1);
    if (n) cld_node_save(n, 0, y);
    return cld_cast(y, x->a.dtype);
}

/* ---- maxima and minima --------------------------------------------------------------------------------- */

/* 1 where x equals y, or where x is NaN, since y is NaN then. */
static cld_tensor *is_extreme(cld_tensor *x, cld_tensor *y) {
    CLD_AUTO cld_tensor *equal = cld_binary_op(CLD_EQ, x, y);
    CLD_AUTO cld_tensor *unknown = equal ? cld_unary_op(CLD_ISNAN, x, 0, 0) : NULL;
    return unknown ? cld_binary_op(CLD_OR, equal, unknown) : NULL;
}

/* y = max x: dy goes to the x that equal y, in equal shares. Their number may be too large for f16. */
static cld_status extreme_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const reduction *r = cld_node_params(n, reduction);
    CLD_AUTO cld_tensor *x = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *out = x ? cld_node_saved(n, 1) : NULL;
    CLD_AUTO cld_tensor *y = out ? with_kept(out, r) : NULL;
    CLD_AUTO cld_tensor *dy = y ? with_kept(dout[0], r) : NULL;
    CLD_AUTO cld_tensor *wide = dy ? widened(dy) : NULL;
    CLD_AUTO cld_tensor *winner = wide ? is_extreme(x, y) : NULL;
    CLD_AUTO cld_tensor *winners = winner ? reduce(CLD_SUM, CLD_I64, winner, r) : NULL;
    CLD_AUTO cld_tensor *count = winners ? with_kept(winners, r) : NULL;
    CLD_AUTO cld_tensor *exact = count ? cld_div(wide, count) : NULL;
    CLD_AUTO cld_tensor *share = exact ? cld_cast(exact, dy->a.dtype) : NULL;
    CLD_AUTO cld_tensor *zero = share ? cld_tensor_full(share->a.dtype, 0, NULL, n->device, 0) : NULL;
    din[0] = zero ? cld_where(winner, share, zero) : NULL;
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op amax_op = {.name = "amax", .backward = extreme_backward};
static const cld_op amin_op = {.name = "amin", .backward = extreme_backward};

static cld_tensor *extreme(const cld_op *op, cld_reduction kind, cld_tensor *x, const int *dims, int ndims,
                           bool keepdim) {
    reduction r;
    CLD_TRY_NULL(reduction_of(op->name, x, dims, ndims, keepdim, &r));
    CLD_TRY_NULL(need_elements(op->name, x, &r));
    CLD_AUTO cld_tensor *y = reduce(kind, x->a.dtype, x, &r);
    if (!y) return NULL;
    cld_node *n = cld_record(op, &y, 1, &x, 1);
    if (n) {
        *cld_node_params(n, reduction) = r;
        cld_node_save(n, 0, x);
        cld_node_save(n, 1, y);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_amax(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    return extreme(&amax_op, CLD_MAX, x, dims, ndims, keepdim);
}
cld_tensor *cld_amin(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    return extreme(&amin_op, CLD_MIN, x, dims, ndims, keepdim);
}

/* ---- prod ---------------------------------------------------------------------------------------------- */

/* y = prod x: dx_i = dy * product of the others. If p is the product of all nonzero x, this is p / x_i if no x is 0, p
 * if x_i is the only 0, and 0 otherwise. */
static cld_status prod_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const reduction *r = cld_node_params(n, reduction);
    CLD_AUTO cld_tensor *x = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *dy = x ? with_kept(dout[0], r) : NULL;
    CLD_AUTO cld_tensor *zero = dy ? cld_tensor_full(x->a.dtype, 0, NULL, n->device, 0) : NULL;
    CLD_AUTO cld_tensor *one = zero ? cld_tensor_full(x->a.dtype, 0, NULL, n->device, 1) : NULL;
    CLD_AUTO cld_tensor *is_zero = one ? cld_unary_op(CLD_EQ_SCALAR, x, 0, 0) : NULL;
    CLD_AUTO cld_tensor *factors = is_zero ? cld_where(is_zero, one, x) : NULL;
    CLD_AUTO cld_tensor *product = factors ? reduce(CLD_PROD, x->a.dtype, factors, r) : NULL;
    CLD_AUTO cld_tensor *p = product ? with_kept(product, r) : NULL;
    CLD_AUTO cld_tensor *all_zeros = p ? reduce(CLD_SUM, CLD_I64, is_zero, r) : NULL;
    CLD_AUTO cld_tensor *zeros = all_zeros ? with_kept(all_zeros, r) : NULL;
    CLD_AUTO cld_tensor *counts =
        zeros ? cld_binary_op(CLD_EQ, zeros, is_zero) : NULL; /* no zero among the others */
    CLD_AUTO cld_tensor *others = counts ? cld_div(p, factors) : NULL;
    CLD_AUTO cld_tensor *slope = others ? cld_where(counts, others, zero) : NULL;
    din[0] = slope ? cld_mul(dy, slope) : NULL;
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op prod_op = {.name = "prod", .backward = prod_backward};

cld_tensor *cld_prod(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    reduction r;
    CLD_TRY_NULL(reduction_of("prod", x, dims, ndims, keepdim, &r));
    CLD_AUTO cld_tensor *y = reduce(CLD_PROD, sum_dtype(x), x, &r);
    if (!y) return NULL;
    cld_node *n = cld_record(&prod_op, &y, 1, &x, 1);
    if (n) {
        *cld_node_params(n, reduction) = r;
        cld_node_save(n, 0, x);
    }
    return cld_tensor_steal(&y);
}

/* ---- norm ---------------------------------------------------------------------------------------------- */

typedef struct norm_params {
    reduction r;
    double p;
} norm_params;

/* |x|^p; |x|^0 is 1 for nonzero x. */
static cld_tensor *power_of_size(cld_tensor *x, double p) {
    if (p == 2) return cld_unary_op(CLD_SQUARE, x, 0, 0);
    if (p == 0) return cld_unary_op(CLD_NE_SCALAR, x, 0, 0);
    CLD_AUTO cld_tensor *size = cld_unary_op(CLD_ABS, x, 0, 0);
    return !size || p == 1 ? cld_tensor_steal(&size) : cld_unary_op(CLD_POW_SCALAR, size, p, 0);
}

static cld_tensor *root_of_sum(cld_tensor *sum, double p) {
    if (p == 2) return cld_unary_op(CLD_SQRT, sum, 0, 0);
    return p == 0 || p == 1 ? cld_tensor_retain(sum) : cld_unary_op(CLD_POW_SCALAR, sum, 1 / p, 0);
}

/* dy / dx_i = sign(x_i) (|x_i| / y)^(p - 1) */
static cld_tensor *norm_slope(cld_tensor *x, cld_tensor *y, double p) {
    if (p == 1) return cld_unary_op(CLD_SIGN, x, 0, 0);
    CLD_AUTO cld_tensor *ratio = cld_div(x, y);
    if (!ratio || p == 2) return cld_tensor_steal(&ratio);
    CLD_AUTO cld_tensor *power = power_of_size(ratio, p - 1);
    CLD_AUTO cld_tensor *sign = power ? cld_unary_op(CLD_SIGN, x, 0, 0) : NULL;
    return sign ? cld_mul(sign, power) : NULL;
}

/* As in PyTorch there is no gradient where y = 0; for p < 1, where the slope at 0 is infinite, also where x = 0. p = 0
 * counts elements, and has no gradient at all. */
static cld_status norm_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const norm_params *p = cld_node_params(n, norm_params);
    CLD_AUTO cld_tensor *x = cld_node_saved(n, 0);
    if (x && p->p == 0) {
        din[0] = cld_tensor_full(x->a.dtype, x->a.ndim, x->a.shape, n->device, 0);
        return din[0] ? CLD_OK : cld_error_code();
    }
    CLD_AUTO cld_tensor *out = x ? cld_node_saved(n, 1) : NULL;
    CLD_AUTO cld_tensor *y = out ? with_kept(out, &p->r) : NULL;
    CLD_AUTO cld_tensor *dy = y ? with_kept(dout[0], &p->r) : NULL;
    CLD_AUTO cld_tensor *zero = dy ? cld_tensor_full(y->a.dtype, 0, NULL, n->device, 0) : NULL;
    CLD_AUTO cld_tensor *flat = zero ? cld_unary_op(CLD_EQ_SCALAR, p->p < 1 ? x : y, 0, 0) : NULL;
    CLD_AUTO cld_tensor *slope = flat ? norm_slope(x, y, p->p) : NULL;
    CLD_AUTO cld_tensor *dx = slope ? cld_mul(dy, slope) : NULL;
    CLD_AUTO cld_tensor *none = dx && p->p < 1 ? cld_unary_op(CLD_EQ_SCALAR, y, 0, 0) : NULL;
    CLD_AUTO cld_tensor *safe = dx ? cld_where(flat, zero, dx) : NULL;
    din[0] = !safe || !none ? cld_tensor_steal(&safe) : cld_where(none, zero, safe);
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op norm_op = {.name = "norm", .backward = norm_backward};

cld_tensor *cld_norm(cld_tensor *x, double p, const int *dims, int ndims, bool keepdim) {
    reduction r;
    CLD_TRY_NULL(cld_check_float("norm", x));
    CLD_TRY_NULL(reduction_of("norm", x, dims, ndims, keepdim, &r));
    if (!(p == p)) return cld_fail_null(CLD_INVALID, "norm: p is %g", p);
    if (isinf(p)) {
        CLD_AUTO cld_tensor *size = cld_unary_op(CLD_ABS, x, 0, 0);
        return size ? (p > 0 ? cld_amax : cld_amin)(size, dims, ndims, keepdim) : NULL;
    }
    CLD_AUTO cld_tensor *wide = widened(x);
    CLD_AUTO cld_tensor *constant = wide ? cld_tensor_detach(wide) : NULL;
    CLD_AUTO cld_tensor *power = constant ? power_of_size(constant, p) : NULL;
    CLD_AUTO cld_tensor *sum = power ? reduce(CLD_SUM, wide->a.dtype, power, &r) : NULL;
    CLD_AUTO cld_tensor *y = sum ? root_of_sum(sum, p) : NULL;
    if (!y) return NULL;
    cld_node *n = cld_record(&norm_op, &y, 1, &wide, 1);
    if (n) {
        *cld_node_params(n, norm_params) = (norm_params){r, p};
        cld_node_save(n, 0, wide);
        cld_node_save(n, 1, y);
    }
    return cld_cast(y, x->a.dtype);
}

/* ---- logsumexp ----------------------------------------------------------------------------------------- */

/* m + log(sum(exp(x - m))) with m = max x, a constant; if m is not finite, 0 is used instead. */
cld_tensor *cld_logsumexp(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    reduction r;
    CLD_TRY_NULL(cld_check_float("logsumexp", x));
    CLD_TRY_NULL(reduction_of("logsumexp", x, dims, ndims, keepdim, &r));
    if (r.count == 0) { /* of no elements: log(0) */
        CLD_AUTO cld_tensor *none = cld_sum(x, dims, ndims, keepdim);
        return none ? cld_unary_op(CLD_LOG, none, 0, 0) : NULL;
    }
    CLD_AUTO cld_tensor *wide = widened(x);
    CLD_AUTO cld_tensor *constant = wide ? cld_tensor_detach(wide) : NULL;
    CLD_AUTO cld_tensor *most = constant ? cld_amax(constant, dims, ndims, true) : NULL;
    CLD_AUTO cld_tensor *finite = most ? cld_unary_op(CLD_ISFINITE, most, 0, 0) : NULL;
    CLD_AUTO cld_tensor *zero = finite ? cld_tensor_full(wide->a.dtype, 0, NULL, cld_device(x), 0) : NULL;
    CLD_AUTO cld_tensor *m = zero ? cld_where(finite, most, zero) : NULL;
    CLD_AUTO cld_tensor *shifted = m ? cld_sub(wide, m) : NULL;
    CLD_AUTO cld_tensor *powers = shifted ? cld_unary_op(CLD_EXP, shifted, 0, 0) : NULL;
    CLD_AUTO cld_tensor *sum = powers ? cld_sum(powers, dims, ndims, true) : NULL;
    CLD_AUTO cld_tensor *log = sum ? cld_unary_op(CLD_LOG, sum, 0, 0) : NULL;
    CLD_AUTO cld_tensor *kept = log ? cld_add(log, m) : NULL;
    CLD_AUTO cld_tensor *y = kept ? cld_reshape(kept, r.out.ndim, r.out.extents) : NULL;
    return y ? cld_cast(y, x->a.dtype) : NULL;
}

/* ---- without a gradient -------------------------------------------------------------------------------- */

static cld_tensor *truth(const char *op, cld_reduction kind, cld_tensor *x, const int *dims, int ndims,
                         bool keepdim) {
    reduction r;
    CLD_TRY_NULL(reduction_of(op, x, dims, ndims, keepdim, &r));
    return reduce(kind, CLD_U8, x, &r);
}

cld_tensor *cld_any(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    return truth("any", CLD_ANY, x, dims, ndims, keepdim);
}
cld_tensor *cld_all(cld_tensor *x, const int *dims, int ndims, bool keepdim) {
    return truth("all", CLD_ALL, x, dims, ndims, keepdim);
}

static cld_tensor *arg_extreme(const char *op, cld_reduction kind, cld_tensor *x, int dim, bool keepdim) {
    reduction r;
    CLD_TRY_NULL(reduction_of(op, x, &dim, 1, keepdim, &r));
    CLD_TRY_NULL(need_elements(op, x, &r));
    if (x->a.ndim == 0) return cld_tensor_full(CLD_I64, 0, NULL, cld_device(x), 0);
    CLD_TRY_NULL(cld_check_dim(op, x, dim, &dim));
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *kept =
        strided ? cld_tensor_new(CLD_I64, r.kept.ndim, r.kept.extents, cld_device(x)) : NULL;
    if (!kept) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, arg_reduce, kind, &kept->a, &strided->a, dim));
    return cld_reshaped(kept, &r.out);
}

cld_tensor *cld_argmax(cld_tensor *x, int dim, bool keepdim) {
    return arg_extreme("argmax", CLD_MAX, x, dim, keepdim);
}
cld_tensor *cld_argmin(cld_tensor *x, int dim, bool keepdim) {
    return arg_extreme("argmin", CLD_MIN, x, dim, keepdim);
}

/* The gather provides the gradient. */
static cld_tensor *extreme_at(cld_tensor **index, cld_tensor *at, cld_tensor *x, int dim, bool keepdim) {
    CLD_AUTO cld_tensor *kept = at;
    CLD_AUTO cld_tensor *picked = !kept ? NULL : x->a.ndim == 0 ? cld_clone(x) : cld_gather(x, dim, kept);
    if (!picked) return NULL;
    CLD_AUTO cld_tensor *values = keepdim ? cld_tensor_retain(picked) : cld_squeeze(picked, dim);
    *index = !values ? NULL : keepdim ? cld_tensor_retain(kept) : cld_squeeze(kept, dim);
    return *index ? cld_tensor_steal(&values) : NULL;
}

cld_tensor *cld_max_at(cld_tensor **index, cld_tensor *x, int dim, bool keepdim) {
    return extreme_at(index, cld_argmax(x, dim, true), x, dim, keepdim);
}
cld_tensor *cld_min_at(cld_tensor **index, cld_tensor *x, int dim, bool keepdim) {
    return extreme_at(index, cld_argmin(x, dim, true), x, dim, keepdim);
}
