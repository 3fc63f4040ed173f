/* Plans of cuDNN for an H100, made without one: cuDNN is given a description of the device instead. So every descriptor
 * of dnn.c, the heuristics, the filters, the plans themselves, the choice among them, and making a plan again from its
 * description are checked on any machine that has the library. Only running the plans is not. Prints what failed; the
 * exit code is 1 if anything did. spec/cuda_libraries_spec.lua runs it. */
#define _GNU_SOURCE /* for dnn_libraries.c */
#include <cudnn.h>

#define cudnnBackendExecute      fake_execute
#define cudnnBackendSetAttribute seen_set_attribute
static cudnnStatus_t fake_execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack);
static cudnnStatus_t seen_set_attribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                        cudnnBackendAttributeType_t type, int64_t count, const void *values);
#define cudnnGetCudartVersion fake_cudart_version
static size_t fake_cudart_version(void);
#include "kernels/cuda/dnn.c"
#include "kernels/cuda/dnn_libraries.c"
#include "kernels/cuda/dnn_plan.c"
#undef cudnnBackendSetAttribute
#undef cudnnGetCudartVersion

static size_t cudart_version = CUDART_VERSION;
static size_t fake_cudart_version(void) { return cudart_version; }

static bool tf32, capturing;
bool cld_cuda_tf32(void) { return tf32; }
void *cld_cuda_stream(void) { return NULL; }
bool cld_cuda_capturing(void) { return capturing; }
cld_status cld_cuda_check_lost(const char *what) { return what ? CLD_OK : CLD_INVALID; }
cld_status cld_cuda_clear(void *data, size_t bytes) {
    return cld_fail(CLD_UNSUPPORTED, "clear %p %zu", data, bytes);
}
cld_status cld_cuda_scratch(cld_scratch_block *out, size_t bytes) {
    static int it;
    *out = (cld_scratch_block){&it, bytes};
    return CLD_OK;
}
void cld_cuda_scratch_release(cld_scratch_block *block) { block->data = NULL; }

static cld_memory_info no_memory_info(void) { return (cld_memory_info){0}; }
const cld_memory_ops cld_cuda_memory_ops = {.info = no_memory_info};
void cld_cuda_forget_use_since(const cld_memory_info *before) { (void)before; }
cld_status cld_cuda_copy(void *to, const void *from, size_t bytes) {
    return to && from && bytes ? CLD_OK : CLD_INVALID;
}

/* Plans in the order in which they were first run: the time of each (negative: it fails), and how far its result is
 * from that of the others. */
enum { SEEN = 64 };
static cudnnBackendDescriptor_t seen[SEEN];
static int seen_count, last;
static const double *costs, *errors;
static int case_count; /* length of both; later plans take as long as the last one and are right */
static double clock_now, marks[2];
static int wrong_packs, runs;
static cld_dnn_arrays given = {&clock_now, &marks[0], &marks[1]};

/* A pack cannot be read back: these are the values it was given. */
static int64_t names[3];
static void *data[3];
static cudnnStatus_t seen_set_attribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                        cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (name == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS) memcpy(names, values, (size_t)count * sizeof *names);
    if (name == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS) memcpy(data, values, (size_t)count * sizeof *data);
    return cudnnBackendSetAttribute(d, name, type, count, values);
}

static cudnnStatus_t fake_execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    (void)handle, (void)pack;
    for (int i = 0; i < 3; i++)
        if (data[i] != (names[i] == 'x' ? given.x : names[i] == 'w' ? given.w : given.y)) wrong_packs++;
    for (last = 0; last < seen_count && seen[last] != plan;) last++;
    if (last == seen_count && seen_count < SEEN) seen[seen_count++] = plan;
    runs++;
    double cost = costs[last < case_count ? last : case_count - 1];
    if (cost < 0) return CUDNN_STATUS_EXECUTION_FAILED;
    clock_now += cost;
    return CUDNN_STATUS_SUCCESS;
}

cld_status cld_cuda_compare(float *largest, const void *a, const void *b, int64_t n, cld_dtype dtype) {
    (void)largest, (void)dtype;
    return a && b && n ? CLD_OK : CLD_INVALID;
}
cld_status cld_cuda_copy_to_host(void *host, const void *device, size_t bytes) {
    float *largest = host;
    largest[0] = last < case_count ? (float)errors[last] * 8 : 0;
    largest[1] = 8;
    return device && bytes == 2 * sizeof *largest ? CLD_OK : CLD_INVALID;
}

cld_status cld_cuda_mark(int which) {
    marks[which] = clock_now;
    return CLD_OK;
}
cld_status cld_cuda_elapsed(double *milliseconds) {
    *milliseconds = marks[1] - marks[0];
    return CLD_OK;
}

static const char H100[] =
    "{\"deviceName\":\"NVIDIA H100 80GB HBM3\",\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,"
    "\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
    "\"multiProcessorCount\":132,\"smClockRateKHz\":1980000,\"memClockRateKHz\":2619000,"
    "\"l2CacheSize\":52428800,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":1024,"
    "\"maxRegistersPerSM\":65536,\"pciDeviceId\":0,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
    "\"maxThreadsPerSM\":2048,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":85000000000}";

static cudnnStatus_t describe_device(cudnnBackendDescriptor_t *out) {
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, out));
    TRY_DNN(set(*out, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, sizeof H100 - 1, H100));
    return cudnnBackendFinalize(*out);
}

static int plans, shapes, failures;

static void fail(const char *what, const char *why) {
    failures++;
    printf("%s: %s%s\n", what, why, tf32 ? " tf32" : "");
}

/* What was read from a plan makes it again, and the same is read from the new plan. */
static void check_again(const cld_dnn_target *t, cudnnBackendDescriptor_t graph, const cld_dnn_plan *p) {
    cld_conv_plan first = {0}, second = {0};
    __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan again = {0};
    SCOPED config = NULL;
    if (cld__dnn_read_config(&first, p->config) != CUDNN_STATUS_SUCCESS)
        fail("a plan", "what it is cannot be read");
    else if (cld__dnn_make_config(&config, graph, &first, t) != CUDNN_STATUS_SUCCESS ||
             cld__dnn_make_plan(&again, t, &config) != CUDNN_STATUS_SUCCESS)
        fail("a plan", "it cannot be made again from what it is");
    else if (cld__dnn_read_config(&second, again.config) != CUDNN_STATUS_SUCCESS ||
             !cld_same_engine(&first, &second) || again.workspace != p->workspace)
        fail("a plan", "made again it is another");
}

/* Some of the proposals of the heuristics can be made. */
static int count_plans(const cld_dnn_target *t, cld_dnn_kind kind, const cld_dnn_shape *s) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    int made = 0;
    SCOPED graph = NULL;
    if (cld__dnn_describe_graph(&graph, t, kind, s, MOST_ALIGNMENT) != CUDNN_STATUS_SUCCESS) return 0;
    for (int way = 0; way < 6 && made == 0; way++) {
        __attribute__((cleanup(cld__dnn_destroy_configs))) cld_dnn_configs proposed = {0};
        if (cld__dnn_propose(&proposed, t, graph, modes[way % 3]) != CUDNN_STATUS_SUCCESS) return 0;
        cld__dnn_keep_precise(&proposed, s, way < 3);
        for (int i = 0; i < proposed.count && made < 8; i++) {
            __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan p = {0};
            if (cld__dnn_make_plan(&p, t, &proposed.list[i]) != CUDNN_STATUS_SUCCESS) continue;
            if (made++ < 2) check_again(t, graph, &p);
        }
    }
    return made;
}

static void check_shape(const cld_dnn_target *t, const cld_dnn_shape *s) {
    for (cld_dnn_kind kind = CLD_DNN_FORWARD; kind <= CLD_DNN_WEIGHT; kind++) {
        int made = count_plans(t, kind, s);
        shapes++;
        plans += made;
        if (made > 0) continue;
        no_engine(kind, s);
        fail("plans", cld_error_message());
    }
}

static cld_dnn_shape square(cld_dtype dtype, int n, int c, int size, int o, int kernel, int stride,
                            int groups) {
    int padding = kernel / 2, out = (size + 2 * padding - kernel) / stride + 1;
    return (cld_dnn_shape){.dtype = dtype,
                           .n = n,
                           .c = c,
                           .h = size,
                           .w = size,
                           .o = o,
                           .oh = out,
                           .ow = out,
                           .kernel = {kernel, kernel},
                           .stride = {stride, stride},
                           .padding = {padding, padding},
                           .dilation = {1, 1},
                           .groups = groups};
}

/* ResNet-18 for images of 32 x 32, unusual convolutions of other networks, and numbers of channels that are no multiple
 * of 8. */
static void check_dtype(const cld_dnn_target *t, cld_dtype dtype) {
    static const int layers[][5] = {
        /* c, size, o, kernel, stride */
        {3, 32, 64, 3, 1},    {64, 32, 64, 3, 1},   {64, 32, 128, 3, 2},  {64, 32, 128, 1, 2},
        {128, 16, 128, 3, 1}, {128, 16, 256, 3, 2}, {128, 16, 256, 1, 2}, {256, 8, 256, 3, 1},
        {256, 8, 512, 3, 2},  {256, 8, 512, 1, 2},  {512, 4, 512, 3, 1},  {3, 224, 64, 7, 2},
        {12, 9, 20, 3, 1},    {5, 7, 3, 5, 1},
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const int *l = layers[i];
        cld_dnn_shape s = square(dtype, l[1] == 224 ? 32 : 256, l[0], l[1], l[2], l[3], l[4], 1);
        check_shape(t, &s);
    }
    cld_dnn_shape grouped = square(dtype, 64, 64, 16, 64, 3, 1, 4);
    check_shape(t, &grouped);
    cld_dnn_shape depthwise = square(dtype, 64, 64, 16, 64, 3, 1, 64);
    check_shape(t, &depthwise);
    cld_dnn_shape dilated = square(dtype, 64, 64, 16, 64, 3, 1, 1);
    for (int i = 0; i < 2; i++) dilated.dilation[i] = dilated.padding[i] = 2;
    check_shape(t, &dilated);
}

/* Checks that the right plan is chosen: by the order in which they were tried; -1: whichever comes first. The next
 * process, given this plan, makes it without a trial. */
static void check_choice(const cld_dnn_target *t) {
    static const struct {
        double costs[5], errors[5];
        bool capturing;
        int best;
        double most; /* limit on the time of all runs */
    } tests[] = {
        {{10, 9, 5, 9, 10}, {0}, false, 2, 5e3},
        {{10, 9, 1, 5, 10}, {0, 0, 0.2}, false, 3, 5e3}, /* fast, but wrong */
        {{10, 9, 1, 5, 10}, {0, 0, 0.01}, false, 2, 5e3},
        {{-1, 3, 2, -1, 10}, {0}, false, 2, 5e3},
        {{500, 5, 1000, 9, 100}, {0}, false, 1, 1e5},
        {{-1, -1, -1, -1, -1}, {0}, false, 0, 0}, /* all fail, which must be reported */
        {{10, 1, 1, 1, 10}, {0}, true, -1, 0},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        cld_dnn_shape s = square(CLD_BF16, 256 + (int)i, 64, 32, 64, 3, 1, 1);
        __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan found = {0}, again = {0};
        cld_conv_plan record = cld_plan_for(CLD_DNN_FORWARD, &s, false, MOST_ALIGNMENT), next = record;
        costs = tests[i].costs, errors = tests[i].errors, capturing = tests[i].capturing;
        case_count = 5, seen_count = 0, clock_now = 0;
        cudnnStatus_t status = find_plan(&found, &record, t, CLD_DNN_FORWARD, &s, &given, true);
        int best = 0;
        while (best < seen_count && seen[best] != found.plan) best++;
        if (seen_count == 0) best = -1;
        if (status != CUDNN_STATUS_SUCCESS || best != tests[i].best || wrong_packs ||
            clock_now > tests[i].most) {
            printf("choice %zu among %d: expected %d, got %d, wrong arrays %d, time %g\n", i, seen_count,
                   tests[i].best, best, wrong_packs, clock_now);
            failures++;
        }
        runs = 0, capturing = false;
        if (cld_cuda_plans.use(&record) != CLD_OK ||
            find_plan(&again, &next, t, CLD_DNN_FORWARD, &s, &given, true) != CUDNN_STATUS_SUCCESS ||
            runs > 0 || !cld_same_engine(&record, &next))
            fail("a plan that was given", "another was chosen");
    }
    /* An engine that no longer exists: a new choice is made. */
    cld_dnn_shape s = square(CLD_BF16, 300, 64, 32, 64, 3, 1, 1);
    __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan found = {0};
    cld_conv_plan record = cld_plan_for(CLD_DNN_FORWARD, &s, false, MOST_ALIGNMENT);
    record.engine = 123456;
    runs = 0;
    if (cld_cuda_plans.use(&record) != CLD_OK ||
        find_plan(&found, &record, t, CLD_DNN_FORWARD, &s, &given, true) != CUDNN_STATUS_SUCCESS ||
        runs == 0 || !found.plan || record.engine == 123456)
        fail("a plan that cannot be made", "none was chosen");
}

/* A plan that is given after one was chosen replaces it; the chosen one stays if the given one cannot be made. */
static void check_given_later(const cld_dnn_target *t) {
    static const double first_is_best[] = {1, 9}, second_is_best[] = {9, 1, 9}, none[3] = {0};
    cld_dnn_shape s = square(CLD_BF16, 301, 64, 32, 64, 3, 1, 1);
    chosen_plan *first = NULL, *later = NULL;
    __attribute__((cleanup(cld__dnn_discard))) cld_dnn_plan found = {0};
    cld_conv_plan other = cld_plan_for(CLD_DNN_FORWARD, &s, tf32, MOST_ALIGNMENT);
    errors = none, costs = second_is_best, case_count = 3, seen_count = 0, clock_now = 0;
    if (find_plan(&found, &other, t, CLD_DNN_FORWARD, &s, &given, true) != CUDNN_STATUS_SUCCESS)
        fail("the second plan", "it was not chosen");
    costs = first_is_best, case_count = 2, seen_count = 0;
    cld_dnn_arrays aligned = {(void *)4096, (void *)4096, (void *)4096};
    given = aligned;
    if (choose(&first, t, CLD_DNN_FORWARD, &aligned, &s) != CLD_OK || cld_same_engine(&first->record, &other))
        fail("the first plan", "it was not chosen");
    runs = 0;
    if (cld_cuda_plans.use(&other) != CLD_OK || choose(&later, t, CLD_DNN_FORWARD, &aligned, &s) != CLD_OK ||
        later == first || runs > 0 || !cld_same_engine(&later->record, &other))
        fail("a plan that was given later", "it is not used");
    other.engine = 123456;
    if (cld_cuda_plans.use(&other) != CLD_OK || choose(&first, t, CLD_DNN_FORWARD, &aligned, &s) != CLD_OK ||
        first != later || runs > 0 || cld_plans_given(&other)->engine == other.engine)
        fail("a plan that was given later and cannot be made", "the one before was not kept");
}

/* Checks that a mismatched installation is told from a good one. */
static void check_installation(void) {
    folders f = {{0}, {0}, {0}};
    if (cld_cuda_dnn_check() != CLD_OK || cld__dnn_check_parts("conv2d") != CLD_OK)
        fail("the cuDNN here", cld_error_message());
    cudart_version = 12080;
    if (cld_cuda_dnn_check() != CLD_BACKEND ||
        !strstr(cld_error_message(), "is for CUDA 12, and libcld_cuda.so"))
        fail("cuDNN for another CUDA", cld_error_message());
    cudart_version = CUDART_VERSION;
    add_folder(&f, "/nowhere/a/libcudnn.so.9");
    add_folder(&f, "/nowhere/a/libcudnn_graph.so.9");
    add_folder(&f, "/nowhere/b/libcublasLt.so.13");
    add_folder(&f, "");
    if (check_folders(&f, "conv2d") != CLD_OK) fail("one folder", cld_error_message());
    add_folder(&f, "/nowhere/b/libcudnn_ops.so.9");
    if (check_folders(&f, "conv2d") != CLD_BACKEND ||
        !strstr(cld_error_message(), "two folders, '/nowhere/a' and '/nowhere/b' (libcudnn_ops.so.9)"))
        fail("two folders", cld_error_message());
}

/* cuDNN has all of its libraries here, so the error must say that an engine is missing. */
static void check_message(void) {
    cld_dnn_shape s = square(CLD_BF16, 256, 64, 32, 64, 3, 1, 1);
    if (no_engine(CLD_DNN_FORWARD, &s) == CLD_UNSUPPORTED) return;
    printf("%s\n", cld_error_message());
    failures++;
}

int main(void) {
    SCOPED device = NULL;
    cudnnStatus_t status = describe_device(&device);
    if (status != CUDNN_STATUS_SUCCESS) {
        printf("describing a device: %s\n", cudnnGetErrorString(status));
        return 1;
    }
    cld_dnn_target t = {NULL, device};
    check_dtype(&t, CLD_F32);
    check_dtype(&t, CLD_BF16);
    check_dtype(&t, CLD_F16);
    check_dtype(&t, CLD_F64);
    tf32 = true;
    check_dtype(&t, CLD_F32);
    check_choice(&t);
    check_given_later(&t);
    check_installation();
    check_message();
    printf("%s: %d plans for %d operations, %d failures\n", cld_cuda_dnn_version(), plans, shapes, failures);
    return failures > 0;
}
