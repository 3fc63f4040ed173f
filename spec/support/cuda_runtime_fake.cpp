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

/* ---- the streams, and what they capture ---- */

typedef std::function<void()> work;
struct graph {
    std::vector<work> steps; /* in one of the allowed orders */
};
struct stream {
    std::deque<work> queue;
    size_t done;    /* number of works of the queue that are done */
    bool captured;  /* work that is queued here becomes part of the graph, */
    bool is_joined; /* and the first stream waits for all of it */
    size_t now() const { return done + queue.size(); }
};
struct event {
    stream *of;
    size_t position; /* position in the queue when it was recorded */
    bool captured;
};

static stream streams[2]; /* a capture begins on the first */
static int made;
static graph *capture;
static bool invalidated;

static void drain(stream &s, size_t position) {
    while (s.done < position) {
        work next = s.queue.front();
        s.queue.pop_front();
        s.done++;
        next();
    }
}

static void drain_all() {
    for (stream &s : streams) drain(s, s.now());
}

void fake_run_alone(cudaStream_t s) { drain(*(stream *)s, ((stream *)s)->now()); }

static cudaError_t enqueue(cudaStream_t on, work w) {
    stream &s = *(stream *)on;
    if (fake.lost != cudaSuccess) return say(fake.lost);
    if (invalidated) return say(cudaErrorStreamCaptureInvalidated);
    s.is_joined = false;
    if (s.captured)
        capture->steps.push_back(w);
    else
        s.queue.push_back(w);
    return cudaSuccess;
}

/* A call that fails while a stream is being captured. */
static cudaError_t breaks_capture() {
    if (!capture) return cudaSuccess;
    invalidated = true;
    return say(cudaErrorStreamCaptureUnsupported);
}

cudaError_t fake_launch(std::function<void()> w, cudaStream_t on) {
    return fake.launch == cudaSuccess ? enqueue(on ? on : (cudaStream_t)streams, w) : say(fake.launch);
}
size_t fake_queued() { return streams[0].queue.size() + streams[1].queue.size(); }

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

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    if (made == 2) return say(cudaErrorUnknown);
    *out = (cudaStream_t)&streams[made++];
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    return cudaStreamCreateWithFlags(out, flags);
}

/* The stream waits for what was queued on the event's stream before it was recorded. So it joins a capture, or is
 * joined by it. */
extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t after, cudaEvent_t of, unsigned) {
    event e = *(event *)of;
    stream &s = *(stream *)after;
    if (fake.lost != cudaSuccess) return say(fake.lost);
    if (!capture && !e.captured) return enqueue(after, [=]() { drain(*e.of, e.position); });
    if (!capture || !e.captured) {
        invalidated = invalidated || capture;
        return say(cudaErrorStreamCaptureIsolation);
    }
    if (&s == streams)
        e.of->is_joined = true;
    else
        s.captured = true, s.is_joined = false;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    cudaError_t error = breaks_capture();
    if (error != cudaSuccess) return error;
    drain(*(stream *)s, ((stream *)s)->now());
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t s) {
    cudaError_t error = breaks_capture();
    return error != cudaSuccess ? error : say(((stream *)s)->queue.empty() ? cudaSuccess : cudaErrorNotReady);
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
    if (!capture) drain_all();
    memset(data, 0xee, to[(char *)data]); /* visible to whoever still reads it */
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

/* Unlike the real one it does not wait: queued work must not need the memory. */
extern "C" cudaError_t cudaFreeHost(void *data) {
    std::deque<work> kept[2];
    for (int i = 0; i < 2; i++) kept[i].swap(streams[i].queue);
    cudaError_t error = give(on_host, data);
    for (int i = 0; i < 2; i++) kept[i].swap(streams[i].queue);
    return error;
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = fake.memory;
    *free_bytes = fake.memory - held(on_device);
    return say(cudaSuccess);
}

/* Copies from memory that is not page-locked at once, which fails during a capture. */
extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                                       cudaStream_t s) {
    const void *host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : NULL;
    if (host && !is_page_locked(host)) {
        cudaError_t error = breaks_capture();
        if (error != cudaSuccess) return error;
        drain(*(stream *)s, ((stream *)s)->now());
        if (fake.lost == cudaSuccess) memcpy(to, from, bytes);
        return say(cudaSuccess);
    }
    return enqueue(s, [=]() { memmove(to, from, bytes); });
}

extern "C" cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t s) {
    return enqueue(s, [=]() { memset(data, value, bytes); });
}

/* ---- events ---- */

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    if (fake.event != cudaSuccess) return say(fake.event);
    *out = (cudaEvent_t) new event{streams, 0, false};
    return say(cudaSuccess);
}
#undef cudaEventCreate
extern "C" cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete (event *)e;
    return say(cudaSuccess);
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t on) {
    stream &s = *(stream *)on;
    *(event *)e = {&s, s.now(), s.captured};
    return say(cudaSuccess);
}

static cudaError_t may_ask(cudaEvent_t e) {
    if (!((event *)e)->captured) return say(cudaSuccess);
    invalidated = invalidated || capture;
    return say(cudaErrorCapturedEvent);
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t e) {
    cudaError_t error = may_ask(e);
    return error != cudaSuccess || ((event *)e)->position <= ((event *)e)->of->done ? error
                                                                                    : say(cudaErrorNotReady);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    cudaError_t error = may_ask(e);
    if (error == cudaSuccess) drain(*((event *)e)->of, ((event *)e)->position);
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
    streams[0].captured = true;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *out) {
    graph *ended = capture;
    bool unjoined = streams[1].captured && !streams[1].is_joined;
    bool failed = invalidated || unjoined || fake.lost != cudaSuccess;
    capture = NULL;
    for (stream &s : streams) s.captured = false;
    invalidated = false;
    *out = failed ? NULL : (cudaGraph_t)ended;
    if (!failed) return say(cudaSuccess);
    delete ended;
    return say(unjoined ? cudaErrorStreamCaptureUnjoined : cudaErrorStreamCaptureInvalidated);
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

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t on) {
    cudaError_t error = breaks_capture();
    if (error != cudaSuccess) return error;
    for (const work &step : ((graph *)g)->steps) enqueue(on, step);
    return say(cudaSuccess);
}
