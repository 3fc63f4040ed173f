/* softmax and log_softmax. Backward needs only the output. */
#include "runtime/ops/ops.h"

typedef struct softmax_params {
    int dim;
    bool log;
} softmax_params;

/* The kernel's output for a strided x. */
static cld_tensor *softmax_of(cld_tensor *x, int dim, bool log) {
    CLD_AUTO cld_tensor *strided = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *y =
        strided ? cld_tensor_new(x->a.dtype, x->a.ndim, x->a.shape, cld_device(x)) : NULL;
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, softmax, &y->a, &strided->a, dim, log));
    return cld_tensor_steal(&y);
}

/* y = softmax(x):     dx = y (dy - sum(y dy))
 * y = log_softmax(x): dx = dy - exp(y) sum(dy) */
static cld_status softmax_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const softmax_params *p = cld_node_params(n, softmax_params);
    CLD_AUTO cld_tensor *y = cld_node_saved(n, 0);
    CLD_AUTO cld_tensor *dy = y ? cld_tensor_strided(dout[0]) : NULL;
    CLD_AUTO cld_tensor *dx = dy ? cld_tensor_new_like(y) : NULL;
    if (!dx) return cld_error_code();
    CLD_TRY(cld_kernel(n->device, math, softmax_backward, &dx->a, &y->a, &dy->a, p->dim, p->log));
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op softmax_op = {.name = "softmax", .backward = softmax_backward};
static const cld_op log_softmax_op = {.name = "log_softmax", .backward = softmax_backward};

static cld_tensor *softmax(const cld_op *op, cld_tensor *given, int dim, bool log) {
    CLD_TRY_NULL(cld_check_float(op->name, given));
    CLD_AUTO cld_tensor *x = cld_unrounded(given);
    if (!x) return NULL;
    CLD_TRY_NULL(cld_check_dim(op->name, x, dim, &dim));
    if (x->a.ndim == 0) { /* one line of one element */
        CLD_AUTO cld_tensor *line = cld_unsqueeze(x, 0);
        CLD_AUTO cld_tensor *result = line ? softmax(op, line, 0, log) : NULL;
        return result ? cld_squeeze(result, 0) : NULL;
    }
    CLD_AUTO cld_tensor *y = softmax_of(x, dim, log);
    if (!y) return NULL;
    cld_node *n = cld_record(op, &y, 1, &x, 1);
    if (n) {
        *cld_node_params(n, softmax_params) = (softmax_params){dim, log};
        cld_node_save(n, 0, y);
    }
    return cld_tensor_steal(&y);
}

cld_tensor *cld_softmax(cld_tensor *x, int dim) { return softmax(&softmax_op, x, dim, false); }
cld_tensor *cld_log_softmax(cld_tensor *x, int dim) { return softmax(&log_softmax_op, x, dim, true); }
