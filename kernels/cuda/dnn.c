/* Convolutions through cuDNN's graph API.
 *
 * A graph of one operation is described, and cuDNN's heuristic lists engines that can run it, best first. Engines that
 * round more than they may are left out, and so are those that sum in an order of their own at every run, as long as any
 * other is left: training from the same seed repeats. The first few that remain are timed on the caller's own arrays,
 * where the device may be waited for, and the fastest is kept for the shape.
 */
#include "kernels/cuda/dnn.h"

#include <cudnn.h>
#include <math.h>
#include <stdio.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/choice.h"
#include "kernels/cuda/cuda.h"

#define OLDEST 90800
#if CUDNN_VERSION < OLDEST
#    error "cuDNN 9.8 or newer is needed"
#endif

enum {
    MOST_CANDIDATES = 8,
    MOST_CONFIGS = 64, /* that a heuristic is asked for */
    TIMED_ROUNDS = 3,
    TIMED_RUNS = 5, /* a round, of each */
    MOST_ALIGNMENT = 16
};
static const int64_t MOST_WORKSPACE = (int64_t)1 << 30; /* bytes */
static const double SURELY_FASTER = 0.95;

#define TRY_DNN(call)                                                                                        \
    do {                                                                                                     \
        cudnnStatus_t try_status = (call);                                                                   \
        if (try_status != CUDNN_STATUS_SUCCESS) return try_status;                                           \
    } while (0)

const char *cld_cuda_dnn_version(void) {
    static char text[32];
    size_t version = cudnnGetVersion();
    snprintf(text, sizeof text, "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return text;
}

cld_status cld_cuda_dnn_check(void) {
    if (cudnnGetVersion() >= OLDEST) return CLD_OK;
    return cld_fail(CLD_BACKEND, "cuDNN %d.%d or newer is needed; %s was found", OLDEST / 10000,
                    OLDEST / 100 % 100, cld_cuda_dnn_version());
}

/* ---- descriptors ---- */

static void destroy(cudnnBackendDescriptor_t *d) {
    if (*d) cudnnBackendDestroyDescriptor(*d);
    *d = NULL;
}
/* SCOPED d = NULL; is destroyed at the end of its scope. What was made of it keeps what it needs. */
#define SCOPED __attribute__((cleanup(destroy))) cudnnBackendDescriptor_t

static cudnnStatus_t set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    return cudnnBackendSetAttribute(d, name, type, count, values);
}

static cudnnStatus_t set_descriptor(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                    cudnnBackendDescriptor_t value) {
    return set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static cudnnDataType_t type_of(cld_dtype dtype) {
    switch (dtype) {
    case CLD_F64: return CUDNN_DATA_DOUBLE;
    case CLD_BF16: return CUDNN_DATA_BFLOAT16;
    case CLD_F16: return CUDNN_DATA_HALF;
    default: return CUDNN_DATA_FLOAT;
    }
}

enum { X = 'x', W = 'w', Y = 'y' }; /* what tensors are called in the graph and in the list of pointers */

/* Dimensions in the order of (n, c, h, w), lying as [n][h][w][c]. */
static cudnnStatus_t describe_tensor(cudnnBackendDescriptor_t *out, int64_t name, cld_dtype dtype, int64_t n,
                                     int64_t c, int64_t h, int64_t w, int64_t alignment) {
    int64_t dimensions[] = {n, c, h, w}, strides[] = {h * w * c, 1, w * c, c};
    cudnnDataType_t type = type_of(dtype);
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    TRY_DNN(set(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name));
    TRY_DNN(set(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    TRY_DNN(set(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dimensions));
    TRY_DNN(set(*out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides));
    TRY_DNN(set(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    return cudnnBackendFinalize(*out);
}

static cudnnStatus_t describe_convolution(cudnnBackendDescriptor_t *out, const cld_dnn_shape *s) {
    int64_t dimensions = 2;
    int64_t stride[] = {s->stride[0], s->stride[1]}, padding[] = {s->padding[0], s->padding[1]},
            dilation[] = {s->dilation[0], s->dilation[1]};
    cudnnDataType_t compute = s->dtype == CLD_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dimensions));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding));
    TRY_DNN(set(*out, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation));
    return cudnnBackendFinalize(*out);
}

/* The names that each kind of operation has for the same attributes. */
static const struct operation {
    const char *name;
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
} operations[] = {
    [CLD_DNN_FORWARD] = {"conv2d", CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CLD_DNN_DATA] = {"conv2d_data", CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CLD_DNN_WEIGHT] = {
        "conv2d_weight", CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};

/* out = 1 * operation + 0 * out */
static cudnnStatus_t describe_operation(cudnnBackendDescriptor_t *out, cld_dnn_kind kind,
                                        const cld_dnn_shape *s, int64_t alignment) {
    const struct operation *o = &operations[kind];
    double one_double = 1, zero_double = 0;
    float one = 1, zero = 0;
    bool is_double = s->dtype == CLD_F64;
    cudnnBackendAttributeType_t number = is_double ? CUDNN_TYPE_DOUBLE : CUDNN_TYPE_FLOAT;
    SCOPED convolution = NULL;
    SCOPED x = NULL;
    SCOPED w = NULL;
    SCOPED y = NULL;
    TRY_DNN(describe_convolution(&convolution, s));
    TRY_DNN(describe_tensor(&x, X, s->dtype, s->n, s->c, s->h, s->w, alignment));
    TRY_DNN(describe_tensor(&w, W, s->dtype, s->o, s->c / s->groups, s->kernel[0], s->kernel[1], alignment));
    TRY_DNN(describe_tensor(&y, Y, s->dtype, s->n, s->o, s->oh, s->ow, alignment));
    TRY_DNN(cudnnBackendCreateDescriptor(o->type, out));
    TRY_DNN(set_descriptor(*out, o->convolution, convolution));
    TRY_DNN(set_descriptor(*out, o->x, x));
    TRY_DNN(set_descriptor(*out, o->w, w));
    TRY_DNN(set_descriptor(*out, o->y, y));
    TRY_DNN(set(*out, o->alpha, number, 1, is_double ? (void *)&one_double : &one));
    TRY_DNN(set(*out, o->beta, number, 1, is_double ? (void *)&zero_double : &zero));
    return cudnnBackendFinalize(*out);
}

/* What plans are made for: the device of a handle or, to be looked at but not run, one that is described. */
typedef struct target {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
} target;

static cudnnStatus_t describe_graph(cudnnBackendDescriptor_t *out, const target *t, cld_dnn_kind kind,
                                    const cld_dnn_shape *s, int64_t alignment) {
    SCOPED operation = NULL;
    TRY_DNN(describe_operation(&operation, kind, s, alignment));
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, out));
    TRY_DNN(set_descriptor(*out, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation));
    if (t->handle) TRY_DNN(set(*out, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle));
    return cudnnBackendFinalize(*out);
}

/* ---- candidates ---- */

typedef struct plan {
    cudnnBackendDescriptor_t config, plan; /* the configuration lives as long as the plan that came from it */
    int64_t workspace;
} plan;

typedef struct candidates {
    int count;
    plan plans[MOST_CANDIDATES];
} candidates;

static void discard(plan *p) {
    destroy(&p->plan);
    destroy(&p->config);
}

static void discard_all(candidates *c) {
    for (int i = 0; i < c->count; i++) discard(&c->plans[i]);
    c->count = 0;
}

/* Whether an engine's notes keep to what is asked of sums and factors. Tensor cores round f32 to tf32. */
static cudnnStatus_t is_precise(bool *out, cudnnBackendDescriptor_t config, const cld_dnn_shape *s,
                                bool repeatable) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    SCOPED engine = NULL;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    TRY_DNN(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                     &count, &engine));
    TRY_DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                     CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes));
    bool exact_factors = s->dtype == CLD_F64 || (s->dtype == CLD_F32 && !cld_cuda_tf32());
    *out = true;
    for (int64_t i = 0; i < count; i++) switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: *out &= !exact_factors; break;
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: *out = false; break;
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: *out &= !repeatable; break;
        default: break;
        }
    return CUDNN_STATUS_SUCCESS;
}

/* Takes config over. Says CUDNN_STATUS_NOT_SUPPORTED_... of one that cannot be run here. */
static cudnnStatus_t make_plan(plan *out, const target *t, cudnnBackendDescriptor_t *config) {
    int64_t count = 0;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &out->plan));
    TRY_DNN(set_descriptor(out->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, *config));
    if (t->handle)
        TRY_DNN(set(out->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle));
    else
        TRY_DNN(set_descriptor(out->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, t->properties));
    TRY_DNN(cudnnBackendFinalize(out->plan));
    TRY_DNN(cudnnBackendGetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                     &count, &out->workspace));
    out->config = *config;
    *config = NULL;
    return CUDNN_STATUS_SUCCESS;
}

typedef struct configs {
    int64_t count;
    cudnnBackendDescriptor_t list[MOST_CONFIGS];
} configs;

static void destroy_configs(configs *c) {
    for (int i = 0; i < MOST_CONFIGS; i++) destroy(&c->list[i]);
}

/* What a heuristic proposes, best first; nothing where it says that it cannot. */
static cudnnStatus_t propose(configs *out, const target *t, cudnnBackendDescriptor_t graph,
                             cudnnBackendHeurMode_t mode) {
    SCOPED heuristic = NULL;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic));
    TRY_DNN(set_descriptor(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
    TRY_DNN(set(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    if (!t->handle) TRY_DNN(set_descriptor(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, t->properties));
    out->count = 0;
    if (cudnnBackendFinalize(heuristic) != CUDNN_STATUS_SUCCESS) return CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < MOST_CONFIGS; i++)
        TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &out->list[i]));
    if (cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 MOST_CONFIGS, &out->count, out->list) != CUDNN_STATUS_SUCCESS)
        out->count = 0;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t add_candidates(candidates *out, const target *t, cudnnBackendDescriptor_t graph,
                                    const cld_dnn_shape *s, cudnnBackendHeurMode_t mode, bool repeatable) {
    __attribute__((cleanup(destroy_configs))) configs proposed = {0};
    TRY_DNN(propose(&proposed, t, graph, mode));
    for (int64_t i = 0; i < proposed.count && out->count < MOST_CANDIDATES; i++) {
        bool precise = false;
        plan made = {0};
        if (is_precise(&precise, proposed.list[i], s, repeatable) == CUDNN_STATUS_SUCCESS && precise &&
            make_plan(&made, t, &proposed.list[i]) == CUDNN_STATUS_SUCCESS &&
            made.workspace <= MOST_WORKSPACE)
            out->plans[out->count++] = made;
        else
            discard(&made);
    }
    return CUDNN_STATUS_SUCCESS;
}

/* In the order of what may be given up: the better heuristics, then that runs repeat. */
static cudnnStatus_t find_candidates(candidates *out, const target *t, cld_dnn_kind kind,
                                     const cld_dnn_shape *s, int64_t alignment) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    SCOPED graph = NULL;
    TRY_DNN(describe_graph(&graph, t, kind, s, alignment));
    for (int repeatable = 1; repeatable >= 0; repeatable--)
        for (int m = 0; m < 3 && out->count == 0; m++)
            TRY_DNN(add_candidates(out, t, graph, s, modes[m], repeatable));
    return CUDNN_STATUS_SUCCESS;
}

/* ---- running a plan ---- */

typedef struct arrays {
    void *x, *w, *y;
} arrays;

static cudnnStatus_t execute(cudnnHandle_t handle, const plan *p, const arrays *a, void *workspace) {
    int64_t names[] = {X, W, Y};
    void *data[] = {a->x, a->w, a->y};
    SCOPED pack = NULL;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    TRY_DNN(set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, names));
    TRY_DNN(set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, data));
    TRY_DNN(set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace));
    TRY_DNN(cudnnBackendFinalize(pack));
    return cudnnBackendExecute(handle, p->plan, pack);
}

static cld_status failed(cudnnStatus_t status, cld_dnn_kind kind, const cld_dnn_shape *s) {
    char detail[512] = "";
    CLD_TRY(cld_cuda_check_lost(operations[kind].name));
    cudnnGetLastErrorString(detail, sizeof detail);
    return cld_fail(
        CLD_BACKEND,
        "%s: cuDNN: %s %s (x (%lld, %lld, %lld, %lld), w (%lld, %lld, %d, %d), stride %d %d, padding "
        "%d %d, dilation %d %d, %s)",
        operations[kind].name, cudnnGetErrorString(status), detail, (long long)s->n, (long long)s->c,
        (long long)s->h, (long long)s->w, (long long)s->o, (long long)(s->c / s->groups), s->kernel[0],
        s->kernel[1], s->stride[0], s->stride[1], s->padding[0], s->padding[1], s->dilation[0],
        s->dilation[1], cld_dtype_text(s->dtype));
}

/* ---- choosing ---- */

/* Milliseconds of a few runs; infinite where it does not run. */
static double time_of(cudnnHandle_t handle, const plan *p, const arrays *a) {
    double milliseconds;
    CLD_SCRATCH workspace = {NULL, 0};
    if (p->workspace > 0 && cld_cuda_scratch(&workspace, (size_t)p->workspace) != CLD_OK) return INFINITY;
    if (execute(handle, p, a, workspace.data) != CUDNN_STATUS_SUCCESS || cld_cuda_mark(0) != CLD_OK)
        return INFINITY;
    for (int i = 0; i < TIMED_RUNS; i++)
        if (execute(handle, p, a, workspace.data) != CUDNN_STATUS_SUCCESS) return INFINITY;
    if (cld_cuda_mark(1) != CLD_OK || cld_cuda_elapsed(&milliseconds) != CLD_OK) return INFINITY;
    return milliseconds;
}

/* The first, or a later one that is faster by more than clocks differ: so that the choice, and with it every rounding, is
 * the same from run to run. In turns, as a GPU's own clock rises at first. */
static int fastest(const candidates *c, cudnnHandle_t handle, const arrays *a) {
    double least[MOST_CANDIDATES];
    int best = 0;
    if (c->count == 1 || cld_cuda_capturing()) return 0;
    for (int i = 0; i < c->count; i++) least[i] = INFINITY;
    for (int round = 0; round < TIMED_ROUNDS; round++)
        for (int i = 0; i < c->count; i++) least[i] = fmin(least[i], time_of(handle, &c->plans[i], a));
    for (int i = 1; i < c->count; i++)
        if (least[i] < SURELY_FASTER * least[best]) best = i;
    return best;
}

typedef struct chosen_plan {
    cld_choice choice;
    plan plan;
} chosen_plan;

static cld_status choose(chosen_plan **out, cudnnHandle_t handle, cld_dnn_kind kind, const arrays *a,
                         const cld_dnn_shape *s) {
    static cld_choices table;
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
    if (*out) return CLD_OK;

    __attribute__((cleanup(discard_all))) candidates found = {0};
    target t = {handle, NULL};
    cudnnStatus_t status = find_candidates(&found, &t, kind, s, alignment);
    if (status != CUDNN_STATUS_SUCCESS) return failed(status, kind, s);
    if (found.count == 0)
        return cld_fail(CLD_UNSUPPORTED, "%s: cuDNN has no engine for %s of this shape, channels last",
                        operations[kind].name, cld_dtype_text(s->dtype));
    *out = calloc(1, sizeof **out);
    if (!*out) return cld_fail(CLD_NOMEM, "%s: out of memory", operations[kind].name);
    plan *best = &found.plans[fastest(&found, handle, a)];
    (*out)->plan = *best;
    *best = (plan){0};
    cld_choice_keep(&table, key, &(*out)->choice);
    return CLD_OK;
}

static cudnnStatus_t opened(cudnnHandle_t *out) {
    static cudnnHandle_t handle;
    void *stream = cld_cuda_stream(); /* this thread is on the device from here on */
    if (!handle) TRY_DNN(cudnnCreate(&handle));
    *out = handle;
    return cudnnSetStream(handle, stream);
}

static size_t bytes_of(cld_dnn_kind kind, const cld_dnn_shape *s) {
    int64_t elements[] = {[CLD_DNN_FORWARD] = s->n * s->o * s->oh * s->ow,
                          [CLD_DNN_DATA] = s->n * s->c * s->h * s->w,
                          [CLD_DNN_WEIGHT] = s->o * (s->c / s->groups) * s->kernel[0] * s->kernel[1]};
    return (size_t)elements[kind] * cld_dtype_size(s->dtype);
}

cld_status cld_cuda_convolve(cld_dnn_kind kind, void *x, void *w, void *y, const cld_dnn_shape *s) {
    arrays a = {x, w, y};
    void *out = kind == CLD_DNN_FORWARD ? y : kind == CLD_DNN_DATA ? x : w;
    if (bytes_of(kind, s) == 0) return CLD_OK;
    for (int other = CLD_DNN_FORWARD; other <= CLD_DNN_WEIGHT; other++)
        if (bytes_of(other, s) == 0) return cld_cuda_clear(out, bytes_of(kind, s)); /* empty sums */

    cudnnHandle_t handle;
    chosen_plan *chosen;
    cudnnStatus_t status = opened(&handle);
    if (status != CUDNN_STATUS_SUCCESS) return failed(status, kind, s);
    CLD_TRY(choose(&chosen, handle, kind, &a, s));
    CLD_SCRATCH workspace = {NULL, 0};
    if (chosen->plan.workspace > 0) CLD_TRY(cld_cuda_scratch(&workspace, (size_t)chosen->plan.workspace));
    status = execute(handle, &chosen->plan, &a, workspace.data);
    return status == CUDNN_STATUS_SUCCESS ? CLD_OK : failed(status, kind, s);
}
