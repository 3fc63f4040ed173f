/* kernels/cuda/launch.h for g++: the part of CUDA's language that it promises, and launches that run on the host.
 *
 * Blocks run one after another; the threads of a block take turns. A thread runs alone until it reaches a barrier or a
 * warp operation. When none can continue, the barriers at which all present threads wait are released. Threads run in
 * ascending order, or, with CLD_HOST_ORDER=reverse in the environment, in descending order: a missing barrier makes
 * results differ between the two. A deadlock (threads that wait at different barriers, or for a thread that waits
 * elsewhere) ends the process with a report of which thread waits where.
 *
 * Shared memory starts as bytes of 0xff: NaN as floats. A thread that spins until another one writes spins for ever.
 *
 * Null pointers among the arguments of a launch are written nullptr. Compile with -ffp-contract=off, so that a product
 * and a sum round twice unless fma says otherwise, and -Wno-unknown-pragmas, for #pragma unroll.
 */
#ifndef CLD_CUDA_HOST_LAUNCH_H
#define CLD_CUDA_HOST_LAUNCH_H

#include <float.h>
#include <functional>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <string>

#include "runtime/core/error.h"

/* ---- the language ---------------------------------------------------------------------------------------------- */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__        inline __attribute__((always_inline))
#define __launch_bounds__(...) /* registers are up to the compiler here */
#define __align__(bytes)       __attribute__((aligned(bytes)))
#define __builtin_assume(x)    ((void)0)

#include "kernels/cuda/host/types.h"
#include "kernels/cuda/host/half.h"
#include "kernels/cuda/host/intrinsics.h"
#include "kernels/cuda/host/atomics.h"
#include "kernels/cuda/host/warp.h"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* ---- launches ---------------------------------------------------------------------------------------------------- */

/* The kind of a piece of work: one of our kernels, a call of cuBLAS, cuDNN or NCCL, a copy or a fill with zeros; or the
 * emulator's own work, which is not listed. */
typedef enum cld_host_kind {
    CLD_HOST_KERNEL,
    CLD_HOST_LIBRARY,
    CLD_HOST_MEMORY,
    CLD_HOST_SILENT
} cld_host_kind;
typedef struct cld_host_work {
    const char *name;
    cld_host_kind kind;
    const char *within;   /* the function that launches it, with its template's arguments; NULL: none */
    uint64_t blocks = 0;  /* of a kernel, */
    unsigned columns = 0; /* and its threads side by side */
} cld_host_work;

/* Runs the work now, or, while a graph is captured, keeps it for each replay: host/device.cpp. The names must stay
 * valid. */
cld_status cld_host_enqueue(const cld_host_work &of, std::function<void()> work);
/* The same on the lane: run as late as possible, when it is joined. */
cld_status cld_host_enqueue_on_lane(const cld_host_work &of, std::function<void()> work);
bool cld_host_lane_is_empty(void);
/* Called by running work to say that it has failed. The call that runs it reports that. */
void cld_host_report(const std::string &text);

/* Sets the order in which blocks and threads run from now on: ascending or descending. Returns the previous order;
 * CLD_HOST_ORDER=reverse sets it at first. */
bool cld_host_order(bool reverse);

/* The numbers of blocks or threads of a launch, unchecked. */
struct cld_host_extents {
    long long x, y, z;
    cld_host_extents(dim3 d) : x(d.x), y(d.y), z(d.z) {}
    cld_host_extents(long long x) : x(x), y(1), z(1) {}
    cld_host_extents(unsigned long long x) : cld_host_extents((long long)x) {}
    cld_host_extents(long x) : cld_host_extents((long long)x) {}
    cld_host_extents(unsigned long x) : cld_host_extents((long long)x) {}
    cld_host_extents(int x) : cld_host_extents((long long)x) {}
    cld_host_extents(unsigned x) : cld_host_extents((long long)x) {}
};
cld_status cld_host_check(const char *name, cld_host_extents blocks, cld_host_extents threads, size_t shared);
/* body(context) for every thread. */
void cld_host_run(const char *name, dim3 blocks, dim3 threads, size_t shared,
                  void (*body)(const void *context), const void *context);

template <typename Kernel, typename... A>
cld_status cld_host_launch(const char *name, const char *within, cld_host_extents blocks,
                           cld_host_extents threads, size_t shared, Kernel kernel, A... arguments) {
    CLD_TRY(cld_host_check(name, blocks, threads, shared));
    dim3 grid((unsigned)blocks.x, (unsigned)blocks.y, (unsigned)blocks.z);
    dim3 block((unsigned)threads.x, (unsigned)threads.y, (unsigned)threads.z);
    auto body = [=]() { kernel(arguments...); };
    cld_host_work work = {name, CLD_HOST_KERNEL, within, (uint64_t)grid.x * grid.y * grid.z, block.x};
    return cld_host_enqueue(work, [=]() {
        cld_host_run(
            name, grid, block, shared,
            [](const void *context) { (*static_cast<decltype(body) const *>(context))(); }, &body);
    });
}

/* The lambda lets template arguments be deduced, as in a launch. */
#define CLD_LAUNCH(kernel, blocks, threads, shared_bytes, ...)                                               \
    cld_host_launch(                                                                                         \
        #kernel, __PRETTY_FUNCTION__, blocks, threads, shared_bytes,                                         \
        [=](auto... cld_arguments) { kernel(cld_arguments...); }, ##__VA_ARGS__)

/* ---- shared memory ----------------------------------------------------------------------------------------------- */

extern uint64_t cld_host_block_serial; /* of the running block; unique to it */
/* Called when the block first uses these bytes. */
void cld_host_open_shared(void *data, size_t bytes);
void *cld_host_dynamic_shared(void);

#define CLD_SHARED(type, name, extents)                                                                      \
    static type name extents;                                                                                \
    static uint64_t cld_block_of_##name;                                                                     \
    if (cld_block_of_##name != cld_host_block_serial)                                                        \
    cld_block_of_##name = cld_host_block_serial, cld_host_open_shared(&name, sizeof name)
#define CLD_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(cld_host_dynamic_shared())

#endif
