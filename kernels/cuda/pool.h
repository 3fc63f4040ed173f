/* The caching allocator under memory.c: blocks cut from segments, and which pool owns each segment. No locks, no
 * retries.
 *
 * All work goes to one stream (except collectives, whose arrays are held until the join). So a block may be reused as
 * soon as it is released: whatever still uses it is queued before the next owner's work. A captured graph breaks that
 * order, because it runs again and again. So it has its own pool. See cld__pool_begin_graph.
 */
#ifndef CLD_CUDA_POOL_H
#define CLD_CUDA_POOL_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

cld_status cld__pool_allocate(void **out, size_t bytes); /* CLD_NOMEM if the device has none */
void cld__pool_release(void *data);
/* Returns free segments to the device. Waits for it. */
void cld__pool_empty(void);
/* in_use, peak, reserved */
cld_memory_info cld__pool_info(void);
/* Sets the peak to this, or to what is in use if that is more. */
void cld__pool_set_peak(size_t bytes);

/* From begin to end, allocations come from the graph's own pool and may reuse its blocks. Other memory that is released
 * meanwhile is set aside, because the graph may use it at each replay. free ends both: the segments join all others,
 * along with the blocks that are still in use. */
typedef struct cld_pool cld_pool;
cld_pool *cld__pool_begin_graph(void); /* NULL: no host memory */
void cld__pool_end_graph(void);
void cld__pool_free_graph(cld_pool *pool);

/* The same three under memory.c's lock, for graph.c. */
cld_pool *cld_cuda_begin_pool(void);
void cld_cuda_end_pool(void);
void cld_cuda_free_pool(cld_pool *pool);

/* Resets the peak to what it was before (info), and returns to the device what the pool has taken since. For work that
 * is not the program's own, such as choosing among algorithms. Waits for the device; during a capture it does not wait,
 * and returns nothing to it. */
void cld_cuda_forget_use_since(const cld_memory_info *before);

#ifdef __cplusplus
}
#endif

#endif
