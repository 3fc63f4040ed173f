/* Convolutions through cuDNN's graph API.
 *
 * A graph of one operation is described, and cuDNN's heuristic lists engines that can run it, best first. Engines that
 * round more than allowed are left out, and so are those whose order of summation varies from run to run, as long as
 * another one is left, so that training from the same seed is repeatable. The rest are timed on the caller's own
 * arrays, if waiting for the device is allowed (tune.h), and the best one is kept for the shape. The choice can be
 * given to another process (plans.h), which then makes the same plan, and chooses itself only if that plan cannot be
 * made. It may also be given later: the existing plan stays, because a graph may use it, and a second one is made.
 */
#include "kernels/cuda/dnn.h"

#include <cudnn.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/choice.h"
#include "kernels/cuda/compare.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn_libraries.h"
#include "kernels/cuda/dnn_plan.h"
#include "kernels/cuda/plans.h"
#include "kernels/cuda/pool.h"
#include "kernels/cuda/tune.h"

enum { MOST_ALIGNMENT = 16 };
static const int64_t MOST_WORKSPACE = (int64_t)256 << 20; /* bytes */
static const double MOST_SECONDS = 1;                     /* for the choice for one shape */

static cld_status failed(cudnnStatus_t status, cld_dnn_kind kind, const cld_dnn_shape *s) {
    char detail[512] = "";
    CLD_TRY(cld_cuda_check_lost(cld__dnn_name(kind)));
    CLD_TRY(cld__dnn_check_folders(cld__dnn_name(kind)));
    cudnnGetLastErrorString(detail, sizeof detail);
    bool no_memory = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                     status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return cld_fail(
        no_memory ? CLD_NOMEM : CLD_BACKEND,
        "%s: cuDNN: %s %s (x (%lld, %lld, %lld, %lld), w (%lld, %lld, %d, %d), stride %d %d, padding "
        "%d %d, dilation %d %d, %s)",
        cld__dnn_name(kind), cudnnGetErrorString(status), detail, (long long)s->n, (long long)s->c,
        (long long)s->h, (long long)s->w, (long long)s->o, (long long)(s->c / s->groups), s->kernel[0],
        s->kernel[1], s->stride[0], s->stride[1], s->padding[0], s->padding[1], s->dilation[0],
        s->dilation[1], cld_dtype_text(s->dtype));
}

static cld_status no_engine(cld_dnn_kind kind, const cld_dnn_shape *s) {
    CLD_TRY(cld_cuda_check_lost(cld__dnn_name(kind)));
    CLD_TRY(cld__dnn_check_parts(cld__dnn_name(kind)));
    return cld_fail(CLD_UNSUPPORTED, "%s: cuDNN has no engine for %s of this shape, channels last",
                    cld__dnn_name(kind), cld_dtype_text(s->dtype));
}

/* ---- choosing ---- */

static size_t bytes_of(cld_dnn_kind kind, const cld_dnn_shape *s) {
    int64_t elements[] = {[CLD_DNN_FORWARD] = s->n * s->o * s->oh * s->ow,
                          [CLD_DNN_DATA] = s->n * s->c * s->h * s->w,
                          [CLD_DNN_WEIGHT] = s->o * (s->c / s->groups) * s->kernel[0] * s->kernel[1]};
    return (size_t)elements[kind] * cld_dtype_size(s->dtype);
}

/* The output of a convolution. */
static void *output_of(cld_dnn_kind kind, const cld_dnn_arrays *a) {
    return kind == CLD_DNN_FORWARD ? a->y : kind == CLD_DNN_DATA ? a->x : a->w;
}

/* The context of a tuner. */
typedef struct tuning {
    const cld_dnn_target *target;
    cld_dnn_kind kind;
    const cld_dnn_shape *shape;
    const cld_dnn_arrays *arrays;
    cld_dnn_configs proposed;
    cld_dnn_plan plans[CLD_MOST_CANDIDATES]; /* the proposed plans that were made */
    cld_scratch_block kept, largest;         /* an output, and two floats */
} tuning;

static void end_tuning(tuning *t) {
    for (int i = 0; i < CLD_MOST_CANDIDATES; i++) cld__dnn_discard(&t->plans[i]);
    cld__dnn_destroy_configs(&t->proposed);
    cld_cuda_scratch_release(&t->kept);
    cld_cuda_scratch_release(&t->largest);
}

static bool make_candidate(void *context, int i, int64_t *workspace) {
    tuning *t = context;
    if (!t->plans[i].plan &&
        cld__dnn_make_plan(&t->plans[i], t->target, &t->proposed.list[i]) != CUDNN_STATUS_SUCCESS) {
        cld__dnn_discard(&t->plans[i]);
        return false;
    }
    *workspace = t->plans[i].workspace;
    return true;
}

static bool time_candidate(void *context, int i, int runs, double *milliseconds) {
    const tuning *t = context;
    const cld_dnn_plan *p = &t->plans[i];
    cudnnHandle_t handle = t->target->handle;
    CLD_SCRATCH workspace = {NULL, 0};
    if (p->workspace > 0 && cld_cuda_scratch(&workspace, (size_t)p->workspace) != CLD_OK) return false;
    if (cld__dnn_execute(handle, p, t->arrays, workspace.data) != CUDNN_STATUS_SUCCESS ||
        cld_cuda_mark(0) != CLD_OK)
        return false;
    for (int run = 0; run < runs; run++)
        if (cld__dnn_execute(handle, p, t->arrays, workspace.data) != CUDNN_STATUS_SUCCESS) return false;
    if (cld_cuda_mark(1) != CLD_OK || cld_cuda_elapsed(milliseconds) != CLD_OK) return false;
    *milliseconds /= runs;
    return true;
}

static bool keep_output(void *context) {
    tuning *t = context;
    size_t bytes = bytes_of(t->kind, t->shape);
    if (!t->kept.data && cld_cuda_scratch(&t->kept, bytes) != CLD_OK) return false;
    if (!t->largest.data && cld_cuda_scratch(&t->largest, 2 * sizeof(float)) != CLD_OK) return false;
    return cld_cuda_copy(t->kept.data, output_of(t->kind, t->arrays), bytes) == CLD_OK;
}

static double output_differs(void *context) {
    const tuning *t = context;
    float largest[2];
    int64_t n = (int64_t)(bytes_of(t->kind, t->shape) / cld_dtype_size(t->shape->dtype));
    if (cld_cuda_compare(t->largest.data, t->kept.data, output_of(t->kind, t->arrays), n, t->shape->dtype) !=
            CLD_OK ||
        cld_cuda_copy_to_host(largest, t->largest.data, sizeof largest) != CLD_OK)
        return INFINITY;
    return largest[0] == 0 ? 0 : largest[0] / (double)largest[1];
}

static double seconds_now(void *context) {
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* How far correct results may differ: engines round differently, Winograd's most, but none is off by a twentieth. */
static double tolerance_of(cld_dtype dtype) {
    return dtype == CLD_F64 ? 1e-9 : dtype == CLD_F32 && !cld_cuda_tf32() ? 1e-3 : 0.05;
}

static void move(cld_dnn_plan *to, cld_dnn_plan *from) {
    *to = *from;
    *from = (cld_dnn_plan){0};
}

/* Keeps the first plan that was made, unless there is one already. */
static void keep_first(cld_dnn_plan *out, tuning *t) {
    for (int i = 0; i < t->proposed.count && !out->plan; i++) move(out, &t->plans[i]);
}

/* If no plan is found, requirements are given up in this order: first the better heuristics, then repeatability. If
 * plans can be made but all fail when run, the first of them is returned, and its failure is reported. out stays empty
 * if there is no engine. */
static cudnnStatus_t tune(cld_dnn_plan *out, const cld_dnn_target *target, cudnnBackendDescriptor_t graph,
                          cld_dnn_kind kind, const cld_dnn_shape *s, const cld_dnn_arrays *a) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan failing = {0};
    for (int way = 0; way < 6 && !out->plan; way++) {
        __attribute__((cleanup(end_tuning)))
        tuning t = {.target = target, .kind = kind, .shape = s, .arrays = a};
        bool repeatable = way < 3;
        TRY_DNN(cld__dnn_propose(&t.proposed, target, graph, modes[way % 3]));
        cld__dnn_keep_precise(&t.proposed, s, repeatable);
        const cld_tuner tuner = {.count = t.proposed.count,
                                 .engines = t.proposed.engines,
                                 .may_wait = !cld_cuda_capturing() && t.proposed.count > 1,
                                 .seconds = MOST_SECONDS,
                                 .workspace = MOST_WORKSPACE,
                                 .tolerance = tolerance_of(s->dtype),
                                 .context = &t,
                                 .make = make_candidate,
                                 .time = time_candidate,
                                 .keep = keep_output,
                                 .differ = output_differs,
                                 .clock = seconds_now};
        int best = cld_tune(&tuner);
        if (best < 0)
            keep_first(&failing, &t);
        else
            move(out, &t.plans[best]);
    }
    if (!out->plan) move(out, &failing);
    return CUDNN_STATUS_SUCCESS;
}

/* Makes the plan that was given for what the graph does, if there is one. */
static void make_given(cld_dnn_plan *out, cld_conv_plan *record, const cld_dnn_target *t,
                       cudnnBackendDescriptor_t graph) {
    SCOPED config = NULL;
    const cld_conv_plan *given = cld_plans_given(record);
    if (given && cld__dnn_make_config(&config, graph, given, t) == CUDNN_STATUS_SUCCESS &&
        cld__dnn_make_plan(out, t, &config) == CUDNN_STATUS_SUCCESS)
        *record = *given;
    else
        cld__dnn_discard(out);
}

/* The given plan; without one, if may_choose, a plan that is chosen here. */
static cudnnStatus_t find_plan(cld_dnn_plan *out, cld_conv_plan *record, const cld_dnn_target *t,
                               cld_dnn_kind kind, const cld_dnn_shape *s, const cld_dnn_arrays *a,
                               bool may_choose) {
    SCOPED graph = NULL;
    TRY_DNN(cld__dnn_describe_graph(&graph, t, kind, s, record->alignment));
    make_given(out, record, t, graph);
    if (out->plan || !may_choose) return CUDNN_STATUS_SUCCESS;
    cld_memory_info before = cld_cuda_memory_ops.info();
    cudnnStatus_t status = tune(out, t, graph, kind, s, a);
    cld_cuda_forget_use_since(&before);
    if (status != CUDNN_STATUS_SUCCESS || !out->plan) return status;
    return cld__dnn_read_config(record, out->config);
}

typedef struct chosen_plan {
    cld_choice choice;
    cld_dnn_plan plan;
    cld_conv_plan record;
    int64_t round; /* the plan was up to date at this round */
} chosen_plan;

static cld_choices table; /* if a key has several plans, the last one is found */

static cld_status keep(chosen_plan **out, const int64_t *key, cld_dnn_plan *found,
                       const cld_conv_plan *record) {
    *out = calloc(1, sizeof **out);
    if (!*out) return cld_fail(CLD_NOMEM, "%s: out of memory", cld__dnn_name((cld_dnn_kind)record->kind));
    move(&(*out)->plan, found);
    (*out)->record = *record;
    (*out)->round = cld_plans_round();
    cld_choice_keep(&table, key, &(*out)->choice);
    return CLD_OK;
}

/* Plans were given since this one was made. If one of them is for the same convolution and can be made, it replaces
 * this one. */
static cld_status heed_given(chosen_plan **known, const int64_t *key, const cld_dnn_target *t,
                             cld_dnn_kind kind, const cld_dnn_shape *s) {
    __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan found = {0};
    cld_conv_plan record = (*known)->record;
    const cld_conv_plan *given = cld_plans_given(&record);
    (*known)->round = cld_plans_round();
    if (!given || cld_same_engine(given, &record)) return CLD_OK;
    if (find_plan(&found, &record, t, kind, s, NULL, false) != CUDNN_STATUS_SUCCESS || !found.plan)
        return cld_plans_chosen(&(*known)->record);
    return keep(known, key, &found, &record);
}

static cld_status choose(chosen_plan **out, const cld_dnn_target *t, cld_dnn_kind kind,
                         const cld_dnn_arrays *a, const cld_dnn_shape *s) {
    int64_t alignment =
        cld_alignment((void *)((uintptr_t)a->x | (uintptr_t)a->w | (uintptr_t)a->y), MOST_ALIGNMENT);
    const int64_t key[CLD_CHOICE_KEY] = {kind,           cld_cuda_tf32(),
                                         s->dtype,       s->n,
                                         s->c,           s->h,
                                         s->w,           s->o,
                                         s->oh,          s->ow,
                                         s->kernel[0],   s->kernel[1],
                                         s->stride[0],   s->stride[1],
                                         s->padding[0],  s->padding[1],
                                         s->dilation[0], s->dilation[1],
                                         s->groups,      alignment};
    *out = (chosen_plan *)cld_choice_find(&table, key);
    if (*out) return (*out)->round == cld_plans_round() ? CLD_OK : heed_given(out, key, t, kind, s);

    __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan found = {0};
    cld_conv_plan record = cld_plan_for(kind, s, cld_cuda_tf32(), alignment);
    cudnnStatus_t status = find_plan(&found, &record, t, kind, s, a, true);
    if (status != CUDNN_STATUS_SUCCESS) return failed(status, kind, s);
    if (!found.plan) return no_engine(kind, s);
    CLD_TRY(cld__dnn_check_folders(cld__dnn_name(kind)));
    CLD_TRY(cld_plans_chosen(&record));
    return keep(out, key, &found, &record);
}

static cudnnStatus_t opened(cudnnHandle_t *out) {
    static cudnnHandle_t handle;
    void *stream = cld_cuda_stream(); /* makes the device current on this thread */
    if (!handle) TRY_DNN(cudnnCreate(&handle));
    *out = handle;
    return cudnnSetStream(handle, stream);
}

cld_status cld_cuda_convolve(cld_dnn_kind kind, void *x, void *w, void *y, const cld_dnn_shape *s) {
    cld_dnn_arrays a = {x, w, y};
    void *out = output_of(kind, &a);
    if (bytes_of(kind, s) == 0) return CLD_OK;
    for (int other = CLD_DNN_FORWARD; other <= CLD_DNN_WEIGHT; other++)
        if (bytes_of(other, s) == 0) return cld_cuda_clear(out, bytes_of(kind, s)); /* empty sums */

    cudnnHandle_t handle;
    chosen_plan *chosen;
    cudnnStatus_t status = opened(&handle);
    if (status != CUDNN_STATUS_SUCCESS) return failed(status, kind, s);
    const cld_dnn_target target = {handle, NULL};
    CLD_TRY(choose(&chosen, &target, kind, &a, s));
    CLD_SCRATCH workspace = {NULL, 0};
    if (chosen->plan.workspace > 0) CLD_TRY(cld_cuda_scratch(&workspace, (size_t)chosen->plan.workspace));
    status = cld__dnn_execute(handle, &chosen->plan, &a, workspace.data);
    return status == CUDNN_STATUS_SUCCESS ? CLD_OK : failed(status, kind, s);
}
