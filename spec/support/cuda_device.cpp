/* What kernels/cuda asks of the CUDA runtime, on one without a GPU (cuda_runtime_fake.h): memory that is copied from while
 * the device lags behind, captures that go wrong, a device that is lost, and what is said where there is none. Says what
 * does not hold; the exit code is 1 where anything did not. */
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
#define FAILS(call, text) expect(call, text, __LINE__, #call) /* and its message has the text */

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

/* ---- where there is no device ---- */

static void say_why_not() {
    int count;
    fake.count = cudaErrorInsufficientDriver;
    fake.driver = 0;
    FAILS(cld_cuda_count(&count), "there is no NVIDIA driver here");
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

/* As the first launch says on a chip that no code was built for. */
static void have_no_code() {
    fake.launch = cudaErrorNoKernelImageForDevice;
    FAILS(queue_step(NULL, 1, 0), "launching step: no kernel image is available for execution on the device "
                                  "(this build is not for compute capability 9.5: make CUDA_ARCH=95)");
    fake.launch = cudaSuccess;
}

/* ---- copies to a device that lags behind ---- */

static void copy_from_host() {
    enum { COPIES = 300, BYTES = 100000 };
    char *to = allocate((size_t)COPIES * BYTES);
    std::vector<char> from(BYTES);
    for (int round = 0; round < 3; round++) {
        size_t before = fake_page_locked();
        for (int i = 0; i < COPIES; i++) {
            memset(from.data(), i + round, BYTES);
            WORKS(memory->from_host(to + (size_t)i * BYTES, from.data(), BYTES));
        }
        CHECK(fake_queued() >= COPIES); /* nothing waited */
        CHECK(round == 0 || fake_page_locked() == before);
        memset(from.data(), 99, BYTES);
        WORKS(memory->synchronize());
        for (int i = 0; i < COPIES; i++) CHECK(to[(size_t)i * BYTES] == (char)(i + round));
        for (int i = 0; i < COPIES; i++) CHECK(to[(size_t)(i + 1) * BYTES - 1] == (char)(i + round));
    }
    memory->release(to, (size_t)COPIES * BYTES);
}

/* Then those that were sent are waited for. */
static void run_out_of_page_locked_memory() {
    enum { BYTES = 1 << 20 };
    char *to = allocate(4 * BYTES);
    std::vector<char> from(BYTES);
    fake.page_locked = fake_page_locked();
    for (int i = 0; i < 4; i++) {
        memset(from.data(), i, BYTES);
        WORKS(memory->from_host(to + i * BYTES, from.data(), BYTES));
    }
    WORKS(memory->synchronize());
    for (int i = 0; i < 4; i++) CHECK(to[i * BYTES] == i && to[(i + 1) * BYTES - 1] == i);
    std::vector<char> too_large(32 << 20);
    fake.page_locked = 16 << 20;
    char *large = allocate(too_large.size());
    FAILS(memory->from_host(large, too_large.data(), too_large.size()), "out of page-locked host memory");
    CHECK(cld_error_code() == CLD_NOMEM);
    fake.page_locked = (size_t)1 << 30;
    WORKS(memory->from_host(large, too_large.data(), too_large.size()));
    WORKS(cld_cuda_launched("after it"));
    memory->release(large, too_large.size());
    memory->release(to, 4 * BYTES);
}

/* ---- graphs ---- */

/* One that sets *x to value and doubles it. */
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
    graphs->free(graph); /* while it is under way */
    CHECK(value_of(x) == 42);
    CHECK(fake_page_locked() == before);
    memory->release(x, sizeof *x);
}

/* As the collector does. */
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
    FAILS(memory->to_host(&value, x, sizeof value), "while a graph is captured");
    FAILS(memory->synchronize(), "while a graph is captured");
    WORKS(cld_cuda_check_lost("matmul"));
    WORKS(queue_step(x, 1, 1)); /* which has ended nothing */
    WORKS(memory->allocate(&inner, 1000));
    cudaStreamSynchronize((cudaStream_t)cld_cuda_stream()); /* as a library might */
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
    static const char said[] = "an illegal memory access was encountered (by work that was queued before";
    int *x = (int *)allocate(sizeof *x), value = 1;
    void *graph = record(x, 2), *data;
    WORKS(graphs->replay(graph));
    fake.lost = cudaErrorIllegalAddress;
    std::vector<char> large(8 << 20); /* no block of this size is there */
    FAILS(memory->from_host(x, &value, sizeof value), said);
    FAILS(memory->from_host(x, large.data(), large.size()), said);
    FAILS(memory->to_host(&value, x, sizeof value), said);
    FAILS(memory->synchronize(), said);
    FAILS(memory->allocate(&data, 100 << 20), said);
    FAILS(queue_step(x, 1, 0), said);
    FAILS(cld_cuda_check_lost("matmul"),
          "matmul: an illegal memory access was encountered (by work that was queued");
    FAILS(graphs->replay(graph), said);
    FAILS(graphs->begin(), said);
    FAILS(graphs->end(&data), "no graph is being captured");
    graphs->free(graph);
    memory->release(x, sizeof *x);
    CHECK(memory->info().in_use == 0);
}

int main() {
    say_why_not();
    WORKS(cld_cuda_open(0));
    WORKS(cld_cuda_open_faults());
    have_no_code();
    copy_from_host();
    run_out_of_page_locked_memory();
    replay_copies();
    free_one_while_another_is_captured();
    lose_a_capture();
    run_out_of_memory();
    lose_the_device();
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}
