/* Descriptors of cuDNN's graph API: a graph of one operation, the configurations that a heuristic proposes for it, plans. */
#include "kernels/cuda/dnn_plan.h"

#include "kernels/cuda/blas.h"

/* ---- descriptors ---- */

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

enum { X = 'x', W = 'w', Y = 'y' }; /* names of the tensors in the graph and in the list of pointers */

/* Dimensions in the order (n, c, h, w), laid out as [n][h][w][c]. */
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

/* Each kind of operation has its own names for the same attributes. */
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

cudnnStatus_t cld__dnn_describe_graph(cudnnBackendDescriptor_t *out, const cld_dnn_target *t,
                                      cld_dnn_kind kind, const cld_dnn_shape *s, int64_t alignment) {
    SCOPED operation = NULL;
    TRY_DNN(describe_operation(&operation, kind, s, alignment));
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, out));
    TRY_DNN(set_descriptor(*out, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation));
    if (t->handle) TRY_DNN(set(*out, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle));
    return cudnnBackendFinalize(*out);
}

/* ---- what a heuristic proposes ---- */

void cld__dnn_destroy_configs(cld_dnn_configs *c) {
    for (int i = 0; i < CLD_MOST_CANDIDATES; i++) cld__dnn_destroy(&c->list[i]);
    c->count = 0;
}

/* The engine's number, and whether it is precise enough in sums and factors, according to its numerical notes. Tensor
 * cores round f32 to tf32. */
static cudnnStatus_t look_at(cudnnBackendDescriptor_t config, const cld_dnn_shape *s, bool repeatable,
                             bool *precise, int64_t *number) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    SCOPED engine = NULL;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    TRY_DNN(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                     &count, &engine));
    TRY_DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count,
                                     number));
    TRY_DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                     CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes));
    bool exact_factors = s->dtype == CLD_F64 || (s->dtype == CLD_F32 && !cld_cuda_tf32());
    *precise = true;
    for (int64_t i = 0; i < count; i++) switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: *precise &= !exact_factors; break;
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: *precise = false; break;
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: *precise &= !repeatable; break;
        default: break;
        }
    return CUDNN_STATUS_SUCCESS;
}

/* The configurations that remain keep their order. */
void cld__dnn_keep_precise(cld_dnn_configs *c, const cld_dnn_shape *s, bool repeatable) {
    int kept = 0;
    for (int i = 0; i < c->count; i++) {
        bool precise = false;
        int64_t engine = 0;
        if (look_at(c->list[i], s, repeatable, &precise, &engine) != CUDNN_STATUS_SUCCESS || !precise) {
            cld__dnn_destroy(&c->list[i]);
            continue;
        }
        cudnnBackendDescriptor_t config = c->list[i];
        c->list[i] = NULL;
        c->list[kept] = config;
        c->engines[kept++] = engine;
    }
    c->count = kept;
}

cudnnStatus_t cld__dnn_propose(cld_dnn_configs *out, const cld_dnn_target *t, cudnnBackendDescriptor_t graph,
                               cudnnBackendHeurMode_t mode) {
    int64_t count = 0;
    SCOPED heuristic = NULL;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic));
    TRY_DNN(set_descriptor(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
    TRY_DNN(set(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    if (!t->handle) TRY_DNN(set_descriptor(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, t->properties));
    if (cudnnBackendFinalize(heuristic) != CUDNN_STATUS_SUCCESS) return CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < CLD_MOST_CANDIDATES; i++)
        TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &out->list[i]));
    if (cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 CLD_MOST_CANDIDATES, &count, out->list) == CUDNN_STATUS_SUCCESS)
        out->count = (int)(count < CLD_MOST_CANDIDATES ? count : CLD_MOST_CANDIDATES);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- plans ---- */

void cld__dnn_discard(cld_dnn_plan *p) {
    cld__dnn_destroy(&p->plan);
    cld__dnn_destroy(&p->config);
}

cudnnStatus_t cld__dnn_make_plan(cld_dnn_plan *out, const cld_dnn_target *t,
                                 cudnnBackendDescriptor_t *config) {
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

static void destroy_knobs(cudnnBackendDescriptor_t (*knobs)[CLD_PLAN_KNOBS]) {
    for (int i = 0; i < CLD_PLAN_KNOBS; i++) cld__dnn_destroy(&(*knobs)[i]);
}
#define SCOPED_KNOBS __attribute__((cleanup(destroy_knobs))) cudnnBackendDescriptor_t

cudnnStatus_t cld__dnn_read_config(cld_conv_plan *out, cudnnBackendDescriptor_t config) {
    SCOPED engine = NULL;
    SCOPED_KNOBS knobs[CLD_PLAN_KNOBS] = {NULL};
    int64_t count = 0, one = 0;
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    TRY_DNN(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                     &one, &engine));
    TRY_DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one,
                                     &out->engine));
    for (int i = 0; i < CLD_PLAN_KNOBS; i++)
        TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]));
    TRY_DNN(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                     CLD_PLAN_KNOBS, &count, knobs));
    if (count > CLD_PLAN_KNOBS) return CUDNN_STATUS_NOT_SUPPORTED;
    out->knob_count = (int)count;
    for (int64_t i = 0; i < count; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        TRY_DNN(cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
                                         &one, &type));
        out->knobs[i].type = type;
        TRY_DNN(cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                                         &one, &out->knobs[i].value));
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cld__dnn_make_config(cudnnBackendDescriptor_t *out, cudnnBackendDescriptor_t graph,
                                   const cld_conv_plan *p, const cld_dnn_target *t) {
    SCOPED engine = NULL;
    SCOPED_KNOBS knobs[CLD_PLAN_KNOBS] = {NULL};
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    TRY_DNN(set_descriptor(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph));
    TRY_DNN(set(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &p->engine));
    if (!t->handle) TRY_DNN(set_descriptor(engine, CUDNN_ATTR_ENGINE_DEVICEPROP, t->properties));
    TRY_DNN(cudnnBackendFinalize(engine));
    for (int i = 0; i < p->knob_count; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)p->knobs[i].type;
        TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]));
        TRY_DNN(set(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type));
        TRY_DNN(set(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &p->knobs[i].value));
        TRY_DNN(cudnnBackendFinalize(knobs[i]));
    }
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, out));
    TRY_DNN(set_descriptor(*out, CUDNN_ATTR_ENGINECFG_ENGINE, engine));
    if (p->knob_count > 0)
        TRY_DNN(set(*out, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, p->knob_count,
                    knobs));
    return cudnnBackendFinalize(*out);
}

/* ---- running one ---- */

cudnnStatus_t cld__dnn_execute(cudnnHandle_t handle, const cld_dnn_plan *p, const cld_dnn_arrays *a,
                               void *workspace) {
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

const char *cld__dnn_name(cld_dnn_kind kind) { return operations[kind].name; }
