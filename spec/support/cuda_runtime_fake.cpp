#include "spec/support/cuda_runtime_fake.h"

#include <deque>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <vector>

cld_fake_settings fake = {cudaSuccess,     13000,          9, cudaSuccess, cudaSuccess, cudaSuccess,
                          (size_t)1 << 30, (size_t)1 << 30};

/* ---- errors ---- */

static cudaError_t last;

static cudaError_t say(cudaError_t error) {
    if (fake.lost != cudaSuccess) error = fake.lost;
    if (error != cudaSuccess) last = error;
    return error;
}

extern "C" cudaError_t cudaGetLastError() {
    cudaError_t error = fake.lost != cudaSuccess ? fake.lost : last;
    last = cudaSuccess;
    return error;
}

extern "C" const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    default: return "another error";
    }
}

/* ---- the queue, and what is captured ---- */

typedef std::function<void()> work;
struct graph {
    std::vector<work> steps;
};
struct event {
    size_t position; /* of the queue, when it was recorded */
    bool captured;
};

static std::deque<work> queue;
static size_t done; /* works of the queue's past */
static graph *capture;
static bool invalidated;

static void drain(size_t position) {
    while (done < position) {
        work next = queue.front();
        queue.pop_front();
        done++;
        next();
    }
}

static size_t now() { return done + queue.size(); }

static cudaError_t enqueue(work w) {
    if (fake.lost != cudaSuccess) return say(fake.lost);
    if (invalidated) return say(cudaErrorStreamCaptureInvalidated);
    if (capture)
        capture->steps.push_back(w);
    else
        queue.push_back(w);
    return cudaSuccess;
}

/* A call that a stream being captured does not stand. */
static cudaError_t breaks_capture() {
    if (!capture) return cudaSuccess;
    invalidated = true;
    return say(cudaErrorStreamCaptureUnsupported);
}

cudaError_t fake_launch(std::function<void()> w) {
    return fake.launch == cudaSuccess ? enqueue(w) : say(fake.launch);
}
size_t fake_queued() { return queue.size(); }

/* ---- the device ---- */

extern "C" cudaError_t cudaGetDeviceCount(int *count) {
    *count = fake.count == cudaSuccess;
    return say(fake.count);
}

extern "C" cudaError_t cudaDriverGetVersion(int *version) {
    *version = fake.driver;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "a chip");
    p->major = fake.major;
    p->minor = 5;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = fake.memory;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaSetDevice(int) { return say(cudaSuccess); }

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = (cudaStream_t)&queue;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t) {
    cudaError_t error = breaks_capture();
    if (error != cudaSuccess) return error;
    drain(now());
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t) {
    cudaError_t error = breaks_capture();
    return error != cudaSuccess ? error : say(queue.empty() ? cudaSuccess : cudaErrorNotReady);
}

/* ---- memory ---- */

static std::map<char *, size_t> on_device, on_host; /* page-locked */

static size_t held(const std::map<char *, size_t> &blocks) {
    size_t bytes = 0;
    for (const auto &block : blocks) bytes += block.second;
    return bytes;
}

size_t fake_page_locked() { return held(on_host); }

static cudaError_t take(std::map<char *, size_t> &from, size_t limit, void **out, size_t bytes) {
    *out = NULL;
    if (held(from) + bytes > limit) return say(cudaErrorMemoryAllocation);
    if (say(cudaSuccess) != cudaSuccess) return fake.lost;
    *out = aligned_alloc(512, (bytes + 511) / 512 * 512);
    from[(char *)*out] = bytes;
    return cudaSuccess;
}

static cudaError_t give(std::map<char *, size_t> &to, void *data) {
    if (!data) return say(cudaSuccess);
    if (!to.count((char *)data)) return say(cudaErrorInvalidValue);
    if (!capture) drain(now());
    memset(data, 0xee, to[(char *)data]); /* whoever still reads it sees so */
    to.erase((char *)data);
    free(data);
    return say(cudaSuccess);
}

static bool is_page_locked(const void *data) {
    for (const auto &block : on_host)
        if ((char *)data >= block.first && (char *)data < block.first + block.second) return true;
    return false;
}

extern "C" cudaError_t cudaMalloc(void **out, size_t bytes) {
    return take(on_device, fake.memory, out, bytes);
}
extern "C" cudaError_t cudaFree(void *data) { return give(on_device, data); }
static int host_calls;
int fake_page_locked_calls() { return host_calls; }

extern "C" cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
    host_calls++;
    return take(on_host, fake.page_locked, out, bytes);
}

/* Unlike cudaFree it waits for no one here: what is queued must not need it. */
extern "C" cudaError_t cudaFreeHost(void *data) {
    std::deque<work> kept;
    kept.swap(queue);
    cudaError_t error = give(on_host, data);
    kept.swap(queue);
    return error;
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = fake.memory;
    *free_bytes = fake.memory - held(on_device);
    return say(cudaSuccess);
}

/* Of memory that is not page-locked: at once, which a capture does not stand. */
extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                                       cudaStream_t) {
    const void *host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : NULL;
    if (host && !is_page_locked(host)) {
        cudaError_t error = breaks_capture();
        if (error != cudaSuccess) return error;
        drain(now());
        if (fake.lost == cudaSuccess) memcpy(to, from, bytes);
        return say(cudaSuccess);
    }
    return enqueue([=]() { memmove(to, from, bytes); });
}

extern "C" cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t) {
    return enqueue([=]() { memset(data, value, bytes); });
}

/* ---- events ---- */

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    if (fake.event != cudaSuccess) return say(fake.event);
    *out = (cudaEvent_t) new event{0, false};
    return say(cudaSuccess);
}
#undef cudaEventCreate
extern "C" cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete (event *)e;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t) {
    *(event *)e = {now(), capture != NULL};
    return say(cudaSuccess);
}

static cudaError_t may_ask(cudaEvent_t e) {
    if (!((event *)e)->captured) return say(cudaSuccess);
    invalidated = invalidated || capture;
    return say(cudaErrorCapturedEvent);
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t e) {
    cudaError_t error = may_ask(e);
    return error != cudaSuccess || ((event *)e)->position <= done ? error : say(cudaErrorNotReady);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    cudaError_t error = may_ask(e);
    if (error == cudaSuccess) drain(((event *)e)->position);
    return error;
}

extern "C" cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) {
    *milliseconds = 1;
    return say(cudaSuccess);
}

/* ---- graphs ---- */

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
    if (capture) return say(cudaErrorIllegalState);
    if (say(cudaSuccess) != cudaSuccess) return fake.lost;
    capture = new graph;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *out) {
    graph *ended = capture;
    bool failed = invalidated || fake.lost != cudaSuccess;
    capture = NULL;
    invalidated = false;
    *out = failed ? NULL : (cudaGraph_t)ended;
    if (!failed) return say(cudaSuccess);
    delete ended;
    return say(cudaErrorStreamCaptureInvalidated);
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long) {
    *out = (cudaGraphExec_t) new graph(*(graph *)g);
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete (graph *)g;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
    delete (graph *)g;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t) {
    cudaError_t error = breaks_capture();
    if (error != cudaSuccess) return error;
    for (const work &step : ((graph *)g)->steps) enqueue(step);
    return say(cudaSuccess);
}
