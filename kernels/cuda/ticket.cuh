/* Who comes last: blocks that have each written a part of something take a ticket, and the block that sees that all others
 * have taken theirs makes the whole of it. So a sum over many blocks needs no second kernel, and is added up in the same
 * order whoever is last.
 *
 * Tickets are counters that belong to the device, not to a launch: 0 between launches, since the last block sets them back,
 * and so at each replay of a graph. There is one stream, so that no two launches count at once. */
#ifndef CLD_CUDA_TICKET_CUH
#define CLD_CUDA_TICKET_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"

/* Whether this block is the last of `expected` that come to *ticket. All its threads ask at once; to those of the last block
 * it returns true, and they see what the threads of all others wrote before they asked. */
__device__ inline bool comes_last(unsigned *ticket, unsigned expected) {
    int last = 0;
    __syncthreads();
    if (threadIdx.x + threadIdx.y + threadIdx.z == 0) {
        __threadfence(); /* all that the block's threads wrote: the barrier is before it */
        last = atomicAdd(ticket, 1u) == expected - 1;
        if (last) *ticket = 0;
        __threadfence();
    }
    return __syncthreads_or(last) != 0;
}

/* Of `groups` groups of blocks those that share the ticket of `group`: group % CLD_TICKETS and on, CLD_TICKETS apart. */
__device__ inline int groups_of_ticket(int group, int groups) {
    return (groups - group % CLD_TICKETS + CLD_TICKETS - 1) / CLD_TICKETS;
}

#endif
