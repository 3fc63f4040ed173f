/* Running a block: its threads take turns on one OS thread.
 *
 * Each warp in turn runs as far as it can: its ready lanes run in order, each until it waits or exits. Then the warp
 * operations complete that every lane of the mask (except those that have exited) has reached, and this repeats. When
 * no warp can continue, all threads of the block must have reached the same __syncthreads.
 *
 * A thread starts on the stack on which the previous thread has just exited, and needs a new one only if that thread
 * waits. So a block without barriers is a loop, with two switches per warp.
 */
#include "kernels/cuda/host/launch.h"

#include <mutex>
#include <stdio.h>

#include "kernels/cuda/host/fiber.h"

enum { WARP = 32, MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP };
enum : size_t {
    MAX_SHARED = 48 << 10, /* for a launch that has not asked for more in advance; CLD_LAUNCH does not */
#ifdef __SANITIZE_ADDRESS__
    FENCE = 0
#else
    FENCE = 64 /* bytes after dynamic shared memory, which must stay unchanged */
#endif
};
static const unsigned char POISON = 0xff;

namespace {

struct lane {
    uint3 index;
    cld_fiber *fiber; /* where it waits */
    cld_host_site site;
    /* of a warp operation */
    unsigned mask;
    int source;
    uint64_t value;
    cld_host_meeting_result result;
    /* of a barrier */
    bool predicate;
};

struct warp { /* one bit per lane */
    unsigned alive, started, ready, meeting, at_barrier;
};

} // namespace

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
uint64_t cld_host_block_serial;

/* The running launch, and its block. */
static struct {
    const char *name;
    void (*body)(const void *);
    const void *context;
    int warps, in_warp, current; /* the running warp and thread */
    lane lanes[MAX_THREADS];
    warp of[MAX_WARPS];
    cld_host_barrier_result barrier;
    unsigned char *dynamic;
    size_t dynamic_bytes, static_bytes;
} block;

static cld_fiber *idle[MAX_THREADS];
static int idle_count;

/* ---- reports -------------------------------------------------------------------------------------------------- */

static void begin_report(const char *what) {
    fflush(NULL);
    fprintf(stderr, "%s: block (%u, %u, %u) of (%u, %u, %u), threads (%u, %u, %u): %s\n", block.name,
            blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, blockDim.x, blockDim.y,
            blockDim.z, what);
}

[[noreturn]] static void fail(const char *what) {
    begin_report(what);
    if (block.current >= 0) {
        uint3 t = block.lanes[block.current].index;
        fprintf(stderr, "  in thread (%u, %u, %u)\n", t.x, t.y, t.z);
    }
    abort();
}

static bool waits(int t) {
    return (block.of[t / WARP].meeting | block.of[t / WARP].at_barrier) >> t % WARP & 1;
}

static bool together(const lane &a, const lane &b) {
    return a.site.line == b.site.line && strcmp(a.site.file, b.site.file) == 0 &&
           strcmp(a.site.what, b.site.what) == 0 && a.mask == b.mask;
}

/* Where every thread waits; consecutive threads that wait at the same place share a line. */
[[noreturn]] static void fail_waiting(const char *what) {
    begin_report(what);
    int threads = (int)(blockDim.x * blockDim.y * blockDim.z);
    for (int first = 0, last; first < threads; first = last + 1) {
        const lane &a = block.lanes[first];
        for (last = first; last + 1 < threads; last++)
            if (waits(last + 1) != waits(first) || (waits(first) && !together(a, block.lanes[last + 1])))
                break;
        const uint3 from = a.index, to = block.lanes[last].index;
        fprintf(stderr, "  threads (%u, %u, %u) to (%u, %u, %u): ", from.x, from.y, from.z, to.x, to.y, to.z);
        if (!waits(first))
            fprintf(stderr, "have exited\n");
        else if (block.of[first / WARP].meeting >> first % WARP & 1)
            fprintf(stderr, "wait in %s of mask 0x%08x, %s:%d\n", a.site.what, a.mask, a.site.file,
                    a.site.line);
        else
            fprintf(stderr, "wait in %s, %s:%d\n", a.site.what, a.site.file, a.site.line);
    }
    abort();
}

/* ---- the order ------------------------------------------------------------------------------------------------- */

static bool &reversed() {
    static bool reverse = [] {
        const char *order = getenv("CLD_HOST_ORDER");
        return order && strcmp(order, "reverse") == 0;
    }();
    return reverse;
}

bool cld_host_order(bool reverse) {
    bool before = reversed();
    reversed() = reverse;
    return before;
}

static int first_of(unsigned lanes, bool reverse) {
    return reverse ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes);
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

static void set_current(int t) {
    block.current = t;
    threadIdx = block.lanes[t].index;
}

/* Runs on a fiber: starts those threads of the warp that have not started, one after another; then the fiber is idle. A
 * thread that waits leaves from within body, and its successors start on another fiber. */
static void work(void) {
    for (;;) {
        for (;;) {
            warp &w = block.of[block.in_warp];
            if (!w.ready) break;
            int l = first_of(w.ready, reversed());
            unsigned bit = 1u << l;
            if (w.started & bit) break;
            w.started |= bit;
            w.ready &= ~bit;
            set_current(block.in_warp * WARP + l);
            block.body(block.context);
            /* It may have waited and continued since, so block.of is looked up again. */
            block.of[block.current / WARP].alive &= ~(1u << block.current % WARP);
        }
        idle[idle_count++] = cld_fiber_current();
        cld_fiber_leave();
    }
}

static cld_fiber *take_idle(void) {
    if (idle_count) return idle[--idle_count];
    cld_fiber *fiber = cld_fiber_new(work);
    if (!fiber) fail("no memory for another stack");
    return fiber;
}

static void run_ready(int in_warp) {
    warp &w = block.of[in_warp];
    block.in_warp = in_warp;
    while (w.ready) {
        int l = first_of(w.ready, reversed()), t = in_warp * WARP + l;
        if (w.started >> l & 1) {
            w.ready &= ~(1u << l);
            set_current(t);
            cld_fiber_enter(block.lanes[t].fiber);
        } else {
            cld_fiber_enter(take_idle());
        }
    }
    block.current = -1;
}

static void leave(void) {
    block.lanes[block.current].fiber = cld_fiber_current();
    cld_fiber_leave();
}

/* ---- of the warp ------------------------------------------------------------------------------------------------ */

int cld_host_lane(void) { return block.current % WARP; }

cld_host_meeting_result cld_host_meet(cld_host_site site, unsigned mask, uint64_t value, int source) {
    warp &w = block.of[block.current / WARP];
    lane &own = block.lanes[block.current];
    unsigned bit = 1u << block.current % WARP;
    own.site = site;
    own.mask = mask;
    own.value = value;
    own.source = source;
    if (!(mask & bit)) fail("an operation of the warp by a lane that its mask does not have");
    w.meeting |= bit;
    leave();
    return own.result;
}

/* Completes the operation that the lane waits in, if all lanes have come. */
static bool meet(int in_warp, int l) {
    warp &w = block.of[in_warp];
    lane *lanes = block.lanes + in_warp * WARP;
    const char *what = lanes[l].site.what;
    unsigned mask = lanes[l].mask, expected = mask & w.alive, ballot = 0;
    if (expected & ~w.meeting) return false;
    for (unsigned rest = expected; rest; rest &= rest - 1) {
        const lane &other = lanes[__builtin_ctz(rest)];
        if (other.mask != mask || (other.site.what != what && strcmp(other.site.what, what) != 0))
            return false;
        if (other.value) ballot |= 1u << __builtin_ctz(rest);
    }
    for (unsigned rest = expected; rest; rest &= rest - 1) {
        lane &to = lanes[__builtin_ctz(rest)];
        to.result.value = expected >> to.source & 1 ? lanes[to.source].value : ~(uint64_t)0;
        to.result.ballot = ballot;
        to.result.came = expected;
    }
    w.meeting &= ~expected;
    w.ready |= expected;
    return true;
}

static void run_warp(int in_warp) {
    warp &w = block.of[in_warp];
    while (w.ready) {
        run_ready(in_warp);
        for (unsigned rest = w.meeting; rest; rest &= rest - 1)
            if (w.meeting & rest & -rest) meet(in_warp, __builtin_ctz(rest));
    }
}

/* ---- of the block ----------------------------------------------------------------------------------------------- */

cld_host_barrier_result cld_host_barrier(cld_host_site site, bool predicate) {
    lane &own = block.lanes[block.current];
    own.site = site;
    own.mask = 0;
    own.predicate = predicate;
    block.of[block.current / WARP].at_barrier |= 1u << block.current % WARP;
    leave();
    return block.barrier;
}

/* Releases all threads that have not exited from the barrier. False: all have exited. */
static bool pass_barrier(void) {
    const lane *first = NULL;
    cld_host_barrier_result result = {0, 0};
    for (int i = 0; i < block.warps; i++) {
        if (block.of[i].at_barrier != block.of[i].alive) fail_waiting("no thread can go on");
        for (unsigned rest = block.of[i].alive; rest; rest &= rest - 1) {
            const lane &l = block.lanes[i * WARP + __builtin_ctz(rest)];
            if (!first) first = &l;
            if (l.site.line != first->site.line || l.site.what != first->site.what)
                if (!together(l, *first)) fail_waiting("threads have come to different barriers");
            result.votes += l.predicate;
            result.threads++;
        }
    }
    block.barrier = result;
    for (int i = 0; i < block.warps; i++) {
        block.of[i].ready = block.of[i].alive;
        block.of[i].at_barrier = 0;
    }
    return first != NULL;
}

static void run_block(int threads) {
    cld_host_block_serial++;
    block.static_bytes = 0;
    if (block.dynamic) memset(block.dynamic, POISON, block.dynamic_bytes + FENCE);
    for (int i = 0; i < block.warps; i++) {
        unsigned all = threads - i * WARP >= WARP ? ~0u : (1u << threads % WARP) - 1;
        block.of[i] = {all, 0, all, 0, 0};
    }
    do
        for (int i = 0; i < block.warps; i++) run_warp(reversed() ? block.warps - 1 - i : i);
    while (pass_barrier());
    for (size_t i = 0; i < FENCE && block.dynamic; i++)
        if (block.dynamic[block.dynamic_bytes + i] != POISON)
            fail("something was written behind the dynamic shared memory");
}

/* ---- shared memory ----------------------------------------------------------------------------------------------- */

void cld_host_open_shared(void *data, size_t bytes) {
    block.static_bytes += bytes;
    if (block.static_bytes + block.dynamic_bytes > MAX_SHARED) fail("more than 48 KB of shared memory");
    memset(data, POISON, bytes);
}

void *cld_host_dynamic_shared(void) {
    if (!block.dynamic) fail("dynamic shared memory in a launch with 0 bytes of it");
    return block.dynamic;
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

static bool within(cld_host_extents e, long long x, long long y, long long z) {
    return e.x >= 1 && e.x <= x && e.y >= 1 && e.y <= y && e.z >= 1 && e.z <= z;
}

cld_status cld_host_check(const char *name, cld_host_extents blocks, cld_host_extents threads,
                          size_t shared) {
    if (within(blocks, INT_MAX, 65535, 65535) && within(threads, MAX_THREADS, MAX_THREADS, 64) &&
        threads.x * threads.y * threads.z <= MAX_THREADS && shared <= MAX_SHARED)
        return CLD_OK;
    return cld_fail(
        CLD_BACKEND,
        "%s: invalid launch of (%lld, %lld, %lld) blocks of (%lld, %lld, %lld) threads with %zu bytes of "
        "shared memory",
        name, blocks.x, blocks.y, blocks.z, threads.x, threads.y, threads.z, shared);
}

void cld_host_run(const char *name, dim3 blocks, dim3 threads, size_t shared,
                  void (*body)(const void *context), const void *context) {
    static std::mutex one_at_a_time; /* several OS threads may launch */
    std::lock_guard<std::mutex> guard(one_at_a_time);
    int count = (int)(threads.x * threads.y * threads.z);
    block.name = name;
    block.body = body;
    block.context = context;
    block.warps = (count + WARP - 1) / WARP;
    block.current = -1;
    gridDim = blocks;
    blockDim = threads;
    for (int t = 0; t < count; t++) {
        unsigned i = (unsigned)t;
        block.lanes[t].index = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
    }
    block.dynamic_bytes = shared;
    block.dynamic = shared ? (unsigned char *)malloc(shared + FENCE) : NULL; /* 16-byte aligned */
    if (shared && !block.dynamic) fail("no memory for the dynamic shared memory");

    uint64_t total = (uint64_t)blocks.x * blocks.y * blocks.z;
    for (uint64_t i = 0; i < total; i++) {
        uint64_t b = reversed() ? total - 1 - i : i;
        blockIdx = {(unsigned)(b % blocks.x), (unsigned)(b / blocks.x % blocks.y),
                    (unsigned)(b / blocks.x / blocks.y)};
        run_block(count);
    }
    free(block.dynamic);
    block.dynamic = NULL;
}
