/* The contract's table of memory: the pool (pool.c) under a lock, with a second attempt after everything that can be
 * freed was freed; and the two ways to wait for the device. */
#include "kernels/cuda/cuda.h"

#include <pthread.h>
#include <stdio.h>

#include "kernels/cuda/pool.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*reclaim_hook)(void *context);
static void *reclaim_context;
static bool no_waiting;

static cld_status try_to_allocate(void **out, size_t bytes, bool empty_first) {
    pthread_mutex_lock(&lock);
    if (empty_first) cld__pool_empty();
    cld_status status = cld__pool_allocate(out, bytes);
    pthread_mutex_unlock(&lock);
    return status;
}

static cld_memory_info info(void) {
    static size_t limit;
    size_t free_bytes;
    pthread_mutex_lock(&lock);
    cld_memory_info i = cld__pool_info();
    if (limit == 0 && cld_cuda_memory(&free_bytes, &limit) != CLD_OK) limit = 0;
    i.limit = limit;
    pthread_mutex_unlock(&lock);
    return i;
}

static void reset_peak(void) {
    pthread_mutex_lock(&lock);
    cld__pool_set_peak(0);
    pthread_mutex_unlock(&lock);
}

static cld_status out_of_memory(size_t bytes) {
    size_t free_bytes = 0;
    cld_memory_info i = info();
    if (cld_cuda_memory(&free_bytes, &i.limit) != CLD_OK) return cld_error_code();
    /* other programs, and what CUDA itself takes */
    size_t others = i.limit > free_bytes + i.reserved ? i.limit - free_bytes - i.reserved : 0;
    char note[64] = "";
    if (others > (size_t)2 << 30)
        snprintf(note, sizeof note, ", of which others hold %.1f MiB", (double)others / 0x1p20);
    return cld_fail(CLD_NOMEM, "out of memory: wanted %.1f MiB, in use %.1f MiB of %.1f MiB%s on %s",
                    (double)bytes / 0x1p20, (double)i.in_use / 0x1p20, (double)i.limit / 0x1p20, note,
                    cld_cuda_name());
}

static cld_status allocate(void **out, size_t bytes) {
    cld_status status = try_to_allocate(out, bytes, false);
    if (status != CLD_NOMEM) return status;
    if (reclaim_hook) reclaim_hook(reclaim_context); /* releases memory: called without the lock */
    /* While a graph is captured nothing may wait, and freeing waits. */
    status = try_to_allocate(out, bytes, !cld_cuda_capturing());
    return status == CLD_NOMEM ? out_of_memory(bytes) : status;
}

static void release(void *data, size_t bytes) {
    (void)bytes;
    if (!data) return;
    pthread_mutex_lock(&lock);
    cld__pool_release(data);
    pthread_mutex_unlock(&lock);
}

static void set_reclaim(void (*reclaim)(void *context), void *context) {
    reclaim_hook = reclaim;
    reclaim_context = context;
}

/* ---- waiting ---------------------------------------------------------------------------------------------------------- */

static bool forbid_waiting(bool on) {
    bool was = no_waiting;
    no_waiting = on;
    return was;
}

static cld_status may_wait(void) {
    if (cld_cuda_capturing())
        return cld_fail(CLD_INVALID, "cannot wait for the device while a graph is being captured: nothing is "
                                     "computed yet, so no value can be read");
    if (no_waiting)
        return cld_fail(CLD_INVALID, "this waits for the device, which is forbidden (forbid_waiting)");
    return CLD_OK;
}

static cld_status to_host(void *host, const void *data, size_t bytes) {
    CLD_TRY(may_wait());
    CLD_TRY(cld_cuda_fetch_faults());
    CLD_TRY(cld_cuda_copy_to_host(host, data, bytes));
    return cld_cuda_check_faults();
}

static cld_status synchronize(void) {
    CLD_TRY(may_wait());
    CLD_TRY(cld_cuda_fetch_faults());
    CLD_TRY(cld_cuda_wait());
    return cld_cuda_check_faults();
}

const cld_memory_ops cld_cuda_memory_ops = {
    .allocate = allocate,
    .release = release,
    .to_host = to_host,
    .from_host = cld_cuda_copy_from_host,
    .set_reclaim = set_reclaim,
    .info = info,
    .synchronize = synchronize,
    .forbid_waiting = forbid_waiting,
    .end_step = cld_cuda_end_step,
    .reset_peak = reset_peak,
};

/* ---- for kernels ------------------------------------------------------------------------------------------------------ */

cld_status cld_cuda_scratch(cld_scratch_block *out, size_t bytes) {
    *out = (cld_scratch_block){NULL, 0};
    CLD_TRY(allocate(&out->data, bytes));
    out->bytes = bytes;
    return CLD_OK;
}

void cld_cuda_scratch_release(cld_scratch_block *block) {
    release(block->data, block->bytes);
    *block = (cld_scratch_block){NULL, 0};
}

void cld_cuda_forget_use_since(const cld_memory_info *before) {
    pthread_mutex_lock(&lock);
    cld__pool_set_peak(before->peak);
    if (cld__pool_info().reserved > before->reserved && !cld_cuda_capturing()) cld__pool_empty();
    pthread_mutex_unlock(&lock);
}

/* ---- for graph.c ------------------------------------------------------------------------------------------------------ */

cld_pool *cld_cuda_begin_pool(void) {
    pthread_mutex_lock(&lock);
    cld_pool *pool = cld__pool_begin_graph();
    pthread_mutex_unlock(&lock);
    return pool;
}

void cld_cuda_end_pool(void) {
    pthread_mutex_lock(&lock);
    cld__pool_end_graph();
    pthread_mutex_unlock(&lock);
}

void cld_cuda_free_pool(cld_pool *pool) {
    pthread_mutex_lock(&lock);
    cld__pool_free_graph(pool);
    pthread_mutex_unlock(&lock);
}
