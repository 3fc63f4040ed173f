/* An optimizer continues from another one's state. */
#include <stdlib.h>

#include "runtime/ops/ops.h"
#include "runtime/optim/optimizer.h"

static int group_of(const cld_optimizer *s, int i) {
    int g = 0;
    for (; i >= s->groups[g].count; g++) i -= s->groups[g].count;
    return g;
}

cld_counting cld_optimizer_counting(const cld_optimizer *s, int i) {
    return s->rule->counting ? s->rule->counting(&s->groups[group_of(s, i)].settings) : CLD_COUNT_NONE;
}

cld_tensor *cld_optimizer_steps(const cld_optimizer *s, int i) {
    if (cld_optimizer_counting(s, i) == CLD_COUNT_NONE) return NULL;
    return cld_tensor_view(s->steps, 0, NULL, NULL, (int64_t *)s->steps->a.data + i);
}

/* ---- what does not fit ----------------------------------------------------------------------------------- */

static bool is_integer(const cld_tensor *t) {
    return cld_numel(&t->a) == 1 && !cld_dtype_is_float(t->a.dtype);
}

static cld_status check_scale(const char *name, const cld_tensor *scale, const cld_tensor *good) {
    if (!scale && !good) return CLD_OK;
    if (!scale || !good)
        return cld_fail(CLD_INVALID,
                        "%s: the state has only one of the loss scale and its count of good steps", name);
    if (cld_numel(&scale->a) == 1 && cld_dtype_is_float(scale->a.dtype) && is_integer(good)) return CLD_OK;
    return cld_fail(
        CLD_INVALID,
        "%s: the loss scale is %s and its count of good steps %s; expected a number and an integer", name,
        cld_describe(&scale->a), cld_describe(&good->a));
}

static cld_status check_groups(const cld_optimizer *s, const cld_tensor *groups) {
    const char *name = s->rule->name;
    if (!groups) return CLD_OK;
    if (groups->a.ndim != 1 || groups->a.dtype != CLD_I64)
        return cld_fail(CLD_INVALID, "%s: the groups are %s; expected the number of parameters of each, i64",
                        name, cld_describe(&groups->a));
    CLD_AUTO cld_tensor *here = cld_tensor_as((cld_tensor *)groups, CLD_I64, cld_cpu_backend());
    CLD_AUTO cld_tensor *dense = here ? cld_tensor_contiguous(here) : NULL;
    if (!dense) return cld_error_code();
    const int64_t *counts = dense->a.data;
    if (dense->a.shape[0] != s->group_count)
        return cld_fail(CLD_INVALID, "%s: the state has %lld groups of parameters, but there are %d here",
                        name, (long long)dense->a.shape[0], s->group_count);
    for (int g = 0; g < s->group_count; g++)
        if (counts[g] != s->groups[g].count)
            return cld_fail(CLD_INVALID, "%s: group %d has %lld parameters in the state, but %d here", name,
                            g + 1, (long long)counts[g], s->groups[g].count);
    return CLD_OK;
}

static cld_status check_slot(const cld_optimizer *s, int k, int i, const cld_tensor *given) {
    const cld_tensor *p = s->params[i];
    if (cld_numel(&given->a) == 0 || cld_same_shape(&p->a, &given->a)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the %s of parameter %d is %s, the parameter %s", s->rule->name,
                    s->rule->slot_names[k], i + 1, cld_describe(&given->a), cld_describe(&p->a));
}

static cld_status check_steps(const cld_optimizer *s, int i, const cld_tensor *given) {
    cld_counting counting = cld_optimizer_counting(s, i);
    if (!given && counting != CLD_COUNT_ALL) return CLD_OK;
    if (!given)
        return cld_fail(CLD_INVALID, "%s: the count of steps of parameter %d is missing from the state",
                        s->rule->name, i + 1);
    if (!is_integer(given))
        return cld_fail(CLD_INVALID, "%s: the count of steps of parameter %d is %s; expected one integer",
                        s->rule->name, i + 1, cld_describe(&given->a));
    return CLD_OK;
}

static cld_status check(const cld_optimizer *s, const cld_optimizer_state *state) {
    if (!is_integer(state->skipped))
        return cld_fail(CLD_INVALID, "%s: the count of skipped steps is %s; expected one integer",
                        s->rule->name, cld_describe(&state->skipped->a));
    CLD_TRY(check_scale(s->rule->name, state->scale, state->good));
    CLD_TRY(check_groups(s, state->groups));
    for (int i = 0; i < s->count; i++) {
        for (int k = 0; k < s->rule->slots; k++) CLD_TRY(check_slot(s, k, i, state->slots[k][i]));
        CLD_TRY(check_steps(s, i, state->steps[i]));
    }
    return CLD_OK;
}

/* ---- copies ---------------------------------------------------------------------------------------------- */

/* The tensor for slot k of parameter i: the existing one, to be overwritten, or a new one; NULL if there is none and
 * none is given. */
static cld_status choose_slots(cld_tensor **chosen, const cld_optimizer *s, int k,
                               const cld_optimizer_state *state) {
    for (int i = 0; i < s->count; i++) {
        const cld_tensor *p = s->params[i];
        if (s->slots[k][i])
            chosen[i] = cld_tensor_retain(s->slots[k][i]);
        else if (cld_numel(&state->slots[k][i]->a) > 0)
            chosen[i] = cld_tensor_new(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p));
        else
            continue;
        if (!chosen[i]) return cld_error_code();
    }
    return CLD_OK;
}

static cld_status copy_slots(const cld_optimizer *s, cld_tensor *const *chosen, cld_tensor *const *given) {
    for (int i = 0; i < s->count; i++) {
        bool is_empty = cld_numel(&given[i]->a) == 0;
        if (chosen[i])
            CLD_TRY(is_empty ? cld_tensor_fill(chosen[i], cld_integer(0))
                             : cld_copy_(s->rule->name, chosen[i], given[i]));
    }
    return CLD_OK;
}

static cld_status load_slots(cld_optimizer *s, int k, const cld_optimizer_state *state) {
    cld_tensor **chosen = calloc((size_t)s->count, sizeof *chosen);
    if (!chosen) return cld_fail(CLD_NOMEM, "%s: out of memory", s->rule->name);
    cld_status status = choose_slots(chosen, s, k, state);
    if (status == CLD_OK) status = copy_slots(s, chosen, state->slots[k]);
    if (status == CLD_OK) {
        cld_tensor **before = s->slots[k];
        s->slots[k] = chosen;
        chosen = before;
    }
    for (int i = 0; i < s->count; i++) cld_tensor_free(chosen[i]);
    free(chosen);
    return status;
}

/* A state without counts: a nonempty slot means that steps were made, and no more needs to be known. */
static cld_status load_steps(cld_optimizer *s, const cld_optimizer_state *state) {
    for (int i = 0; i < s->count; i++) {
        CLD_AUTO cld_tensor *own = cld_optimizer_steps(s, i);
        if (!own && cld_optimizer_counting(s, i) != CLD_COUNT_NONE) return cld_error_code();
        if (!own) continue;
        if (!state->steps[i]) {
            CLD_TRY(cld_tensor_fill(own, cld_integer(cld_numel(&state->slots[0][i]->a) > 0)));
            continue;
        }
        CLD_AUTO cld_tensor *given = cld_reshape(state->steps[i], 0, NULL);
        if (!given) return cld_error_code();
        CLD_TRY(cld_copy_(s->rule->name, own, given));
    }
    return CLD_OK;
}

/* A state without a scale, from a run in another precision, keeps the initial scale. */
static cld_status load_scale(cld_optimizer *s, const cld_optimizer_state *state) {
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
    if (status == CLD_OK) status = cld_copy_(s->rule->name, own->scale, given.scale);
    if (status == CLD_OK) status = cld_copy_(s->rule->name, own->good, given.good);
    cld_loss_scale_drop(&given);
    return status;
}

cld_status cld_optimizer_load(cld_optimizer *s, const cld_optimizer_state *state) {
    CLD_TRY(check(s, state));
    for (int k = 0; k < s->rule->slots; k++) CLD_TRY(load_slots(s, k, state));
    CLD_TRY(load_steps(s, state));
    CLD_TRY(load_scale(s, state));
    CLD_AUTO cld_tensor *count = cld_reshape(state->skipped, 0, NULL);
    return count ? cld_copy_(s->rule->name, s->skipped, count) : cld_error_code();
}
