/* SGD, as optim.h defines it: which tensors take part in a step, with which settings, and the momentum buffers. */
#include "runtime/optim/optim.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/ops/ops.h"

static cld_status check_lr(double lr) {
    if (lr < 0) return cld_fail(CLD_INVALID, "sgd: the learning rate is %g; expected at least 0", lr);
    return CLD_OK;
}

static cld_status check_options(const cld_sgd_params *o) {
    CLD_TRY(check_lr(o->lr));
    if (!(o->momentum >= 0) || !(o->weight_decay >= 0))
        return cld_fail(CLD_INVALID, "sgd: momentum is %g and weight_decay %g; expected at least 0",
                        o->momentum, o->weight_decay);
    if (o->nesterov && (o->momentum == 0 || o->dampening != 0))
        return cld_fail(CLD_INVALID, "sgd: nesterov needs a momentum and no dampening; they are %g and %g",
                        o->momentum, o->dampening);
    return CLD_OK;
}

/* As in PyTorch, one that requires no gradient is welcome: it has none, so no step concerns it. */
static cld_status check_param(cld_tensor *const *params, int i) {
    const cld_tensor *p = params[i];
    if (p->node)
        return cld_fail(CLD_INVALID,
                        "sgd: parameter %d, %s, is the result of an op; only leaves can be trained", i + 1,
                        cld_describe(&p->a));
    if (p->a.dtype != CLD_F32 && p->a.dtype != CLD_F64)
        return cld_fail(CLD_INVALID, "sgd: parameter %d is %s; expected f32 or f64", i + 1,
                        cld_describe(&p->a));
    if (!cld_is_contiguous(&p->a))
        return cld_fail(CLD_INVALID,
                        "sgd: parameter %d, %s, is a strided view; use contiguous() before requires_grad_()",
                        i + 1, cld_describe(&p->a));
    for (int j = 0; j < i; j++)
        if (params[j] == p)
            return cld_fail(CLD_INVALID, "sgd: parameters %d and %d are the same tensor, %s; list it once",
                            j + 1, i + 1, cld_describe(&p->a));
    return CLD_OK;
}

cld_sgd *cld_sgd_new(cld_tensor *const *params, const cld_sgd_group *groups, int group_count, double lr) {
    int count = 0;
    CLD_TRY_NULL(check_lr(lr));
    for (int i = 0; i < group_count; i++) {
        CLD_TRY_NULL(check_options(&groups[i].options));
        count += groups[i].count;
    }
    if (count < 1) return cld_fail_null(CLD_INVALID, "sgd: there are no parameters");
    for (int i = 0; i < count; i++) CLD_TRY_NULL(check_param(params, i));
    cld_sgd *s = calloc(1, sizeof *s);
    if (s) {
        s->params = calloc((size_t)count, sizeof *s->params);
        s->buffers = calloc((size_t)count, sizeof *s->buffers);
        s->groups = calloc((size_t)group_count, sizeof *s->groups);
    }
    if (!s || !s->params || !s->buffers || !s->groups) {
        cld_sgd_free(s);
        return cld_fail_null(CLD_NOMEM, "sgd: out of memory");
    }
    s->lr = lr;
    for (; s->group_count < group_count; s->group_count++) s->groups[s->group_count] = groups[s->group_count];
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
    free(s->groups);
    free(s);
}

cld_status cld_sgd_set_lr(cld_sgd *s, double lr) {
    if (isnan(lr)) return cld_fail(CLD_INVALID, "sgd: the learning rate is nan; expected at least 0");
    CLD_TRY(check_lr(lr));
    s->lr = lr;
    return CLD_OK;
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

/* The parameters from `first` on, with room for all their arrays. A buffer starts at zero and its first step
 * has no dampening: buf = g. Such parameters are a call of their own. */
static cld_status step_group(cld_sgd *s, int first, int count, cld_sgd_params options, cld_array *arrays) {
    size_t n = (size_t)count;
    batch known = {arrays, arrays + n, arrays + 2 * n, 0};
    batch fresh = {arrays + 3 * n, arrays + 4 * n, arrays + 5 * n, 0};
    bool momentum = options.momentum != 0;
    for (int i = first; i < first + count; i++) {
        cld_tensor *p = s->params[i];
        if (!p->grad) continue;
        bool is_new = momentum && !s->buffers[i];
        if (is_new) s->buffers[i] = cld_tensor_full(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p), 0);
        if (is_new && !s->buffers[i]) return cld_error_code();
        CLD_TRY(add_to(is_new ? &fresh : &known, s, i));
    }
    const cld_backend *device = cld_device(s->params[0]);
    if (!cld_slot(device, optim, sgd)) return cld_unsupported("sgd", device);
    if (known.count)
        CLD_TRY(device->optim->sgd(known.count, known.params, known.grads, momentum ? known.buffers : NULL,
                                   &options, NULL));
    options.dampening = 0;
    if (fresh.count)
        CLD_TRY(device->optim->sgd(fresh.count, fresh.params, fresh.grads, fresh.buffers, &options, NULL));
    for (int i = first; i < first + count; i++)
        if (s->params[i]->grad) atomic_fetch_add(&s->params[i]->storage->version, 1);
    return CLD_OK;
}

/* The group's rate in a step that was given lr, NaN where it was given none. */
static double rate_of(const cld_sgd *s, const cld_sgd_group *g, double lr) {
    if (!isnan(lr)) return lr;
    return isnan(g->options.lr) ? s->lr : g->options.lr;
}

cld_status cld_sgd_step(cld_sgd *s, double lr) {
    CLD_TRY(check_lr(lr));
    for (int g = 0; g < s->group_count; g++)
        if (isnan(rate_of(s, &s->groups[g], lr)))
            return cld_fail(CLD_INVALID, "sgd: no learning rate; give lr when it is made, or to the step");
    cld_array *arrays = calloc(6 * (size_t)s->count, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "sgd: out of memory");
    cld_status status = CLD_OK;
    for (int g = 0, first = 0; g < s->group_count && status == CLD_OK; first += s->groups[g++].count) {
        cld_sgd_params options = s->groups[g].options;
        options.lr = rate_of(s, &s->groups[g], lr);
        status = step_group(s, first, s->groups[g].count, options, arrays);
    }
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
                        "sgd: the loss reached none of the parameters; does none require a gradient, or was "
                        "the network moved to a device or cast after sgd was made?");
    CLD_TRY(cld_sgd_step(s, lr));
    *made = true;
    return CLD_OK;
}

/* ---- the state ----------------------------------------------------------------------------------------- */

/* *out: a copy as the parameter's, NULL where the buffer is empty. */
static cld_status copy_buffer(cld_tensor **out, const cld_tensor *p, const cld_tensor *buffer, int i) {
    if (cld_numel(&buffer->a) == 0) return CLD_OK;
    if (!cld_same_shape(&p->a, &buffer->a))
        return cld_fail(CLD_INVALID, "sgd: the momentum of parameter %d is %s, the parameter %s", i + 1,
                        cld_describe(&buffer->a), cld_describe(&p->a));
    *out = cld_tensor_new(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p));
    return *out ? cld_tensor_copy(*out, buffer) : cld_error_code();
}

cld_status cld_sgd_load(cld_sgd *s, cld_tensor *const *buffers, int64_t skipped) {
    cld_tensor **copies = calloc((size_t)s->count, sizeof *copies);
    if (!copies) return cld_fail(CLD_NOMEM, "sgd: out of memory");
    cld_status status = CLD_OK;
    for (int i = 0; i < s->count && status == CLD_OK; i++)
        status = copy_buffer(&copies[i], s->params[i], buffers[i], i);
    if (status == CLD_OK) {
        cld_tensor **before = s->buffers;
        s->buffers = copies;
        copies = before;
        s->skipped = skipped;
    }
    for (int i = 0; i < s->count; i++) cld_tensor_free(copies[i]);
    free(copies);
    return status;
}
