/* The memory of kernels/cuda: the caching allocator, graphs and their pools, faults, waiting; on the host also the
 * guard zones. Prints what failed; the exit code is 1 if anything did. spec/cuda_memory_spec.lua runs it on the host,
 * with and without CLD_HOST_CACHE=1; it also runs on a GPU (make gpu-check). */
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/pool.h"
#include "spec/support/plugin_host.h"

static const size_t MiB = 1 << 20;
static const cld_memory_ops *memory;
static const cld_graph_ops *graphs;

/* ---- checks ---- */

static int checks, failures;

static void check_at(bool holds, int line, const char *what) {
    checks++;
    if (holds) return;
    failures++;
    printf("line %d: %s\n", line, what);
}
#define CHECK(condition) check_at(condition, __LINE__, #condition)
#define WORKS(call)      check_at((call) == CLD_OK, __LINE__, (std::string(#call ": ") + message).c_str())
/* It must fail, and its message must contain the text. */
#define FAILS(call, text)                                                                                    \
    check_at((call) != CLD_OK && strstr(message, text), __LINE__, (std::string(#call ": ") + message).c_str())

static char *allocate(size_t bytes) {
    void *data = NULL;
    WORKS(memory->allocate(&data, bytes));
    return (char *)data;
}

static int value_of(const void *device) {
    int value = -1;
    WORKS(memory->to_host(&value, device, sizeof value));
    return value;
}

/* ---- kernels ---- */

static __global__ void add_one(int *x) { *x += 1; }
static __global__ void find_fault(cld_fault *fault) {
    report(fault, CLD_FAULT_GATHER, 12, 10);
    report(fault, CLD_FAULT_BANK, 7, 5);
}

/* ---- the cache ---- */

static void reuse() {
    char *a = allocate(1000), *b = allocate(1000);
    CHECK(a != b && (uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
    memory->release(a, 1000);
    char *c = allocate(900);
    CHECK(c == a);
    memory->release(b, 1000);
    memory->release(c, 900);
    char *none = allocate(0);
    CHECK(none != NULL);
    memory->release(none, 0);
    memory->release(NULL, 0);
    CHECK(memory->info().in_use == 0);
}

static void split_and_merge() {
    char *a = allocate(4 * MiB), *b = allocate(4 * MiB), *c = allocate(4 * MiB);
    size_t reserved = memory->info().reserved;
    CHECK(b == a + 4 * MiB && c == b + 4 * MiB); /* one segment, cut into pieces */
    memory->release(a, 4 * MiB);
    memory->release(c, 4 * MiB);
    memory->release(b, 4 * MiB); /* both neighbours are free */
    char *all = allocate(12 * MiB);
    CHECK(all == a);
    memory->release(all, 12 * MiB);
    CHECK(memory->info().reserved == reserved);
}

static void best_fit() {
    size_t sizes[] = {8 * MiB, 2 * MiB, 5 * MiB, 2 * MiB};
    char *blocks[4];
    for (int i = 0; i < 4; i++) blocks[i] = allocate(sizes[i]);
    memory->release(blocks[0], sizes[0]);
    memory->release(blocks[2], sizes[2]);
    char *found = allocate(5 * MiB - 100);
    CHECK(found == blocks[2]);
    memory->release(found, 5 * MiB - 100);
    memory->release(blocks[1], sizes[1]);
    memory->release(blocks[3], sizes[3]);
}

/* No two blocks overlap, and the sums are right, in any order of calls. */
static void many() {
    std::map<char *, size_t> taken;
    uint64_t state = 1;
    bool apart = true, counted = true;
    for (int i = 0; i < 20000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t draw = (size_t)(state >> 33);
        if (taken.size() < 60 && draw % 5 < 3) {
            size_t bytes = draw % 7 == 0 ? draw % (3 * MiB) : draw % 70000;
            char *data = allocate(bytes);
            auto next = taken.lower_bound(data);
            if (next != taken.end() && data + bytes > next->first) apart = false;
            if (next != taken.begin() && (--next)->first + next->second > data) apart = false;
            taken[data] = bytes;
        } else if (!taken.empty()) {
            auto chosen = taken.begin();
            std::advance(chosen, draw % taken.size());
            memory->release(chosen->first, chosen->second);
            taken.erase(chosen);
        }
        size_t least = 0;
        for (const auto &block : taken) least += block.second;
        cld_memory_info info = memory->info();
        if (info.in_use < least || info.in_use > info.reserved || info.peak < info.in_use) counted = false;
    }
    for (const auto &block : taken) memory->release(block.first, block.second);
    CHECK(apart);
    CHECK(counted);
    CHECK(memory->info().in_use == 0);
}

static char *reclaimable;
static int reclaims;
static void reclaim(void *context) {
    ++*(int *)context;
    memory->release(reclaimable, 100 * MiB);
    reclaimable = NULL;
}

/* On a device of 256 MiB. */
static void out_of_memory() {
    memory->set_reclaim(reclaim, &reclaims);
    reclaimable = allocate(100 * MiB);
    char *a = allocate(100 * MiB);
    char *b = allocate(140 * MiB); /* reclaimed memory was returned to the device */
    CHECK(reclaims == 1);
    memory->set_reclaim(NULL, NULL);
    void *c;
    FAILS(memory->allocate(&c, 300 * MiB),
          "out of memory: wanted 300.0 MiB, in use 240.0 MiB of 256.0 MiB on cuda:0");
    CHECK(c == NULL);
    memory->release(a, 100 * MiB);
    memory->release(b, 140 * MiB);
    char *whole = allocate(250 * MiB);
    memory->release(whole, 250 * MiB);
    CHECK(memory->info().in_use == 0);
}

/* ---- waiting and faults ---- */

static void waiting() {
    char *x = allocate(4);
    int value = 3;
    WORKS(memory->from_host(x, &value, 4));
    value = 4;
    CHECK(value_of(x) == 3);
    CHECK(!memory->forbid_waiting(true));
    FAILS(memory->to_host(&value, x, 4), "waits for the device");
    FAILS(memory->synchronize(), "waits for the device");
    CHECK(memory->forbid_waiting(false));
    WORKS(memory->synchronize());
    memory->release(x, 4);
}

static void faults() {
    WORKS(CLD_LAUNCH(find_fault, 1, 1, 0, cld_cuda_fault()));
    FAILS(memory->synchronize(), "gather: index 12 is out of range: expected 0 to 9");
    WORKS(memory->synchronize()); /* only once */
    WORKS(CLD_LAUNCH(find_fault, 1, 1, 0, cld_cuda_fault()));
    char *x = allocate(4);
    int value;
    WORKS(cld_cuda_clear(x, 4));
    FAILS(memory->to_host(&value, x, 4), "gather: index 12");
    CHECK(value == 0);
    memory->release(x, 4);
}

/* ---- graphs ---- */

static void recording() {
    void *graph;
    int value = 5;
    int *x = (int *)allocate(4), *y = (int *)allocate(4);
    WORKS(cld_cuda_clear(x, 4));
    WORKS(graphs->begin());
    FAILS(graphs->begin(), "already being captured");
    WORKS(CLD_LAUNCH(add_one, 1, 1, 0, x));
    WORKS(memory->from_host(y, &value, 4)); /* the bytes at this moment */
    value = 6;
    CLD_SCRATCH scratch;
    WORKS(cld_cuda_scratch(&scratch, 4));
    WORKS(cld_cuda_copy(scratch.data, y, 4));
    WORKS(CLD_LAUNCH(add_one, 1, 1, 0, (int *)scratch.data));
    WORKS(cld_cuda_copy(y, scratch.data, 4));
    cld_cuda_scratch_release(&scratch);
    FAILS(memory->to_host(&value, x, 4), "while a graph is being captured");
    FAILS(memory->synchronize(), "while a graph is being captured");
    FAILS(graphs->replay(NULL), "while another is captured");
    WORKS(graphs->end(&graph));
    CHECK(value_of(x) == 0); /* nothing was run */
    for (int i = 0; i < 3; i++) WORKS(graphs->replay(graph));
    CHECK(value_of(x) == 3);
    CHECK(value_of(y) == 6);
    graphs->free(graph);
    FAILS(graphs->end(&graph), "no graph is being captured");
    CHECK(graph == NULL);
    memory->release(x, 4);
    memory->release(y, 4);
}

static bool is_handed_out(std::vector<char *> blocks, size_t bytes) {
    std::vector<char *> got;
    bool found = false;
    for (int i = 0; i < 5000; i++) {
        char *data = allocate(bytes);
        for (char *block : blocks) found = found || (data <= block && block < data + bytes);
        got.push_back(data);
    }
    for (char *data : got) memory->release(data, bytes);
    return found;
}

static void pools() {
    void *graph;
    const size_t bytes = 1000;
    char *before = allocate(bytes), *input = allocate(bytes);
    memory->release(before, bytes); /* its segment holds input, so it does not become the graph's */
    WORKS(graphs->begin());
    char *a = allocate(bytes);
    CHECK(a != before);
    memory->release(a, bytes);
    char *b = allocate(bytes); /* within the graph blocks may be reused */
    CHECK(b == a);
    memory->release(input, bytes); /* the graph may read it at each replay */
    char *c = allocate(bytes), *kept = allocate(bytes);
    CHECK(c != input && kept != input);
    memory->release(c, bytes);
    WORKS(graphs->end(&graph));
    CHECK(!is_handed_out({a, c, kept, input}, bytes));
    memory->release(b, bytes);
    CHECK(!is_handed_out({a, c, kept, input}, bytes));
    WORKS(graphs->replay(graph));
    CHECK(memory->info().in_use == 1024); /* still in use, in units of 512 */
    graphs->free(graph);
    WORKS(cld_cuda_clear(kept, bytes)); /* still belongs to its owner */
    CHECK(!is_handed_out({kept}, bytes));
    CHECK(is_handed_out({a}, bytes));
    CHECK(is_handed_out({input}, bytes));
    memory->release(kept, bytes);
    CHECK(is_handed_out({kept}, bytes));
    CHECK(memory->info().in_use == 0);
}

/* A graph uses what earlier steps used; what it does not use is returned; two graphs share nothing. */
static void pools_of_many() {
    void *first, *second;
    char *large[2] = {allocate(40 * MiB), allocate(40 * MiB)};
    for (char *block : large) memory->release(block, 40 * MiB);
    size_t reserved = memory->info().reserved;
    WORKS(graphs->begin());
    char *a = allocate(40 * MiB);
    CHECK(memory->info().reserved == reserved);
    WORKS(graphs->end(&first));
    char *other = allocate(40 * MiB);
    CHECK(other != a && memory->info().reserved == reserved);
    memory->release(other, 40 * MiB);
    WORKS(graphs->begin());
    char *b = allocate(1000);
    memory->release(a, 40 * MiB); /* belongs to the first graph, so the second may read it */
    graphs->free(first);
    WORKS(graphs->end(&second));
    char *c = allocate(40 * MiB);
    CHECK(c != a);
    memory->release(b, 1000);
    memory->release(c, 40 * MiB);
    graphs->free(second);
    CHECK(memory->info().in_use == 0 && memory->info().reserved == reserved);
    WORKS(graphs->begin()); /* an empty one */
    WORKS(graphs->end(&first));
    WORKS(graphs->replay(first));
    graphs->free(first);
    graphs->free(NULL);
}

/* ---- only on the host: its stricter checks ---- */

#ifndef __CUDACC__

#    ifndef __SANITIZE_ADDRESS__ /* the sanitizer would end the program at once */
static __global__ void overrun(char *x, int n) { x[n] = 1; }
static __global__ void underrun(char *x) { x[-1] = 1; }
#    endif

static void strictness() {
    char *x = allocate(10);
    int value = 0;
    WORKS(memory->to_host(&value, x, 4));
    CHECK(value == -1); /* bytes of 0xff */
#    ifndef __SANITIZE_ADDRESS__
    FAILS(CLD_LAUNCH(overrun, 1, 1, 0, x, 10), "overrun: wrote after the end of a block of 10 bytes");
    WORKS(memory->synchronize()); /* only once */
    FAILS(CLD_LAUNCH(underrun, 1, 1, 0, x), "underrun: wrote before the start of a block of 10 bytes");
    x[10] = 1; /* written by the host, so it is found later */
    memory->release(x, 10);
    FAILS(memory->synchronize(), "before it was freed: wrote after the end of a block of 10 bytes");
    x = allocate(10);
    x[12] = 1;
    FAILS(memory->synchronize(), "wrote after the end of a block of 10 bytes");
#    endif
    memory->release(x, 10);
    CHECK(memory->info().reserved == 0);
}

#endif

int main() {
    const cld_plugin *plugin = cld_plugin_entry(&plugin_host);
    int devices = 0;
    if (plugin->count(&devices) != CLD_OK) return printf("%s\n", message), 1;
    const cld_backend *device = plugin->open(0);
    if (!device) return printf("%s\n", message), 1;
    CHECK(plugin->open(0) == device);
    CHECK(!plugin->open(1) && strstr(message, "this process already uses cuda:0"));
    memory = device->memory;
    graphs = device->graph;
    bool caches = !plugin->emulated || getenv("CLD_HOST_CACHE");
    if (caches) {
        reuse();
        split_and_merge();
        best_fit();
        many();
        pools();
        pools_of_many();
    }
    if (getenv("CLD_HOST_MEMORY")) out_of_memory();
    waiting();
    faults();
    recording();
#ifndef __CUDACC__
    if (!caches) strictness();
#endif
    CHECK(memory->info().in_use == 0);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}
