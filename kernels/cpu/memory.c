/* Host memory: a caching allocator.
 *
 * A training step allocates and frees the same few hundred blocks of up to 100 MB again and again. With malloc each
 * block would be fresh pages, and touching those costs more than computing on them. So large blocks are cut out of one
 * reserved range of addresses. Free ranges are kept in address order, merged with their neighbours, and handed out best
 * fit. Pages once touched stay resident until an allocation fails and empty_cache returns the free ones to the system;
 * the highest address in use bounds the resident memory. Small blocks go to the C library.
 *
 * Under the sanitizers every block goes to the C library, so that they see its bounds.
 */
#define _GNU_SOURCE
#include "kernels/cpu/cpu.h"

#include <malloc.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/core/process.h"

#define ALIGNMENT 64
#define SMALL     (256u << 10) /* smaller blocks come from the C library */
#define PAGE      4096u
#define OTHERS    (64u << 20) /* at least this much is left to others when addresses are short */

typedef struct range {
    size_t start, bytes; /* offset into the reservation */
} range;

static struct {
    pthread_mutex_t lock;
    char *base;
    size_t reserved; /* addresses */
    range *free;     /* in address order, none adjacent to another */
    size_t count, room;
    size_t high; /* end of the highest range ever handed out since the cache was emptied */
    size_t in_use, peak, limit;
    bool confined; /* addresses are short: blocks that do not fit in here must not take the others' share */
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

#if defined(__SANITIZE_ADDRESS__)
#    define USE_ARENA 0
#else
#    define USE_ARENA 1
#endif

/* Under `ulimit -v` or -d a reservation counts as used memory, and so do thread stacks, oneDNN's generated code and all
 * that a script keeps. Room is left for those, so that tensors run out first. */
static size_t share_of_addresses(void) {
    size_t left = cld_addresses_left(), stack = 8u << 20;
    pthread_attr_t defaults;
    if (left == SIZE_MAX) return SIZE_MAX;
    if (pthread_attr_init(&defaults) == 0) {
        pthread_attr_getstacksize(&defaults, &stack);
        pthread_attr_destroy(&defaults);
    }
    size_t others = OTHERS + (size_t)omp_get_max_threads() * stack;
    if (others < left / 4) others = left / 4;
    return others < left / 4 * 3 ? left - others : left / 4;
}

static void prepare(void) {
    if (arena.limit) return;
    size_t memory = cld_memory_limit(), addresses = share_of_addresses();
    arena.limit = memory < addresses ? memory : addresses;
    if (arena.limit < PAGE) arena.limit = PAGE;
    arena.confined = addresses < 2 * arena.limit;
    /* The C library would reserve 64 MiB of addresses for each thread that allocates. */
    if (arena.confined) mallopt(M_ARENA_MAX, 1);
    if (!USE_ARENA) return;
    size_t bytes = (arena.confined ? addresses : 2 * arena.limit) & ~(size_t)(PAGE - 1);
    void *base =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    range *first = malloc(64 * sizeof *first);
    if (base == MAP_FAILED || !first) { /* no such range of addresses: the C library serves every block */
        if (base != MAP_FAILED) munmap(base, bytes);
        free(first);
        return;
    }
    madvise(base, bytes, MADV_HUGEPAGE);
    first[0] = (range){0, bytes};
    arena.base = base;
    arena.reserved = bytes;
    arena.free = first;
    arena.count = 1;
    arena.room = 64;
}

static bool in_arena(const void *data) {
    return arena.base && (const char *)data >= arena.base && (const char *)data < arena.base + arena.reserved;
}

static size_t rounded(size_t bytes) {
    size_t unit = bytes >= SMALL ? PAGE : ALIGNMENT;
    return bytes ? (bytes + unit - 1) & ~(unit - 1) : unit;
}

static void *take(size_t bytes) {
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < arena.count; i++)
        if (arena.free[i].bytes >= bytes &&
            (best == SIZE_MAX || arena.free[i].bytes < arena.free[best].bytes))
            best = i;
    if (best == SIZE_MAX) return NULL;
    range *r = &arena.free[best];
    char *data = arena.base + r->start;
    if (r->start + bytes > arena.high) arena.high = r->start + bytes;
    r->start += bytes;
    r->bytes -= bytes;
    if (r->bytes == 0) memmove(r, r + 1, (--arena.count - best) * sizeof *r);
    return data;
}

static bool give(void *data, size_t bytes) {
    size_t start = (size_t)((char *)data - arena.base), i = 0;
    while (i < arena.count && arena.free[i].start < start) i++;
    bool joins_left = i > 0 && arena.free[i - 1].start + arena.free[i - 1].bytes == start;
    bool joins_right = i < arena.count && start + bytes == arena.free[i].start;
    if (joins_left) {
        arena.free[i - 1].bytes += bytes;
        if (joins_right) {
            arena.free[i - 1].bytes += arena.free[i].bytes;
            memmove(&arena.free[i], &arena.free[i + 1], (--arena.count - i) * sizeof(range));
        }
        return true;
    }
    if (joins_right) {
        arena.free[i].start = start;
        arena.free[i].bytes += bytes;
        return true;
    }
    if (arena.count == arena.room) {
        range *grown = realloc(arena.free, 2 * arena.room * sizeof *grown);
        if (!grown) return false; /* the range is lost for reuse, but not to the system */
        arena.free = grown;
        arena.room *= 2;
    }
    memmove(&arena.free[i + 1], &arena.free[i], (arena.count++ - i) * sizeof(range));
    arena.free[i] = (range){start, bytes};
    return true;
}

static cld_status try_to_allocate(void **out, size_t bytes) {
    pthread_mutex_lock(&arena.lock);
    prepare();
    size_t size = rounded(bytes), in_use = arena.in_use, limit = arena.limit;
    void *data = NULL;
    if (size >= bytes && in_use + size <= limit) {
        if (size >= SMALL) data = arena.base ? take(size) : NULL;
        if (!data && !(arena.base && arena.confined && size >= SMALL)) data = aligned_alloc(ALIGNMENT, size);
    }
    if (data) {
        arena.in_use += size;
        if (arena.in_use > arena.peak) arena.peak = arena.in_use;
    }
    pthread_mutex_unlock(&arena.lock);
    *out = data;
    if (data) return CLD_OK;
    return cld_fail(CLD_NOMEM, "out of memory: wanted %.1f MiB, in use %.1f MiB of %.1f MiB on the cpu",
                    (double)bytes / 0x1p20, (double)in_use / 0x1p20, (double)limit / 0x1p20);
}

static void release(void *data, size_t bytes) {
    if (!data) return;
    size_t size = rounded(bytes);
    pthread_mutex_lock(&arena.lock);
    arena.in_use -= size;
    if (in_arena(data))
        give(data, size);
    else
        free(data);
    pthread_mutex_unlock(&arena.lock);
}

static void empty_cache(void) {
    pthread_mutex_lock(&arena.lock);
    for (size_t i = 0; i < arena.count; i++) {
        range r = arena.free[i];
        if (r.start < arena.high) madvise(arena.base + r.start, r.bytes, MADV_DONTNEED);
    }
    if (arena.count &&
        arena.free[arena.count - 1].start + arena.free[arena.count - 1].bytes == arena.reserved)
        arena.high = arena.free[arena.count - 1].start;
    pthread_mutex_unlock(&arena.lock);
}

static void (*reclaim_hook)(void *context);
static void *reclaim_context;

static void set_reclaim(void (*reclaim)(void *context), void *context) {
    reclaim_hook = reclaim;
    reclaim_context = context;
}

static cld_status allocate(void **out, size_t bytes) {
    if (try_to_allocate(out, bytes) == CLD_OK) return CLD_OK;
    if (reclaim_hook) reclaim_hook(reclaim_context);
    empty_cache();
    return try_to_allocate(out, bytes);
}

static cld_memory_info info(void) {
    pthread_mutex_lock(&arena.lock);
    prepare();
    cld_memory_info i = {arena.in_use, arena.peak, arena.high, arena.limit};
    pthread_mutex_unlock(&arena.lock);
    return i;
}

static cld_status copy_bytes(void *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
    return CLD_OK;
}

static void reset_peak(void) {
    pthread_mutex_lock(&arena.lock);
    arena.peak = arena.in_use;
    pthread_mutex_unlock(&arena.lock);
}

const cld_memory_ops cld_cpu_memory = {
    .allocate = allocate,
    .release = release,
    .to_host = copy_bytes,
    .from_host = copy_bytes,
    .set_reclaim = set_reclaim,
    .info = info,
    .reset_peak = reset_peak,
};
