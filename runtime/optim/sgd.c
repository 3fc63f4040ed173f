/* SGD, as optim.h defines it: which tensors take part in a step, with which settings, and the momentum buffers. */
#include "runtime/optim/optim.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/ops/ops.h"
#include "runtime/tensor/device.h"

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
    s->skipped = cld_tensor_full(CLD_I64, 0, NULL, cld_device(params[0]), 0);
    if (!s->skipped) {
        cld_sgd_free(s);
        return NULL;
    }
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
    cld_tensor_free(s->skipped);
    cld_loss_scale_drop(&s->loss_scale);
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
static cld_status step_group(cld_sgd *s, int first, int count, cld_sgd_params options, cld_array *arrays,
                             const cld_step_control *control) {
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
                                   &options, control));
    options.dampening = 0;
    if (fresh.count)
        CLD_TRY(device->optim->sgd(fresh.count, fresh.params, fresh.grads, fresh.buffers, &options, control));
    for (int i = first; i < first + count; i++)
        if (s->params[i]->grad) atomic_fetch_add(&s->params[i]->storage->version, 1);
    return CLD_OK;
}

/* The group's rate in a step that was given lr, NaN where it was given none. */
static double rate_of(const cld_sgd *s, const cld_sgd_group *g, double lr) {
    if (!isnan(lr)) return lr;
    return isnan(g->options.lr) ? s->lr : g->options.lr;
}

/* Is a buffer still to come whose first step is unlike the later ones? */
static bool starts_dampened(const cld_sgd *s) {
    for (int g = 0, i = 0; g < s->group_count; g++)
        for (int end = i + s->groups[g].count; i < end; i++)
            if (s->groups[g].options.momentum != 0 && s->groups[g].options.dampening != 0 &&
                s->params[i]->grad && !s->buffers[i])
                return true;
    return false;
}

static cld_status check_step(const cld_sgd *s, const cld_sgd_step_params *p) {
    CLD_TRY(check_lr(p->lr));
    if (p->lr_tensor && cld_numel(&p->lr_tensor->a) != 1)
        return cld_fail(CLD_INVALID, "sgd: the learning rate is %s; expected one element",
                        cld_describe(&p->lr_tensor->a));
    for (int g = 0; g < s->group_count && !p->lr_tensor; g++)
        if (isnan(rate_of(s, &s->groups[g], p->lr)))
            return cld_fail(CLD_INVALID, "sgd: no learning rate; give lr when it is made, or to the step");
    return cld_check_condition("sgd", p->condition, cld_device(s->params[0]));
}

/* scale: of the gradients at hand, or NULL. */
static cld_status step(cld_sgd *s, const cld_sgd_step_params *p, const cld_tensor *scale) {
    CLD_TRY(check_step(s, p));
    if (p->condition && starts_dampened(s)) { /* the host must know whether this is the first step */
        double made;
        CLD_TRY(cld_tensor_item(p->condition, &made));
        if (made == 0) return CLD_OK;
    }
    CLD_AUTO cld_tensor *lr =
        p->lr_tensor ? cld_tensor_as(p->lr_tensor, CLD_F64, cld_device(s->params[0])) : NULL;
    if (p->lr_tensor && !lr) return cld_error_code();
    const cld_step_control control = {
        .lr = cld_array_of(lr), .condition = cld_array_of(p->condition), .scale = cld_array_of(scale)};
    cld_array *arrays = calloc(6 * (size_t)s->count, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "sgd: out of memory");
    cld_status status = CLD_OK;
    for (int g = 0, first = 0; g < s->group_count && status == CLD_OK; first += s->groups[g++].count) {
        cld_sgd_params options = s->groups[g].options;
        options.lr = rate_of(s, &s->groups[g], p->lr);
        status = step_group(s, first, s->groups[g].count, options, arrays, &control);
    }
    free(arrays);
    return status == CLD_OK ? cld_device_end_step(cld_device(s->params[0])) : status;
}

cld_status cld_sgd_step(cld_sgd *s, const cld_sgd_step_params *p) { return step(s, p, NULL); }

/* ---- the step from a loss -------------------------------------------------------------------------------- */

/* Is the loss finite? u8 of no dimension, on the parameters' device. */
static cld_tensor *is_finite(cld_tensor *loss, const cld_backend *device) {
    CLD_AUTO cld_tensor *near = cld_tensor_as(loss, loss->a.dtype, device);
    CLD_AUTO cld_tensor *flag = near ? cld_tensor_new(CLD_U8, 0, NULL, device) : NULL;
    if (!flag) return NULL;
    cld_array value = near->a;
    value.ndim = 0;
    CLD_TRY_NULL(
        cld_kernel(device, math, unary, CLD_ISFINITE, &flag->a, &value, cld_integer(0), cld_integer(0)));
    return cld_tensor_steal(&flag);
}

static cld_status count_skipped(cld_sgd *s, cld_tensor *made) {
    CLD_AUTO cld_tensor *not_made = cld_unary_op(CLD_NOT, made, 0, 0);
    CLD_AUTO cld_tensor *count = not_made ? cld_tensor_cast(not_made, CLD_I64) : NULL;
    return count ? cld_add_(s->skipped, count) : cld_error_code();
}

/* A device that queues its work does all of it, for nothing where the loss turns out not to be finite; on the cpu it
 * is known here. */
static bool is_skipped(const cld_tensor *made) {
    return cld_device(made) == cld_cpu_backend() && *(const uint8_t *)made->a.data == 0;
}

/* Backward and step; scale NULL: without one. In fp16 it is known after backward alone whether the step can be made. */
static cld_status follow(cld_sgd *s, cld_tensor *loss, const cld_sgd_step_params *p, cld_tensor *made,
                         const cld_tensor *scale) {
    CLD_AUTO cld_tensor *gradient = scale ? cld_loss_scale_gradient(&s->loss_scale, loss) : NULL;
    if (scale && !gradient) return cld_error_code();
    CLD_TRY(cld_backward_if(loss, gradient, false, made));
    if (!any_grad(s))
        return cld_fail(CLD_INVALID,
                        "sgd: the loss reached none of the parameters; does none require a gradient, or was "
                        "the network moved to a device or cast after sgd was made?");
    if (scale) CLD_TRY(cld_loss_scale_check(made, s->params, s->count));
    cld_sgd_step_params conditional = *p;
    conditional.condition = made;
    return step(s, &conditional, scale);
}

cld_tensor *cld_sgd_minimize(cld_sgd *s, cld_tensor *loss, const cld_sgd_step_params *p) {
    const cld_backend *device = cld_device(s->skipped);
    bool scaled = cld_get_precision() == CLD_PRECISION_FP16;
    if (cld_numel(&loss->a) != 1)
        return cld_fail_null(CLD_INVALID, "sgd: the loss is %s; expected one element",
                             cld_describe(&loss->a));
    CLD_AUTO cld_tensor *made = is_finite(loss, device);
    if (!made) return NULL;
    if (scaled) CLD_TRY_NULL(cld_loss_scale_start(&s->loss_scale, device));
    cld_sgd_zero_grad(s);
    if (!is_skipped(made)) CLD_TRY_NULL(follow(s, loss, p, made, scaled ? s->loss_scale.scale : NULL));
    CLD_TRY_NULL(count_skipped(s, made));
    if (scaled) CLD_TRY_NULL(cld_loss_scale_update(&s->loss_scale, made));
    return cld_tensor_steal(&made);
}

/* ---- the state ----------------------------------------------------------------------------------------- */

static double dampening_of(const cld_sgd *s, int i) {
    const cld_sgd_group *g = s->groups;
    for (; i >= g->count; g++) i -= g->count;
    return g->options.dampening;
}

/* What parameter i's buffer is to be: the one that is there, to be written, or a new one; NULL where the given one is
 * empty. But one of zeros is as good as none if it is not dampened: it stays, as a captured graph may write to it. */
static cld_status choose_buffer(cld_tensor **out, const cld_sgd *s, const cld_tensor *given, int i) {
    const cld_tensor *p = s->params[i];
    if (cld_numel(&given->a) == 0) {
        if (s->buffers[i] && dampening_of(s, i) == 0) *out = cld_tensor_retain(s->buffers[i]);
        return CLD_OK;
    }
    if (!cld_same_shape(&p->a, &given->a))
        return cld_fail(CLD_INVALID, "sgd: the momentum of parameter %d is %s, the parameter %s", i + 1,
                        cld_describe(&given->a), cld_describe(&p->a));
    *out = s->buffers[i] ? cld_tensor_retain(s->buffers[i])
                         : cld_tensor_new(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p));
    return *out ? CLD_OK : cld_error_code();
}

/* A state without a scale, of a run in another precision, leaves the first one to start with. */
static cld_status copy_scale(cld_sgd *s, const cld_sgd_state *state) {
    if (!s->loss_scale.scale && !state->scale) return CLD_OK;
    cld_loss_scale given = {0}, *own = &s->loss_scale;
    const cld_backend *device = cld_device(s->skipped);
    CLD_TRY(cld_loss_scale_start(own, device));
    cld_status status = CLD_OK;
    if (state->scale) {
        given.scale = cld_reshape(state->scale, 0, NULL);
        given.good = given.scale ? cld_reshape(state->good, 0, NULL) : NULL;
        if (!given.good) status = cld_error_code();
    } else {
        status = cld_loss_scale_start(&given, device);
    }
    if (status == CLD_OK) status = cld_copy_("sgd", own->scale, given.scale);
    if (status == CLD_OK) status = cld_copy_("sgd", own->good, given.good);
    cld_loss_scale_drop(&given);
    return status;
}

static cld_status copy_state(cld_sgd *s, cld_tensor *const *chosen, const cld_sgd_state *state) {
    for (int i = 0; i < s->count; i++) {
        bool is_empty = cld_numel(&state->buffers[i]->a) == 0;
        if (chosen[i])
            CLD_TRY(is_empty ? cld_tensor_fill(chosen[i], cld_integer(0))
                             : cld_copy_("sgd", chosen[i], state->buffers[i]));
    }
    CLD_TRY(copy_scale(s, state));
    CLD_AUTO cld_tensor *count = cld_reshape(state->skipped, 0, NULL);
    return count ? cld_copy_("sgd", s->skipped, count) : cld_error_code();
}

static cld_status check_state(const cld_sgd_state *state) {
    const cld_tensor *skipped = state->skipped, *scale = state->scale, *good = state->good;
    if (cld_numel(&skipped->a) != 1 || cld_dtype_is_float(skipped->a.dtype))
        return cld_fail(CLD_INVALID, "sgd: the count of skipped steps is %s; expected one integer",
                        cld_describe(&skipped->a));
    if (!scale && !good) return CLD_OK;
    if (!scale || !good)
        return cld_fail(CLD_INVALID, "sgd: of the loss scale and its count of good steps there is only one");
    if (cld_numel(&scale->a) == 1 && cld_dtype_is_float(scale->a.dtype) && cld_numel(&good->a) == 1 &&
        !cld_dtype_is_float(good->a.dtype))
        return CLD_OK;
    return cld_fail(
        CLD_INVALID,
        "sgd: the loss scale is %s and its count of good steps %s; expected a number and an integer",
        cld_describe(&scale->a), cld_describe(&good->a));
}

/* In place, since a captured graph writes to the buffers that it has met. */
cld_status cld_sgd_load(cld_sgd *s, const cld_sgd_state *state) {
    CLD_TRY(check_state(state));
    cld_tensor **chosen = calloc((size_t)s->count, sizeof *chosen);
    if (!chosen) return cld_fail(CLD_NOMEM, "sgd: out of memory");
    cld_status status = CLD_OK;
    for (int i = 0; i < s->count && status == CLD_OK; i++)
        status = choose_buffer(&chosen[i], s, state->buffers[i], i);
    if (status == CLD_OK) status = copy_state(s, chosen, state);
    if (status == CLD_OK) {
        cld_tensor **before = s->buffers;
        s->buffers = chosen;
        chosen = before;
    }
    for (int i = 0; i < s->count; i++) cld_tensor_free(chosen[i]);
    free(chosen);
    return status;
}
