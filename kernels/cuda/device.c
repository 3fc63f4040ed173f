/* device.h with the CUDA runtime. The runtime is linked statically, so that only the driver's libcuda is needed, and
 * only when a device is asked for. */
#include "kernels/cuda/device.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/staging.h"

#define OLDEST_MAJOR 8 /* compute capability 8.0: bf16 and tf32 */

static struct {
    int ordinal, multiprocessors;
    int major, minor; /* compute capability */
    cudaStream_t stream;
    cudaEvent_t marks[2], steps[CLD_STEPS_AHEAD];
    cudaStream_t lane; /* NULL: not yet asked for; its events belong to it */
    cudaEvent_t forked, joined;
    bool capturing;
} device = {.ordinal = -1};

/* ---- what went wrong ---------------------------------------------------------------------------------------------- */

/* After these errors the process's context is lost: every later call reports the same error. */
static bool is_sticky(cudaError_t error) {
    switch (error) {
#if CUDART_VERSION >= 13000
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
#endif
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorContextIsDestroyed:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable: return true;
    default: return false;
    }
}

/* The library has no code for this chip, nor any that the driver could compile for it. */
static bool is_missing_code(cudaError_t error) {
    return error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
           error == cudaErrorUnsupportedPtxVersion;
}

/* CLD_OK, or an error that says what was being done, with CUDA's text. */
static cld_status status_of(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return CLD_OK;
    cudaGetLastError(); /* or the next launch would report it again */
    if (is_sticky(error))
        return cld_fail(CLD_BACKEND,
                        "%s: %s (caused by work that was queued before: CUDA_LAUNCH_BLOCKING=1 shows which. "
                        "This process can no longer use the device)",
                        what, cudaGetErrorString(error));
    if (is_missing_code(error))
        return cld_fail(CLD_UNSUPPORTED,
                        "%s: %s (this build is not for compute capability %d.%d: make CUDA_ARCH=%d%d)", what,
                        cudaGetErrorString(error), device.major, device.minor, device.major, device.minor);
    return cld_fail(error == cudaErrorMemoryAllocation ? CLD_NOMEM : CLD_BACKEND, "%s: %s", what,
                    cudaGetErrorString(error));
}

static void version_text(char *out, size_t room, int version) {
    snprintf(out, room, "%d.%d", version / 1000, version % 1000 / 10);
}

/* Why there is no device: no driver, one that is too old, no chip. */
static cld_status no_device(cudaError_t error) {
    int driver = 0;
    char has[16], needs[16];
    cudaGetLastError();
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    cudaGetLastError();
    version_text(has, sizeof has, driver);
    version_text(needs, sizeof needs, CUDART_VERSION);
    if (error == cudaErrorStubLibrary)
        return cld_fail(CLD_BACKEND, "libcuda.so.1 is the CUDA toolkit's stub, not a driver: take its folder "
                                     "out of LD_LIBRARY_PATH");
    if (error == cudaErrorInsufficientDriver && driver == 0)
        return cld_fail(CLD_BACKEND, "no NVIDIA driver was found (libcuda.so.1)");
    if (error == cudaErrorInsufficientDriver)
        return cld_fail(CLD_BACKEND, "the NVIDIA driver is too old: it supports CUDA %s, but %s is needed",
                        has, needs);
    if (error == cudaErrorNoDevice)
        return cld_fail(CLD_BACKEND,
                        "the NVIDIA driver finds no GPU (is one hidden by CUDA_VISIBLE_DEVICES?)");
    return status_of(error, "looking for CUDA devices");
}

/* ---- the device --------------------------------------------------------------------------------------------------- */

cld_status cld_cuda_count(int *devices) {
    *devices = 0;
    cudaError_t error = cudaGetDeviceCount(devices);
    return error == cudaSuccess ? CLD_OK : no_device(error);
}

cld_status cld_cuda_facts(int ordinal, cld_device_facts *out) {
    struct cudaDeviceProp p;
    CLD_TRY(status_of(cudaGetDeviceProperties(&p, ordinal), "asking for the properties of a CUDA device"));
    *out = (cld_device_facts){.memory = p.totalGlobalMem,
                              .major = p.major,
                              .minor = p.minor,
                              .multiprocessors = p.multiProcessorCount};
    snprintf(out->name, sizeof out->name, "%.127s", p.name);
    return CLD_OK;
}

/* The runtime keeps the current device per thread. */
static void enter(void) {
    static _Thread_local bool entered;
    if (!entered) entered = cudaSetDevice(device.ordinal) == cudaSuccess;
}

cld_status cld_cuda_open(int ordinal) {
    cld_device_facts facts;
    CLD_TRY(cld_cuda_facts(ordinal, &facts));
    if (facts.major < OLDEST_MAJOR)
        return cld_fail(CLD_UNSUPPORTED, "%s has compute capability %d.%d; cldlua needs %d.0 or newer",
                        facts.name, facts.major, facts.minor, OLDEST_MAJOR);
    CLD_TRY(status_of(cudaSetDevice(ordinal), "opening a CUDA device"));
    CLD_TRY(status_of(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking), "making a stream"));
    for (int i = 0; i < 2; i++) CLD_TRY(status_of(cudaEventCreate(&device.marks[i]), "making an event"));
    /* The host sleeps while it waits for these: a step is long, and the loader's threads need the core. */
    for (int i = 0; i < CLD_STEPS_AHEAD; i++)
        CLD_TRY(status_of(
            cudaEventCreateWithFlags(&device.steps[i], cudaEventDisableTiming | cudaEventBlockingSync),
            "making an event"));
    device.ordinal = ordinal;
    device.multiprocessors = facts.multiprocessors;
    device.major = facts.major;
    device.minor = facts.minor;
    return CLD_OK;
}

const char *cld_cuda_version(void) {
    static _Thread_local char text[48];
    int driver = 0;
    char has[16], built[16];
    cudaDriverGetVersion(&driver);
    version_text(has, sizeof has, driver);
    version_text(built, sizeof built, CUDART_VERSION);
    snprintf(text, sizeof text, "CUDA %s, driver %s", built, has);
    return text;
}

int cld_cuda_multiprocessors(void) { return device.multiprocessors; }

cld_status cld_cuda_memory(size_t *free_bytes, size_t *total) {
    enter();
    return status_of(cudaMemGetInfo(free_bytes, total), "asking for the device's memory");
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

cld_status cld_cuda_malloc(void **out, size_t bytes) {
    *out = NULL;
    enter();
    return status_of(cudaMalloc(out, bytes), "allocating device memory");
}

void cld_cuda_free(void *data) {
    enter();
    cld__ignore(cudaFree(data));
}

cld_status cld_cuda_malloc_locked(void **out, size_t bytes) {
    *out = NULL;
    enter();
    cudaError_t error = cudaHostAlloc(out, bytes, cudaHostAllocDefault);
    if (error == cudaSuccess) memset(*out, 0, bytes);
    return status_of(error, "allocating page-locked host memory");
}

/* ---- the stream --------------------------------------------------------------------------------------------------- */

void *cld_cuda_stream(void) {
    enter();
    return device.stream;
}

cld_status cld_cuda_copy_from_host(void *to, const void *host, size_t bytes) {
    if (bytes == 0) return CLD_OK;
    enter();
    cudaError_t error = device.capturing ? cld__staging_capture(to, host, bytes, device.stream)
                                         : cld__staging_copy(to, host, bytes, device.stream);
    if (error != cudaErrorMemoryAllocation) return status_of(error, "copying to the device");
    return cld_fail(CLD_NOMEM, "out of page-locked host memory, for a copy of %.1f MiB to the device",
                    (double)bytes / 0x1p20);
}

cld_status cld_cuda_queue_to_host(void *locked, const void *from, size_t bytes) {
    enter();
    return status_of(cudaMemcpyAsync(locked, from, bytes, cudaMemcpyDeviceToHost, device.stream),
                     "copying from the device");
}

cld_status cld_cuda_copy_to_host(void *host, const void *from, size_t bytes) {
    enter();
    if (bytes > 0)
        CLD_TRY(status_of(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, device.stream),
                          "copying from the device"));
    return cld_cuda_wait();
}

cld_status cld_cuda_copy(void *to, const void *from, size_t bytes) {
    if (bytes == 0) return CLD_OK;
    enter();
    return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device.stream),
                     "copying on the device");
}

cld_status cld_cuda_clear(void *data, size_t bytes) {
    if (bytes == 0) return CLD_OK;
    enter();
    return status_of(cudaMemsetAsync(data, 0, bytes, device.stream), "clearing device memory");
}

cld_status cld_cuda_wait(void) {
    enter();
    return status_of(cudaStreamSynchronize(device.stream), "waiting for the device");
}

cld_status cld_cuda_launched(const char *kernel) {
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return CLD_OK;
    char what[128];
    snprintf(what, sizeof what, "launching %s", kernel);
    return status_of(error, what);
}

cld_status cld_cuda_check_lost(const char *what) {
    if (device.capturing) return CLD_OK; /* a query of the stream would end the capture */
    cudaError_t error = cudaStreamQuery(device.stream);
    cld__ignore(error);
    return is_sticky(error) ? status_of(error, what) : CLD_OK;
}

/* ---- the lane ------------------------------------------------------------------------------------------------------ */

#define FIRST -100 /* is clamped to the highest priority that the device has */

static cld_status make_event(cudaEvent_t *out) {
    if (*out) return CLD_OK; /* made by an earlier attempt that failed later on */
    return status_of(cudaEventCreateWithFlags(out, cudaEventDisableTiming), "making an event");
}

/* The lane has the highest priority: its few blocks go first, because the other ranks wait for them. */
cld_status cld_cuda_lane_stream(void **out) {
    enter();
    CLD_TRY(make_event(&device.forked));
    CLD_TRY(make_event(&device.joined));
    if (!device.lane)
        CLD_TRY(status_of(cudaStreamCreateWithPriority(&device.lane, cudaStreamNonBlocking, FIRST),
                          "making a stream"));
    *out = device.lane;
    return CLD_OK;
}

static cld_status put_in_order(cudaStream_t before, cudaEvent_t event, cudaStream_t after) {
    CLD_TRY(status_of(cudaEventRecord(event, before), "recording an event"));
    return status_of(cudaStreamWaitEvent(after, event, 0), "waiting for an event");
}

cld_status cld_cuda_fork_lane(void) {
    void *lane;
    CLD_TRY(cld_cuda_lane_stream(&lane));
    return put_in_order(device.stream, device.forked, lane);
}

cld_status cld_cuda_join_lane(void) {
    enter();
    return put_in_order(device.lane, device.joined, device.stream);
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

cld_status cld_cuda_mark_step(int which) {
    enter();
    return status_of(cudaEventRecord(device.steps[which], device.stream), "recording an event");
}

cld_status cld_cuda_wait_for_step(int which) {
    enter();
    return status_of(cudaEventSynchronize(device.steps[which]), "waiting for a step");
}

/* ---- time --------------------------------------------------------------------------------------------------------- */

cld_status cld_cuda_mark(int which) {
    enter();
    return status_of(cudaEventRecord(device.marks[which], device.stream), "recording an event");
}

cld_status cld_cuda_elapsed(double *milliseconds) {
    float elapsed = 0;
    *milliseconds = 0;
    enter();
    CLD_TRY(status_of(cudaEventSynchronize(device.marks[1]), "waiting for an event"));
    CLD_TRY(
        status_of(cudaEventElapsedTime(&elapsed, device.marks[0], device.marks[1]), "asking for the time"));
    *milliseconds = elapsed;
    return CLD_OK;
}

/* ---- capture ------------------------------------------------------------------------------------------------------ */

typedef struct graph {
    cudaGraphExec_t exec;
    cudaEvent_t done;   /* with the last launch */
    cld_staged *staged; /* host memory that its copies read at every launch */
} graph;

bool cld_cuda_capturing(void) { return device.capturing; }

cld_status cld_cuda_begin_capture(void) {
    enter();
    /* In the relaxed mode memory may be allocated during the capture. */
    CLD_TRY(status_of(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeRelaxed),
                      "beginning a graph's capture"));
    device.capturing = true;
    return CLD_OK;
}

static cld_status instantiate(graph *g, cudaGraph_t recorded) {
    CLD_TRY(status_of(cudaGraphInstantiate(&g->exec, recorded, 0), "making a graph"));
    return status_of(cudaEventCreateWithFlags(&g->done, cudaEventDisableTiming), "making a graph");
}

cld_status cld_cuda_end_capture(void **out) {
    cudaGraph_t recorded = NULL;
    graph *g = calloc(1, sizeof *g);
    *out = NULL;
    enter();
    cld_status status = status_of(cudaStreamEndCapture(device.stream, &recorded), "ending a graph's capture");
    device.capturing = false;
    cld_staged *staged = cld__staging_captured();
    if (status == CLD_OK && !g) status = cld_fail(CLD_NOMEM, "out of memory for a graph");
    if (status == CLD_OK) status = instantiate(g, recorded);
    if (recorded) cld__ignore(cudaGraphDestroy(recorded));
    if (g) g->staged = staged;
    if (status == CLD_OK)
        *out = g;
    else if (g)
        cld_cuda_free_graph(g);
    else
        cld__staging_free(staged);
    return status;
}

cld_status cld_cuda_launch_graph(void *of) {
    const graph *g = of;
    enter();
    CLD_TRY(status_of(cudaGraphLaunch(g->exec, device.stream), "launching a graph"));
    return status_of(cudaEventRecord(g->done, device.stream), "launching a graph");
}

/* The graph may still be running. This does not wait for the stream: the collector frees graphs at any time, so another
 * graph may be being captured there, and that capture would be lost. Waiting for an earlier event is harmless. */
void cld_cuda_free_graph(void *of) {
    graph *g = of;
    if (!g) return;
    enter();
    if (g->done) {
        cld__ignore(cudaEventSynchronize(g->done));
        cld__ignore(cudaEventDestroy(g->done));
    }
    if (g->exec) cld__ignore(cudaGraphExecDestroy(g->exec));
    cld__staging_free(g->staged);
    free(g);
}
