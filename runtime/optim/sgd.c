/* SGD, as optim.h defines it: which tensors take part in a step, and the momentum buffers. */
#include "runtime/optim/optim.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/ops/ops.h"

static cld_status check_options(const cld_sgd_params *o) {
    if (o->lr < 0) return cld_fail(CLD_INVALID, "sgd: the learning rate is %g; expected at least 0", o->lr);
    if (!(o->momentum >= 0) || !(o->weight_decay >= 0))
        return cld_fail(CLD_INVALID, "sgd: momentum is %g and weight_decay %g; expected at least 0",
                        o->momentum, o->weight_decay);
    if (o->nesterov && (o->momentum == 0 || o->dampening != 0))
        return cld_fail(CLD_INVALID, "sgd: nesterov needs a momentum and no dampening; they are %g and %g",
                        o->momentum, o->dampening);
    return CLD_OK;
}

static cld_status check_param(const cld_tensor *p, int i) {
    if (p->node || !p->requires_grad)
        return cld_fail(CLD_INVALID, "sgd: parameter %d, %s, %s", i + 1, cld_describe(&p->a),
                        p->node ? "is the result of an op; only leaves can be trained"
                                : "does not require a gradient");
    if (p->a.dtype != CLD_F32 && p->a.dtype != CLD_F64)
        return cld_fail(CLD_INVALID, "sgd: parameter %d is %s; expected f32 or f64", i + 1,
                        cld_describe(&p->a));
    if (!cld_is_contiguous(&p->a))
        return cld_fail(CLD_INVALID,
                        "sgd: parameter %d, %s, is a strided view; use contiguous() before requires_grad_()",
                        i + 1, cld_describe(&p->a));
    return CLD_OK;
}

cld_sgd *cld_sgd_new(cld_tensor *const *params, int count, const cld_sgd_params *options) {
    CLD_TRY_NULL(check_options(options));
    if (count < 1) return cld_fail_null(CLD_INVALID, "sgd: there are no parameters");
    for (int i = 0; i < count; i++) CLD_TRY_NULL(check_param(params[i], i));
    cld_sgd *s = calloc(1, sizeof *s);
    if (s) {
        s->params = calloc((size_t)count, sizeof *s->params);
        s->buffers = calloc((size_t)count, sizeof *s->buffers);
    }
    if (!s || !s->params || !s->buffers) {
        cld_sgd_free(s);
        return cld_fail_null(CLD_NOMEM, "sgd: out of memory");
    }
    s->options = *options;
    for (; s->count < count; s->count++) s->params[s->count] = cld_tensor_retain(params[s->count]);
    return s;
}

void cld_sgd_free(cld_sgd *s) {
    if (!s) return;
    for (int i = 0; i < s->count; i++) {
        cld_tensor_free(s->params[i]);
        cld_tensor_free(s->buffers[i]);
    }
    free(s->params);
    free(s->buffers);
    free(s);
}

void cld_sgd_zero_grad(cld_sgd *s) {
    for (int i = 0; i < s->count; i++) {
        cld_tensor_free(s->params[i]->grad);
        s->params[i]->grad = NULL;
    }
}

static bool any_grad(const cld_sgd *s) {
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad) return true;
    return false;
}

/* ---- the step ------------------------------------------------------------------------------------------ */

typedef struct batch {
    cld_array *params, *grads, *buffers;
    int count;
} batch;

static cld_status add_to(batch *b, cld_sgd *s, int i) {
    cld_tensor *p = s->params[i];
    if (cld_device(p) != cld_device(s->params[0]) || cld_device(p->grad) != cld_device(p))
        return cld_fail(CLD_INVALID, "sgd: parameter %d is on %s, its gradient on %s, parameter 1 on %s",
                        i + 1, cld_device(p)->name, cld_device(p->grad)->name,
                        cld_device(s->params[0])->name);
    if (!cld_same_shape(&p->a, &p->grad->a) || p->a.dtype != p->grad->a.dtype ||
        !cld_is_contiguous(&p->grad->a))
        return cld_fail(CLD_INVALID, "sgd: parameter %d is %s, its gradient %s", i + 1, cld_describe(&p->a),
                        cld_describe(&p->grad->a));
    b->params[b->count] = p->a;
    b->grads[b->count] = p->grad->a;
    if (s->buffers[i]) b->buffers[b->count] = s->buffers[i]->a;
    b->count++;
    return CLD_OK;
}

/* A buffer starts at zero and its first step has no dampening: buf = g. Such parameters are a call of their
 * own. */
static cld_status step_with(cld_sgd *s, double lr, batch *known, batch *fresh) {
    bool momentum = s->options.momentum != 0;
    for (int i = 0; i < s->count; i++) {
        cld_tensor *p = s->params[i];
        if (!p->grad) continue;
        bool first = momentum && !s->buffers[i];
        if (first) s->buffers[i] = cld_tensor_full(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p), 0);
        if (first && !s->buffers[i]) return cld_error_code();
        CLD_TRY(add_to(first ? fresh : known, s, i));
    }
    const cld_backend *device = cld_device(s->params[0]);
    if (!device->optim || !device->optim->sgd) return cld_unsupported("sgd", device);
    cld_sgd_params options = s->options;
    options.lr = lr;
    if (known->count)
        CLD_TRY(device->optim->sgd(known->count, known->params, known->grads,
                                   momentum ? known->buffers : NULL, &options));
    options.dampening = 0;
    if (fresh->count)
        CLD_TRY(device->optim->sgd(fresh->count, fresh->params, fresh->grads, fresh->buffers, &options));
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad) atomic_fetch_add(&s->params[i]->storage->version, 1);
    return CLD_OK;
}

cld_status cld_sgd_step(cld_sgd *s, double lr) {
    if (isnan(lr))
        return cld_fail(CLD_INVALID, "sgd: no learning rate; give lr when it is made, or to the step");
    if (lr < 0) return cld_fail(CLD_INVALID, "sgd: the learning rate is %g; expected at least 0", lr);
    size_t n = (size_t)s->count;
    cld_array *arrays = calloc(6 * n, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "sgd: out of memory");
    batch known = {arrays, arrays + n, arrays + 2 * n, 0},
          fresh = {arrays + 3 * n, arrays + 4 * n, arrays + 5 * n, 0};
    cld_status status = step_with(s, lr, &known, &fresh);
    free(arrays);
    return status;
}

cld_status cld_sgd_minimize(cld_sgd *s, cld_tensor *loss, double lr, bool *made) {
    double value;
    *made = false;
    CLD_TRY(cld_tensor_item(loss, &value));
    cld_sgd_zero_grad(s);
    if (!isfinite(value)) {
        s->skipped++;
        return CLD_OK;
    }
    CLD_TRY(cld_backward(loss, NULL, false));
    if (!any_grad(s))
        return cld_fail(CLD_INVALID,
                        "sgd: the loss reached none of the parameters; was the network moved to a device or "
                        "cast after sgd was made?");
    CLD_TRY(cld_sgd_step(s, lr));
    *made = true;
    return CLD_OK;
}

cld_status cld_sgd_load(cld_sgd *s, int i, const cld_tensor *buffer) {
    cld_tensor *p = s->params[i];
    if (!cld_same_shape(&p->a, &buffer->a))
        return cld_fail(CLD_INVALID, "sgd: the momentum of parameter %d is %s, the parameter %s", i + 1,
                        cld_describe(&buffer->a), cld_describe(&p->a));
    cld_tensor *copy = cld_tensor_new(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p));
    if (!copy || cld_tensor_copy(copy, buffer) != CLD_OK) {
        cld_tensor_free(copy);
        return cld_error_code();
    }
    cld_tensor_free(s->buffers[i]);
    s->buffers[i] = copy;
    return CLD_OK;
}
