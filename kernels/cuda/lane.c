/* The lane: a separate stream for collectives, beside the one for everything else. Fork and join order the two by
 * events, which become edges in a captured graph.
 *
 * Our own kernels never run there. So scratch memory, faults and tickets belong to the other stream alone, and the
 * allocator need not know about the lane, as long as arrays are held from their collective to the join. */
#include "kernels/cuda/cuda.h"

static bool open; /* something may have been queued there since the last join */

static cld_status fork_lane(void) {
    CLD_TRY(cld_cuda_fork_lane());
    open = true;
    return CLD_OK;
}

static cld_status join_lane(void) {
    if (!open) return CLD_OK;
    CLD_TRY(cld_cuda_join_lane());
    open = false;
    return CLD_OK;
}

/* Without a fork in the graph the lane would run the work now, instead of when the graph is replayed. */
cld_status cld_cuda_use_lane(const char *what, void **stream) {
    if (cld_cuda_capturing() && !open)
        return cld_fail(CLD_INVALID, "%s: while a graph is being captured, fork the lane first", what);
    open = true;
    return cld_cuda_lane_stream(stream);
}

bool cld_cuda_lane_is_open(void) { return open; }
void cld_cuda_close_lane(void) { open = false; }

const cld_lane_ops cld_cuda_lane = {.fork = fork_lane, .join = join_lane};
