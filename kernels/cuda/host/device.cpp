/* device.h on the host, for the specs: one device, which runs work as soon as it is queued or, while a graph is
 * captured, keeps it for the replay.
 *
 * It is stricter than the GPU: memory comes filled with bytes of 0xff (NaN, or an index out of range), and lies between
 * guard zones, which are checked after each piece of work. CLD_HOST_MEMORY sets how many bytes there are. */
#include "kernels/cuda/device.h"

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/traffic.h"

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#else
#    define ASAN_POISON_MEMORY_REGION(data, bytes)   ((void)(data), (void)(bytes))
#    define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static const size_t GUARD = 256; /* bytes before and after */
static const unsigned char PATTERN = 0xA5;

static std::mutex lock;                 /* protects the next three */
static std::map<char *, size_t> blocks; /* data, bytes */
static size_t in_use;
static std::string broken; /* what went wrong first (a damaged guard, say), until it is reported */

static size_t total_memory() {
    const char *bytes = getenv("CLD_HOST_MEMORY");
    if (bytes && *bytes) return strtoull(bytes, NULL, 10);
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

/* AddressSanitizer reports an access to a poisoned guard where it happens. */
static bool is_intact(const char *guard) {
#if !defined(__SANITIZE_ADDRESS__)
    for (size_t i = 0; i < GUARD; i += sizeof(uint64_t)) {
        uint64_t bytes;
        memcpy(&bytes, guard + i, sizeof bytes);
        if (bytes != 0x0101010101010101u * PATTERN) return false;
    }
#endif
    return (void)guard, true;
}

static void set_guard(char *guard) {
    ASAN_UNPOISON_MEMORY_REGION(guard, GUARD);
    memset(guard, PATTERN, GUARD);
    ASAN_POISON_MEMORY_REGION(guard, GUARD);
}

/* Reports it only once: the guard is repaired. */
static void check_block(char *data, size_t bytes, const char *when) {
    bool before = is_intact(data - GUARD), after = is_intact(data + bytes);
    if (before && after) return;
    if (broken.empty())
        broken = std::string(when) + ": wrote " + (before ? "after the end" : "before the start") +
                 " of a block of " + std::to_string(bytes) + " bytes";
    set_guard(data - GUARD);
    set_guard(data + bytes);
}

static cld_status check_guards(const char *when) {
    std::lock_guard<std::mutex> guard(lock);
    for (const auto &block : blocks) check_block(block.first, block.second, when);
    if (broken.empty()) return CLD_OK;
    std::string message;
    message.swap(broken);
    return cld_fail(CLD_BACKEND, "%s", message.c_str());
}

/* CLD_HOST_IDLE: kernels and library calls are listed but not run, and memory is not filled. So a program whose control
 * flow does not depend on the results queues in moments what would take hours to run. */
static bool is_idle() {
    static const char *const wanted = getenv("CLD_HOST_IDLE");
    return wanted && *wanted;
}

/* The bytes before a block's data, the guard last; also the alignment of the data's address. */
static size_t block_unit() { return cld_host_counts_traffic() ? cld_host_page() : GUARD; }

cld_status cld_cuda_malloc(void **out, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    *out = NULL;
    size_t total = total_memory();
    bool fits = bytes <= total && in_use <= total - bytes;
    size_t unit = block_unit();
    char *base = fits ? (char *)aligned_alloc(unit, (bytes + GUARD + 2 * unit - 1) / unit * unit) : NULL;
    if (!base) return cld_fail(CLD_NOMEM, "allocating device memory: out of memory");
    base += unit - GUARD;
    if (!is_idle()) memset(base + GUARD, 0xff, bytes);
    set_guard(base);
    set_guard(base + GUARD + bytes);
    blocks[base + GUARD] = bytes;
    in_use += bytes;
    *out = base + GUARD;
    return CLD_OK;
}

void cld_cuda_free(void *data) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = blocks.find((char *)data);
    if (found == blocks.end()) return;
    char *block = found->first;
    check_block(block, found->second, "before it was freed");
    ASAN_UNPOISON_MEMORY_REGION(block - GUARD, GUARD);
    ASAN_UNPOISON_MEMORY_REGION(block + found->second, GUARD);
    in_use -= found->second;
    blocks.erase(found);
    free(block - block_unit());
}

cld_status cld_cuda_malloc_locked(void **out, size_t bytes) {
    *out = calloc(1, bytes);
    return *out ? CLD_OK : cld_fail(CLD_NOMEM, "allocating page-locked host memory: out of memory");
}

cld_status cld_cuda_memory(size_t *free_bytes, size_t *total) {
    std::lock_guard<std::mutex> guard(lock);
    *total = total_memory();
    *free_bytes = *total > in_use ? *total - in_use : 0;
    return CLD_OK;
}

/* ---- the device --------------------------------------------------------------------------------------------------- */

cld_status cld_cuda_count(int *devices) {
    *devices = 1;
    return CLD_OK;
}

cld_status cld_cuda_facts(int ordinal, cld_device_facts *out) {
    if (ordinal != 0) return cld_fail(CLD_INVALID, "there is no device %d", ordinal);
    *out = cld_device_facts{};
    snprintf(out->name, sizeof out->name, "host emulation");
    out->memory = total_memory();
    out->major = 9;
    out->multiprocessors = cld_cuda_multiprocessors();
    return CLD_OK;
}

cld_status cld_cuda_open(int ordinal) {
    cld_device_facts facts;
    return cld_cuda_facts(ordinal, &facts);
}

const char *cld_cuda_version(void) { return "host emulation"; }
int cld_cuda_multiprocessors(void) { return 4; }

/* ---- the stream --------------------------------------------------------------------------------------------------- */

namespace {
struct step {
    cld_host_work of;
    std::function<void()> work;
};
typedef std::vector<step> graph;
} // namespace

static graph *captured; /* NULL while none is being captured */

/* CLD_HOST_LAUNCHES=FILE: appends a line to that file for each piece of work, starting with its name. */
static FILE *list() {
    static const char *const path = getenv("CLD_HOST_LAUNCHES");
    static FILE *const file = path && *path ? fopen(path, "a") : NULL;
    return file;
}

static void do_work(const cld_host_work &of, const std::function<void()> &work) {
    if (of.kind == CLD_HOST_MEMORY || !is_idle()) work();
}

/* With CLD_HOST_TRAFFIC also its kind, the bytes read and written, a kernel's number of blocks and of threads side by
 * side, and its template arguments. */
static void list_traffic(const cld_host_work &of, const std::function<void()> &work) {
    static const char *const kinds[] = {"kernel", "library", "memory"};
    cld_host_traffic traffic = {0, 0};
    if (is_idle() || of.kind == CLD_HOST_LIBRARY) {
        do_work(of, work);
    } else {
        std::lock_guard<std::mutex> guard(lock);
        cld_host_traffic_begin(&blocks);
        work();
        traffic = cld_host_traffic_end();
    }
    const char *with = of.within ? strchr(of.within, '[') : NULL;
    fprintf(list(), "%s\t%s\t%llu\t%llu\t%llu\t%u\t%s\n", of.name, kinds[of.kind],
            (unsigned long long)traffic.read, (unsigned long long)traffic.written,
            (unsigned long long)of.blocks, of.columns, with ? with : "");
}

static cld_status run(const cld_host_work &of, const std::function<void()> &work) {
    if (of.kind == CLD_HOST_SILENT) {
        do_work(of, work);
    } else if (list() && cld_host_counts_traffic()) {
        list_traffic(of, work);
    } else {
        if (list()) fprintf(list(), "%s\n", of.name);
        do_work(of, work);
    }
    if (list()) fflush(list());
    return check_guards(of.name);
}

cld_status cld_host_enqueue(const cld_host_work &of, std::function<void()> work) {
    if (!captured) return run(of, work);
    captured->push_back(step{of, std::move(work)});
    return CLD_OK;
}

void cld_host_report(const std::string &text) {
    std::lock_guard<std::mutex> guard(lock);
    if (broken.empty()) broken = text;
}

static cld_status not_captured(const char *what) {
    if (!captured) return CLD_OK;
    return cld_fail(CLD_BACKEND, "%s: operation not permitted when stream is capturing", what);
}

void *cld_cuda_stream(void) { return NULL; }

cld_status cld_cuda_copy_from_host(void *device, const void *host, size_t bytes) {
    if (bytes == 0) return CLD_OK;
    if (!captured)
        return cld_host_enqueue({"copying to the device", CLD_HOST_MEMORY, NULL},
                                [=]() { memcpy(device, host, bytes); });
    std::vector<char> kept((const char *)host, (const char *)host + bytes);
    return cld_host_enqueue({"copying to the device", CLD_HOST_MEMORY, NULL},
                            [=]() { memcpy(device, kept.data(), bytes); });
}

cld_status cld_cuda_copy_to_host(void *host, const void *device, size_t bytes) {
    CLD_TRY(not_captured("copying from the device"));
    if (bytes > 0) memcpy(host, device, bytes);
    return cld_cuda_wait();
}

cld_status cld_cuda_queue_to_host(void *locked, const void *device, size_t bytes) {
    CLD_TRY(not_captured("copying from the device"));
    memcpy(locked, device, bytes);
    return CLD_OK;
}

cld_status cld_cuda_copy(void *to, const void *from, size_t bytes) {
    if (bytes == 0) return CLD_OK;
    return cld_host_enqueue({"copying on the device", CLD_HOST_MEMORY, NULL},
                            [=]() { memmove(to, from, bytes); });
}

cld_status cld_cuda_clear(void *data, size_t bytes) {
    if (bytes == 0) return CLD_OK;
    return cld_host_enqueue({"clearing device memory", CLD_HOST_MEMORY, NULL},
                            [=]() { memset(data, 0, bytes); });
}

cld_status cld_cuda_wait(void) {
    CLD_TRY(not_captured("waiting for the device"));
    return check_guards("waiting for the device");
}

cld_status cld_cuda_launched(const char *kernel) { return captured ? CLD_OK : check_guards(kernel); }

cld_status cld_cuda_check_lost(const char *) { return CLD_OK; }

/* ---- the lane: its work is run when it is joined ----------------------------------------------------- */

static graph lane;

cld_status cld_host_enqueue_on_lane(const cld_host_work &of, std::function<void()> work) {
    lane.push_back(step{of, std::move(work)});
    return CLD_OK;
}

bool cld_host_lane_is_empty() { return lane.empty(); }

cld_status cld_cuda_lane_stream(void **out) {
    *out = &lane;
    return CLD_OK;
}

cld_status cld_cuda_fork_lane(void) { return CLD_OK; }

cld_status cld_cuda_join_lane(void) {
    graph steps;
    steps.swap(lane);
    for (step &s : steps) CLD_TRY(cld_host_enqueue(s.of, std::move(s.work)));
    return CLD_OK;
}

/* ---- steps: everything is run at once ---------------------------------------------------------------- */

cld_status cld_cuda_mark_step(int) { return not_captured("recording an event"); }
cld_status cld_cuda_wait_for_step(int) { return not_captured("waiting for a step"); }

/* ---- time --------------------------------------------------------------------------------------------------------- */

static std::chrono::steady_clock::time_point marks[2];

cld_status cld_cuda_mark(int which) {
    marks[which] = std::chrono::steady_clock::now();
    return CLD_OK;
}

cld_status cld_cuda_elapsed(double *milliseconds) {
    *milliseconds = std::chrono::duration<double, std::milli>(marks[1] - marks[0]).count();
    return not_captured("waiting for an event");
}

/* ---- capture ------------------------------------------------------------------------------------------------------ */

bool cld_cuda_capturing(void) { return captured != NULL; }

cld_status cld_cuda_begin_capture(void) {
    CLD_TRY(not_captured("beginning a graph's capture"));
    captured = new (std::nothrow) graph;
    return captured ? CLD_OK : cld_fail(CLD_NOMEM, "out of memory for a graph");
}

cld_status cld_cuda_end_capture(void **out) {
    *out = captured;
    captured = NULL;
    lane.clear(); /* work that was not joined is dropped */
    return *out ? CLD_OK : cld_fail(CLD_BACKEND, "ending a graph's capture: none was begun");
}

cld_status cld_cuda_launch_graph(void *of) {
    CLD_TRY(not_captured("launching a graph"));
    if (list() && cld_host_counts_traffic()) fputs("replay\n", list());
    for (const step &s : *(const graph *)of) CLD_TRY(run(s.of, s.work));
    return CLD_OK;
}

void cld_cuda_free_graph(void *of) { delete (graph *)of; }
