#include "kernels/cuda/plans.h"

#include <stdlib.h>
#include <string.h>

static cld_conv_plan *entries;
static int count, room;
static int64_t rounds;

cld_conv_plan cld_plan_for(cld_dnn_kind kind, const cld_dnn_shape *s, bool tf32, int64_t alignment) {
    cld_conv_plan p = {.kind = (int)kind,
                       .dtype = s->dtype,
                       .tf32 = tf32,
                       .x = {s->n, s->c, s->h, s->w},
                       .w = {s->o, s->c / s->groups, s->kernel[0], s->kernel[1]},
                       .y = {s->n, s->o, s->oh, s->ow},
                       .params.groups = s->groups,
                       .alignment = alignment};
    for (int i = 0; i < 2; i++) {
        p.params.stride[i] = s->stride[i];
        p.params.padding[i] = s->padding[i];
        p.params.dilation[i] = s->dilation[i];
    }
    return p;
}

static bool same_params(const cld_conv_params *a, const cld_conv_params *b) {
    for (int i = 0; i < 2; i++)
        if (a->stride[i] != b->stride[i] || a->padding[i] != b->padding[i] ||
            a->dilation[i] != b->dilation[i])
            return false;
    return a->groups == b->groups;
}

static cld_conv_plan *find(const cld_conv_plan *p) {
    for (int i = 0; i < count; i++) {
        cld_conv_plan *q = &entries[i];
        if (q->kind == p->kind && q->dtype == p->dtype && q->tf32 == p->tf32 &&
            q->alignment == p->alignment && memcmp(q->x, p->x, sizeof q->x) == 0 &&
            memcmp(q->w, p->w, sizeof q->w) == 0 && memcmp(q->y, p->y, sizeof q->y) == 0 &&
            same_params(&q->params, &p->params))
            return q;
    }
    return NULL;
}

static cld_status put(const cld_conv_plan *plan) {
    cld_conv_plan *e = find(plan);
    if (!e && count == room) {
        int more = room ? 2 * room : 64;
        cld_conv_plan *grown = realloc(entries, (size_t)more * sizeof *grown);
        if (!grown) return cld_fail(CLD_NOMEM, "out of memory for the plans of convolutions");
        entries = grown;
        room = more;
    }
    if (!e) e = &entries[count++];
    *e = *plan;
    return CLD_OK;
}

const cld_conv_plan *cld_plans_given(const cld_conv_plan *wanted) { return find(wanted); }

cld_status cld_plans_chosen(const cld_conv_plan *plan) { return put(plan); }

int64_t cld_plans_round(void) { return rounds; }

bool cld_same_engine(const cld_conv_plan *a, const cld_conv_plan *b) {
    return a->engine == b->engine && a->knob_count == b->knob_count &&
           memcmp(a->knobs, b->knobs, (size_t)a->knob_count * sizeof *a->knobs) == 0;
}

/* ---- the contract's -------------------------------------------------------------------------------------------------- */

static int get_count(void) { return count; }
static void get(int i, cld_conv_plan *out) { *out = entries[i]; }

static bool is_float(cld_dtype dtype) {
    return dtype == CLD_F32 || dtype == CLD_F64 || dtype == CLD_BF16 || dtype == CLD_F16;
}

static cld_status use(const cld_conv_plan *plan) {
    if (plan->kind < CLD_DNN_FORWARD || plan->kind > CLD_DNN_WEIGHT || !is_float(plan->dtype) ||
        plan->engine < 0 || plan->knob_count < 0 || plan->knob_count > CLD_PLAN_KNOBS)
        return cld_fail(CLD_INVALID, "this is not a plan of a convolution");
    rounds++;
    return put(plan);
}

const cld_plan_ops cld_cuda_plans = {
    .library = cld_cuda_dnn_version, .count = get_count, .get = get, .use = use};
