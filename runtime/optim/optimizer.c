/* What all optimizers share, as optimizer.h defines it: which tensors take part in a step, and with which settings. */
#include "runtime/optim/optimizer.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/optim/overlap.h"
#include "runtime/ops/ops.h"
#include "runtime/tensor/device.h"
#include "runtime/tensor/kept.h"

static cld_status check_lr(const cld_optim_rule *rule, double lr) {
    if (lr < 0)
        return cld_fail(CLD_INVALID, "%s: the learning rate is %g; expected at least 0", rule->name, lr);
    return CLD_OK;
}

static cld_status check_settings(const cld_optim_rule *rule, const cld_rule_settings *s) {
    CLD_TRY(check_lr(rule, s->lr));
    if (!(s->lr_factor >= 0 && s->lr_factor < INFINITY))
        return cld_fail(CLD_INVALID, "%s: lr_factor is %g; expected a number of at least 0", rule->name,
                        s->lr_factor);
    if (!(s->weight_decay >= 0))
        return cld_fail(CLD_INVALID, "%s: weight_decay is %g; expected at least 0", rule->name,
                        s->weight_decay);
    return rule->check ? rule->check(s) : CLD_OK;
}

/* As in PyTorch, a parameter that requires no gradient is allowed: it has none, so no step changes it. */
static cld_status check_param(const char *name, const cld_tensor *p, int i) {
    if (p->node)
        return cld_fail(CLD_INVALID,
                        "%s: parameter %d, %s, is the result of an op; only leaves can be trained", name,
                        i + 1, cld_describe(&p->a));
    if (p->a.dtype != CLD_F32 && p->a.dtype != CLD_F64)
        return cld_fail(CLD_INVALID, "%s: parameter %d is %s; expected f32 or f64", name, i + 1,
                        cld_describe(&p->a));
    if (!cld_is_contiguous(&p->a))
        return cld_fail(CLD_INVALID,
                        "%s: parameter %d, %s, is a strided view; use contiguous() before requires_grad_()",
                        name, i + 1, cld_describe(&p->a));
    return CLD_OK;
}

static cld_status check_params(const char *name, cld_tensor *const *params, int count) {
    if (count < 1) return cld_fail(CLD_INVALID, "%s: there are no parameters", name);
    for (int i = 0; i < count; i++) {
        CLD_TRY(check_param(name, params[i], i));
        for (int j = 0; j < i; j++)
            if (params[j] == params[i])
                return cld_fail(CLD_INVALID, "%s: parameters %d and %d are the same tensor, %s; list it once",
                                name, j + 1, i + 1, cld_describe(&params[i]->a));
    }
    return CLD_OK;
}

static bool counts(const cld_optim_rule *rule, const cld_optim_group *g) {
    return rule->counting && rule->counting(&g->settings) != CLD_COUNT_NONE;
}

static cld_status make_tensors(cld_optimizer *s, const cld_backend *device) {
    const int64_t count = s->count;
    bool any = false;
    for (int g = 0; g < s->group_count; g++) any = any || counts(s->rule, &s->groups[g]);
    if (any && !(s->steps = cld_tensor_full(CLD_I64, 1, &count, device, 0))) return cld_error_code();
    s->skipped = cld_tensor_full(CLD_I64, 0, NULL, device, 0);
    s->grad_norm = s->skipped ? cld_tensor_full(CLD_F32, 0, NULL, device, NAN) : NULL;
    s->clip_factor = s->grad_norm ? cld_tensor_full(CLD_F64, 0, NULL, device, 1) : NULL;
    return s->clip_factor ? CLD_OK : cld_error_code();
}

static cld_status fill_in(cld_optimizer *s, cld_tensor *const *params, const cld_optim_group *groups,
                          int group_count, int count) {
    s->params = calloc((size_t)count, sizeof *s->params);
    s->groups = calloc((size_t)group_count, sizeof *s->groups);
    for (int k = 0; k < s->rule->slots; k++) s->slots[k] = calloc((size_t)count, sizeof *s->slots[k]);
    bool room = s->params && s->groups;
    for (int k = 0; k < s->rule->slots; k++) room = room && s->slots[k];
    if (!room) return cld_fail(CLD_NOMEM, "%s: out of memory", s->rule->name);
    for (; s->group_count < group_count; s->group_count++) s->groups[s->group_count] = groups[s->group_count];
    for (; s->count < count; s->count++) s->params[s->count] = cld_tensor_retain(params[s->count]);
    return make_tensors(s, cld_device(params[0]));
}

cld_optimizer *cld_optimizer_new(const cld_optim_rule *rule, cld_tensor *const *params,
                                 const cld_optim_group *groups, int group_count, double lr) {
    int count = 0;
    CLD_TRY_NULL(check_lr(rule, lr));
    for (int i = 0; i < group_count; i++) {
        CLD_TRY_NULL(check_settings(rule, &groups[i].settings));
        count += groups[i].count;
    }
    CLD_TRY_NULL(check_params(rule->name, params, count));
    cld_optimizer *s = calloc(1, sizeof *s);
    if (!s) return cld_fail_null(CLD_NOMEM, "%s: out of memory", rule->name);
    s->rule = rule;
    s->lr = lr;
    if (fill_in(s, params, groups, group_count, count) == CLD_OK) return s;
    cld_optimizer_free(s);
    return NULL;
}

void cld_optimizer_free(cld_optimizer *s) {
    if (!s) return;
    for (int i = 0; i < s->count; i++) {
        cld_tensor_free(s->params[i]);
        for (int k = 0; k < s->rule->slots; k++) cld_tensor_free(s->slots[k][i]);
    }
    cld_tensor *const own[] = {s->steps, s->skipped, s->grad_norm, s->clip_factor, s->sum.made};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) cld_tensor_free(own[i]);
    cld_deferred_drop(&s->sum.later);
    cld_overlap_free(s->overlap);
    cld_loss_scale_drop(&s->loss_scale);
    free(s->params);
    for (int k = 0; k < s->rule->slots; k++) free(s->slots[k]);
    free(s->groups);
    free(s);
}

cld_status cld_optimizer_set_lr(cld_optimizer *s, double lr) {
    if (isnan(lr))
        return cld_fail(CLD_INVALID, "%s: the learning rate is nan; expected at least 0", s->rule->name);
    CLD_TRY(check_lr(s->rule, lr));
    s->lr = lr;
    return CLD_OK;
}

double cld_optimizer_rate(const cld_optimizer *s, const cld_optim_group *g, double lr) {
    if (!isnan(lr)) return lr;
    return isnan(g->settings.lr) ? s->lr : g->settings.lr;
}

bool cld__optimizer_has_gradient(const cld_optimizer *s) {
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad) return true;
    return false;
}

/* ---- the step ------------------------------------------------------------------------------------------ */

static cld_status check_device(const cld_optimizer *s, int i) {
    const cld_tensor *p = s->params[i], *first = s->params[0];
    if (cld_device(p) != cld_device(first) || cld_device(p->grad) != cld_device(p))
        return cld_fail(CLD_INVALID, "%s: parameter %d is on %s, its gradient on %s, parameter 1 on %s",
                        s->rule->name, i + 1, cld_device(p)->name, cld_device(p->grad)->name,
                        cld_device(first)->name);
    return CLD_OK;
}

cld_status cld__optimizer_check_devices(const cld_optimizer *s) {
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad) CLD_TRY(check_device(s, i));
    return CLD_OK;
}

static cld_status check_form(const cld_optimizer *s, int i) {
    const cld_tensor *p = s->params[i];
    const cld_array *g = &p->grad->a;
    if (!cld_same_shape(&p->a, g) || p->a.dtype != g->dtype || !cld_is_contiguous(g))
        return cld_fail(CLD_INVALID, "%s: parameter %d is %s, its gradient %s", s->rule->name, i + 1,
                        cld_describe(&p->a), cld_describe(g));
    return CLD_OK;
}

static cld_status make_slots(cld_optimizer *s, int i) {
    const cld_tensor *p = s->params[i];
    for (int k = 0; k < s->rule->slots; k++) {
        if (s->slots[k][i]) continue;
        s->slots[k][i] = cld_tensor_full(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p), 0);
        if (!s->slots[k][i]) return cld_error_code();
    }
    return CLD_OK;
}

/* Are the parameter's 16-bit arrays laid out so that a step can use them? Sets channels and inner if they are. */
static bool lies_well(cld_step_tensor *t, const cld_array *param, const cld_array *half) {
    bool last = half->layout == CLD_BLOCKED;
    if (param->dtype != CLD_F32 || (!last && !cld_is_contiguous(half))) return false;
    if (last && (param->ndim != 4 || param->shape[2] * param->shape[3] > CLD_STEP_INNER)) return false;
    t->channels = last ? param->shape[1] : 1;
    t->inner = last ? param->shape[2] * param->shape[3] : 1;
    return true;
}

/* Makes a 16-bit gradient dense if the step cannot read it in its original form. */
static cld_status place_gradient(cld_step_tensor *t, const cld_optimizer *s, int i) {
    cld_tensor *p = s->params[i];
    bool half = cld_dtype_is_half(p->grad->a.dtype) && lies_well(t, &p->a, &p->grad->a);
    if (!half) {
        CLD_TRY(cld_dense_gradients(&p, 1));
        CLD_TRY(check_form(s, i));
    }
    t->grad = p->grad->a.data;
    t->grad_dtype = p->grad->a.dtype;
    return CLD_OK;
}

/* *copy: written with the new values, or NULL. */
static cld_status describe_tensor(cld_step_tensor *out, cld_tensor **copy, cld_optimizer *s, int i,
                                  int group) {
    const cld_rule_settings *settings = &s->groups[group].settings;
    cld_tensor *p = s->params[i];
    *out = (cld_step_tensor){.param = p->a.data,
                             .n = cld_numel(&p->a),
                             .dtype = p->a.dtype,
                             .copy_dtype = p->a.dtype,
                             .inner = 1,
                             .settings = group};
    CLD_TRY(place_gradient(out, s, i));
    if (!s->rule->keeps_slots || s->rule->keeps_slots(settings)) {
        CLD_TRY(make_slots(s, i));
        for (int k = 0; k < s->rule->slots; k++) out->slots[k] = s->slots[k][i]->a.data;
    }
    if (counts(s->rule, &s->groups[group])) out->steps = (int64_t *)s->steps->a.data + i;
    *copy = cld_device(p)->optim->takes_half ? cld_kept_writable(p) : NULL;
    bool alike = *copy && (out->grad_dtype == p->a.dtype || (*copy)->a.layout == p->grad->a.layout);
    if (alike && lies_well(out, &p->a, &(*copy)->a)) {
        out->copy = (*copy)->a.data;
        out->copy_dtype = (*copy)->a.dtype;
    } else {
        cld_tensor_free(*copy);
        *copy = NULL;
    }
    return CLD_OK;
}

/* Describes the parameters that have a gradient; returns how many, or -1. */
static int describe_all(cld_step_tensor *out, cld_tensor **copies, cld_optimizer *s) {
    int found = 0;
    for (int g = 0, i = 0; g < s->group_count; g++)
        for (int end = i + s->groups[g].count; i < end; i++)
            if (s->params[i]->grad && describe_tensor(&out[found++], &copies[i], s, i, g) != CLD_OK)
                return -1;
    return found;
}

cld_status cld__optimizer_check_step(const cld_optimizer *s, const cld_step_params *p) {
    const char *name = s->rule->name;
    CLD_TRY(check_lr(s->rule, p->lr));
    if (!(p->clip >= 0))
        return cld_fail(CLD_INVALID, "%s: clip is %g; expected a norm above 0", name, p->clip);
    if (p->lr_tensor && cld_numel(&p->lr_tensor->a) != 1)
        return cld_fail(CLD_INVALID, "%s: the learning rate is %s; expected one element", name,
                        cld_describe(&p->lr_tensor->a));
    for (int g = 0; g < s->group_count && !p->lr_tensor; g++)
        if (isnan(cld_optimizer_rate(s, &s->groups[g], p->lr)))
            return cld_fail(CLD_INVALID,
                            "%s: no learning rate; give lr when the optimizer is made, or to the step", name);
    return CLD_OK;
}

/* Computes .grad_norm, and the factor for the gradients. */
static cld_status measure(cld_optimizer *s, double clip, const cld_step_control *control) {
    const cld_backend *device = cld_device(s->params[0]);
    cld_array *grads = calloc((size_t)s->count, sizeof *grads);
    int found = 0;
    if (!grads) return cld_fail(CLD_NOMEM, "%s: out of memory", s->rule->name);
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad) grads[found++] = s->params[i]->grad->a;
    cld_status status = cld_kernel(device, optim, grad_norm, &s->grad_norm->a, &s->clip_factor->a, found,
                                   grads, clip > 0 ? clip : INFINITY, control);
    free(grads);
    atomic_fetch_add(&s->grad_norm->storage->version, 1);
    return status;
}

static cld_status run(cld_optimizer *s, const cld_step_params *p, const cld_step_tensor *tensors, int count,
                      cld_step_control *control) {
    const cld_backend *device = cld_device(s->params[0]);
    if (p->clip > 0 || p->grad_norm) CLD_TRY(measure(s, p->clip, control));
    if (p->clip > 0) control->factor = &s->clip_factor->a;
    cld_rule_settings *settings = calloc((size_t)s->group_count, sizeof *settings);
    if (!settings) return cld_fail(CLD_NOMEM, "%s: out of memory", s->rule->name);
    for (int g = 0; g < s->group_count; g++) {
        settings[g] = s->groups[g].settings;
        settings[g].lr = cld_optimizer_rate(s, &s->groups[g], p->lr);
    }
    cld_status status =
        count ? cld_kernel(device, optim, step, s->rule->kernel, count, tensors, settings, control) : CLD_OK;
    free(settings);
    return status;
}

/* The parameters have new values, and so have the copies, if everything succeeded. */
static void end_step(cld_optimizer *s, cld_tensor **copies, bool well) {
    for (int i = 0; i < s->count; i++) {
        cld_tensor *p = s->params[i];
        if (p->grad) atomic_fetch_add(&p->storage->version, 1);
        if (copies[i] && well) cld_kept_written(p, copies[i]);
        cld_tensor_free(copies[i]);
    }
}

cld_status cld__optimizer_step(cld_optimizer *s, const cld_step_params *p, cld_tensor *made,
                               const cld_tensor *scale) {
    const cld_backend *device = cld_device(s->params[0]);
    CLD_TRY(cld__optimizer_check_step(s, p));
    CLD_TRY(cld__optimizer_check_devices(s));
    if (!cld_slot(device, optim, step)) return cld_unsupported(s->rule->name, device);
    CLD_AUTO cld_tensor *lr = p->lr_tensor ? cld_tensor_as(p->lr_tensor, CLD_F64, device) : NULL;
    if (p->lr_tensor && !lr) return cld_error_code();
    cld_step_control control = {
        .lr = cld_array_of(lr), .condition = cld_array_of(made), .scale = cld_array_of(scale)};
    cld_step_tensor *tensors = calloc((size_t)s->count, sizeof *tensors);
    cld_tensor **copies = calloc((size_t)s->count, sizeof *copies); /* one per parameter */
    cld_status status = CLD_NOMEM;
    if (tensors && copies) {
        int count = describe_all(tensors, copies, s);
        status = count < 0 ? cld_error_code() : run(s, p, tensors, count, &control);
        end_step(s, copies, status == CLD_OK);
    } else {
        status = cld_fail(CLD_NOMEM, "%s: out of memory", s->rule->name);
    }
    free(tensors);
    free(copies);
    return status;
}

cld_status cld__optimizer_compare(cld_optimizer *s) {
    if (s->compared) return CLD_OK;
    CLD_TRY(cld_check_params_alike(s->rule->name, s->params, s->count));
    s->compared = true;
    return CLD_OK;
}

cld_status cld_optimizer_step(cld_optimizer *s, const cld_step_params *p) {
    if (s->sum.open)
        return cld_fail(CLD_INVALID, "%s: step was called between begin and finish; finish makes the step",
                        s->rule->name);
    for (int i = 0; i < s->count; i++)
        if (s->params[i]->grad && s->params[i]->grad->loss_scaled)
            return cld_fail(
                CLD_INVALID,
                "%s: the gradients of a step in fp16 are multiplied by the loss scale; step(loss) "
                "and finish divide by it, step() does not",
                s->rule->name);
    CLD_TRY(cld__optimizer_compare(s));
    CLD_TRY(cld_reduce_gradients(s->params, s->count));
    CLD_TRY(cld__optimizer_step(s, p, NULL, NULL));
    return cld_device_end_step(cld_device(s->params[0]));
}
