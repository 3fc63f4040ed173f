/* f32 convolutions on oneDNN.
 *
 * Making a primitive compiles code and takes milliseconds, so each (direction, shapes, parameters, threads) is made
 * once and kept in a bounded table as a `plan`: the primitive, its memory objects, and a reorder for every operand that
 * oneDNN wants in another layout than ours. Executing a plan sets pointers and runs. Its scratch memory (reordered
 * operands and oneDNN's own) is one block from the caching allocator, released at once, so that activations can use it
 * between convolutions.
 *
 * Activations in nChw16c are pinned to that layout; everything else is left to oneDNN ("any").
 */
#include "kernels/cpu/conv_onednn.h"
#include "kernels/cpu/onednn.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PLANS 512

/* Everything that a primitive depends on. It is compared bytewise, so it is zeroed before it is filled in. */
typedef struct plan_key {
    int64_t x[4], w[4], y[4];
    cld_conv_params params;
    int direction, winograd, bias, x_blocked, y_blocked, threads;
} plan_key;

typedef struct operand {
    int arg;                  /* DNNL_ARG_... */
    bool output;              /* an output, so reordered afterwards */
    dnnl_memory_t ours;       /* the array as the caller holds it */
    dnnl_memory_t theirs;     /* the same memory object, or scratch in the layout that the primitive wants */
    dnnl_primitive_t reorder; /* between the two; NULL if they are the same */
    size_t offset;            /* of theirs in scratch */
} operand;

enum { OPERAND_X, OPERAND_W, OPERAND_Y, OPERAND_BIAS, OPERANDS };

typedef struct plan {
    plan_key key;
    uint64_t last_use;
    dnnl_primitive_t primitive;
    operand operands[OPERANDS];
    dnnl_memory_t scratchpad;
    size_t scratchpad_offset, scratch_bytes;
} plan;

/* One engine and stream. The lock also covers execution, because plans hold the pointers of the running call. */
static struct {
    pthread_mutex_t lock;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    plan *plans[MAX_PLANS];
    int count;
    uint64_t clock;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static cld_status check(dnnl_status_t status, const char *doing) {
    return status == dnnl_success ? CLD_OK : (cld_onednn_check(status, doing), cld_fail_in("conv2d"));
}

cld_isa cld_onednn_isa(void) {
    unsigned isa = dnnl_get_effective_cpu_isa();
    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core) return CLD_ISA_AVX512;
    return (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2 ? CLD_ISA_AVX2 : CLD_ISA_OTHER;
}

/* ---- making a plan ------------------------------------------------------------------------------------- */

static void free_plan(plan *p) {
    if (!p) return;
    for (int i = 0; i < OPERANDS; i++) {
        operand *o = &p->operands[i];
        if (o->reorder) dnnl_primitive_destroy(o->reorder);
        if (o->theirs && o->theirs != o->ours) dnnl_memory_destroy(o->theirs);
        if (o->ours) dnnl_memory_destroy(o->ours);
    }
    if (p->scratchpad) dnnl_memory_destroy(p->scratchpad);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    free(p);
}

static size_t reserve(plan *p, size_t bytes) {
    size_t offset = p->scratch_bytes;
    p->scratch_bytes += (bytes + 63) & ~(size_t)63;
    return offset;
}

/* A plan that is being made, and what is needed only for that. After an exception, all of it can be destroyed from
 * here. */
typedef struct making {
    plan *plan;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t forward, description,
        reorder; /* the forward hint that a gradient's description takes */
} making;

static void destroy_descriptions(making *m) {
    if (m->reorder) dnnl_primitive_desc_destroy(m->reorder);
    if (m->description) dnnl_primitive_desc_destroy(m->description);
    if (m->forward) dnnl_primitive_desc_destroy(m->forward);
    if (m->attributes) dnnl_primitive_attr_destroy(m->attributes);
}

static cld_status make_reorder(making *m, operand *o, const dnnl_memory_desc_t *ours,
                               const dnnl_memory_desc_t *theirs) {
    const dnnl_memory_desc_t *from = o->output ? theirs : ours, *to = o->output ? ours : theirs;
    CLD_TRY(check(dnnl_reorder_primitive_desc_create(&m->reorder, from, state.engine, to, state.engine, NULL),
                  "describing a reorder"));
    CLD_TRY(check(dnnl_primitive_create(&o->reorder, m->reorder), "making a reorder"));
    dnnl_primitive_desc_destroy(m->reorder);
    m->reorder = NULL;
    return CLD_OK;
}

static cld_status add_operand(making *m, int which, int arg, bool output, const dnnl_memory_desc_t *ours,
                              const dnnl_memory_desc_t *theirs) {
    operand *o = &m->plan->operands[which];
    o->arg = arg;
    o->output = output;
    CLD_TRY(
        check(dnnl_memory_create(&o->ours, ours, state.engine, DNNL_MEMORY_NONE), "making a memory object"));
    if (dnnl_memory_desc_equal(ours, theirs)) {
        o->theirs = o->ours;
        return CLD_OK;
    }
    CLD_TRY(check(dnnl_memory_create(&o->theirs, theirs, state.engine, DNNL_MEMORY_NONE),
                  "making a memory object"));
    o->offset = reserve(m->plan, dnnl_memory_desc_get_size(theirs));
    return make_reorder(m, o, ours, theirs);
}

/* The arrays' layouts as we store them, and as we ask for them. */
typedef struct layouts {
    dnnl_memory_desc_t ours[OPERANDS], asked[OPERANDS];
} layouts;

static cld_status describe(layouts *l, const plan_key *k) {
    int64_t groups = k->params.groups;
    dnnl_dims_t w_grouped = {groups, k->w[0] / groups, k->w[1], k->w[2], k->w[3]}, bias = {k->w[0]};
    struct {
        int ndims;
        const int64_t *dims;
        dnnl_format_tag_t tag, asked;
    } rows[OPERANDS] = {
        [OPERAND_X] = {4, k->x, k->x_blocked ? dnnl_nChw16c : dnnl_nchw, dnnl_format_tag_any},
        [OPERAND_W] = {4, k->w, dnnl_oihw, dnnl_format_tag_any},
        [OPERAND_Y] = {4, k->y, k->y_blocked ? dnnl_nChw16c : dnnl_nchw, dnnl_format_tag_any},
        [OPERAND_BIAS] = {1, bias, dnnl_x, dnnl_x},
    };
    if (groups > 1) {
        rows[OPERAND_W].ndims = 5;
        rows[OPERAND_W].dims = w_grouped;
        rows[OPERAND_W].tag = dnnl_goihw;
    } else if (cld_onednn_isa() == CLD_ISA_AVX512) {
        if (k->x_blocked) rows[OPERAND_X].asked = dnnl_nChw16c;
        if (k->y_blocked) rows[OPERAND_Y].asked = dnnl_nChw16c;
    }
    for (int i = 0; i < OPERANDS; i++) {
        CLD_TRY(check(
            dnnl_memory_desc_init_by_tag(&l->ours[i], rows[i].ndims, rows[i].dims, dnnl_f32, rows[i].tag),
            "describing an array"));
        CLD_TRY(check(
            dnnl_memory_desc_init_by_tag(&l->asked[i], rows[i].ndims, rows[i].dims, dnnl_f32, rows[i].asked),
            "describing an array"));
    }
    return CLD_OK;
}

/* The primitive's description for the plan's direction. The two gradients take the forward one as a hint. */
static cld_status describe_primitive(making *m, const layouts *l) {
    const plan_key *k = &m->plan->key;
    dnnl_alg_kind_t algorithm = k->winograd ? dnnl_convolution_auto : dnnl_convolution_direct;
    const dnnl_memory_desc_t *x = &l->asked[OPERAND_X], *w = &l->asked[OPERAND_W], *y = &l->asked[OPERAND_Y];
    const dnnl_memory_desc_t *bias = k->bias ? &l->asked[OPERAND_BIAS] : NULL;
    bool forward = k->direction == CLD_CONV_FORWARD;
    dnnl_dims_t stride, padding, dilation;
    for (int i = 0; i < 2; i++) {
        stride[i] = k->params.stride[i];
        padding[i] = k->params.padding[i];
        dilation[i] = k->params.dilation[i] - 1; /* oneDNN counts the holes */
    }
    dnnl_convolution_desc_t operation;
    const char *doing = "describing a convolution";
    CLD_TRY(check(dnnl_dilated_convolution_forward_desc_init(&operation, dnnl_forward_training, algorithm, x,
                                                             w, forward ? bias : NULL, y, stride, dilation,
                                                             padding, padding),
                  doing));
    CLD_TRY(check(dnnl_primitive_desc_create(forward ? &m->description : &m->forward, &operation,
                                             m->attributes, state.engine, NULL),
                  doing));
    if (forward) return CLD_OK;
    if (k->direction == CLD_CONV_DATA)
        CLD_TRY(check(dnnl_dilated_convolution_backward_data_desc_init(&operation, algorithm, x, w, y, stride,
                                                                       dilation, padding, padding),
                      doing));
    else
        CLD_TRY(check(dnnl_dilated_convolution_backward_weights_desc_init(
                          &operation, algorithm, x, w, bias, y, stride, dilation, padding, padding),
                      doing));
    return check(
        dnnl_primitive_desc_create(&m->description, &operation, m->attributes, state.engine, m->forward),
        doing);
}

/* Which argument of which primitive each operand is. oneDNN calls results of backward "diff". */
static const struct {
    int arg;
    dnnl_query_t query;
} roles[3][OPERANDS] = {
    [CLD_CONV_FORWARD] = {{DNNL_ARG_SRC, dnnl_query_src_md},
                          {DNNL_ARG_WEIGHTS, dnnl_query_weights_md},
                          {DNNL_ARG_DST, dnnl_query_dst_md},
                          {DNNL_ARG_BIAS, dnnl_query_weights_md}},
    [CLD_CONV_DATA] = {{DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md},
                       {DNNL_ARG_WEIGHTS, dnnl_query_weights_md},
                       {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md}},
    [CLD_CONV_WEIGHTS] = {{DNNL_ARG_SRC, dnnl_query_src_md},
                          {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md},
                          {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md},
                          {DNNL_ARG_DIFF_BIAS, dnnl_query_diff_weights_md}},
};

static bool is_output(cld_conv_direction direction, int which) {
    return which == (direction == CLD_CONV_FORWARD ? OPERAND_Y
                     : direction == CLD_CONV_DATA  ? OPERAND_X
                                                   : OPERAND_W) ||
           (direction == CLD_CONV_WEIGHTS && which == OPERAND_BIAS);
}

static cld_status fill_plan(void *context) {
    making *m = context;
    plan *p = m->plan;
    const plan_key *k = &p->key;
    layouts l;
    CLD_TRY(describe(&l, k));
    CLD_TRY(check(dnnl_primitive_attr_create(&m->attributes), "making attributes"));
    CLD_TRY(check(dnnl_primitive_attr_set_scratchpad_mode(m->attributes, dnnl_scratchpad_mode_user),
                  "setting the scratchpad mode"));
    CLD_TRY(describe_primitive(m, &l));
    CLD_TRY(check(dnnl_primitive_create(&p->primitive, m->description), "making a convolution"));
    for (int i = 0; i < OPERANDS; i++) {
        if (i == OPERAND_BIAS && !k->bias) continue;
        const dnnl_memory_desc_t *theirs =
            dnnl_primitive_desc_query_md(m->description, roles[k->direction][i].query, i == OPERAND_BIAS);
        CLD_TRY(
            add_operand(m, i, roles[k->direction][i].arg, is_output(k->direction, i), &l.ours[i], theirs));
    }
    const dnnl_memory_desc_t *scratchpad =
        dnnl_primitive_desc_query_md(m->description, dnnl_query_scratchpad_md, 0);
    p->scratchpad_offset = reserve(p, dnnl_memory_desc_get_size(scratchpad));
    return check(dnnl_memory_create(&p->scratchpad, scratchpad, state.engine, DNNL_MEMORY_NONE),
                 "making a memory object");
}

static plan *make_plan(const plan_key *k) {
    making m = {.plan = calloc(1, sizeof *m.plan)};
    if (!m.plan) return cld_fail_null(CLD_NOMEM, "conv2d: out of memory");
    m.plan->key = *k;
    cld_status status = cld_onednn_call(fill_plan, &m, "conv2d: making a convolution");
    destroy_descriptions(&m);
    if (status == CLD_OK) return m.plan;
    free_plan(m.plan);
    return NULL;
}

/* ---- the table of plans -------------------------------------------------------------------------------- */

static plan *find_plan(const plan_key *k) {
    int slot = state.count;
    for (int i = 0; i < state.count; i++)
        if (memcmp(&state.plans[i]->key, k, sizeof *k) == 0) return state.plans[i];
    plan *made = make_plan(k);
    if (!made) return NULL;
    if (state.count == MAX_PLANS) { /* the least recently used plan makes room */
        slot = 0;
        for (int i = 1; i < MAX_PLANS; i++)
            if (state.plans[i]->last_use < state.plans[slot]->last_use) slot = i;
        free_plan(state.plans[slot]);
    } else {
        state.count++;
    }
    return state.plans[slot] = made;
}

static plan_key key_of(cld_conv_direction direction, const cld_conv_arrays *a, const cld_conv_params *p,
                       bool winograd) {
    plan_key k;
    memset(&k, 0, sizeof k);
    for (int i = 0; i < 4; i++) {
        k.x[i] = a->x->shape[i];
        k.w[i] = a->w->shape[i];
        k.y[i] = a->y->shape[i];
    }
    k.params = *p;
    k.direction = (int)direction;
    k.winograd = winograd;
    k.bias = a->bias != NULL;
    k.x_blocked = a->x->layout == CLD_BLOCKED;
    k.y_blocked = a->y->layout == CLD_BLOCKED;
    k.threads = omp_get_max_threads();
    return k;
}

/* ---- running a plan ------------------------------------------------------------------------------------ */

static cld_status run_reorder(const operand *o) {
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, o->output ? o->theirs : o->ours},
                                   {DNNL_ARG_TO, o->output ? o->ours : o->theirs}};
    return check(dnnl_primitive_execute(o->reorder, state.stream, 2, arguments), "reordering an array");
}

typedef struct run {
    const plan *plan;
    const cld_conv_arrays *arrays;
    char *scratch;
} run;

static cld_status run_plan(void *context) {
    const plan *p = ((run *)context)->plan;
    const cld_conv_arrays *a = ((run *)context)->arrays;
    char *scratch = ((run *)context)->scratch;
    const cld_array *arrays[OPERANDS] = {a->x, a->w, a->y, a->bias};
    dnnl_exec_arg_t arguments[OPERANDS + 1];
    int count = 0;
    for (int i = 0; i < OPERANDS; i++) {
        const operand *o = &p->operands[i];
        if (!o->ours) continue;
        CLD_TRY(check(dnnl_memory_set_data_handle(o->ours, arrays[i]->data), "setting a pointer"));
        if (o->reorder) {
            CLD_TRY(check(dnnl_memory_set_data_handle(o->theirs, scratch + o->offset), "setting a pointer"));
            if (!o->output) CLD_TRY(run_reorder(o));
        }
        arguments[count++] = (dnnl_exec_arg_t){o->arg, o->theirs};
    }
    CLD_TRY(check(dnnl_memory_set_data_handle(p->scratchpad, scratch + p->scratchpad_offset),
                  "setting a pointer"));
    arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratchpad};
    CLD_TRY(check(dnnl_primitive_execute(p->primitive, state.stream, count, arguments), "convolving"));
    for (int i = 0; i < OPERANDS; i++)
        if (p->operands[i].reorder && p->operands[i].output) CLD_TRY(run_reorder(&p->operands[i]));
    return check(dnnl_stream_wait(state.stream), "waiting for the result");
}

/* The plans are our cache; oneDNN's own would keep half-finished objects after an exception. */
static cld_status prepare(void *unused) {
    (void)unused;
    if (!state.engine) CLD_TRY(check(dnnl_engine_create(&state.engine, dnnl_cpu, 0), "making an engine"));
    if (state.stream) return CLD_OK;
    CLD_TRY(check(dnnl_set_primitive_cache_capacity(0), "turning off its cache"));
    return check(dnnl_stream_create(&state.stream, state.engine, dnnl_stream_default_flags),
                 "making a stream");
}

static cld_status convolve(cld_conv_direction direction, const cld_conv_arrays *a,
                           const cld_conv_params *params, bool winograd) {
    if (!state.stream) CLD_TRY(cld_onednn_call(prepare, NULL, "conv2d: starting oneDNN"));
    plan_key key = key_of(direction, a, params, winograd);
    plan *p = find_plan(&key);
    if (!p) return cld_error_code();
    p->last_use = ++state.clock;
    void *scratch = NULL;
    if (p->scratch_bytes) CLD_TRY(cld_cpu_memory.allocate(&scratch, p->scratch_bytes));
    cld_status status =
        cld_onednn_call(run_plan, &(run){.plan = p, .arrays = a, .scratch = scratch}, "conv2d: convolving");
    cld_cpu_memory.release(scratch, p->scratch_bytes);
    return status;
}

cld_status cld_onednn_conv(cld_conv_direction direction, const cld_conv_arrays *arrays,
                           const cld_conv_params *p, bool winograd) {
    pthread_mutex_lock(&state.lock);
    cld_status status = convolve(direction, arrays, p, winograd);
    pthread_mutex_unlock(&state.lock);
    return status;
}
