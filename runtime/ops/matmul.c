/* Matrix products. One op, `matmul` on two matrices or two equal batches of them, has the gradient; PyTorch's
 * rules for vectors and broadcast batches are view ops around it. linear is fused with its bias. */
#include "runtime/ops/ops.h"

/* ---- two matrices, or two batches ---------------------------------------------------------------------- */

/* a with its last two dimensions swapped, off the tape. */
static cld_tensor *transposed(const cld_tensor *a) {
    cld_array t = a->a;
    int r = t.ndim - 2, c = t.ndim - 1;
    t.shape[r] = a->a.shape[c];
    t.shape[c] = a->a.shape[r];
    t.strides[r] = a->a.strides[c];
    t.strides[c] = a->a.strides[r];
    return cld_tensor_view(a, t.ndim, t.shape, t.strides, t.data);
}

/* a @ b off the tape, in dtype; the shapes must agree. */
static cld_tensor *product(const cld_tensor *a, const cld_tensor *b, cld_dtype dtype) {
    int64_t shape[3];
    int n = a->a.ndim;
    shape[0] = a->a.shape[0];
    shape[n - 2] = a->a.shape[n - 2];
    shape[n - 1] = b->a.shape[n - 1];
    const cld_backend *device = cld_device(a);
    CLD_AUTO cld_tensor *y = cld_tensor_new(dtype, n, shape, device);
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(device, math, gemm, &y->a, &a->a, &b->a, NULL));
    return cld_tensor_steal(&y);
}

/* y = a b: da = dy b^T, db = a^T dy */
static cld_status matmul_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    if (cld_node_needs(n, 0)) {
        CLD_AUTO cld_tensor *b = cld_node_saved(n, 1);
        CLD_AUTO cld_tensor *bt = b ? transposed(b) : NULL;
        din[0] = bt ? product(dout[0], bt, bt->a.dtype) : NULL;
        if (!din[0]) return cld_error_code();
    }
    if (cld_node_needs(n, 1)) {
        CLD_AUTO cld_tensor *a = cld_node_saved(n, 0);
        CLD_AUTO cld_tensor *at = a ? transposed(a) : NULL;
        din[1] = at ? product(at, dout[0], at->a.dtype) : NULL;
        if (!din[1]) return cld_error_code();
    }
    return CLD_OK;
}
static const cld_op matmul_op = {.name = "matmul", .backward = matmul_backward};

static cld_tensor *matmul_matrices(cld_tensor *a, cld_tensor *b) {
    CLD_AUTO cld_tensor *y = product(a, b, a->a.dtype);
    if (!y) return NULL;
    cld_tensor *inputs[] = {a, b};
    cld_node *n = cld_record(&matmul_op, &y, 1, inputs, 2);
    if (n && cld_node_needs(n, 1)) cld_node_save(n, 0, a);
    if (n && cld_node_needs(n, 0)) cld_node_save(n, 1, b);
    return cld_tensor_steal(&y);
}

/* ---- PyTorch's rules ----------------------------------------------------------------------------------- */

/* x broadcast to the batch dimensions (the first ndim - 2 of shape), as (batch, rows, columns). */
static cld_tensor *batched(cld_tensor *x, const cld_shape *batch) {
    int64_t wide[CLD_MAX_DIMS], flat[3] = {1, x->a.shape[x->a.ndim - 2], x->a.shape[x->a.ndim - 1]};
    for (int i = 0; i < batch->ndim; i++) {
        wide[i] = batch->extents[i];
        flat[0] *= batch->extents[i];
    }
    wide[batch->ndim] = flat[1];
    wide[batch->ndim + 1] = flat[2];
    CLD_AUTO cld_tensor *expanded = cld_expand(x, batch->ndim + 2, wide);
    return expanded ? cld_reshape(expanded, 3, flat) : NULL;
}

/* Both are at least 2-d, and one of them has more dimensions. */
static cld_tensor *matmul_batches(cld_tensor *a, cld_tensor *b) {
    int64_t rows = a->a.shape[a->a.ndim - 2], columns = b->a.shape[b->a.ndim - 1];
    int64_t shape[CLD_MAX_DIMS];
    if (b->a.ndim == 2) { /* one long matrix */
        int64_t flat_shape[2] = {1, a->a.shape[a->a.ndim - 1]};
        for (int i = 0; i < a->a.ndim - 1; i++) flat_shape[0] *= a->a.shape[i];
        CLD_AUTO cld_tensor *flat = cld_reshape(a, 2, flat_shape);
        CLD_AUTO cld_tensor *y = flat ? matmul_matrices(flat, b) : NULL;
        for (int i = 0; i < a->a.ndim; i++) shape[i] = i == a->a.ndim - 1 ? columns : a->a.shape[i];
        return y ? cld_reshape(y, a->a.ndim, shape) : NULL;
    }
    cld_array batch_a = a->a, batch_b = b->a;
    cld_shape batch;
    batch_a.ndim -= 2;
    batch_b.ndim -= 2;
    if (cld_broadcast_shapes("matmul", &batch_a, &batch_b, &batch) != CLD_OK)
        return cld_fail_null(CLD_INVALID, "matmul: the batch dimensions of %s and %s do not broadcast",
                             cld_describe(&a->a), cld_describe(&b->a));
    CLD_AUTO cld_tensor *x = batched(a, &batch);
    CLD_AUTO cld_tensor *w = x ? batched(b, &batch) : NULL;
    CLD_AUTO cld_tensor *y = w ? matmul_matrices(x, w) : NULL;
    for (int i = 0; i < batch.ndim; i++) shape[i] = batch.extents[i];
    shape[batch.ndim] = rows;
    shape[batch.ndim + 1] = columns;
    return y ? cld_reshape(y, batch.ndim + 2, shape) : NULL;
}

static cld_status check_matmul(const cld_tensor *a, const cld_tensor *b) {
    CLD_TRY(cld_check_same_device("matmul", a, b));
    if (a->a.ndim == 0 || b->a.ndim == 0)
        return cld_fail(CLD_INVALID, "matmul: both tensors need at least one dimension, got %s and %s",
                        cld_describe(&a->a), cld_describe(&b->a));
    if (a->a.dtype != b->a.dtype)
        return cld_fail(CLD_INVALID, "matmul: the dtypes differ: %s and %s", cld_describe(&a->a),
                        cld_describe(&b->a));
    int64_t inner_a = a->a.shape[a->a.ndim - 1], inner_b = b->a.shape[b->a.ndim > 1 ? b->a.ndim - 2 : 0];
    if (inner_a != inner_b)
        return cld_fail(CLD_INVALID, "matmul: %s and %s do not match: %lld columns against %lld rows",
                        cld_describe(&a->a), cld_describe(&b->a), (long long)inner_a, (long long)inner_b);
    return CLD_OK;
}

cld_tensor *cld_matmul(cld_tensor *a, cld_tensor *b) {
    CLD_TRY_NULL(check_matmul(a, b));
    CLD_AUTO cld_tensor *x = a->a.ndim == 1 ? cld_unsqueeze(a, 0) : cld_tensor_retain(a);
    CLD_AUTO cld_tensor *w = !x ? NULL : b->a.ndim == 1 ? cld_unsqueeze(b, 1) : cld_tensor_retain(b);
    if (!w) return NULL;
    CLD_AUTO cld_tensor *y = x->a.ndim == 2 && w->a.ndim == 2 ? matmul_matrices(x, w) : matmul_batches(x, w);
    if (!y) return NULL;
    CLD_AUTO cld_tensor *without_row = a->a.ndim == 1 ? cld_squeeze(y, -2) : cld_tensor_retain(y);
    if (!without_row) return NULL;
    return b->a.ndim == 1 ? cld_squeeze(without_row, -1) : cld_tensor_retain(without_row);
}

cld_tensor *cld_outer(cld_tensor *a, cld_tensor *b) {
    if (a->a.ndim != 1 || b->a.ndim != 1)
        return cld_fail_null(CLD_INVALID, "outer: expected two tensors of 1 dimension, got %s and %s",
                             cld_describe(&a->a), cld_describe(&b->a));
    CLD_AUTO cld_tensor *column = cld_unsqueeze(a, 1);
    return column ? cld_mul(column, b) : NULL;
}

/* ---- linear -------------------------------------------------------------------------------------------- */

/* The elements of a dense x (..., columns) as a matrix, off the tape. */
static cld_tensor *as_matrix(cld_tensor *x) {
    CLD_AUTO cld_tensor *dense = cld_tensor_contiguous(x);
    if (!dense) return NULL;
    int64_t columns = x->a.shape[x->a.ndim - 1], shape[2] = {1, columns}, strides[2] = {columns, 1};
    for (int i = 0; i < x->a.ndim - 1; i++) shape[0] *= x->a.shape[i];
    return cld_tensor_view(dense, 2, shape, strides, dense->a.data);
}

typedef struct linear_node {
    cld_dtype x; /* x's dtype, to which the weight and dy are rounded */
} linear_node;

/* y = x W^T + b: dx = dy W, dW = dy^T x, db = the sum of dy's rows. W was saved as it was used; dy is rounded in the
 * same way. */
static cld_status linear_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const linear_node *p = cld_node_params(n, linear_node);
    CLD_AUTO cld_tensor *given = as_matrix(dout[0]);
    CLD_AUTO cld_tensor *dy = given ? cld_tensor_as(given, p->x, n->device) : NULL;
    if (!dy) return cld_error_code();
    if (cld_node_needs(n, 0)) {
        CLD_AUTO cld_tensor *weight = cld_node_saved(n, 1);
        CLD_AUTO cld_tensor *dx = weight ? product(dy, weight, p->x) : NULL;
        int64_t shape[CLD_MAX_DIMS];
        for (int i = 0; i < dout[0]->a.ndim; i++) shape[i] = dout[0]->a.shape[i];
        if (dx) shape[dout[0]->a.ndim - 1] = dx->a.shape[1];
        din[0] = dx ? cld_reshape(dx, dout[0]->a.ndim, shape) : NULL;
        if (!din[0]) return cld_error_code();
    }
    if (cld_node_needs(n, 1)) {
        CLD_AUTO cld_tensor *x = cld_node_saved(n, 0);
        CLD_AUTO cld_tensor *matrix = x ? as_matrix(x) : NULL;
        CLD_AUTO cld_tensor *dyt = matrix ? transposed(dy) : NULL;
        din[1] = dyt ? product(dyt, matrix, dout[0]->a.dtype) : NULL; /* y has W's dtype */
        if (!din[1]) return cld_error_code();
    }
    if (n->inputs == 3 && cld_node_needs(n, 2)) {
        din[2] = cld_sum(given, (int[]){0}, 1, false);
        if (!din[2]) return cld_error_code();
    }
    return CLD_OK;
}
static const cld_op linear_op = {.name = "linear", .backward = linear_backward};

static cld_status check_linear(const cld_tensor *x, const cld_tensor *weight, const cld_tensor *bias) {
    const char *with = bias ? cld_describe(&bias->a) : "no bias";
    CLD_TRY(cld_check_same_device("linear", x, weight));
    if (bias) CLD_TRY(cld_check_same_device("linear", x, bias));
    bool fits = x->a.ndim >= 1 && weight->a.ndim == 2 && x->a.shape[x->a.ndim - 1] == weight->a.shape[1];
    bool biased =
        !bias || (bias->a.ndim == 1 && weight->a.ndim == 2 && bias->a.shape[0] == weight->a.shape[0]);
    bool same =
        x->a.dtype == weight->a.dtype || (cld_dtype_is_half(x->a.dtype) && weight->a.dtype == CLD_F32);
    if (fits && biased && same && (!bias || bias->a.dtype == weight->a.dtype)) return CLD_OK;
    if (!fits && x->a.ndim >= 1 && weight->a.ndim == 2) {
        bool plain = x->a.ndim == 2;
        return cld_fail(CLD_INVALID, "linear: x has %lld features, the weight takes %lld%s%s%s",
                        (long long)x->a.shape[x->a.ndim - 1], (long long)weight->a.shape[1],
                        plain ? "" : " (x is ", plain ? "" : cld_describe(&x->a), plain ? "" : ")");
    }
    if (fits && !biased && bias->a.ndim == 1)
        return cld_fail(CLD_INVALID, "linear: the bias has %lld elements, the weight makes %lld features",
                        (long long)bias->a.shape[0], (long long)weight->a.shape[0]);
    if (fits && biased && !same)
        return cld_fail(
            CLD_INVALID,
            "linear: x is %s, the weight %s; expected both of one dtype, or x of 16 bits and the weight f32",
            cld_dtype_name(x->a.dtype), cld_dtype_name(weight->a.dtype));
    return cld_fail(
        CLD_INVALID,
        "linear: expected x (..., in), weight (out, in) and bias (out) of one dtype, or x of 16 bits "
        "and the others of f32; got %s, %s and %s",
        cld_describe(&x->a), cld_describe(&weight->a), with);
}

cld_tensor *cld_linear(cld_tensor *x, cld_tensor *weight, cld_tensor *bias) {
    const cld_backend *device = cld_device(x);
    CLD_TRY_NULL(check_linear(x, weight, bias));
    int64_t shape[CLD_MAX_DIMS], rows = 1, out = weight->a.shape[0];
    for (int i = 0; i < x->a.ndim - 1; i++) rows *= shape[i] = x->a.shape[i];
    shape[x->a.ndim - 1] = out;
    CLD_AUTO cld_tensor *matrix = as_matrix(x);
    CLD_AUTO cld_tensor *w =
        matrix ? cld_weight_as(weight, (cld_weight_form){x->a.dtype, x->a.dtype, CLD_STRIDED}) : NULL;
    CLD_AUTO cld_tensor *wt = w ? transposed(w) : NULL;
    CLD_AUTO cld_tensor *y = wt ? cld_tensor_new(weight->a.dtype, x->a.ndim, shape, device) : NULL;
    if (!y) return NULL;
    CLD_AUTO cld_tensor *y_matrix =
        cld_tensor_view(y, 2, (int64_t[]){rows, out}, (int64_t[]){out, 1}, y->a.data);
    if (!y_matrix) return NULL;
    CLD_TRY_NULL(cld_kernel(device, math, gemm, &y_matrix->a, &matrix->a, &wt->a, bias ? &bias->a : NULL));
    cld_tensor *inputs[] = {x, weight, bias};
    cld_node *n = cld_record(&linear_op, &y, 1, inputs, bias ? 3 : 2);
    if (n) *cld_node_params(n, linear_node) = (linear_node){x->a.dtype};
    if (n && cld_node_needs(n, 1)) cld_node_save(n, 0, x);
    if (n && cld_node_needs(n, 0)) cld_node_save(n, 1, w);
    return cld_tensor_steal(&y);
}
