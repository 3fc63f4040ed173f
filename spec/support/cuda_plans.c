/* Plans of cuDNN for an H100, made without one: cuDNN takes a description of the device instead. So every descriptor of
 * dnn.c, the heuristics, the filters, the plans themselves and the choice among them are checked on any machine that has
 * the library; only that they run is not. Prints what failed; the exit code is 1 where anything did.
 * spec/cuda_libraries_spec.lua runs it. */
#include <cudnn.h>

#define cudnnBackendExecute      fake_execute
#define cudnnBackendSetAttribute seen_set_attribute
static cudnnStatus_t fake_execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack);
static cudnnStatus_t seen_set_attribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                        cudnnBackendAttributeType_t type, int64_t count, const void *values);
#include "kernels/cuda/dnn.c"
#undef cudnnBackendSetAttribute

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

/* A plan takes as long as is said here; less than 0: it fails. */
static plan running[4];
static const double *costs;
static double clock_now, marks[2];
static int wrong_packs;
static const arrays given = {&clock_now, &marks[0], &marks[1]};

/* A pack cannot be read: what it was given. */
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
    for (int i = 0; i < 4; i++)
        if (running[i].plan == plan) {
            if (costs[i] < 0) return CUDNN_STATUS_EXECUTION_FAILED;
            clock_now += costs[i];
            return CUDNN_STATUS_SUCCESS;
        }
    return CUDNN_STATUS_BAD_PARAM;
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

static void check_shape(const target *t, const cld_dnn_shape *s) {
    for (cld_dnn_kind kind = CLD_DNN_FORWARD; kind <= CLD_DNN_WEIGHT; kind++) {
        __attribute__((cleanup(discard_all))) candidates found = {0};
        cudnnStatus_t status = find_candidates(&found, t, kind, s, MOST_ALIGNMENT);
        shapes++;
        plans += found.count;
        if (status != CUDNN_STATUS_SUCCESS)
            failed(status, kind, s);
        else if (found.count == 0)
            failed(CUDNN_STATUS_NOT_SUPPORTED, kind, s);
        else
            continue;
        failures++;
        printf("%s%s\n", cld_error_message(), tf32 ? " tf32" : "");
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

/* ResNet-18 for images of 32 x 32, the odd ones of other networks, and where channels are no multiple of 8. */
static void check_dtype(const target *t, cld_dtype dtype) {
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

static void check_choice(const target *t) {
    static const struct {
        double costs[4];
        bool capturing;
        int best;
    } tests[] = {
        {{10, 9.9, 9.7, 10}, false, 0}, {{10, 9, 5, 4.9}, false, 2},  {{-1, 3, 2, -1}, false, 2},
        {{3, -1, -1, 2}, false, 3},     {{-1, -1, -1, -1}, false, 0}, {{10, 1, 1, 1}, true, 0},
    };
    __attribute__((cleanup(discard_all))) candidates found = {0};
    cld_dnn_shape s = square(CLD_BF16, 256, 64, 32, 64, 3, 1, 1);
    find_candidates(&found, t, CLD_DNN_FORWARD, &s, MOST_ALIGNMENT);
    while (found.count > 4) discard(&found.plans[--found.count]);
    if (found.count == 4) memcpy(running, found.plans, sizeof running);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        costs = tests[i].costs;
        capturing = tests[i].capturing;
        int best = fastest(&found, NULL, &given);
        if (found.count == 4 && best == tests[i].best && wrong_packs == 0) continue;
        printf("choice %zu of %d plans: expected %d, got %d, wrong arrays %d\n", i, found.count,
               tests[i].best, best, wrong_packs);
        failures++;
    }
}

int main(void) {
    SCOPED device = NULL;
    cudnnStatus_t status = describe_device(&device);
    if (status != CUDNN_STATUS_SUCCESS) {
        printf("describing a device: %s\n", cudnnGetErrorString(status));
        return 1;
    }
    target t = {NULL, device};
    check_dtype(&t, CLD_F32);
    check_dtype(&t, CLD_BF16);
    check_dtype(&t, CLD_F16);
    check_dtype(&t, CLD_F64);
    tf32 = true;
    check_dtype(&t, CLD_F32);
    check_choice(&t);
    printf("%s: %d plans for %d operations, %d failures\n", cld_cuda_dnn_version(), plans, shapes, failures);
    return failures > 0;
}
