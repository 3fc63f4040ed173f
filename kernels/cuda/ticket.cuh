/* Finds the last block: after writing its part of a result, each block takes a ticket. The block that sees that all
 * others have taken theirs combines the parts. So a sum over many blocks needs no second kernel, and is added up in the
 * same order whichever block is last.
 *
 * Tickets are counters that belong to the device, not to a launch. They are 0 between launches because the last block
 * resets them, so a graph can be replayed. There is one stream, so no two launches count at once. */
#ifndef CLD_CUDA_TICKET_CUH
#define CLD_CUDA_TICKET_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"

/* Whether this block is the last of `expected` to reach *ticket. All its threads ask at once. It returns true to the
 * threads of the last block, and they see what the threads of all others wrote before they asked. */
__device__ inline bool comes_last(unsigned *ticket, unsigned expected) {
    int last = 0;
    __syncthreads();
    if (threadIdx.x + threadIdx.y + threadIdx.z == 0) {
        __threadfence(); /* for all that the block's threads wrote: the barrier is before it */
        last = atomicAdd(ticket, 1u) == expected - 1;
        if (last) *ticket = 0;
        __threadfence();
    }
    return __syncthreads_or(last) != 0;
}

/* The number of groups, out of `groups`, that share the ticket of `group`: from group % CLD_TICKETS on, CLD_TICKETS
 * apart. */
__device__ inline int groups_of_ticket(int group, int groups) {
    return (groups - group % CLD_TICKETS + CLD_TICKETS - 1) / CLD_TICKETS;
}

#endif
