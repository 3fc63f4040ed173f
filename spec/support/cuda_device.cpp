/* The calls of kernels/cuda to the CUDA runtime, on a fake runtime without a GPU (cuda_runtime_fake.h): copies and
 * steps queued while the device lags behind, faults, captures that fail, a device that is lost, error messages if there
 * is no device, and the order of the lane. Prints what failed; the exit code is 1 if anything did. The argument "small"
 * gives it little page-locked memory. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <string>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/pool.h"
#include "spec/support/cuda_runtime_fake.h"

extern "C" const char *cld_cuda_name(void) { return "cuda:0"; }

static const cld_memory_ops *memory = &cld_cuda_memory_ops;
static const cld_graph_ops *graphs = &cld_cuda_graph;

static int checks, failures;

static void check_at(bool holds, int line, const std::string &what) {
    checks++;
    if (holds) return;
    failures++;
    printf("line %d: %s\n", line, what.c_str());
}
static void expect(cld_status status, const char *text, int line, const char *call) {
    bool holds = text ? status != CLD_OK && strstr(cld_error_message(), text) : status == CLD_OK;
    check_at(holds, line,
             std::string(call) + (status == CLD_OK ? " works" : ": ") +
                 (status == CLD_OK ? "" : cld_error_message()));
}
#define CHECK(condition)  check_at(condition, __LINE__, #condition)
#define WORKS(call)       expect(call, NULL, __LINE__, #call)
#define FAILS(call, text) expect(call, text, __LINE__, #call) /* and its message contains the text */

static char *allocate(size_t bytes) {
    void *data = NULL;
    WORKS(memory->allocate(&data, bytes));
    return (char *)data;
}

static int value_of(const void *data) {
    int value = -1;
    WORKS(memory->to_host(&value, data, sizeof value));
    return value;
}

/* *x = a * *x + b, as a kernel. */
static cld_status queue_step(int *x, int a, int b) {
    fake_launch([=]() { *x = a * *x + b; });
    return cld_cuda_launched("step");
}

/* ---- if there is no device ---- */

static void say_why_not() {
    int count;
    fake.count = cudaErrorInsufficientDriver;
    fake.driver = 0;
    FAILS(cld_cuda_count(&count), "no NVIDIA driver was found");
    fake.driver = 11040;
    FAILS(cld_cuda_count(&count), "the NVIDIA driver is too old: it supports CUDA 11.4, ");
    fake.driver = 13000;
    fake.count = cudaErrorNoDevice;
    FAILS(cld_cuda_count(&count), "finds no GPU");
    fake.count = cudaErrorStubLibrary;
    FAILS(cld_cuda_count(&count), "stub");
    fake.count = cudaErrorSystemNotReady;
    FAILS(cld_cuda_count(&count), "looking for CUDA devices: ");
    fake.count = cudaSuccess;
    WORKS(cld_cuda_count(&count));
    CHECK(count == 1);
    fake.major = 7;
    FAILS(cld_cuda_open(0), "a chip has compute capability 7.5; cldlua needs 8.0 or newer");
    fake.major = 9;
    WORKS(cld_cuda_launched("the first")); /* no error is left */
}

/* Like the first launch on a chip that no code was built for. */
static void have_no_code() {
    fake.launch = cudaErrorNoKernelImageForDevice;
    FAILS(queue_step(NULL, 1, 0), "launching step: no kernel image is available for execution on the device "
                                  "(this build is not for compute capability 9.5: make CUDA_ARCH=95)");
    fake.launch = cudaSuccess;
}

/* ---- copies to a device that lags behind ---- */

/* The first copy allocates the ring, as large as possible. */
static void open_the_ring(bool small) {
    int *x = (int *)allocate(sizeof *x), value = 7;
    size_t before = fake_page_locked();
    fake.event = cudaErrorUnknown;
    FAILS(memory->from_host(x, &value, sizeof value), "copying to the device");
    CHECK(fake_page_locked() == before);
    fake.event = cudaSuccess;
    fake.page_locked = before;
    FAILS(memory->from_host(x, &value, sizeof value), "out of page-locked host memory");
    CHECK(cld_error_code() == CLD_NOMEM);
    WORKS(cld_cuda_launched("after it"));
    fake.page_locked = small ? before + (3 << 20) : (size_t)1 << 30;
    WORKS(memory->from_host(x, &value, sizeof value));
    WORKS(cld_cuda_launched("after it"));
    CHECK(value_of(x) == 7);
    CHECK(fake_page_locked() - before == (size_t)(small ? 2 << 20 : 256 << 20));
    fake.page_locked = (size_t)1 << 30;
    memory->release(x, sizeof *x);
}

/* Copies of many sizes, some larger than a small ring: none is overwritten before it is sent. */
static void copy_from_host() {
    enum { COPIES = 300 };
    const size_t LARGEST = 5000000;
    std::vector<size_t> starts(1, 0);
    for (int i = 0; i < COPIES; i++)
        starts.push_back(starts.back() + (i % 40 == 20 ? LARGEST : (size_t)i * 7919 % 100000 + 1));
    char *to = allocate(starts.back());
    std::vector<char> from(LARGEST);
    int calls = fake_page_locked_calls();
    for (int round = 0; round < 3; round++) {
        size_t most = 0;
        for (int i = 0; i < COPIES; i++) {
            size_t bytes = starts[i + 1] - starts[i];
            memset(from.data(), i + round, bytes);
            WORKS(memory->from_host(to + starts[i], from.data(), bytes));
            most = fake_queued() > most ? fake_queued() : most;
        }
        CHECK(most >= 8 && most <= 100); /* neither waits for each copy, nor runs far ahead */
        memset(from.data(), 99, LARGEST);
        WORKS(memory->synchronize());
        for (int i = 0; i < COPIES; i++)
            for (size_t at : {starts[i], (starts[i] + starts[i + 1]) / 2, starts[i + 1] - 1})
                CHECK(to[at] == (char)(i + round));
    }
    CHECK(fake_page_locked_calls() == calls);
    memory->release(to, starts.back());
}

/* ---- steps on a device that lags behind ---- */

enum { WORK = 7 }; /* things queued in a step, besides what its end queues */

static cld_status queue_whole_step(int *x) {
    for (int i = 0; i < WORK; i++) CLD_TRY(queue_step(x, 1, 1));
    return memory->end_step();
}

static int *zero_on_device() {
    int *x = (int *)allocate(sizeof *x), zero = 0;
    WORKS(memory->from_host(x, &zero, sizeof zero));
    WORKS(memory->synchronize());
    return x;
}

static void stay_close() {
    enum { STEPS = 50 };
    int *x = zero_on_device();
    for (int i = 0; i < STEPS; i++) {
        WORKS(queue_whole_step(x));
        CHECK(fake_queued() <= CLD_STEPS_AHEAD * (WORK + 1));
        CHECK(i < CLD_STEPS_AHEAD || fake_queued() > (CLD_STEPS_AHEAD - 1) * WORK);
    }
    CHECK(value_of(x) == STEPS * WORK);
    memory->release(x, sizeof *x);
}

static volatile sig_atomic_t interrupted;
static void on_interrupt(int) { interrupted = 1; }

/* Ctrl-C while the device is in its tenth step: the host, which checks between steps, is only a few steps further. */
static void hear_an_interrupt() {
    int *x = zero_on_device(), steps = 0;
    signal(SIGINT, on_interrupt);
    interrupted = 0;
    while (!interrupted && steps < 1000) {
        if (++steps == 10) fake_launch([]() { raise(SIGINT); });
        WORKS(queue_whole_step(x));
    }
    signal(SIGINT, SIG_DFL);
    CHECK(steps >= 10 && steps <= 10 + CLD_STEPS_AHEAD);
    CHECK(fake_queued() <= CLD_STEPS_AHEAD * (WORK + 1)); /* a checkpoint waits for no more than this */
    CHECK(value_of(x) == steps * WORK);
    memory->release(x, sizeof *x);
}

static void queue_fault(long long value) {
    cld_fault *fault = cld_cuda_fault();
    fake_launch([=]() {
        if (fault->kind == CLD_FAULT_NONE) *fault = {CLD_FAULT_GATHER, value, 5};
    });
}

static void tell_of_faults() {
    int *x = zero_on_device(), told = 0;
    for (int i = 0; i < 20; i++) {
        if (i == 4) queue_fault(12);
        if (queue_whole_step(x) == CLD_OK) continue;
        told++;
        CHECK(i == 4 + CLD_STEPS_AHEAD);
        CHECK(strcmp(cld_error_message(), "gather: index 12 is out of range: expected 0 to 4") == 0);
    }
    CHECK(told == 1);
    CHECK(value_of(x) == 20 * WORK); /* nor is it reported again */

    queue_fault(13);
    WORKS(memory->end_step()); /* too early to know */
    FAILS(memory->synchronize(), "gather: index 13 is out of range");
    for (int i = 0; i < 2 * CLD_STEPS_AHEAD; i++) WORKS(queue_whole_step(x)); /* their copies contain it */
    queue_fault(14);
    int value;
    FAILS(memory->to_host(&value, x, sizeof value), "gather: index 14 is out of range");
    WORKS(memory->synchronize());
    queue_fault(15);
    queue_fault(16);
    FAILS(memory->synchronize(), "gather: index 15 is out of range"); /* the first one */
    WORKS(memory->synchronize());
    memory->release(x, sizeof *x);
}

/* A step that is captured ends in the middle of the capture; this must not end the capture. */
static void end_steps_of_graphs() {
    int *x = zero_on_device();
    void *graph = NULL;
    for (int i = 0; i < 2; i++) WORKS(queue_whole_step(x));
    WORKS(graphs->begin());
    WORKS(queue_whole_step(x));
    queue_fault(17);
    WORKS(graphs->end(&graph));
    int told = 0;
    for (int i = 0; i < 10; i++) {
        WORKS(graphs->replay(graph));
        if (memory->end_step() == CLD_OK) continue;
        told++;
        CHECK(strstr(cld_error_message(), "gather: index 17"));
        CHECK(i >= CLD_STEPS_AHEAD);
    }
    CHECK(told >= 1);
    FAILS(memory->synchronize(), "gather: index 17");
    CHECK(value_of(x) == 12 * WORK);
    graphs->free(graph);
    memory->release(x, sizeof *x);
}

/* ---- graphs ---- */

/* A graph that sets *x to value and doubles it. */
static void *record(int *x, int value) {
    void *graph = NULL;
    WORKS(graphs->begin());
    WORKS(memory->from_host(x, &value, sizeof value));
    value = -1;
    WORKS(queue_step(x, 2, 0));
    WORKS(graphs->end(&graph));
    return graph;
}

static void replay_copies() {
    int *x = (int *)allocate(sizeof *x);
    size_t before = fake_page_locked();
    void *graph = record(x, 21);
    for (int i = 0; i < 3; i++) {
        WORKS(graphs->replay(graph));
        CHECK(value_of(x) == 42);
    }
    WORKS(graphs->replay(graph));
    CHECK(fake_queued() > 0);
    WORKS(cld_cuda_check_lost("matmul"));
    WORKS(cld_cuda_launched("after it"));
    graphs->free(graph); /* while it is running */
    CHECK(value_of(x) == 42);
    CHECK(fake_page_locked() == before);
    memory->release(x, sizeof *x);
}

/* This is what the garbage collector does. */
static void free_one_while_another_is_captured() {
    int *x = (int *)allocate(sizeof *x), *y = (int *)allocate(sizeof *y), two = 2;
    void *first = record(x, 1), *second = NULL;
    WORKS(graphs->replay(first));
    WORKS(memory->from_host(y, &two, sizeof two));
    WORKS(graphs->begin());
    WORKS(queue_step(y, 1, 5));
    graphs->free(first);
    WORKS(queue_step(y, 10, 0));
    WORKS(graphs->end(&second));
    if (second) WORKS(graphs->replay(second));
    CHECK(value_of(x) == 2);
    CHECK(value_of(y) == 70);
    graphs->free(second);
    memory->release(x, sizeof *x);
    memory->release(y, sizeof *y);
}

static void lose_a_capture() {
    int *x = (int *)allocate(sizeof *x), value = 3;
    void *graph, *inner;
    WORKS(memory->from_host(x, &value, sizeof value));
    WORKS(graphs->begin());
    FAILS(memory->to_host(&value, x, sizeof value), "while a graph is being captured");
    FAILS(memory->synchronize(), "while a graph is being captured");
    WORKS(cld_cuda_check_lost("matmul"));
    WORKS(queue_step(x, 1, 1)); /* the capture has not ended */
    WORKS(memory->allocate(&inner, 1000));
    cudaStreamSynchronize((cudaStream_t)cld_cuda_stream()); /* as a library might do */
    FAILS(queue_step(x, 1, 1), "launching step: ");
    FAILS(memory->from_host(x, &value, sizeof value), "previous error during capture");
    FAILS(graphs->end(&graph), "ending a graph's capture: ");
    CHECK(graph == NULL);
    WORKS(queue_step(x, 1, 4)); /* the stream is as before */
    CHECK(value_of(x) == 7);
    memory->release(inner, 1000);
    graph = record(x, 5);
    WORKS(graphs->replay(graph));
    CHECK(value_of(x) == 10);
    graphs->free(graph);
    memory->release(x, sizeof *x);
    CHECK(memory->info().in_use == 0);
}

/* ---- the lane ---- */

static cudaStream_t lane_stream() {
    void *stream = NULL;
    WORKS(cld_cuda_lane_stream(&stream));
    return (cudaStream_t)stream;
}

/* *to = 10 * *from, as a collective. */
static cld_status queue_collective(int *to, const int *from) {
    void *stream;
    CLD_TRY(cld_cuda_use_lane("all_reduce", &stream));
    fake_launch([=]() { *to = 10 * *from; }, (cudaStream_t)stream);
    return cld_cuda_launched("collective");
}

/* It waits for what was queued before its fork, and the stream waits for it at the join: neither waits for more. */
static void fork_and_join() {
    int *x = (int *)allocate(sizeof *x), *y = (int *)allocate(sizeof *y), *z = (int *)allocate(sizeof *z);
    int value = 0;
    CHECK(lane_stream() != cld_cuda_stream());
    for (int *p : {x, y, z}) WORKS(memory->from_host(p, &value, sizeof value));
    WORKS(queue_step(x, 1, 1));
    WORKS(cld_cuda_lane.fork());
    WORKS(queue_step(z, 1, 1));
    WORKS(queue_collective(y, x));
    fake_run_alone(lane_stream());
    CHECK(*y == 10 && *z == 0);
    WORKS(queue_collective(y, y)); /* it lags behind */
    CHECK(value_of(z) == 1 && *y == 10);
    WORKS(cld_cuda_lane.join());
    WORKS(cld_cuda_copy(z, y, sizeof *z));
    CHECK(value_of(z) == 100);
    for (int *p : {x, y, z}) memory->release(p, sizeof *p);
}

static void capture_the_lane() {
    int *x = (int *)allocate(sizeof *x), value = 1;
    void *graph;
    WORKS(memory->from_host(x, &value, sizeof value));
    WORKS(graphs->begin());
    FAILS(queue_collective(x, x), "all_reduce: while a graph is being captured, fork the lane first");
    WORKS(cld_cuda_lane.fork());
    WORKS(queue_collective(x, x));
    WORKS(cld_cuda_lane.join());
    WORKS(queue_step(x, 1, 2));
    WORKS(graphs->end(&graph));
    if (!graph) return;
    CHECK(value_of(x) == 1);
    for (int i = 0; i < 2; i++) WORKS(graphs->replay(graph));
    CHECK(value_of(x) == 122);
    graphs->free(graph);
    WORKS(graphs->begin());
    WORKS(cld_cuda_lane.fork());
    WORKS(queue_collective(x, x));
    FAILS(graphs->end(&graph), "must be joined before its end");
    CHECK(graph == NULL);
    WORKS(cld_cuda_launched("after it")); /* no error is left */
    WORKS(cld_cuda_lane.fork());
    FAILS(graphs->begin(), "a graph cannot be captured while a collective is under way");
    WORKS(queue_collective(x, x));
    WORKS(cld_cuda_lane.join());
    CHECK(value_of(x) == 1220);
    memory->release(x, sizeof *x);
}

static void run_out_of_memory() {
    void *data;
    FAILS(memory->allocate(&data, fake.memory + 1),
          "out of memory: wanted 1024.0 MiB, in use 0.0 MiB of 1024.0 MiB");
    WORKS(cld_cuda_launched("after it"));
    WORKS(graphs->begin());
    FAILS(memory->allocate(&data, fake.memory + 1), "out of memory: wanted");
    void *graph;
    WORKS(graphs->end(&graph));
    graphs->free(graph);
}

/* ---- a lost device ---- */

static void lose_the_device() {
    static const char said[] =
        "an illegal memory access was encountered (caused by work that was queued before";
    int *x = (int *)allocate(sizeof *x), value = 1;
    void *graph = record(x, 2), *data;
    WORKS(graphs->replay(graph));
    fake.lost = cudaErrorIllegalAddress;
    std::vector<char> large(8 << 20); /* there is no free block of this size */
    FAILS(memory->from_host(x, &value, sizeof value), said);
    FAILS(memory->from_host(x, large.data(), large.size()), said);
    FAILS(memory->to_host(&value, x, sizeof value), said);
    FAILS(memory->synchronize(), said);
    FAILS(memory->end_step(), said);
    FAILS(memory->allocate(&data, 100 << 20), said);
    FAILS(queue_step(x, 1, 0), said);
    FAILS(cld_cuda_check_lost("matmul"),
          "matmul: an illegal memory access was encountered (caused by work that was queued");
    FAILS(graphs->replay(graph), said);
    FAILS(graphs->begin(), said);
    FAILS(graphs->end(&data), "no graph is being captured");
    graphs->free(graph);
    memory->release(x, sizeof *x);
    CHECK(memory->info().in_use == 0);
}

int main(int, char **arguments) {
    say_why_not();
    WORKS(cld_cuda_open(0));
    WORKS(cld_cuda_open_faults());
    have_no_code();
    open_the_ring(arguments[1] && strcmp(arguments[1], "small") == 0);
    copy_from_host();
    stay_close();
    hear_an_interrupt();
    tell_of_faults();
    end_steps_of_graphs();
    replay_copies();
    free_one_while_another_is_captured();
    lose_a_capture();
    fork_and_join();
    capture_the_lane();
    run_out_of_memory();
    lose_the_device();
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}
