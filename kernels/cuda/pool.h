/* The caching allocator under memory.c: blocks cut out of segments, and whose the segments are. No locks, no retries.
 *
 * All work goes to one stream (collectives aside, whose arrays are held until they are joined), so a block may be handed out again as soon as it is released: whatever still uses it is
 * queued before what the next owner queues. A captured graph breaks that order, for it runs again and again: so it has a
 * pool of its own. See cld__pool_begin_graph.
 */
#ifndef CLD_CUDA_POOL_H
#define CLD_CUDA_POOL_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

cld_status cld__pool_allocate(void **out, size_t bytes); /* CLD_NOMEM where the device has none */
void cld__pool_release(void *data);
/* Give free segments back to the device, which waits for it. */
void cld__pool_empty(void);
/* in_use, peak, reserved */
cld_memory_info cld__pool_info(void);
/* The peak from now on, but at least what is in use. */
void cld__pool_set_peak(size_t bytes);

/* From begin to end, allocations come from the graph's own pool, and may follow one another in it. What is released of
 * other memory meanwhile is set aside, for the graph may use it at each replay. free ends both: the segments, with what is
 * still handed out of them, join all others. */
typedef struct cld_pool cld_pool;
cld_pool *cld__pool_begin_graph(void); /* NULL: no host memory */
void cld__pool_end_graph(void);
void cld__pool_free_graph(cld_pool *pool);

/* The same three under memory.c's lock, for graph.c. */
cld_pool *cld_cuda_begin_pool(void);
void cld_cuda_end_pool(void);
void cld_cuda_free_pool(cld_pool *pool);

/* The peak is what it was (info) before, and what the pool has taken since goes back to the device: for work that is none of
 * a program's own, the choice among algorithms. Waits for the device, but while a graph is captured, when nothing goes back. */
void cld_cuda_forget_use_since(const cld_memory_info *before);

#ifdef __cplusplus
}
#endif

#endif
